//! An array of 2^37 numbers, 1 TiB, in a pool of 64 MiB: what is not written takes no space.
//!
//! `cargo run -p daxite-core --example sparse_array [PATH]`. With a path the pool stays: run it
//! again, or look at it with `daxite map PATH`.

use std::error::Error;
use std::path::Path;

use daxite_core::{CreateOptions, HUGE, LogicalRange, OpenOptions, Pool, SlotNo, Volume};

const LEN: u64 = 1 << 37;
const INDICES: [u64; 4] = [0, 1_000_000, 50_000_000_000, LEN - 1];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1);
    run(&path.map_or_else(|| folder.path().join("sparse.pool"), Into::into))
}

fn run(path: &Path) -> Result<(), Box<dyn Error>> {
    if !path.exists() {
        let options = CreateOptions { len_bytes: 64 << 20, ..CreateOptions::default() };
        let pool = Pool::create(path, &options)?;
        let doubles = pool.create_volume("doubles", LEN * 8)?;
        for index in INDICES {
            doubles.write(index * 8, &(2 * index).to_le_bytes())?; // durable when it returns
        }
        pool.close()?;
    }

    let pool = Pool::open(path, &OpenOptions::default())?;
    let doubles = pool.volume("doubles")?.ok_or("this pool is not from this example")?;
    for index in INDICES {
        assert_eq!(get(&doubles, index)?, 2 * index, "as before it was closed");
    }
    assert_eq!(get(&doubles, 123)?, 0, "never written, so it is zero");
    for extent in doubles.extents(LogicalRange::new(0, doubles.len_bytes()))? {
        let (first, numbers) = (extent.logical.start / 8, extent.logical.len_bytes / 8);
        println!("{numbers} numbers from {first:>12} on are at {} of the pool", extent.physical);
    }

    // Punching gives an extent back, durably; what was in it is zero again.
    let (last, free) = (LEN - 1, pool.space().free_pages);
    doubles.punch(SlotNo(last * 8 / HUGE).range())?;
    println!("punched: {} pages are free, {free} were", pool.space().free_pages);
    assert_eq!((get(&doubles, last)?, pool.space().free_pages > free), (0, true));
    doubles.write(last * 8, &(2 * last).to_le_bytes())?;
    Ok(pool.close()?)
}

fn get(array: &Volume, index: u64) -> daxite_core::Result<u64> {
    let mut bytes = [0; 8];
    array.read(index * 8, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[test]
fn it_runs_on_a_new_pool_and_again_on_that_pool() {
    let folder = tempfile::tempdir().unwrap();
    (0..2).for_each(|_| run(&folder.path().join("pool")).unwrap());
}
