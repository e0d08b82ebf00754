//! A crash test that finds a mistake in an application: money is moved by two puts that should have
//! been one batch.
//!
//! ```sh
//! cargo run -p daxite --features test-util --example crash_test_your_app
//! ```
//!
//! The test opens the database in every state that a power failure or a killed process could leave, and
//! asks whether the money is still there. A unit test would never notice: while nothing crashes, two
//! puts do what a batch does.

use daxite::test_util::{CrashTest, Journal, Tally, Violation};
use daxite::{Database, Error, Keyspace};

/// What all accounts have together.
const TOTAL: u64 = 200;

/// An account that nobody has used has 100.
fn balance(accounts: &Keyspace, name: &str) -> Result<u64, Error> {
    let stored = accounts.get(name)?;
    Ok(stored.map_or(100, |bytes| u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))))
}

/// The mistake: after a crash between the two puts the money is gone from one account, and has not
/// arrived at the other.
fn transfer_by_two_puts(db: &Database, amount: u64) -> Result<(), Error> {
    let accounts = db.keyspace("accounts")?;
    let (ann, bob) = (balance(&accounts, "ann")?, balance(&accounts, "bob")?);
    accounts.insert("ann", (ann - amount).to_le_bytes())?;
    accounts.insert("bob", (bob + amount).to_le_bytes())
}

/// As it should be.
fn transfer_by_a_batch(db: &Database, amount: u64) -> Result<(), Error> {
    let accounts = db.keyspace("accounts")?;
    let (ann, bob) = (balance(&accounts, "ann")?, balance(&accounts, "bob")?);
    let mut batch = db.batch();
    batch.insert(&accounts, "ann", (ann - amount).to_le_bytes());
    batch.insert(&accounts, "bob", (bob + amount).to_le_bytes());
    batch.commit()?;
    Ok(())
}

/// Moves money three times by `transfer`, with a crash at every moment.
fn crash_test(transfer: fn(&Database, u64) -> Result<(), Error>) -> Result<Tally, Violation> {
    // What may be found changes as the workload goes on: so much has arrived at Bob's for certain.
    let test = CrashTest::new(|db: &Database, arrived: &u64| {
        let read = || -> Result<(u64, u64), Error> {
            let Some(accounts) = db.get_keyspace("accounts")? else { return Ok((100, 100)) };
            Ok((balance(&accounts, "ann")?, balance(&accounts, "bob")?))
        };
        let (ann, bob) = read().map_err(|error| error.to_string())?;
        if ann + bob != TOTAL {
            return Err(format!("Ann has {ann}, Bob has {bob}: not {TOTAL} any more"));
        }
        if bob < 100 + arrived {
            return Err(format!("Bob has {bob}, though {arrived} was acknowledged"));
        }
        Ok(())
    });
    test.run(1, 0, |db, journal: &Journal<u64>| {
        for amount in [10, 20, 30] {
            transfer(db, amount).expect("memory does not fail");
            journal.end(|arrived| *arrived += amount);
        }
    })
}

fn main() {
    match crash_test(transfer_by_two_puts) {
        Ok(tally) => println!("two puts: nothing wrong in {tally}"),
        Err(violation) => println!("two puts: {violation}"),
    }
    match crash_test(transfer_by_a_batch) {
        Ok(tally) => println!("a batch: nothing wrong in {tally}"),
        Err(violation) => println!("a batch: {violation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mistake_is_found_and_nothing_else() {
        let violation = crash_test(transfer_by_two_puts).expect_err("the mistake");
        assert!(violation.what.contains("not 200 any more"), "{violation}");
        let tally = crash_test(transfer_by_a_batch).expect("nothing wrong");
        assert!(tally.states > 100, "{tally}");
    }
}
