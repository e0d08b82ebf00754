//! A page that went bad is not used again, and what could be read beside it is saved.

use std::collections::BTreeSet;
use std::path::Path;

use daxite::{Database, Error, Keyspace, Options, install_sigbus_handler};
use daxite_core::{LogicalRange, Offset, PAGE};

use crate::bad::{POOL_BYTES, Poison, key, place, turn, value, with_page_bad_at_open};

const KEYS: u64 = 120;

fn open(path: &Path) -> (Database, Keyspace) {
    let database = Options::new().lanes(1).open(path).unwrap();
    let keyspace = database.get_keyspace("k").unwrap().unwrap();
    (database, keyspace)
}

/// Keys that were there and are removed: their tombstones must hide them, wherever reclaim takes them.
const REMOVED: u64 = 30;

fn removed(number: u64) -> String {
    format!("removed {number}")
}

/// A store with the keys, every fifth of them written in a batch with its neighbours; closed.
fn make(path: &Path) {
    let database = Options::new().capacity(POOL_BYTES).lanes(1).create(path).unwrap();
    let keyspace = database.keyspace("k").unwrap();
    for number in 0..KEYS {
        match number % 5 {
            0 => {
                let mut batch = database.batch();
                for number in number..number + 3 {
                    batch.insert(&keyspace, key(number), value(number, 0));
                }
                batch.commit().unwrap();
            }
            1 | 2 => {}
            _ => keyspace.insert(key(number), value(number, 0)).unwrap(),
        }
        if number < REMOVED {
            keyspace.insert(removed(number), value(number, 0)).unwrap();
        }
        if number % 2 == 1 && number / 2 >= KEYS / 2 - REMOVED {
            keyspace.remove(removed(KEYS / 2 - 1 - number / 2)).unwrap();
        }
    }
    drop(keyspace);
    database.close().unwrap();
}

/// The pages of each segment of the log.
fn segments(database: &Database) -> Vec<BTreeSet<u64>> {
    let log = database.pool().volume("log").unwrap().unwrap();
    let extents = log.extents(LogicalRange::new(0, log.len_bytes())).unwrap();
    let pages = |from: Offset, len_bytes| from.0 / PAGE..(from.0 + len_bytes) / PAGE;
    extents.iter().map(|one| pages(one.physical, one.logical.len_bytes).collect()).collect()
}

/// The keys that are not answered by their value of `version`: each by a media error on one of `bad`.
fn lost(keyspace: &Keyspace, bad: &[u64], version: impl Fn(u64) -> u8) -> Vec<u64> {
    let is_lost = |number: &u64| match keyspace.get(key(*number)) {
        Ok(Some(found)) => {
            assert!(found == value(*number, version(*number))[..], "another value of {number}");
            false
        }
        Ok(None) => panic!("key {number} is not found"),
        Err(Error::MediaError { what, offset, .. }) => {
            assert!(what.contains(&key(*number)), "{what} in place of {number}");
            assert!(bad.contains(&(offset / PAGE)), "{number}: page {}", offset / PAGE);
            true
        }
        Err(error) => panic!("{number}: {error}"),
    };
    (0..KEYS).filter(is_lost).collect()
}

fn require_removed(keyspace: &Keyspace) {
    let found = (0..REMOVED).find(|number| keyspace.contains_key(removed(*number)).unwrap());
    assert_eq!(found, None, "a removed key is back");
}

fn listed(database: &Database) -> Vec<u64> {
    database.pool().bad_pages().listed.iter().map(|page| page.0 / PAGE).collect()
}

