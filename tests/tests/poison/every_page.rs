//! Each page of a small pool goes bad in turn, in everything that a store does.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use daxite::{Database, Error, Options, install_sigbus_handler};
use daxite_core::PAGE;

use crate::bad::{POOL_BYTES, Poison, key, place, turn, value, with_page_bad_at_open};

const KEYS: u64 = 160;
/// Set in the child that dies: the file, and the page to poison.
const CHILD: &str = "DAXITE_POISON_CHILD";

/// A store whose keys were all written twice, and the image of it.
fn image(folder: &Path) -> Vec<u8> {
    let path = folder.join("image");
    let database = Options::new().capacity(POOL_BYTES).lanes(1).create(&path).unwrap();
    let keyspace = database.keyspace("k").unwrap();
    for version in 0..2 {
        for number in 0..KEYS {
            keyspace.insert(key(number), value(number, version)).unwrap();
        }
    }
    drop(keyspace);
    database.close().unwrap();
    let image = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    image
}

/// What is allowed of key `number`: its value, or a media error that names it. True for the value.
fn judge(page: u64, number: u64, found: Result<Option<Vec<u8>>, Error>, version: u8) -> bool {
    match found {
        Ok(Some(found)) => {
            assert!(found == value(number, version), "page {page}: another value of {number}");
            true
        }
        Ok(None) => panic!("page {page}: key {number} is not found"),
        Err(Error::MediaError { what, offset, .. }) => {
            assert!(what.contains(&key(number)), "page {page}: {what} in place of {number}");
            assert_eq!(offset, page * PAGE);
            false
        }
        Err(error) => panic!("page {page}: {error}"),
    }
}

/// Opens `image` at `path` and poisons page after page of it; `act` is called for each, with another
/// store each time if it changes what it gets.
fn for_each_page(path: &Path, image: &[u8], fresh: bool, mut act: impl FnMut(u64, &Database)) {
    let start = || {
        fs::write(path, image).unwrap();
        let database = Options::new().lanes(1).open(path).unwrap();
        (database, Poison::of_last_opened().unwrap())
    };
    let mut open = start();
    for page in 0..POOL_BYTES / PAGE {
        let (database, poison) = &open;
        poison.spoil(page).unwrap();
        act(page, database);
        poison.heal(page);
        if fresh {
            drop(open);
            open = start();
        }
    }
}

