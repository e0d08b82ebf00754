//! The processes that look at what is left.

use std::path::Path;

use daxite::{Database, LogCheckup};
use daxite_core::Severity;
use daxite_tests::{Event, Ledger, Stamp, check_space};

use crate::plan::{KEYS, KEYSPACES, Look, Plan, key_bytes, key_of, keyspace_of};

/// Opens the pool, and tells what is in it.
pub(crate) fn look(plan: &Plan, path: &Path, ledger: &Ledger) {
    examine(path);
    ledger.note(&Event::Opening);
    let options = plan.options();
    let opened = match plan.look {
        Look::ReadOnly => options.open_read_only(path),
        Look::Recover | Look::ReclaimAndClose => options.open(path),
    };
    let database = opened.expect("a pool that opens");
    ledger.note(&Event::Opened { was_clean: database.recovery_report().was_clean });
    database.pool().check();
    check_space(database.pool());
    tell(&database, ledger);
    if plan.look == Look::ReclaimAndClose {
        reclaim(plan, &database);
        database.close().expect("closing");
        examine(path);
    }
    ledger.note(&Event::Said("done".to_string()));
}

/// Removes everything, one key after the other; then the space must be back.
pub(crate) fn empty(plan: &Plan, path: &Path, ledger: &Ledger) {
    let database = plan.options().open(path).expect("a pool that opens");
    for key in 0..KEYS {
        if let Some(keyspace) = database.get_keyspace(KEYSPACES[keyspace_of(key)]).expect("open") {
            keyspace.remove(key_bytes(key)).expect("a removal");
        }
    }
    for name in KEYSPACES {
        let keyspace = database.keyspace(name).expect("open");
        assert!(keyspace.is_empty(), "keys are left in {name}");
    }
    reclaim(plan, &database);
    database.pool().check();
    check_space(database.pool());
    database.close().expect("closing");
    examine(path);
    ledger.note(&Event::Said("done".to_string()));
}

/// Tells what the database holds, and that reading it in another way gives the same.
fn tell(database: &Database, ledger: &Ledger) {
    for (nth, name) in KEYSPACES.into_iter().enumerate() {
        let Some(keyspace) = database.get_keyspace(name).expect("open") else { continue };
        let mut pairs = 0;
        for pair in keyspace.iter() {
            let (bytes, value) = pair.expect("a pair that is whole");
            let key = key_of(&bytes).unwrap_or_else(|| panic!("nobody wrote the key {bytes:?}"));
            assert_eq!(keyspace_of(key), nth, "key {key} is in {name}");
            let stamp = Stamp::of(&value);
            let stamp = stamp.unwrap_or_else(|| panic!("nobody wrote the value of key {key}"));
            let found = keyspace.get(&bytes).expect("a value that is whole");
            assert_eq!(found.as_ref(), Some(&value), "key {key}, found and iterated");
            ledger.note(&Event::Saw { key, stamp });
            pairs += 1;
        }
        assert_eq!(keyspace.len(), pairs, "the length of {name}");
    }
}

fn reclaim(plan: &Plan, database: &Database) {
    let report = database.reclaim().expect("reclaiming");
    assert_eq!(report.retired_segments, 0, "nobody holds a value: {report:?}");
    let stats = database.stats();
    let used_bytes = stats.capacity_bytes - stats.free_bytes;
    let most = plan.used_bytes_max(stats.live_bytes, stats.lanes);
    assert!(used_bytes <= most, "{used_bytes} bytes in use, not {most}: {report:?} {stats:#?}");
}

fn examine(path: &Path) {
    let checkup = Database::examine(path).expect("a pool to be examined");
    let findings = &checkup.pool.findings;
    let damage = findings.iter().find(|finding| finding.severity == Severity::Damage);
    assert!(damage.is_none() && !checkup.is_damaged(), "{checkup:#?}");
    let LogCheckup::Read { findings, .. } = &checkup.log else { panic!("no log: {checkup:#?}") };
    assert!(findings.is_empty(), "{checkup:#?}");
}
