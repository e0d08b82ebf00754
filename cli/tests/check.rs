//! Promise: `daxite check` names what an opening only refuses, and what it does not even notice.
//!
//! Method: pools whose every check matches, because pages of an earlier state of the same pool are
//! back in their places: copies of the superblock, tables that name pages which were given to
//! someone else since, or what lies behind the end. A failure means damage that hides behind checks
//! that match.

mod common;

use std::fs;
use std::path::Path;

use common::{Folder, daxite};
use daxite::Options;
use daxite::daxite_core::{CreateOptions, HUGE, LogicalRange, OpenOptions, PAGE, Pool};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Length of the volume `x`.
const LEN_BYTES: u64 = 3 * HUGE;

/// A closed pool with the volume `x`, which has two pages at its start and one at its end. It has no
/// huge page to give.
fn pool(folder: &Folder) -> String {
    let path = folder.path("pool");
    let options = CreateOptions { len_bytes: 4 << 20, ..CreateOptions::default() };
    let pool = Pool::create(Path::new(&path), &options).expect("a pool");
    let x = pool.create_volume("x", LEN_BYTES).expect("a volume");
    x.write(PAGE - 1, b"12").expect("writing over two pages");
    x.write(LEN_BYTES - 1, b"3").expect("writing at the end");
    pool.close().expect("closing");
    path
}

/// Opens the pool, lets `act` change it, and closes it.
fn change(path: &str, act: impl FnOnce(&Pool)) {
    let pool = Pool::open(Path::new(path), &OpenOptions::default()).expect("opening");
    act(&pool);
    pool.close().expect("closing");
}

/// Brings the pages of `before` back that `chosen` accepts: bytes, and number in the pool.
fn bring_back(path: &str, before: &[u8], chosen: impl Fn(&[u8], usize) -> bool) -> Vec<u8> {
    let mut image = fs::read(path).expect("reading");
    let pages = image.chunks_exact_mut(PAGE as usize).zip(before.chunks_exact(PAGE as usize));
    let back = pages.enumerate().filter(|(at, (_, old))| chosen(old, *at));
    let count = back.map(|(_, (now, old))| now.copy_from_slice(old)).count();
    assert_eq!(count, 1, "pages that were brought back");
    fs::write(path, &image).expect("writing");
    image
}

/// Whether `page` is a table of level 0 with pages at `mapped` and holes elsewhere.
fn is_table(page: &[u8], mapped: &[usize]) -> bool {
    let kind = |at: usize| if mapped.contains(&at) { 2 } else { 1 };
    page.chunks_exact(8).enumerate().all(|(at, word)| word[0] == kind(at))
}

/// What is listed, field by field, of a pool with the exit code `code`, which stays as it is.
fn findings(path: &str, code: i32, image: &[u8]) -> Vec<Vec<String>> {
    let run = daxite(["check", path]);
    let listed = String::from_utf8(run.exit(code).stdout.clone()).expect("output in UTF-8");
    assert!(fs::read(path).expect("reading") == image, "check changed the file");
    listed.lines().map(|line| line.split('\t').map(str::to_string).collect()).collect()
}

#[test]
fn a_page_of_two_volumes() {
    let folder = Folder::new();
    let path = pool(&folder);
    let before = fs::read(&path).expect("reading");
    change(&path, |pool| {
        let x = pool.volume("x").expect("open").expect("it is there");
        x.punch(LogicalRange::new(PAGE, PAGE)).expect("punching");
        pool.create_volume("y", HUGE).expect("a volume").write(0, b"4").expect("writing");
    });
    let image = bring_back(&path, &before, |old, _| is_table(old, &[0, 1]));
    let found = findings(&path, 4, &image);
    // The table is older than the digest of the map, and a page of it has another owner now.
    let whose: Vec<[&str; 3]> = found.iter().map(|one| [&*one[0], &one[1], &one[2]]).collect();
    assert_eq!(whose, [["damage", "extent map", "x"], ["damage", "table", "y"]]);
    let names_both = "volume y, table of level 3 for 0x0 is owned twice, also by volume x, extent at \
                      0x1000";
    assert_eq!(found[1][4], names_both);
    let run = daxite(["check", &path, "--json"]);
    let report: serde_json::Value =
        serde_json::from_slice(&run.exit(4).says("damaged: 2 findings").stdout).expect("JSON");
    assert_eq!(report["log_state"], "unread");
    let place = report["findings"][1]["offset"].as_u64().expect("a number");
    assert_eq!((format!("{place:#x}"), place % PAGE), (found[1][3].clone(), 0));
}

