//! `daxite dump`: a pool as text that other programs, and `daxite load`, read.
//!
//! A file named with `-o` appears, or is replaced, only when the dump is complete.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use daxite::Keyspace;

use crate::args::{DEFAULT_KEYSPACE, DumpArgs, Format};
use crate::failure::{Failure, Outcome};
use crate::formats::jsonl::Line;
use crate::formats::lmdb;
use crate::output::Out;
use crate::progress;
use crate::session::Session;
use crate::size;

/// Writes the dump.
pub(crate) fn run(pool: &Session, args: &DumpArgs, out: &mut Out) -> Outcome<()> {
    let keyspaces = match &args.ks {
        Some(name) => vec![pool.keyspace(name)?],
        None => {
            let names = pool.db.keyspaces();
            names.iter().map(|name| pool.keyspace(name)).collect::<Outcome<_>>()?
        }
    };
    match &args.output {
        None => write(pool, &keyspaces, args.format, &mut |bytes| out.bytes(bytes)),
        Some(path) => {
            let mut draft = Draft::create(path)?;
            write(pool, &keyspaces, args.format, &mut |bytes| draft.write(bytes))?;
            draft.finish()
        }
    }
}

type Sink<'a> = dyn FnMut(&[u8]) -> Outcome<()> + 'a;

fn write(
    pool: &Session,
    keyspaces: &[Keyspace],
    format: Format,
    sink: &mut Sink<'_>,
) -> Outcome<()> {
    let bar = progress::bar(keyspaces.iter().map(Keyspace::len).sum(), "records");
    let mut unfit = 0;
    for keyspace in keyspaces {
        if format == Format::Lmdb {
            sink(lmdb::header(keyspace.name(), map_bytes(pool))?.as_bytes())?;
        }
        for pair in keyspace.iter() {
            let (key, value) = pair.map_err(|error| pool.fail(error))?;
            match format {
                Format::Lmdb => sink(lmdb::pair(&key, &value).as_bytes())?,
                Format::Jsonl => sink(&json_line(keyspace.name(), &key, &value))?,
            }
            unfit += u64::from(key.is_empty() || key.len() > lmdb::LMDB_KEY_MAX);
            bar.inc(1);
        }
        if format == Format::Lmdb {
            sink(lmdb::FOOTER.as_bytes())?;
        }
    }
    bar.finish_and_clear();
    if format == Format::Lmdb && unfit > 0 {
        eprintln!(
            "daxite: {}: mdb_load will refuse {}, empty or longer than {} bytes (daxite load takes them)",
            pool.path.display(),
            size::counted(unfit, "key", "keys"),
            lmdb::LMDB_KEY_MAX,
        );
    }
    Ok(())
}

fn json_line(keyspace: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let line = Line::of_key(key).value(value);
    let line = match keyspace {
        DEFAULT_KEYSPACE => line,
        other => line.keyspace(other),
    };
    let mut text = serde_json::to_vec(&line).expect("text and options of text are valid JSON");
    text.push(b'\n');
    text
}

/// Room for the LMDB environment: it keeps pages half full at worst, values above half a page on
/// pages of their own, and old pages until the next commit.
fn map_bytes(pool: &Session) -> u64 {
    (pool.db.stats().live_bytes * 4 + (64 << 20)).next_multiple_of(1 << 20)
}

/// A file that takes its name when it is complete. What is there and no regular file (a pipe, a
/// terminal) is written at once.
struct Draft {
    path: PathBuf,
    draft: Option<PathBuf>,
    file: BufWriter<File>,
}

impl Draft {
    fn create(path: &Path) -> Outcome<Self> {
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let opened = File::options().write(true).open(path);
            let file = opened.map_err(|error| Failure::io("open", path, &error))?;
            return Ok(Self { path: path.to_path_buf(), draft: None, file: BufWriter::new(file) });
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}.part", std::process::id()));
        let draft = PathBuf::from(draft);
        let file =
            File::create_new(&draft).map_err(|error| Failure::io("create", &draft, &error))?;
        Ok(Self { path: path.to_path_buf(), draft: Some(draft), file: BufWriter::new(file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.file.write_all(bytes).map_err(|error| Failure::io("write", &self.path, &error))
    }

    fn finish(mut self) -> Outcome<()> {
        let written = self.file.flush().and_then(|()| match &self.draft {
            None => Ok(()),
            Some(draft) => {
                self.file.get_ref().sync_all()?;
                fs::rename(draft, &self.path)
            }
        });
        written.map_err(|error| Failure::io("write", &self.path, &error))
    }
}

impl Drop for Draft {
    /// Removes a draft that was not finished; a finished one has no longer this name.
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            let _ = fs::remove_file(draft);
        }
    }
}
