//! Images with bytes of anything, anywhere.
//!
//! An input is either bytes that stand all over a file, or changes of a sound pool: bytes, zeros, or
//! blocks of the same pool, of an earlier moment of it, or of another pool; and another length. Allowed
//! is an error that names the place, or an opening that shows what the log says; and if no block
//! came from another moment of the same pool, and it was closed or is damaged in one place, that is what
//! was written, but for damaged frames at the ends of segments without a seal.

use std::ops::Range;
use std::sync::OnceLock;

use daxite_core::{HUGE, PAGE};

use super::input::Input;
use super::trial::tried;
use crate::{Log, POOL_BYTES, Subject};

/// The most changes that an input makes.
const CHANGES_MAX: usize = 10;

/// A pool and another one with the same history.
struct Corpus {
    pool: Subject,
    other: Subject,
    /// Of the pool when it was killed, and when it was closed.
    logs: [Log; 2],
    /// Where lines are that are not zero.
    lines: Vec<usize>,
}

fn corpus() -> &'static Corpus {
    static CORPUS: OnceLock<Corpus> = OnceLock::new();
    CORPUS.get_or_init(|| {
        let (pool, other) = (Subject::new(0), Subject::new(1));
        let logs = [&pool.killed, &pool.closed].map(|image| Log::of(image).expect("a sound pool"));
        let lines = pool.closed.chunks_exact(64).enumerate();
        let used = lines.filter(|(_, line)| line.iter().any(|&byte| byte != 0));
        let lines = used.map(|(nth, _)| nth * 64).collect();
        Corpus { pool, other, logs, lines }
    })
}

pub(super) fn run(bytes: &[u8]) -> String {
    let mut input = Input::new(bytes);
    if input.below(8) == 0 {
        return tried(&everywhere(&mut input), |_| {});
    }
    let corpus = corpus();
    let closed = input.below(2);
    let mut image = [&corpus.pool.killed, &corpus.pool.closed][closed].clone();
    let (mut damaged, mut is_of_now) = (Vec::new(), true);
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        match input.below(9) {
            0 => image.resize([0, 1, 4095, 4096, HUGE as usize][input.below(5)], 0),
            1 => image.resize(POOL_BYTES as usize + [0, 1, 4096, HUGE as usize][input.below(4)], 0),
            kind => {
                let Some(range) = place(&mut input, image.len()) else { continue };
                is_of_now &= kind != 7;
                change(&mut image, range.clone(), kind, &mut input);
                damaged.push(range);
            }
        }
    }
    let base = &corpus.logs[closed];
    // Without a close, several places may be all that tells a segment from one that was being opened.
    let must_survive = is_of_now && (closed == 1 || damaged.len() <= 1);
    tried(&image, |found| {
        if must_survive && let Err(why) = base.survives_as(found, &damaged) {
            panic!("{why}, with {damaged:?} damaged");
        }
    })
}

/// Bytes that are repeated all over a file.
fn everywhere(input: &mut Input<'_>) -> Vec<u8> {
    let lens = [POOL_BYTES, POOL_BYTES + 1, HUGE, PAGE, PAGE + 1, 1, 0];
    let len_bytes = *input.pick(&lens) as usize;
    let has_superblocks = input.below(2) == 1;
    let mut bytes = input.take(usize::MAX).to_vec();
    bytes.push(0);
    let mut image: Vec<u8> = bytes.iter().copied().cycle().take(len_bytes).collect();
    if has_superblocks && len_bytes as u64 >= POOL_BYTES {
        for at in [0, HUGE as usize] {
            let superblock = at..at + PAGE as usize;
            image[superblock.clone()].copy_from_slice(&corpus().pool.killed[superblock]);
        }
    }
    image
}

/// Where to change an image of so many bytes: where something is, mostly. Blocks start at their length.
fn place(input: &mut Input<'_>, len_bytes: usize) -> Option<Range<usize>> {
    let lines = &corpus().lines;
    let at = match input.below(8) {
        0 => input.below(POOL_BYTES as usize),
        _ => input.pick(lines) + input.below(64),
    };
    let len = [1, 8, 64, 512, PAGE as usize][input.below(5)];
    let start = at / len * len;
    (start + len <= len_bytes.min(POOL_BYTES as usize)).then_some(start..start + len)
}

fn change(image: &mut [u8], range: Range<usize>, kind: usize, input: &mut Input<'_>) {
    let Corpus { pool, other, .. } = corpus();
    match kind {
        2 => {
            let mask = input.byte();
            image[range].iter_mut().for_each(|byte| *byte ^= mask);
        }
        3 => {
            let bytes = input.take(range.len());
            image[range.start..range.start + bytes.len()].copy_from_slice(bytes);
        }
        4 => image[range].fill([0, 0xff][input.below(2)]),
        5 => {
            let from = input.pick(&corpus().lines) / range.len() * range.len();
            if from + range.len() <= image.len() {
                image.copy_within(from..from + range.len(), range.start);
            }
        }
        6 => image[range.clone()].copy_from_slice(&other.closed[range]),
        7 => {
            let moment = [&pool.earlier, &pool.killed, &pool.closed][input.below(3)];
            image[range.clone()].copy_from_slice(&moment[range]);
        }
        _ => image[range.clone()].copy_from_slice(&other.killed[range]),
    }
}
