//! Promise: whatever the operating system refuses, at whichever call, the library answers with a
//! success or with an error that says what failed and where; what was acknowledged is there
//! afterwards, and nothing stands in the way of trying again.
//!
//! Method: `calls` lets the n-th system call of each operation fail, with each error that it can
//! give. A failure of a test prints the operation, the call and the error. What a machine does not
//! allow to be tested is said in a line with `SKIPPED`.

#[cfg(target_arch = "x86_64")]
mod calls;
