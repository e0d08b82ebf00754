//! One crash: the images that it could leave, and what is found in them.

use std::sync::{Arc, Mutex};
use std::thread;

use daxite::{Database, Error, Options};
use daxite_core::Pool;
use daxite_core::sim::{CrashPoint, Recorder};
use daxite_tests::{Content, History, Random};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner};

use crate::contents::{Size, registers};

/// Images that are opened: everything that was stored, nothing of what is not certain, and others.
const IMAGES: usize = 5;
/// Of so many choices the others are taken.
const CHOICES: usize = 24;

/// A moment at which everything stopped.
pub(crate) struct Crash {
    history: History,
    images: Vec<(String, Vec<u8>)>,
    /// In which of the images life goes on, to crash again.
    goes_on: usize,
}

impl Crash {
    pub(crate) fn new(point: &CrashPoint<'_>, history: History, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut choices = point.choices(CHOICES, seed);
        while choices.len() > IMAGES {
            choices.remove(2 + random.below(choices.len() as u64 - 2) as usize);
        }
        let image = |choice| (format!("image {choice}"), point.image(choice));
        let mut images: Vec<_> = choices.iter().map(image).collect();
        images.push(("killed".to_string(), point.killed()));
        images.dedup_by(|one, other| one.1 == other.1);
        let goes_on = random.below(images.len() as u64) as usize;
        Self { history, images, goes_on }
    }

    /// Opens every image.
    ///
    /// # Panics
    /// If the history does not explain what is found.
    pub(crate) fn play(self, size: Size) {
        for (nth, (what, image)) in self.images.into_iter().enumerate() {
            let goes_on = nth == self.goes_on;
            let found =
                alone(move || if goes_on { live_on(&image, size) } else { look(&image, size) });
            let explained = found.and_then(|found| self.history.explain_found(&found));
            explained.unwrap_or_else(|error| panic!("after a crash, {what}: {error}"));
        }
    }
}

/// Runs `act` in a world of its own, with one thread.
pub(crate) fn alone<T: Send + 'static>(act: impl Fn() -> T + Send + Sync + 'static) -> T {
    let answer = Arc::new(Mutex::new(None));
    let put = Arc::clone(&answer);
    let run = move || {
        let act = move || *put.lock().expect("one thread") = Some(act());
        Runner::new(RandomScheduler::new_from_seed(1, 1), config()).run(act);
    };
    let joined = thread::spawn(run).join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    answer.lock().expect("it ended").take().expect("it ran")
}

pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    config
}

pub(crate) fn open(pool: Pool) -> Result<Database, Error> {
    Options::new().lanes(2).on_pool(pool)
}

fn look(image: &[u8], size: Size) -> Result<Vec<Content>, String> {
    let pool = Pool::from_image(image, None).map_err(|error| error.to_string())?;
    registers(&open(pool).map_err(|error| error.to_string())?, size)
}

/// Looks, reclaims, and loses the power: what was found must stay.
fn live_on(image: &[u8], size: Size) -> Result<Vec<Content>, String> {
    let recorder = Arc::new(Recorder::default());
    let pool = Pool::from_image(image, Some(&recorder)).map_err(|error| error.to_string())?;
    let database = open(pool).map_err(|error| error.to_string())?;
    let found = registers(&database, size)?;
    database.reclaim().map_err(|error| error.to_string())?;
    if registers(&database, size)? != found {
        return Err(format!("{found:?} was found, and changed by reclaim"));
    }
    let later = Arc::new(Mutex::new(Vec::new()));
    let images = Arc::clone(&later);
    recorder.on_fence(move |point| {
        let choices = point.choices(2, 1);
        images.lock().expect("one thread").extend(choices.iter().map(|choice| point.image(choice)));
    });
    recorder.crash_point();
    let images = std::mem::take(&mut *later.lock().expect("one thread"));
    for image in images {
        let later = look(&image, size)?;
        if later != found {
            return Err(format!("{found:?} was found, {later:?} after the next crash"));
        }
    }
    Ok(found)
}