#[test]
fn every_page_may_go_bad() {
    let _turn = turn();
    if let Ok(child) = env::var(CHILD) {
        return die(&child);
    }
    let Some(folder) = place() else { return };
    let (path, image) = (folder.path().join("pool"), image(folder.path()));
    let dead = without_the_handler(&path, &image);
    install_sigbus_handler().unwrap();
    let mut cases = dead;

    let (mut lost, mut served) = (0, 0);
    for_each_page(&path, &image, false, |page, database| {
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        let mut lost_here = Vec::new();
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).map(|value| value.map(|value| value.to_vec()));
            match judge(page, number, found, 1) {
                true => served += 1,
                false => lost_here.push(number),
            }
        }
        assert!(lost_here.len() <= 3, "page {page}: {lost_here:?}");
        // A scan says the same, and comes to its end, from either side.
        for backwards in [false, true] {
            let mut numbers: Vec<u64> = (0..KEYS).collect();
            let mut items: Vec<_> = keyspace.iter().collect();
            if backwards {
                items = keyspace.iter().rev().collect();
                numbers.reverse();
            }
            assert_eq!(items.len() as u64, KEYS);
            for (number, item) in numbers.into_iter().zip(items) {
                let is_there = match item {
                    Ok((found, value)) => {
                        assert_eq!(found, key(number).as_bytes());
                        judge(page, number, Ok(Some(value.to_vec())), 1)
                    }
                    // Its key is lost as well, so the error names the place.
                    Err(Error::MediaError { what, offset, .. }) => {
                        assert!(what.starts_with("segment"), "page {page}: {what}");
                        assert_eq!(offset, page * PAGE);
                        false
                    }
                    Err(error) => panic!("page {page}: {error}"),
                };
                assert_eq!(is_there, !lost_here.contains(&number), "page {page}, key {number}");
            }
        }
        // So does a scrub: what is lost is on a page that it names.
        let report = database.scrub().unwrap();
        assert_eq!(report.damaged, []);
        assert!(lost_here.is_empty() || report.media_errors.len() == 1, "page {page}: {report:?}");
        assert!(report.media_errors.iter().all(|error| error.offset.0 == page * PAGE));
        lost += lost_here.len();
        cases += 3;
    });
    assert!(lost as u64 >= KEYS, "only {lost} keys were ever hit");
    println!("get, scan, scrub: {lost} keys lost, {served} served");

    let mut refused = 0;
    for_each_page(&path, &image, true, |page, database| {
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        let mut versions = vec![1; KEYS as usize];
        for number in 0..KEYS {
            match keyspace.insert(key(number), value(number, 2)) {
                Ok(()) => versions[number as usize] = 2,
                // What was there cannot be read, or metadata neither read nor written: it stays.
                Err(Error::MediaError { .. }) => refused += 1,
                Err(error) => panic!("page {page}: {error}"),
            }
        }
        match database.reclaim() {
            Ok(_) | Err(Error::MediaError { .. }) => {}
            Err(error) => panic!("page {page}: {error}"),
        }
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).map(|value| value.map(|value| value.to_vec()));
            judge(page, number, found, versions[number as usize]);
        }
        let space = database.pool().space();
        let sum = space.free_pages + space.mapped_pages + space.bad_pages + space.reserved_pages;
        assert_eq!(sum, space.total_pages);
        cases += 2;
    });
    println!("put, reclaim: {refused} puts refused for pages of metadata");

    let (mut opened, mut named) = (0, 0);
    for page in 0..POOL_BYTES / PAGE {
        fs::write(&path, &image).unwrap();
        match with_page_bad_at_open(page, || Options::new().lanes(1).open(&path)) {
            Ok(database) => {
                opened += 1;
                let keyspace = database.get_keyspace("k").unwrap().unwrap();
                for number in 0..KEYS {
                    let found = keyspace.get(key(number)).unwrap().map(|value| value.to_vec());
                    assert!(judge(page, number, Ok(found), 1));
                }
            }
            Err(Error::MediaError { offset, .. }) => {
                assert_eq!(offset, page * PAGE);
                named += 1;
            }
            Err(error) => panic!("page {page}: {error}"),
        }
        cases += 1;
    }
    println!("open: {opened} opened, {named} refused by name");
    assert!(opened > 2 && named > KEYS / 2);
    println!("{cases} cases");
}

/// Without the handler a get of a poisoned value ends a process, whose pool then opens. Answers with
/// the number of cases.
fn without_the_handler(path: &Path, image: &[u8]) -> u64 {
    let mut died = 0;
    let pages = (0..POOL_BYTES / PAGE).step_by(41);
    let cases = pages.clone().count() as u64;
    for page in pages {
        fs::write(path, image).unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "every_page::every_page_may_go_bad"]);
        let status =
            child.env(CHILD, format!("{page}:{}", path.display())).output().unwrap().status;
        assert!(status.success() || status.signal() == Some(libc::SIGBUS), "page {page}: {status}");
        died += u64::from(!status.success());
        let database = Database::open(path).unwrap();
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        for number in 0..KEYS {
            let found = keyspace.get(key(number)).unwrap().map(|value| value.to_vec());
            assert!(judge(page, number, Ok(found), 1));
        }
    }
    assert!(died > 0, "no child met a bad page");
    println!("without the handler: {died} of {cases} died by SIGBUS");
    cases
}

/// Reads all keys of a pool of which a page is poisoned.
fn die(child: &str) {
    let (page, path) = child.split_once(':').unwrap();
    let path = PathBuf::from(path);
    let database = Database::open(&path).unwrap();
    let poison = Poison::of_last_opened().unwrap();
    poison.spoil(page.parse().unwrap()).unwrap();
    let keyspace = database.get_keyspace("k").unwrap().unwrap();
    for number in 0..KEYS {
        assert_eq!(keyspace.get(key(number)).unwrap().unwrap(), &value(number, 1)[..]);
    }
}