#[test]
fn what_can_be_read_of_a_segment_is_saved_and_its_good_pages_return() {
    let _turn = turn();
    let Some(folder) = place() else { return };
    install_sigbus_handler().unwrap();
    let path = folder.path().join("pool");
    make(&path);
    let image = std::fs::read(&path).unwrap();
    let pages: Vec<u64> = segments(&open(&path).0).into_iter().flatten().collect();
    // The first one has the name of the keyspace, which nobody overwrites: its segment stays for good.
    let pages = pages.into_iter().skip(1);
    let (mut saved, mut hit, mut of_batches) = (0, 0, 0);
    for page in pages.step_by(3) {
        std::fs::write(&path, &image).unwrap();
        let (database, keyspace) = open(&path);
        let poison = Poison::of_last_opened().unwrap();
        let segment = segments(&database).into_iter().find(|pages| pages.contains(&page)).unwrap();
        poison.spoil(page).unwrap();
        let lost_at_first = lost(&keyspace, &[page], |_| 0);
        assert!(lost_at_first.len() <= 3, "page {page}: {lost_at_first:?}");
        hit += lost_at_first.len();

        // Dead records are what makes a segment worth the work. Those on the page stay as they are.
        let overwritten =
            |number: u64| number.is_multiple_of(2) && !lost_at_first.contains(&number);
        let version = |number: u64| u8::from(overwritten(number));
        for number in (0..KEYS).filter(|number| overwritten(*number)) {
            keyspace.insert(key(number), value(number, 1)).unwrap();
        }
        let report = database.reclaim().unwrap();
        saved += report.moved_records;
        assert_eq!(lost(&keyspace, &[page], version), lost_at_first, "page {page}");
        let is_kept = segments(&database).iter().any(|pages| pages.contains(&page));
        assert!(is_kept || lost_at_first.is_empty(), "page {page}: lost keys without a segment");

        // What was saved is not in the segment any more: all of it may go. A batch that was hit is kept
        // together, since only all of it verifies.
        segment.iter().for_each(|page| poison.spoil(*page).unwrap());
        let all: Vec<u64> = segment.iter().copied().collect();
        if is_kept {
            let lost_then = lost(&keyspace, &all, version);
            let in_batch = |number: u64| number % 5 < 3;
            let beside = |number: &u64| {
                lost_at_first.iter().any(|lost| {
                    lost == number || in_batch(*lost) && in_batch(*number) && lost / 5 == number / 5
                })
            };
            assert!(lost_then.iter().all(beside), "page {page}: {lost_at_first:?}, {lost_then:?}");
            of_batches += lost_then.len() - lost_at_first.len();
            for number in lost_then {
                let refused = keyspace.insert(key(number), value(number, version(number)));
                assert!(matches!(refused, Err(Error::MediaError { .. })), "{refused:?}");
                assert!(keyspace.remove_lost(key(number)).unwrap());
                assert!(!keyspace.remove_lost(key(number)).unwrap());
                assert!(keyspace.get(key(number)).unwrap().is_none());
                keyspace.insert(key(number), value(number, version(number))).unwrap();
            }
        }
        segment.iter().filter(|one| **one != page).for_each(|page| poison.heal(*page));
        database.reclaim().unwrap();
        assert!(segments(&database).iter().all(|pages| !pages.contains(&page)), "page {page}");
        // Nobody looked at it if nothing of it was asked for.
        assert!(listed(&database).contains(&page) || lost_at_first.is_empty(), "page {page}");
        assert_eq!(database.pool().space().bad_pages, listed(&database).len() as u64);
        drop(keyspace);
        database.close().unwrap();
        // No bad page is in use, so it opens with it, too.
        let (_database, keyspace) = with_page_bad_at_open(page, || open(&path));
        assert_eq!(lost(&keyspace, &[], version), []);
        require_removed(&keyspace);
    }
    println!("{saved} records moved, {hit} keys hit, {of_batches} kept beside them");
    assert!(saved > 100 && hit > 20 && of_batches > 0);
}

