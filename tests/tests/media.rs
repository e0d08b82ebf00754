//! Promise: a pool behaves the same on every medium, and says truthfully what that medium is.
//!
//! Method: one round of creating, writing, reopening and locking on an ordinary file, on tmpfs where
//! there is one, and on whatever `DAXITE_TEST_POOL` names: a folder (on a DAX mount, say) or a
//! device such as `/dev/dax0.0`, which is overwritten. `DAXITE_TEST_EXPECT=KIND/PERSISTENCE`, for
//! example `device-dax/cache-flush`, states what that one must turn out to be.

use std::path::{Path, PathBuf};

use daxite_core::{
    CreateOptions, Error, HUGE, LogicalRange, MediumKind, OpenOptions, PAGE, Persistence, Pool,
};

const POOL_BYTES: u64 = 32 << 20;

struct Place {
    path: PathBuf,
    is_device: bool,
    /// Removed with the place.
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn in_folder(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).unwrap();
        Self { path: folder.path().join("pool"), is_device: false, _folder: Some(folder) }
    }

    fn given(path: &str) -> Self {
        match Path::new(path).is_dir() {
            true => Self::in_folder(Path::new(path)),
            false => Self { path: PathBuf::from(path), is_device: true, _folder: None },
        }
    }

    fn create(&self) -> Pool {
        let options = CreateOptions {
            len_bytes: POOL_BYTES,
            overwrite: self.is_device,
            ..CreateOptions::default()
        };
        Pool::create(&self.path, &options).unwrap()
    }
}

fn places() -> Vec<Place> {
    let mut places = vec![Place::in_folder(&std::env::temp_dir())];
    let shared_memory = Path::new("/dev/shm");
    if shared_memory.is_dir() {
        places.push(Place::in_folder(shared_memory));
    }
    places.extend(std::env::var("DAXITE_TEST_POOL").ok().map(|path| Place::given(&path)));
    places
}

#[test]
fn every_medium_keeps_what_was_written_and_is_owned_by_one() {
    for place in places() {
        let pool = place.create();
        let volume = pool.create_volume("v", 1 << 30).unwrap();
        let bytes: Vec<u8> = (0..3 * HUGE as usize / 2).map(|at| (at / 7) as u8).collect();
        volume.write(HUGE / 2 + 3, &bytes).unwrap();
        let second = Pool::open(&place.path, &OpenOptions::default());
        assert!(matches!(second, Err(Error::Locked { .. })));
        let again = CreateOptions { len_bytes: POOL_BYTES, ..CreateOptions::default() };
        let created = Pool::create(&place.path, &again).map(|_| ());
        assert!(
            matches!(created, Err(Error::Locked { .. } | Error::AlreadyExists { .. })),
            "{created:?}"
        );
        drop((volume, pool));

        let pool = Pool::open(&place.path, &OpenOptions::default()).unwrap();
        assert!(!pool.info().was_clean);
        let volume = pool.volume("v").unwrap().unwrap();
        let mut back = vec![0; bytes.len()];
        volume.read(HUGE / 2 + 3, &mut back).unwrap();
        assert!(back == bytes);
        assert_eq!(pool.fault_counts().all_fallbacks(), 0, "2 MiB throughout");
        pool.close().unwrap();
        drop((volume, pool));

        let created = Pool::create(&place.path, &again).map(|_| ());
        assert!(matches!(created, Err(Error::AlreadyExists { is_pool: true, .. })), "{created:?}");
        assert!(Pool::open(&place.path, &OpenOptions::default()).unwrap().info().was_clean);
    }
}

