//! A view on the live path: windows open, close, are corrected and forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use isotick_kernels::{
    Engine, EngineError, SavedWindows, Touched, Truth, Unfit, WindowId, Windows,
};
use isotick_model::results::WindowRow;
use isotick_model::view::{LatenessPolicy, View};
use isotick_model::{StreamSchema, Ticks};

/// Windows that are given out together: while subscribers are told of some, the next are read.
const TOGETHER_MAX: usize = 256;

/// The live state of one view: a function of the log records it is shown, in log order.
///
/// Sans-IO. For each record call [`handle_ticks`](Self::handle_ticks) (if it holds ticks), then
/// [`handle_watermark`](Self::handle_watermark) with W after the record, then
/// [`poll_published`](Self::poll_published) until it gives nothing.
pub struct LiveView {
    view: Arc<View>,
    windows: Windows,
    /// Windows not published yet, with their places, by the watermark that publishes them.
    open: BTreeMap<i128, Vec<(WindowId, u32)>>,
    /// By place, the latest version of the window that stands there; 0 for one not published yet.
    versions: Vec<u32>,
    /// Published windows that may still change, by the watermark that ends their life.
    expiring: BTreeMap<i128, Vec<WindowId>>,
    /// Published windows that the record in hand has changed.
    changed: Vec<(WindowId, u32)>,
    /// What the record in hand publishes, in order.
    publishing: VecDeque<Publishing>,
    /// The watermark after the record in hand.
    watermark: Option<i128>,
    counters: LiveCounters,
    /// Windows that start before are not held: the view came after them.
    from: Option<i64>,
}

/// A version of a window that is to be read and given out.
struct Publishing {
    id: WindowId,
    place: u32,
    version: u32,
    reason: Reason,
}

/// A [`LiveView`] as plain data, between two records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedView {
    /// The states.
    pub windows: SavedWindows,
    /// Per window, the latest version published; 0 for none.
    pub versions: Vec<u32>,
    /// Windows that start before are not held, nanoseconds UTC.
    pub from: Option<i64>,
    /// What the view has done.
    pub counters: LiveCounters,
}

/// What a view has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounters {
    /// Ticks that entered a window.
    pub ticks: u64,
    /// Ticks that came after their window's end plus the allowed lateness: in history, in no live
    /// window.
    pub too_late: u64,
    /// Windows published for the first time.
    pub windows: u64,
    /// Further versions of published windows.
    pub corrections: u64,
}

/// A window as published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The window with its version.
    pub row: WindowRow,
    /// Why this version exists.
    pub reason: Reason,
}

/// Why a version of a window was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The watermark reached the window's end: version 1.
    Closed,
    /// A late tick within the allowed lateness changed it.
    Late,
}

impl Reason {
    /// The reason's name in records and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Late => "late",
        }
    }
}

impl LiveView {
    /// A view over a stream with this schema that has seen nothing.
    pub fn new(view: Arc<View>, schema: &StreamSchema) -> Self {
        let truth = Truth::Seen { allowed_ns: view.lateness.allowed_ns };
        Self {
            windows: Windows::new(view.clone(), schema).with_truth(truth),
            view,
            open: BTreeMap::new(),
            versions: Vec::new(),
            expiring: BTreeMap::new(),
            changed: Vec::new(),
            publishing: VecDeque::new(),
            watermark: None,
            counters: LiveCounters::default(),
            from: None,
        }
    }

    /// A view that comes when the stream's watermark is `w` already, instead of
    /// [`new`](Self::new): it holds windows that `w` does not close, and those only. Show it the
    /// stream's earlier ticks that are in them with [`handle_ticks`](Self::handle_ticks), before
    /// anything else.
    pub fn declared_at(view: Arc<View>, schema: &StreamSchema, w: Option<i64>) -> Self {
        let mut live = Self::new(view, schema);
        if let Some(w) = w {
            live.set_from(first_open(&live.view, w));
        }
        live
    }

