//! Where damaged images are tried: examined, opened, and looked at again.
//!
//! What holds for any bytes at all is asserted here:
//! 1. An examination changes no byte, and names damage if and only if opening refuses (P8).
//! 2. What is refused is left as it is, and the error says what is wrong.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use daxite::{Database, Error, Options};
use daxite_core::PAGE;
use tempfile::TempDir;

use crate::subject::memory_folder;

/// A file in memory for one image after the other.
pub struct Bed {
    folder: TempDir,
    file: File,
    /// What is in it.
    held: Vec<u8>,
    /// What is read back from it.
    after: Vec<u8>,
}

impl Default for Bed {
    fn default() -> Self {
        let folder = memory_folder();
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(folder.path().join("pool")).expect("a new file");
        Self { folder, file, held: Vec::new(), after: Vec::new() }
    }
}

impl Bed {
    /// Where the image is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// Puts `image` into the file.
    pub fn put(&mut self, image: &[u8]) {
        if self.held.len() != image.len() {
            self.file.set_len(image.len() as u64).expect("a length");
            self.read();
            self.held.clone_from(&self.after);
        }
        let pages = self.held.chunks_mut(PAGE as usize).zip(image.chunks(PAGE as usize));
        for (at, (held, page)) in pages.enumerate().filter(|(_, (held, page))| held != page) {
            self.file.write_all_at(page, at as u64 * PAGE).expect("a write to memory");
            held.copy_from_slice(page);
        }
    }

    /// Examines what is in the file. True if there is no pool, or one with damage.
    pub fn examine(&mut self) -> bool {
        let examined = Database::examine(self.path());
        self.assert_unchanged("an examination");
        match examined {
            Err(
                Error::NotAPool { .. }
                | Error::UnsupportedVersion { .. }
                | Error::UnsupportedFeature { .. }
                | Error::Truncated { .. },
            ) => true,
            Err(error) => panic!("an examination stopped: {error}"),
            Ok(checkup) => checkup.is_damaged(),
        }
    }

    /// Opens what is in the file, and gives the database to `look`.
    ///
    /// # Errors
    /// That of opening, which says that the bytes are damaged or are no pool.
    pub fn open<R>(&mut self, look: impl FnOnce(Database) -> R) -> Result<R, Error> {
        let is_named = self.examine();
        match Options::new().open(self.path()) {
            Ok(database) => {
                assert!(!is_named, "named by an examination, but opened");
                let looked = look(database);
                // Opening and looking wrote.
                self.read();
                self.held.clone_from(&self.after);
                Ok(looked)
            }
            Err(error) => {
                // What only a writer must know is no damage: readers, and examinations, may come in.
                let is_for_readers = matches!(error, Error::UnsupportedFeature { .. });
                assert!(
                    is_named || is_for_readers,
                    "not named by an examination, but refused: {error}"
                );
                self.assert_unchanged("an opening that failed");
                assert_honest(&error);
                Err(error)
            }
        }
    }

    fn assert_unchanged(&mut self, who: &str) {
        self.read();
        assert!(self.after == self.held, "{who} changed the file");
    }

    fn read(&mut self) {
        let len_bytes = self.file.metadata().expect("an open file").len();
        self.after.resize(len_bytes as usize, 0);
        self.file.read_exact_at(&mut self.after, 0).expect("a read of memory");
    }
}

/// Panics unless `error` is one that damaged bytes, or bytes that are no pool, may be answered with.
pub fn assert_honest(error: &Error) {
    let is_honest = matches!(
        error,
        Error::Corruption { .. }
            | Error::NotAPool { .. }
            | Error::UnsupportedVersion { .. }
            | Error::UnsupportedFeature { .. }
            | Error::Truncated { .. }
    );
    let says = error.to_string();
    assert!(is_honest && !says.is_empty() && !says.contains("Error"), "says {error:?}");
}
