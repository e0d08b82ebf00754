//! Promise: opening does what it says, and says why it does not; limits are errors with figures.
//!
//! Method: each way to open and each limit once. A failure means a wrong error or a changed file.

mod common;

use common::{pool_path, value_of};
use daxite::{Database, Error, MAX_BATCH_LEN, MAX_KEY_LEN, MAX_VALUE_LEN, Options};

fn options() -> Options {
    Options::new().capacity(8 << 20)
}

#[test]
fn create_does_not_overwrite_unless_forced() {
    let (_folder, path) = pool_path();
    let db = options().create(&path).unwrap();
    db.keyspace("old").unwrap();
    let error = Database::open(&path).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    db.close().unwrap();
    let error = options().create(&path).unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { is_pool: true, .. }), "{error}");
    assert_eq!(options().open_or_create(&path).unwrap().keyspaces(), ["old"]);
    let db = options().force(true).create(&path).unwrap();
    assert_eq!(db.keyspaces(), [""; 0]);
}

#[test]
fn what_is_no_pool_is_left_alone() {
    let (_folder, path) = pool_path();
    let error = Database::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    std::fs::write(&path, "my diary, not a pool").unwrap();
    for opened in [Database::open(&path), options().open_or_create(&path)] {
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::NotAPool { .. }), "{error}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"my diary, not a pool");
}

#[test]
fn a_missing_file_is_created() {
    let (_folder, path) = pool_path();
    let db = options().open_or_create(&path).unwrap();
    assert_eq!(db.path(), Some(path.as_path()));
    assert_eq!(Options::new().capacity(4 << 20).in_memory().unwrap().path(), None);
    assert!(matches!(options().lanes(0).in_memory(), Err(Error::InvalidArgument(_))));
    assert!(matches!(Options::new().in_memory(), Err(Error::InvalidArgument(_))));
}

