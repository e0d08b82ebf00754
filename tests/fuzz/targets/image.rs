#![no_main]

use daxite_tests::fuzz::IMAGE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _outcome = (IMAGE.run)(bytes);
});
