//! The recorder: what `persist` reports, and the defects that can be planted there.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::bench::Benches;
use super::point::{CrashPoint, Kept};
use super::shadow::{Floor, Ground, Line, OpenLines, Shadow};
use super::site::Site;
use crate::medium::Medium;
use crate::units::{ByteRange, LINE, Offset, lines};

type Hook = Box<dyn Fn(&CrashPoint<'_>) + Send + Sync>;

/// A mistake that somebody could make in the code under test, made in the simulator instead. Nothing
/// of it is in the code that ships.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Defect {
    /// None.
    #[default]
    None,
    /// The calls at these places are left out: a store does not happen; what should be written back
    /// is not; a fence waits for nothing.
    Without(Vec<Site>),
    /// No fence waits for anything.
    NoFences,
    /// A write-back goes from the first byte in steps of a line, so it misses the last line of a range
    /// that does not begin at one.
    UnroundedWriteBacks,
    /// A fence comes after the store that follows it: what is published may be there before what it
    /// publishes. At these places, or at all if there are none.
    LateFences(Vec<Site>),
}

/// Follows everything that is stored to one medium.
pub struct Recorder {
    /// `None` until it follows one.
    shadow: Mutex<Option<Shadow>>,
    hook: RwLock<Option<Hook>>,
    benches: Arc<Benches>,
    defect: Defect,
    /// Shared with the recorders of what follows a crash.
    sites: Arc<Mutex<BTreeMap<Site, u64>>>,
    /// A fence that a defect holds back.
    late: Mutex<bool>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_defect(Defect::None)
    }
}

impl Recorder {
    /// A recorder of a machine on which the code under test has `defect`.
    pub fn with_defect(defect: Defect) -> Self {
        Self::of(None, Arc::default(), defect, Arc::default())
    }

    /// One that goes on where a crash left `floor` and `open`.
    pub(super) fn after_crash(&self, floor: Floor, open: Arc<OpenLines>) -> Self {
        let shadow = Shadow::new(floor, open);
        let (benches, sites) = (Arc::clone(&self.benches), Arc::clone(&self.sites));
        Self::of(Some(shadow), benches, self.defect.clone(), sites)
    }

    /// One that follows nothing, on benches of its own.
    pub(super) fn apart(&self) -> Self {
        Self::of(None, Arc::default(), self.defect.clone(), Arc::clone(&self.sites))
    }

    /// One that follows nothing, on the same benches.
    pub(super) fn beside(&self) -> Self {
        Self { benches: Arc::clone(&self.benches), ..self.apart() }
    }

    fn of(
        shadow: Option<Shadow>,
        benches: Arc<Benches>,
        defect: Defect,
        sites: Arc<Mutex<BTreeMap<Site, u64>>>,
    ) -> Self {
        let (shadow, hook, late) = (Mutex::new(shadow), RwLock::default(), Mutex::new(false));
        Self { shadow, hook, benches, defect, sites, late }
    }

    /// Calls `hook` before every fence, until it is replaced.
    pub fn on_fence(&self, hook: impl Fn(&CrashPoint<'_>) + Send + Sync + 'static) {
        *self.hook.write() = Some(Box::new(hook));
    }

    /// Calls the hook for this moment too.
    pub fn crash_point(&self) {
        if let Some(hook) = &*self.hook.read()
            && let Some(shadow) = &*self.shadow.lock()
        {
            hook(&CrashPoint::new(self, shadow));
        }
    }

    /// Keeps this moment, to crash there when all is over, or elsewhere.
    ///
    /// # Panics
    /// If it follows no medium.
    pub fn keep(&self) -> Kept {
        let shadow = self.shadow.lock();
        CrashPoint::new(self, shadow.as_ref().expect("a recorder that follows a medium")).keep()
    }

    /// Fences so far.
    pub fn fences(&self) -> u64 {
        self.shadow.lock().as_ref().map_or(0, |shadow| shadow.fences)
    }

    /// The places that stored, wrote back or fenced, in order, and how often.
    pub fn sites(&self) -> BTreeMap<Site, u64> {
        self.sites.lock().clone()
    }

    pub(super) fn benches(&self) -> &Benches {
        &self.benches
    }

    /// Takes `ground`, which is what the medium holds, as certain.
    pub(super) fn start(&self, ground: Ground) {
        let floor = Floor { ground: Arc::new(ground), over: None };
        *self.shadow.lock() = Some(Shadow::new(floor, Arc::default()));
    }

    /// What is on a line after a crash turned out.
    pub(super) fn decided(&self, line: u64, to: Line) {
        self.with(|shadow| shadow.floor.set(line, to));
    }

    /// Whether the call at `site` does what it should.
    pub(crate) fn happens(&self, site: Site) -> bool {
        *self.sites.lock().entry(site).or_default() += 1;
        !matches!(&self.defect, Defect::Without(sites) if sites.contains(&site))
    }

    /// An aligned word was stored.
    pub(crate) fn stored_word(&self, offset: Offset, word: u64) {
        self.with(|shadow| shadow.push_word(offset, word));
        self.fence_if_late();
    }

    /// Bytes were stored in bulk; what they are is read back from the visible state.
    pub(crate) fn stored_bulk(&self, medium: &Medium, range: ByteRange) {
        self.with(|shadow| lines(range).for_each(|line| shadow.catch_up(medium, line)));
        self.fence_if_late();
    }

    /// Lines were written back, or stored past the cache.
    pub(crate) fn written_back(&self, medium: &Medium, range: ByteRange) {
        let missed = match self.defect {
            Defect::UnroundedWriteBacks if range.len_bytes > 0 => {
                let steps = (range.len_bytes - 1) / LINE;
                (range.start.0 + steps * LINE) / LINE + 1
            }
            _ => u64::MAX,
        };
        self.with(|shadow| {
            for line in lines(range) {
                shadow.catch_up(medium, line);
                if line < missed {
                    shadow.flush(line);
                }
            }
        });
    }

    /// This thread fences at `site`.
    pub(crate) fn fenced(&self, site: Site) {
        self.fence_if_late();
        self.crash_point();
        match &self.defect {
            Defect::NoFences => {}
            Defect::LateFences(sites) if sites.is_empty() || sites.contains(&site) => {
                *self.late.lock() = true;
            }
            _ => self.with(Shadow::fence),
        }
    }

    /// Makes up for a fence that was held back, after a look at what that did.
    fn fence_if_late(&self) {
        if std::mem::take(&mut *self.late.lock()) {
            self.crash_point();
            self.with(Shadow::fence);
        }
    }

    fn with(&self, act: impl FnOnce(&mut Shadow)) {
        act(self.shadow.lock().as_mut().expect("a recorder that follows a medium"));
    }
}
