//! What a fault gets: 2 MiB while there is a whole huge page, 4 KiB when there is none, and 2 MiB
//! again by an upgrade when there is one.
//!
//! `cargo run -p daxite-core --example huge_pages [PATH]`. With a path the pool is put there; on a
//! DAX mount, `page sizes` tells what the kernel really maps.

use std::error::Error;
use std::path::Path;

use daxite_core::{CreateOptions, ExtentSize, FallbackReason, HUGE, Pool, SlotNo};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1);
    run(&path.map_or_else(|| folder.path().join("huge.pool"), Into::into))
}

fn run(path: &Path) -> Result<(), Box<dyn Error>> {
    let options = CreateOptions { len_bytes: 32 << 20, ..CreateOptions::default() };
    let pool = Pool::create(path, &options)?;
    let volume = pool.create_volume("data", 1 << 30)?;

    // Each fault on a fresh slot takes one whole huge page, as long as there are any.
    let mut slot = SlotNo(0);
    while pool.space().free_huge_pages > 0 {
        let mut bytes = volume.map_mut(slot.range())?;
        assert_eq!((bytes.size(), bytes.len() as u64), (ExtentSize::Huge, HUGE));
        bytes.fill(slot.0 as u8);
        bytes.persist()?;
        slot = SlotNo(slot.0 + 1);
    }
    println!("{} slots got 2 MiB; page sizes: {:?}", slot.0, pool.page_sizes());

    // What is left of the pool is in pieces: the next slot is filled by pages of 4 KiB.
    volume.write(slot.range().start, &vec![0xab; HUGE as usize])?;
    let pieces = volume.extents(slot.range())?;
    println!("slot {} got 4 KiB pages, in {} runs", slot.0, pieces.len());
    assert!(pieces.iter().all(|piece| piece.size == ExtentSize::Page));

    // A huge page comes free, and the pages move there; no reader or writer has to know.
    volume.punch(SlotNo(0).range())?;
    let report = volume.upgrade(slot.range(), 512)?;
    println!("upgraded: {} in place, {} by relocation", report.in_place, report.relocated);
    assert_eq!(report.relocated, 1);
    assert!(volume.map(slot.range())?.iter().eq(&[0xab; HUGE as usize]));

    let counts = pool.fault_counts();
    println!("allocated: {} of 2 MiB, {} of 4 KiB", counts.allocated_huge, counts.allocated_pages);
    for reason in FallbackReason::ALL {
        println!("{:>4} fell back to 4 KiB: {reason}", counts.fallbacks(reason));
    }
    assert!(counts.fallbacks(FallbackReason::NoHugePage) > 0);
    Ok(pool.close()?)
}

#[test]
fn it_runs() {
    let folder = tempfile::tempdir().unwrap();
    run(&folder.path().join("pool")).unwrap();
}