#[test]
fn read_only_shows_what_a_recovery_would_and_writes_nothing() {
    let (_folder, path) = pool_path();
    let db = options().create(&path).unwrap();
    let keyspace = db.keyspace("k").unwrap();
    (0..500u64).for_each(|n| keyspace.insert(n.to_be_bytes(), value_of(n, 300)).unwrap());
    // A crash.
    drop((db, keyspace));
    let before = std::fs::read(&path).unwrap();
    let db = Options::new().open_read_only(&path).unwrap();
    assert!(db.is_read_only() && !db.recovery_report().was_clean);
    let keyspace = db.get_keyspace("k").unwrap().unwrap();
    assert_eq!(keyspace.len(), 500);
    assert_eq!(keyspace.get(7u64.to_be_bytes()).unwrap().unwrap(), *value_of(7, 300));
    for refused in [
        keyspace.insert("x", "y"),
        keyspace.clear(),
        keyspace.remove("x").map(drop),
        db.keyspace("another").map(drop),
        db.drop_keyspace("k").map(drop),
        db.reclaim().map(drop),
        db.batch().commit().map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    assert_eq!(db.keyspace("k").unwrap().len(), 500);
    db.close().unwrap();
    drop(keyspace);
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
    assert_eq!(Database::open(&path).unwrap().get_keyspace("k").unwrap().unwrap().len(), 500);
}

#[test]
fn a_closed_database_says_so_and_its_values_stay() {
    let db = options().in_memory().unwrap();
    let keyspace = db.keyspace("k").unwrap();
    keyspace.insert("key", "value").unwrap();
    let value = keyspace.get("key").unwrap().unwrap();
    let mut iter = keyspace.iter();
    let other = db.clone();
    db.close().unwrap();
    assert!(matches!(other.clone().close(), Err(Error::Closed)));
    assert!(matches!(keyspace.get("key"), Err(Error::Closed)));
    assert!(matches!(keyspace.insert("key", ""), Err(Error::Closed)));
    assert!(matches!(other.keyspace("k"), Err(Error::Closed)));
    assert!(matches!(other.reclaim(), Err(Error::Closed)));
    assert!(matches!(iter.next(), Some(Err(Error::Closed))));
    assert!(iter.next().is_none(), "the error is the last item");
    drop((other, keyspace, iter));
    assert_eq!(value, b"value");
}

#[test]
fn limits_are_errors_with_figures() {
    let db = Options::new().capacity(64 << 20).in_memory().unwrap();
    let keyspace = db.keyspace("k").unwrap();
    let (key, value) = (vec![1; MAX_KEY_LEN], vec![2; MAX_VALUE_LEN]);
    keyspace.insert(&key, &value).unwrap();
    assert_eq!(keyspace.get(&key).unwrap().unwrap(), *value);
    keyspace.insert("", "").unwrap();
    assert_eq!(keyspace.size_of("").unwrap(), Some(0));
    assert_eq!(keyspace.first().unwrap().unwrap().0, b"");

    let (long, large) = (vec![1; MAX_KEY_LEN + 1], vec![2; MAX_VALUE_LEN + 1]);
    let error = keyspace.insert(&long, "").unwrap_err();
    assert!(matches!(error, Error::KeyTooLong { len: 65_536, max: 65_535 }), "{error}");
    assert!(matches!(keyspace.get(&long), Ok(None)));
    let error = keyspace.insert("k", &large).unwrap_err();
    assert!(matches!(error, Error::ValueTooLarge { len: 1_048_577, max: 1_048_576 }), "{error}");

    let mut batch = db.batch();
    batch.insert(&keyspace, "1", &value).insert(&keyspace, "2", &value);
    assert!(batch.len_bytes() > MAX_BATCH_LEN);
    let error = batch.commit().unwrap_err();
    assert!(matches!(error, Error::BatchTooLarge { records: 2, .. }), "{error}");
    assert_eq!(keyspace.len(), 2);

    let mut batch = db.batch();
    batch.insert(&keyspace, "1", &value).insert(&keyspace, "2", &value[..value.len() - 400]);
    assert!(batch.len_bytes() <= MAX_BATCH_LEN);
    batch.commit().unwrap();
    assert_eq!(keyspace.len(), 4);

    assert!(matches!(db.keyspace(""), Err(Error::InvalidArgument(_))));
    assert!(matches!(db.keyspace(&"x".repeat(256)), Err(Error::InvalidArgument(_))));
}

#[test]
fn the_last_write_to_a_key_in_a_batch_wins() {
    let db = options().in_memory().unwrap();
    let (a, b) = (db.keyspace("a").unwrap(), db.keyspace("b").unwrap());
    a.insert("gone", "1").unwrap();
    let mut batch = db.batch();
    batch.insert(&a, "k", "1").remove(&a, "k").insert(&a, "k", "2").insert(&b, "k", "3");
    batch.insert(&a, "gone", "2").remove(&a, "gone").remove(&b, "never there");
    assert_eq!(batch.len(), 7);
    let first = batch.commit().unwrap();
    assert_eq!(a.get("k").unwrap().unwrap(), b"2");
    assert_eq!(b.get("k").unwrap().unwrap(), b"3");
    assert!(!a.contains_key("gone").unwrap());
    let mut batch = db.batch();
    batch.insert(&a, "k", "4");
    assert!(batch.commit().unwrap() > first);

    let stranger = options().in_memory().unwrap();
    let mut batch = stranger.batch();
    batch.insert(&a, "k", "5");
    assert!(matches!(batch.commit(), Err(Error::InvalidArgument(_))));
    assert!(db.batch().commit().is_ok(), "an empty batch is nothing to do");
}

#[test]
fn a_pool_whose_volume_log_is_something_else_is_no_database() {
    let pool = daxite::daxite_core::Pool::in_memory(8 << 20).unwrap();
    pool.create_volume("log", 4096).unwrap();
    let error = Options::new().on_pool(pool).unwrap_err();
    assert!(matches!(error, Error::NotAPool { .. }), "{error}");
}

#[test]
fn damaged_headers_are_counted_and_made_up_for() {
    let (_folder, path) = pool_path();
    let db = options().create(&path).unwrap();
    db.keyspace("k").unwrap().insert("key", "value").unwrap();
    db.close().unwrap();
    let mut image = std::fs::read(&path).unwrap();
    let at = image.windows(8).position(|window| window == b"DAXlogSG").unwrap();
    image[at + 20] ^= 1;
    std::fs::write(&path, &image).unwrap();
    let db = Database::open(&path).unwrap();
    assert_eq!(db.recovery_report().headers_from_copy, 1);
    assert_eq!(db.keyspace("k").unwrap().get("key").unwrap().unwrap(), b"value");
}
