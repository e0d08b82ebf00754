//! Promise: threads that share pages and slots of a volume, but no byte, never notice each other,
//! whatever is upgraded, synced, punched and resized beside them.
//!
//! Method: the head of a volume is cut into pieces that are not aligned to anything; each thread owns
//! every third one, and does to it at random what it likes, knowing what must be there. One more
//! thread owns what is behind; it upgrades, syncs, resizes, and takes and gives up space. In the end
//! everything is compared. A failure means that a store was lost or that a wrong page was reached;
//! it prints the seed, which repeats the choices of each thread but not how they meet.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daxite_core::{Error, HUGE, LogicalRange, OpenOptions, PAGE, Pool, Result, Volume, WriteGuard};
use daxite_tests::{Place, Random, check_space, for_seeds, written_until_full};

const OWNERS: u64 = 3;
/// Two whole pages and a bit, so that pieces have pages to themselves and pages to share.
const PIECE_BYTES: u64 = 3 * PAGE - 100;
/// Pieces fill almost three slots and a half.
const PIECES: u64 = 7 * HUGE / 2 / PIECE_BYTES;
const OWNED_BYTES: u64 = PIECES * PIECE_BYTES;
/// The keeper makes the volume no longer than this.
const VOLUME_BYTES_MAX: u64 = 5 * HUGE + 77;
const OPERATIONS: u64 = 500;
const KEEPER_OPERATIONS: u64 = 150;
const GUARDS_MAX: usize = 3;

const ROOMY_POOL_BYTES: u64 = 40 << 20;
const CROWDED_POOL_BYTES: u64 = 14 << 20;

type Change = fn(&Volume, LogicalRange) -> Result<()>;

fn range(start: u64, len_bytes: u64) -> LogicalRange {
    LogicalRange::new(start, len_bytes)
}

/// What must be in the pieces of one thread; those that are absent are zeros.
type Pieces = BTreeMap<u64, Vec<u8>>;

/// A thread that owns every third piece.
struct Owner<'a> {
    volume: &'a Volume,
    number: u64,
    random: Random,
    pieces: Pieces,
    guards: Vec<(LogicalRange, WriteGuard)>,
}

impl<'a> Owner<'a> {
    fn new(volume: &'a Volume, number: u64, seed: u64) -> Self {
        let random = Random::new(seed * (OWNERS + 1) + number);
        Self { volume, number, random, pieces: Pieces::new(), guards: Vec::new() }
    }

    fn run(mut self) -> Pieces {
        (0..OPERATIONS).for_each(|_| self.one_operation());
        while !self.guards.is_empty() {
            self.drop_guard(0);
        }
        self.pieces
    }

    fn one_operation(&mut self) {
        let piece = self.random.below(PIECES / OWNERS) * OWNERS + self.number;
        let is_of_piece = |(guarded, _): &(LogicalRange, _)| guarded.start / PIECE_BYTES == piece;
        if let Some(at) = self.guards.iter().position(is_of_piece) {
            self.drop_guard(at);
        }
        let inside = self.random.below(PIECE_BYTES);
        let first = self.random.pick(&[0, inside]);
        let len = self.random.below(PIECE_BYTES - first) + 1;
        let len = self.random.pick(&[len, PIECE_BYTES - first]);
        let part = range(piece * PIECE_BYTES + first, len);
        match self.random.below(10) {
            0..=3 => self.write(part),
            4..=5 => self.map_mut(part),
            6 => self.clear(part, Volume::punch),
            7 => self.clear(part, Volume::zero),
            _ => self.read(part),
        }
    }

    /// What must be in `part` of a piece.
    fn known(&mut self, part: LogicalRange) -> &mut [u8] {
        let piece = part.start / PIECE_BYTES;
        let bytes = self.pieces.entry(piece).or_insert_with(|| vec![0; PIECE_BYTES as usize]);
        &mut bytes[(part.start % PIECE_BYTES) as usize..][..part.len_bytes as usize]
    }

    fn write(&mut self, part: LogicalRange) {
        let bytes = self.random.bytes(part.len_bytes);
        let old = self.known(part).to_vec();
        let written = write_or_full(self.volume, part.start, &old, &bytes);
        self.known(part)[..written].copy_from_slice(&bytes[..written]);
    }

