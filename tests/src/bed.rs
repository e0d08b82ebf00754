//! Where damaged images are tried: examined, opened, and looked at again.
//!
//! What holds for any bytes at all is asserted here:
//! 1. An examination names damage if and only if opening refuses (P8).
//! 2. What is refused is left as it is, after an examination too, and the error says what is wrong.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use daxite::{Database, Error, LogCheckup, Options};
use daxite_core::PAGE;
use tempfile::TempDir;

use crate::test_folder;

/// A file in memory for one image after the other.
pub struct Bed {
    folder: TempDir,
    file: File,
    /// What is in it.
    held: Vec<u8>,
    /// What is read back from it.
    after: Vec<u8>,
    /// How often it was looked at.
    looks: u64,
}

impl Default for Bed {
    fn default() -> Self {
        let folder = test_folder("daxite-damage");
        let mut options = File::options();
        let options = options.read(true).write(true).create_new(true);
        let file = options.open(folder.path().join("pool")).expect("a new file");
        Self { folder, file, held: Vec::new(), after: Vec::new(), looks: 0 }
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

    /// Opens what is in the file, and gives the database and the bytes that it found to `look`.
    ///
    /// # Errors
    /// That of opening, which says that the bytes are damaged or are no pool.
    pub fn open<R>(&mut self, look: impl FnOnce(Database, &[u8]) -> R) -> Result<R, Error> {
        let examined = self.examine();
        let opened = Options::new().open(self.path());
        assert_agree(examined, &opened);
        match opened {
            Ok(database) => {
                let looked = look(database, &self.held);
                // Opening and looking wrote.
                self.read();
                self.held.clone_from(&self.after);
                Ok(looked)
            }
            Err(error) => {
                self.read();
                assert!(self.after == self.held, "what was refused was changed");
                Err(error)
            }
        }
    }

    /// Opens what is in the file with other bytes in the places that `patches` name, read-only, and gives
    /// the database and the bytes to `look`. The places are then as before. One in four is examined too,
    /// which takes longer than all the rest.
    ///
    /// # Errors
    /// As [`Bed::open`].
    pub fn look<R>(
        &mut self,
        patches: &[(usize, &[u8])],
        look: impl FnOnce(&Database, &[u8]) -> R,
    ) -> Result<R, Error> {
        let mut undo = Vec::new();
        for &(at, bytes) in patches {
            undo.push((at, self.held[at..at + bytes.len()].to_vec()));
            self.patch(at, bytes);
        }
        self.looks += 1;
        let examined = self.looks.is_multiple_of(4).then(|| self.examine());
        let opened = Options::new().open_read_only(self.path());
        match (examined, &opened) {
            (Some(examined), opened) => assert_agree(examined, opened),
            (None, Err(error)) => assert_honest(error),
            (None, Ok(_)) => {}
        }
        let looked = opened.map(|database| look(&database, &self.held));
        for (at, bytes) in undo.into_iter().rev() {
            self.patch(at, &bytes);
        }
        looked
    }

    fn patch(&mut self, at: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, at as u64).expect("a write to memory");
        self.held[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn examine(&mut self) -> Examined {
        match Database::examine(self.path()) {
            Err(error) => {
                assert!(!error.is_corruption(), "an examination stopped: {error}");
                assert_honest(&error);
                Examined::Damaged
            }
            Ok(checkup) if checkup.is_damaged() => Examined::Damaged,
            Ok(checkup) if matches!(checkup.log, LogCheckup::Absent) => Examined::WithoutLog,
            Ok(_) => Examined::Sound,
        }
    }

    fn read(&mut self) {
        let len_bytes = self.file.metadata().expect("an open file").len();
        self.after.resize(len_bytes as usize, 0);
        self.file.read_exact_at(&mut self.after, 0).expect("a read of memory");
    }
}

/// What an examination found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Examined {
    Sound,
    /// A sound pool, in which opening would make a log.
    WithoutLog,
    /// No pool, or one with damage.
    Damaged,
}

/// Panics unless an opening and an examination agree.
fn assert_agree(examined: Examined, opened: &Result<Database, Error>) {
    match opened {
        Ok(_) => assert_ne!(examined, Examined::Damaged, "named by an examination, but opened"),
        // What only a writer must know is no damage: readers, and examinations, may come in.
        Err(error @ Error::UnsupportedFeature { .. }) => assert_honest(error),
        // There may be no room for one.
        Err(Error::Full { .. } | Error::InvalidArgument(_) | Error::NotAPool { .. })
            if examined == Examined::WithoutLog => {}
        Err(error) => {
            assert_eq!(examined, Examined::Damaged, "refused, but not named: {error}");
            assert_honest(error);
        }
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