#[test]
fn a_page_that_was_bad_once_is_used_again_only_when_it_is_forgotten() {
    let _turn = turn();
    let Some(folder) = place() else { return };
    install_sigbus_handler().unwrap();
    let path = folder.path().join("pool");
    make(&path);
    let (database, keyspace) = open(&path);
    let poison = Poison::of_last_opened().unwrap();
    let page = *segments(&database)[0].iter().nth(5).unwrap();
    let offset = Offset(page * PAGE);
    poison.spoil(page).unwrap();
    assert!(!lost(&keyspace, &[page], |_| 0).is_empty());
    assert_eq!(listed(&database), [page]);
    let still_bad = database.pool().forget_bad_page(offset);
    assert!(matches!(still_bad, Err(daxite_core::Error::MediaError { .. })), "{still_bad:?}");
    assert_eq!(database.scrub().unwrap().healed, []);
    drop((keyspace, database));

    // It reads well now, and its bytes are there. Whoever has it keeps it.
    let (database, keyspace) = open(&path);
    assert_eq!(listed(&database), [page]);
    assert_eq!(lost(&keyspace, &[], |_| 0), []);
    assert_eq!(database.scrub().unwrap().healed, [offset]);
    for version in 1..9 {
        for number in 0..KEYS {
            keyspace.insert(key(number), value(number, version)).unwrap();
        }
        database.reclaim().unwrap();
    }
    assert!(segments(&database).iter().all(|pages| !pages.contains(&page)));
    assert_eq!(database.pool().space().bad_pages, 1);
    let uses = database.pool().occupancy().unwrap();
    assert_eq!(uses.iter().map(|huge| huge.bad_pages).sum::<u16>(), 1);

    // Rewriting what stands on it would not take it off; that it is good is said by someone.
    assert!(database.pool().forget_bad_page(offset).unwrap());
    assert_eq!((listed(&database), database.pool().space().bad_pages), (vec![], 0));
    drop((keyspace, database));
    let (database, _) = open(&path);
    assert_eq!((listed(&database), database.pool().space().bad_pages), (vec![], 0));
}

#[test]
fn a_page_that_an_opening_met_is_on_the_list_though_it_refused() {
    let _turn = turn();
    let Some(folder) = place() else { return };
    let path = folder.path().join("pool");
    make(&path);
    let page = *segments(&open(&path).0)[0].iter().nth(3).unwrap();
    let refused = with_page_bad_at_open(page, || Options::new().open(&path).map(|_| ()));
    assert!(matches!(refused, Err(Error::MediaError { .. })), "{refused:?}");
    let examined = Database::examine(&path).unwrap();
    assert_eq!(examined.pool.bad_pages, [Offset(page * PAGE)]);
    assert_eq!((examined.pool.findings, examined.pool.was_clean), (vec![], true));
    let (database, keyspace) = open(&path);
    assert_eq!(listed(&database), [page]);
    assert_eq!(lost(&keyspace, &[], |_| 0), []);
}

#[test]
fn with_a_copy_of_the_list_lost_the_other_one_stays_as_it_is_and_pages_are_counted() {
    let _turn = turn();
    let Some(folder) = place() else { return };
    install_sigbus_handler().unwrap();
    for copy in [1, 513] {
        let path = folder.path().join(format!("pool {copy}"));
        make(&path);
        let (database, _) = open(&path);
        let poison = Poison::of_last_opened().unwrap();
        let pages: Vec<u64> = segments(&database)[0].iter().copied().collect();
        let meet = |page: u64| {
            poison.spoil(page).unwrap();
            database.scrub().unwrap();
        };
        // Until the turn comes to the copy that is lost.
        poison.spoil(copy).unwrap();
        pages[2..8].iter().for_each(|page| meet(*page));
        let known = database.pool().bad_pages();
        assert!(known.unlisted.contains(&Offset(copy * PAGE)), "{known:?}");
        assert!(pages[2..8].iter().all(|page| {
            let page = Offset(page * PAGE);
            known.listed.contains(&page) != known.unlisted.contains(&page)
        }));
        let listed_then = listed(&database);
        assert!(listed_then.len() <= 1, "{listed_then:?}");
        drop(database);
        // The copy that is bad in that mapping has its bytes in the file: the older ones.
        let (database, _) = open(&path);
        assert_eq!(listed(&database), listed_then);
    }
}