    fn map_mut(&mut self, part: LogicalRange) {
        let mut guard = match self.volume.map_mut(part) {
            Ok(guard) => guard,
            Err(Error::Full { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mapped = range(part.start, guard.len() as u64);
        assert!(*guard == *self.known(mapped), "owner {}: {mapped:x?}", self.number);
        let bytes = self.random.bytes(mapped.len_bytes);
        guard.copy_from_slice(&bytes);
        self.known(mapped).copy_from_slice(&bytes);
        if self.guards.len() == GUARDS_MAX {
            self.drop_guard(0);
        }
        self.guards.push((mapped, guard));
    }

    fn drop_guard(&mut self, at: usize) {
        let (mapped, guard) = self.guards.swap_remove(at);
        assert!(*guard == *self.known(mapped), "guard of owner {}: {mapped:x?}", self.number);
    }

    fn clear(&mut self, part: LogicalRange, clear: Change) {
        // Guards of others are beside it, never in it, so this is not busy.
        clear(self.volume, part).unwrap();
        self.known(part).fill(0);
    }

    fn read(&mut self, part: LogicalRange) {
        let mut bytes = vec![0xa5; part.len_bytes as usize];
        self.volume.read(part.start, &mut bytes).unwrap();
        assert!(bytes == *self.known(part), "owner {}: {part:x?}", self.number);
    }
}

/// Writes `bytes`, of which a prefix is there where the pool is full; says how many.
fn write_or_full(volume: &Volume, start: u64, old: &[u8], bytes: &[u8]) -> usize {
    match volume.write(start, bytes) {
        Ok(()) => bytes.len(),
        Err(Error::Full { .. }) => written_until_full(volume, start, old, bytes) as usize,
        Err(error) => panic!("{error}"),
    }
}

/// The thread that owns what is behind the pieces, and changes how all of it is stored.
struct Keeper<'a> {
    volume: &'a Volume,
    other: &'a Volume,
    random: Random,
    /// What must be behind the pieces, up to the end.
    tail: Vec<u8>,
    next_other_slot: u64,
}

impl<'a> Keeper<'a> {
    fn new(volume: &'a Volume, other: &'a Volume, seed: u64) -> Self {
        let tail = vec![0; (volume.len_bytes() - OWNED_BYTES) as usize];
        let random = Random::new(seed * (OWNERS + 1) + OWNERS);
        Self { volume, other, random, tail, next_other_slot: 0 }
    }

    fn run(mut self) -> Vec<u8> {
        (0..KEEPER_OPERATIONS).for_each(|_| self.one_operation());
        self.tail
    }

    fn one_operation(&mut self) {
        let all = range(0, self.volume.len_bytes());
        match self.random.below(10) {
            0..=2 => {
                let patience = Duration::from_millis(self.random.below(3));
                let pages_min = self.random.pick(&[1, 100, 512]);
                self.volume.with_patience(patience).upgrade(all, pages_min).unwrap();
            }
            3..=4 => self.volume.sync(all).unwrap(),
            5 => {
                let len = OWNED_BYTES + 1 + self.random.below(VOLUME_BYTES_MAX - OWNED_BYTES);
                let rounded = len.next_multiple_of(HUGE).min(VOLUME_BYTES_MAX);
                let len = self.random.pick(&[len, rounded]);
                self.volume.set_len(len).unwrap();
                self.tail.resize((len - OWNED_BYTES) as usize, 0);
            }
            6 => {
                let part = self.part_of_tail();
                let bytes = self.random.bytes(part.len() as u64);
                let (start, old) =
                    (OWNED_BYTES + part.start as u64, self.tail[part.clone()].to_vec());
                let written = write_or_full(self.volume, start, &old, &bytes);
                self.tail[part][..written].copy_from_slice(&bytes[..written]);
            }
            7 => {
                let part = self.part_of_tail();
                let punched = range(OWNED_BYTES + part.start as u64, part.len() as u64);
                self.volume.punch(punched).unwrap();
                self.tail[part].fill(0);
            }
            8 => {
                let slot = self.next_other_slot * HUGE;
                let bytes = vec![1; (self.random.below(300) * PAGE + 1) as usize];
                match self.other.write(slot, &bytes) {
                    Ok(()) | Err(Error::Full { .. }) => self.next_other_slot += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            _ => {
                let slot = self.random.below(self.next_other_slot + 1);
                self.other.punch(range(slot * HUGE, HUGE)).unwrap();
            }
        }
    }

    fn part_of_tail(&mut self) -> std::ops::Range<usize> {
        let len = self.tail.len() as u64;
        let first = self.random.below(len);
        let end = first + 1 + self.random.below(len - first);
        first as usize..self.random.pick(&[end, len]) as usize
    }
}

/// Compares the whole volume with what its owners know.
fn check(pool: &Pool, owned: &[Pieces], tail: &[u8]) {
    pool.check();
    check_space(pool);
    let volume = pool.volume("v").unwrap().unwrap();
    let mut bytes = vec![0xa5; volume.len_bytes() as usize];
    volume.read(0, &mut bytes).unwrap();
    let (head, behind) = bytes.split_at(OWNED_BYTES as usize);
    assert!(behind == tail, "the bytes behind the pieces");
    let zeros = vec![0; PIECE_BYTES as usize];
    for (nth, piece) in head.chunks_exact(PIECE_BYTES as usize).enumerate() {
        let known = owned[nth % OWNERS as usize].get(&(nth as u64)).unwrap_or(&zeros);
        assert!(piece == known, "piece {nth}");
    }
}

/// Runs one seed, and says how many slots were upgraded.
fn run(seed: u64, place: &Place) -> u64 {
    let pool_bytes = Random::new(seed).pick(&[ROOMY_POOL_BYTES, CROWDED_POOL_BYTES]);
    let pool = place.create(pool_bytes);
    let volume = pool.create_volume("v", OWNED_BYTES + 500).unwrap();
    let other = pool.create_volume("other", 1 << 40).unwrap();
    let (owned, tail) = std::thread::scope(|scope| {
        let keeper = Keeper::new(&volume, &other, seed);
        let keeper = scope.spawn(move || keeper.run());
        let owners = (0..OWNERS).map(|number| Owner::new(&volume, number, seed));
        let owners: Vec<_> = owners.map(|owner| scope.spawn(move || owner.run())).collect();
        let owned: Vec<_> = owners.into_iter().map(|owner| owner.join().unwrap()).collect();
        (owned, keeper.join().unwrap())
    });
    check(&pool, &owned, &tail);
    let counts = pool.fault_counts();
    if let Some(path) = place.path() {
        drop((volume, other, pool));
        check(&Pool::open(&path, &OpenOptions::default()).unwrap(), &owned, &tail);
    }
    counts.upgraded_in_place + counts.relocated
}

#[test]
fn threads_that_share_pages_but_no_byte_do_not_notice_each_other() {
    let folder = Some(Path::new("/dev/shm")).filter(|folder| folder.is_dir());
    let place = Place::in_folder(folder.unwrap_or(&std::env::temp_dir()));
    let mut upgraded = 0;
    for_seeds(4, |seed| upgraded += run(seed, &place));
    println!("{upgraded} slots were upgraded");
    assert!(upgraded > 0, "hardly anything happened beside the threads");
}
