//! Variations of inputs, without knowing what they mean.

use crate::Random;

/// The longest input.
const LEN_MAX: usize = 512;

/// A variation of something in `corpus`, or something new.
pub(super) fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    if corpus.is_empty() || random.below(8) == 0 {
        let len = random.below(96);
        return noise(random, len);
    }
    // What was found last is built upon most.
    let recent = corpus.len().min(16);
    let nth = match random.below(2) {
        0 => corpus.len() - recent + random.below(recent as u64) as usize,
        _ => random.below(corpus.len() as u64) as usize,
    };
    let mut bytes = corpus[nth].clone();
    for _ in 0..1 + random.below(6) {
        vary(random, &mut bytes, corpus);
    }
    bytes.truncate(LEN_MAX);
    bytes
}

fn vary(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let len = bytes.len();
    let at = random.below(len as u64 + 1) as usize;
    let end = at + random.below((len - at).min(24) as u64 + 1) as usize;
    match random.below(8) {
        0 | 1 if at < len => bytes[at] = random.below(256) as u8,
        2 if at < len => bytes[at] ^= 1 << random.below(8),
        3 if at < len => bytes[at] = random.pick(&[0, 1, 2, 0x7f, 0x80, 0xff]),
        4 => drop(bytes.drain(at..end)),
        5 => {
            let copied = bytes[at..end].to_vec();
            let to = random.below(len as u64 + 1) as usize;
            bytes.splice(to..to, copied);
        }
        6 => {
            let other = &corpus[random.below(corpus.len() as u64) as usize];
            let from = random.below(other.len() as u64 + 1) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let len = 1 + random.below(12);
            let new = noise(random, len);
            bytes.splice(at..at, new);
        }
    }
}

fn noise(random: &mut Random, len: u64) -> Vec<u8> {
    (0..len).map(|_| random.below(256) as u8).collect()
}