    /// The view as it was [saved](Self::save).
    ///
    /// # Errors
    ///
    /// When it was another view's.
    pub fn restore(
        view: Arc<View>,
        schema: &StreamSchema,
        saved: SavedView,
    ) -> Result<Self, Unfit> {
        let mut live = Self::new(view.clone(), schema);
        let mut placed = Vec::new();
        let truth = Truth::Seen { allowed_ns: view.lateness.allowed_ns };
        let with = |id, place| placed.push((id, place));
        live.windows = Windows::restore(view, schema, truth, saved.windows, with)?;
        if saved.versions.len() != placed.len() {
            return Err(Unfit("versions and windows are not as many"));
        }
        live.versions = vec![0; placed.len()];
        for ((id, place), version) in placed.into_iter().zip(saved.versions) {
            live.versions[place as usize] = version;
            if version == 0 {
                live.open.entry(live.publish_at(id)).or_default().push((id, place));
            } else {
                live.expiring.entry(live.expires_at(id)).or_default().push(id);
            }
        }
        if let Some(from) = saved.from {
            live.set_from(from);
        }
        live.counters = saved.counters;
        Ok(live)
    }

    /// The view as plain data.
    ///
    /// # Panics
    ///
    /// In the middle of a record: before its watermark was handled and what was published taken.
    pub fn save(&self) -> SavedView {
        assert!(
            self.changed.is_empty() && self.publishing.is_empty(),
            "a view is saved between two records"
        );
        let mut versions = Vec::with_capacity(self.windows.len());
        let windows = self.windows.save(|_, place| versions.push(self.versions[place as usize]));
        SavedView { windows, versions, from: self.from, counters: self.counters }
    }

    fn set_from(&mut self, from: i64) {
        self.from = Some(from);
        self.windows.set_range(self.from, None);
    }

    /// The start of the first window that the view may hold; `None` when it was there from the
    /// beginning.
    pub fn from(&self) -> Option<i64> {
        self.from
    }

    /// The view.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The ticks of one log record, with how each met the watermark. On an error nothing has
    /// changed: call again with another engine.
    ///
    /// # Panics
    ///
    /// When not all of what the record before published was taken: it is read from the windows as
    /// they stand.
    pub fn handle_ticks(
        &mut self,
        ticks: &Ticks,
        engine: &mut dyn Engine,
    ) -> Result<(), EngineError> {
        assert!(self.publishing.is_empty(), "what a record publishes is taken before the next one");
        // Windows of one record are mostly published together.
        let (mut due, mut opened) = (None, Vec::new());
        for Touched { id, place, is_new } in self.windows.update_touched(ticks, engine)? {
            if is_new {
                let at = self.publish_at(id);
                if due.is_some_and(|due| due != at) {
                    self.open_windows_at(due, &mut opened);
                }
                due = Some(at);
                opened.push((id, place));
            } else if self.versions[place as usize] > 0 {
                self.changed.push((id, place));
            }
        }
        self.open_windows_at(due, &mut opened);
        self.counters.ticks = self.windows.passed();
        self.counters.too_late = self.windows.too_late();
        Ok(())
    }

    /// W after the record: what the record changed and what W closes is published.
    pub fn handle_watermark(&mut self, w: Option<i64>) {
        for (id, place) in self.changed.drain(..) {
            let version = &mut self.versions[place as usize];
            *version += 1;
            let (version, reason) = (*version, Reason::Late);
            self.publishing.push_back(Publishing { id, place, version, reason });
            self.counters.corrections += 1;
        }
        let Some(w) = w.map(i128::from) else { return };
        self.watermark = Some(w);
        while let Some(due) = self.open.first_entry().filter(|due| *due.key() <= w) {
            let mut due = due.remove();
            due.sort_unstable();
            self.publishing.reserve(due.len());
            for &(id, place) in &due {
                let (version, reason) = (1, Reason::Closed);
                self.publishing.push_back(Publishing { id, place, version, reason });
                self.versions[place as usize] = version;
            }
            self.counters.windows += due.len() as u64;
            for of_start in due.chunk_by(|a, b| a.0.window_start() == b.0.window_start()) {
                let ids = of_start.iter().map(|&(id, _)| id);
                self.expiring.entry(self.expires_at(of_start[0].0)).or_default().extend(ids);
            }
        }
        if self.publishing.is_empty() {
            self.forget_expired();
        }
    }

