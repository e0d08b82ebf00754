#![no_main]

use daxite_tests::fuzz::STRUCTURE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _outcome = (STRUCTURE.run)(bytes);
});
