//! The data set that comes with the program: places of the world, from GeoNames (CC BY 4.0; see
//! `examples/data/README.md`).

use std::io::BufReader;

use flate2::read::GzDecoder;

use crate::args::ReadFormat;
use crate::failure::Outcome;
use crate::formats::{self, Item};

/// JSON lines, compressed with gzip.
const PACKED: &[u8] = include_bytes!("../../../examples/data/places.jsonl.gz");

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// The places, in the order of their file, which is not that of their keys.
pub(crate) struct Places {
    /// The pairs.
    pub(crate) pairs: Vec<Pair>,
    /// Bytes of all keys and values.
    pub(crate) bytes: u64,
}

impl Places {
    /// Unpacks the data set into memory.
    pub(crate) fn unpack() -> Outcome<Self> {
        let input = BufReader::new(GzDecoder::new(PACKED));
        let mut pairs = Vec::new();
        for item in formats::read(input, "the bundled places", ReadFormat::Jsonl)? {
            if let Item::Pair { key, value } = item? {
                pairs.push((key, value));
            }
        }
        let bytes = pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Ok(Self { pairs, bytes })
    }

    /// The pairs in the order of their keys.
    pub(crate) fn in_key_order(&self) -> Vec<&Pair> {
        let mut pairs: Vec<&Pair> = self.pairs.iter().collect();
        pairs.sort();
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_data_is_whole() {
        let places = Places::unpack().unwrap();
        let sorted = places.in_key_order();
        assert_eq!(sorted.len(), 57_025);
        assert!(sorted.windows(2).all(|two| two[0].0 < two[1].0), "a key stands twice");
    }
}