#[test]
fn volumes_are_cut_zeroed_and_upgraded_on_every_medium() {
    for place in places() {
        let pool = place.create();
        // The tail of a volume that grows in pages, then one that is scattered by a hole.
        for (name, hole) in [("grown", None), ("scattered", Some(100))] {
            let volume = pool.create_volume(name, HUGE - PAGE).unwrap();
            for page in (0..HUGE / PAGE - 1).filter(|page| Some(*page) != hole) {
                volume.write(page * PAGE, &[page as u8 | 1; 64]).unwrap();
            }
            volume.set_len(HUGE).unwrap();
            volume.write(HUGE - PAGE, &[0xff; 64]).unwrap();
            let report = volume.upgrade(LogicalRange::new(0, HUGE), 256).unwrap();
            let expected = if hole.is_some() { (0, 1) } else { (1, 0) };
            assert_eq!((report.in_place, report.relocated), expected, "{name}: {report:?}");
            volume.zero(LogicalRange::new(5 * PAGE + 8, 8)).unwrap();
        }
        pool.check();
        drop(pool);
        let pool = Pool::open(&place.path, &OpenOptions::default()).unwrap();
        for (name, hole) in [("grown", None), ("scattered", Some(100))] {
            let volume = pool.volume(name).unwrap().unwrap();
            assert_eq!(volume.stats().unwrap().huge_extents, 1);
            for page in 0..HUGE / PAGE {
                let mut expected = [page as u8 | 1; 64];
                match page {
                    _ if Some(page) == hole => expected = [0; 64],
                    5 => expected[8..16].fill(0),
                    _ => {}
                }
                let guard = volume.map(LogicalRange::new(page * PAGE, 64)).unwrap();
                assert_eq!(*guard, expected, "{name}, page {page}");
            }
            volume.set_len(PAGE / 2).unwrap();
            volume.set_len(HUGE).unwrap();
            assert!(
                volume.map(LogicalRange::new(PAGE / 2, PAGE / 2)).unwrap().iter().all(|&b| b == 0)
            );
        }
        pool.check();
        pool.close().unwrap();
    }
}

#[test]
fn media_are_what_they_say() {
    for place in places() {
        let info = place.create().info();
        let expected = match info.kind {
            MediumKind::File => vec![Persistence::Msync],
            MediumKind::Tmpfs | MediumKind::Hugetlbfs => vec![Persistence::Volatile],
            MediumKind::DeviceDax | MediumKind::DaxFile => {
                vec![Persistence::CacheFlush, Persistence::Eadr]
            }
            kind => panic!("{} is {kind}", place.path.display()),
        };
        assert!(expected.contains(&info.persistence), "{} is {}", info.kind, info.persistence);
    }
    if let Ok(expected) = std::env::var("DAXITE_TEST_EXPECT") {
        let given = std::env::var("DAXITE_TEST_POOL").expect("a place to expect something of");
        let info = Place::given(&given).create().info();
        assert_eq!(format!("{}/{}", info.kind, info.persistence), expected);
    }
}

#[test]
fn page_sizes_are_reported_by_the_kernel() {
    for place in places() {
        let pool = place.create();
        let volume = pool.create_volume("v", 1 << 30).unwrap();
        let mut guard = volume.map_mut(LogicalRange::new(0, HUGE)).unwrap();
        guard.fill(1);
        let sizes = pool.page_sizes();
        assert!(sizes.resident_bytes > 0 || pool.info().persistence.is_dax(), "{sizes:?}");
        assert!(sizes.kernel_page_bytes >= 4096, "{sizes:?}");
        if pool.info().kind == MediumKind::Tmpfs {
            assert!(sizes.huge_bytes.unwrap() >= HUGE, "collapsed when it was faulted: {sizes:?}");
        }
        println!("{}: {sizes:?}", pool.info().kind);
    }
}

#[test]
fn persistent_memory_can_be_required() {
    for place in places() {
        let options =
            CreateOptions { len_bytes: POOL_BYTES, overwrite: place.is_device, require_dax: true };
        match Pool::create(&place.path, &options) {
            Ok(pool) => assert!(pool.info().persistence.is_dax()),
            Err(Error::NotPersistentMemory { .. }) => {
                assert!(!place.path.exists(), "a refused file is removed again");
            }
            Err(error) => panic!("{error}"),
        }
    }
}
