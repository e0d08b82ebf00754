//! What must hold of any image: it is refused, or it opens, shows what its log says, and can be used.

use std::cell::RefCell;
use std::path::Path;

use daxite::{Database, Error};

use crate::{Bed, Log, Shown, assert_honest, shown};

thread_local! {
    static BED: RefCell<Option<Bed>> = const { RefCell::new(None) };
}

/// Tries to open `image`, and says what that came to. If it opens, it shows what its log says, `check`
/// accepts that log, and it can be used.
pub(super) fn tried(image: &[u8], check: impl FnOnce(&Log)) -> String {
    // Taken out, so that after a panic there is a new one.
    let mut bed = BED.take().unwrap_or_default();
    bed.put(image);
    let path = bed.path();
    let opened = bed.open(|database, image| {
        let log = Log::in_pool(database.pool(), image).expect("a log");
        let found = match shown(&database) {
            Ok(found) => found,
            Err(error) => panic!("opened, but reading answers: {error}"),
        };
        if let Err(why) = log.explains(&found) {
            panic!("{why}");
        }
        check(&log);
        let segments = log.segments.len();
        let outcome = used(database, &path, found);
        format!("{segments} segments; {outcome}")
    });
    BED.set(Some(bed));
    match opened {
        Ok(outcome) => outcome,
        Err(error) => error.to_string(),
    }
}

/// Writes, reclaims, closes and opens again; nothing that returned may be lost by that.
fn used(database: Database, path: &Path, mut expected: Shown) -> String {
    let mut write = |name: &str| -> Result<(), Error> {
        let keyspace = database.keyspace(name)?;
        if !expected.keyspaces.iter().any(|known| known == name) {
            expected.keyspaces.push(name.to_string());
            expected.keyspaces.sort();
        }
        keyspace.insert("used", "1")?;
        expected.contents.insert((name.to_string(), b"used".to_vec()), b"1".to_vec());
        Ok(())
    };
    let wrote = ["a", "new"].map(|name| match write(name) {
        Ok(()) => "written".to_string(),
        Err(error @ (Error::Full { .. } | Error::InvalidArgument(_))) => error.to_string(),
        Err(error) => panic!("opened, but writing answers: {error}"),
    });
    database.reclaim().unwrap_or_else(|error| panic!("opened, but reclaim answers: {error}"));
    let found = shown(&database).unwrap_or_else(|error| panic!("reading answers: {error}"));
    assert!(found == expected, "other contents after writing");
    database.close().unwrap_or_else(|error| panic!("opened, but closing answers: {error}"));
    let again = Database::open(path).inspect_err(assert_honest);
    let again = again.unwrap_or_else(|error| panic!("opened and closed, and then: {error}"));
    assert!(shown(&again).expect("it opened") == expected, "other contents after opening again");
    wrote.join(", ")
}