#[test]
fn an_extent_behind_the_end_of_its_volume() {
    let folder = Folder::new();
    let path = pool(&folder);
    let before = fs::read(&path).expect("reading");
    change(&path, |pool| {
        let x = pool.volume("x").expect("open").expect("it is there");
        x.write(LEN_BYTES - HUGE, b"5").expect("writing");
        x.set_len(LEN_BYTES - PAGE).expect("cutting");
    });
    let image = bring_back(&path, &before, |old, _| is_table(old, &[511]));
    let found = findings(&path, 4, &image);
    assert_eq!(found.len(), 1, "{found:?}");
    let [severity, what, volume, _, detail] = &found[0][..] else { panic!("{found:?}") };
    assert_eq!([&**severity, what, volume], ["damage", "extent", "x"]);
    assert_eq!(detail, "it stands for 0x5ff000, behind the end of its volume");
}

#[test]
fn a_copy_of_the_superblock_of_an_earlier_life() {
    let folder = Folder::new();
    let path = pool(&folder);
    let before = fs::read(&path).expect("reading");
    change(&path, |pool| drop(pool.create_volume("y", HUGE).expect("a volume")));
    for page in [0, HUGE / PAGE] {
        let now = fs::read(&path).expect("reading");
        let image = bring_back(&path, &before, |_, at| at as u64 == page);
        // It opens: the other copy is newer. But that one is alone now.
        let found = findings(&path, 0, &image);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0][..4], ["warning", "superblock", "-", &format!("{:#x}", page * PAGE)]);
        assert!(found[0][4].starts_with("it is version "), "{}", found[0][4]);
        fs::write(&path, now).expect("writing");
    }
}

/// Lists `pages` as bad, as docs/FORMAT.md says, in both copies.
fn list_as_bad(path: &str, pages: &[u64]) {
    let mut image = fs::read(path).expect("reading");
    let seed = xxh3_64(&image[24..40]);
    for (start, generation) in [(PAGE, 4u64), (HUGE + PAGE, 3)] {
        let page = &mut image[start as usize..][..PAGE as usize];
        page[8..16].fill(0);
        page[16..24].copy_from_slice(&generation.to_le_bytes());
        page[24..32].copy_from_slice(&(pages.len() as u64).to_le_bytes());
        for (place, number) in page[64..].chunks_exact_mut(8).zip(pages) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let checksum = xxh3_64_with_seed(page, seed);
        page[8..16].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(path, image).expect("writing");
}

#[test]
fn bad_pages_are_told_until_they_are_forgotten() {
    let folder = Folder::new();
    let path = folder.path("pool");
    Options::new().capacity(4 << 20).create(&path).expect("a pool").close().expect("closing");
    let pages = [1000, 1001];
    list_as_bad(&path, &pages);
    let told = |command: &[&str], place: &str| -> serde_json::Value {
        let run = daxite([command, &[&path, "--json"]].concat());
        let report: serde_json::Value = serde_json::from_slice(&run.exit(0).stdout).expect("JSON");
        report.pointer(place).expect("it is told").clone()
    };
    let starts = serde_json::json!(pages.map(|page| page * PAGE));
    let both = serde_json::json!({ "listed": starts, "unlisted": [] });
    assert_eq!(told(&["check"], "/bad_pages"), both);
    assert_eq!(told(&["info"], "/space/bad_pages"), both);
    // The medium is a file, so they read well; nobody said that they are good.
    assert_eq!(told(&["scrub"], "/healed"), starts);
    assert_eq!(told(&["scrub"], "/forgotten"), 0);
    assert_eq!(told(&["scrub", "--forget-healed"], "/forgotten"), 2);
    assert_eq!(told(&["check"], "/bad_pages/listed"), serde_json::json!([]));
}

#[test]
fn names_of_volumes_do_no_harm_to_the_terminal() {
    let folder = Folder::new();
    let path = pool(&folder);
    change(&path, |pool| {
        let name = "\u{1b}[31m\tred\n";
        pool.create_volume(name, HUGE).expect("a volume").write(0, b"4").expect("writing");
    });
    let mut image = fs::read(&path).expect("reading");
    let tables = image.chunks_exact_mut(PAGE as usize).filter(|page| is_table(page, &[0]));
    assert_eq!(tables.map(|page| page[80] ^= 1).count(), 1);
    fs::write(&path, &image).expect("writing");
    let found = findings(&path, 4, &image);
    assert_eq!((found.len(), found[0].len()), (1, 5), "{found:?}");
    assert!(!found[0][2].contains(char::is_control), "{found:?}");
}
