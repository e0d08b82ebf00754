//! Promises P1 to P4 for threads: whatever they do at once, and whenever they are stopped, a crash
//! leaves what an order of their operations explains that respects real time; and so is what they are
//! answered while nothing crashes.
//!
//! Method: two to four threads at a store in a recorded pool, scheduled by shuttle: any other thread
//! may run before each step of a lock or an atomic, and before each store, write-back and fence. Each
//! schedule draws one moment, in front of a fence or at the return of an operation; states that a
//! crash could leave there are opened afterwards, by one thread, and `tests/src/history/` decides.
//!
//! Only under `--cfg shuttle`. A failure prints a schedule; `DAXITE_SCHEDULE` runs it again.
//! `DAXITE_MIXES` says how many schedules, `DAXITE_MIX_SEED` where they begin: see docs/TESTING.md.
#![cfg(shuttle)]

mod client;
mod contents;
mod crash;
mod explore;

use client::Client;
use contents::Size;
use explore::{Scenario, Threads, explore};
use shuttle::rand::{Rng, thread_rng};

fn some_puts(client: &Client) {
    (0..3).for_each(|_| client.put(client.some_key()));
}

fn some_reads(client: &Client) {
    (0..4).for_each(|_| client.read(client.some_key()));
}

fn puts_and_removals(client: &Client) {
    for _ in 0..4 {
        match thread_rng().gen_range(0..3) {
            0 => client.put(client.some_key()),
            1 => client.remove(client.some_key()),
            _ => client.take(client.some_key()),
        }
    }
}

fn reclaims(client: &Client) {
    client.reclaim();
    client.read(client.some_key());
    client.reclaim();
}

fn batches(client: &Client) {
    for _ in 0..2 {
        match thread_rng().gen_range(0..4) {
            0 => client.put(client.some_key()),
            _ => client.batch(),
        }
    }
}

fn reads_of_all(client: &Client) {
    for _ in 0..3 {
        match thread_rng().gen_range(0..3) {
            0 => client.iterate(),
            _ => client.read(client.some_key()),
        }
    }
}

fn counts(client: &Client) {
    (0..2).for_each(|_| client.count_up());
}

fn drops(client: &Client) {
    client.read(client.some_key());
    client.drop_keyspace();
}

fn clears(client: &Client) {
    client.clear();
    client.put(client.some_key());
}

fn holds(client: &Client) {
    let held: Vec<_> = (0..2).filter_map(|_| client.hold(client.some_key())).collect();
    client.read(client.some_key());
    held.into_iter().for_each(client::Held::look_again);
}

#[test]
fn puts_beside_reads() {
    let threads: Threads = vec![some_puts, some_puts, some_reads];
    explore(Scenario { size: Size::Short, moments: 28, threads });
}

#[test]
fn removals_beside_reclaim() {
    let threads: Threads = vec![puts_and_removals, puts_and_removals, reclaims];
    explore(Scenario { size: Size::Short, moments: 38, threads });
}

#[test]
fn batches_beside_reads() {
    let threads: Threads = vec![batches, batches, reads_of_all, some_puts];
    explore(Scenario { size: Size::Short, moments: 28, threads });
}

#[test]
fn a_counter() {
    let threads: Threads = vec![counts, counts, counts];
    explore(Scenario { size: Size::Short, moments: 28, threads });
}

#[test]
fn a_keyspace_dropped_beside_puts() {
    let threads: Threads = vec![drops, some_puts, puts_and_removals];
    explore(Scenario { size: Size::Short, moments: 26, threads });
}

#[test]
fn a_keyspace_cleared_beside_batches() {
    let threads: Threads = vec![clears, batches, reads_of_all];
    explore(Scenario { size: Size::Short, moments: 24, threads });
}

#[test]
fn a_full_pool_beside_readers() {
    let threads: Threads = vec![some_puts, puts_and_removals, holds];
    explore(Scenario { size: Size::Long, moments: 60, threads });
}

#[test]
fn segments_that_come_back_beside_readers() {
    let threads: Threads = vec![some_puts, puts_and_removals, holds, reclaims];
    explore(Scenario { size: Size::Long, moments: 165, threads });
}