    /// The next windows that were published, in order, at least one; `None` when there are none.
    pub fn poll_published(&mut self) -> Option<Vec<Published>> {
        if self.publishing.is_empty() {
            return None;
        }
        let next = self.publishing.drain(..self.publishing.len().min(TOGETHER_MAX));
        let published = next.map(|Publishing { id, place, version, reason }| {
            let row = WindowRow { version, ..self.windows.row_at(id, place) };
            Published { row, reason }
        });
        let published = published.collect();
        if self.publishing.is_empty() {
            self.forget_expired();
        }
        Some(published)
    }

    /// Lets go of windows that no tick can enter any more.
    fn forget_expired(&mut self) {
        let Some(w) = self.watermark else { return };
        while let Some(expired) = self.expiring.first_entry().filter(|expired| *expired.key() <= w)
        {
            for id in expired.remove() {
                self.windows.remove(id);
            }
        }
    }

    /// Windows that are not published yet, as they stand: provisional. In no particular order.
    pub fn open_rows(&self) -> Vec<WindowRow> {
        let open = self.open.values().flatten();
        open.map(|&(id, place)| self.windows.row_at(id, place)).collect()
    }

    /// Windows that are not published yet.
    pub fn open_windows(&self) -> u64 {
        self.open.values().map(|ids| ids.len() as u64).sum()
    }

    /// What the view has done so far.
    pub fn counters(&self) -> LiveCounters {
        self.counters
    }

    /// New windows that one watermark publishes; empties their list.
    fn open_windows_at(&mut self, due: Option<i128>, opened: &mut Vec<(WindowId, u32)>) {
        let Some(due) = due else { return };
        for &(_, place) in opened.iter() {
            if self.versions.len() <= place as usize {
                self.versions.resize(place as usize + 1, 0);
            }
            self.versions[place as usize] = 0;
        }
        self.open.entry(due).or_default().append(opened);
    }

    /// The watermark that publishes a window.
    fn publish_at(&self, id: WindowId) -> i128 {
        match self.view.lateness.policy {
            LatenessPolicy::Correct => i128::from(self.view.window.end_of(id.window_start())),
            LatenessPolicy::Side | LatenessPolicy::Drop => self.expires_at(id),
        }
    }

    /// The watermark from which no tick can enter a window any more.
    fn expires_at(&self, id: WindowId) -> i128 {
        i128::from(self.view.window.end_of(id.window_start()))
            + i128::from(self.view.lateness.allowed_ns)
    }
}

/// A bound on starts: all windows of the view that start there or later, and no others, are not
/// closed at watermark `w`.
fn first_open(view: &View, w: i64) -> i64 {
    let wait_ns = match view.lateness.policy {
        LatenessPolicy::Correct => 0,
        LatenessPolicy::Side | LatenessPolicy::Drop => view.lateness.allowed_ns,
    };
    // start + width + wait > w
    let after = i128::from(w) - i128::from(view.window.width_ns) - i128::from(wait_ns) + 1;
    after.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Whether a window counts as closed, and so as final but for corrections, at watermark `w`.
pub fn is_closed(view: &View, window_end: i64, w: Option<i64>) -> bool {
    let due = match view.lateness.policy {
        LatenessPolicy::Correct => i128::from(window_end),
        LatenessPolicy::Side | LatenessPolicy::Drop => {
            i128::from(window_end) + i128::from(view.lateness.allowed_ns)
        }
    };
    w.is_some_and(|w| due <= i128::from(w))
}

#[cfg(test)]
mod tests;
