//! A scan piece by piece: what each part gives alone, as plain data, and all of them together.
//!
//! Where [`Scan::run`] holds everything in memory until the end, a piece can be kept on a disk,
//! lost and computed again, whatever became of the others.

use std::ops::Range;

use isotick_kernels::{
    Base, CpuEngine, EncodedRows, Engine, EngineError, EngineKind, Results, SavedWindows, Unfit,
    Windows,
};
use isotick_model::{Key, Ticks};

use crate::part::{Neighbours, Place};
use crate::scan::{OnFailure, Scan, ScanView, Select, count, update};

/// A scan whose parts are known by where their ticks lie.
pub struct PlannedScan {
    /// What is scanned for.
    pub scan: Scan,
    /// Per view.
    neighbours: Vec<Neighbours>,
}

/// What one part gives, of each view in the scan's order.
#[derive(Debug, Default)]
pub struct Piece {
    /// By view.
    pub views: Vec<PieceOfView>,
    /// Rows that were read.
    pub rows_read: u64,
    /// Rows that stored states stood for.
    pub rows_from_states: u64,
}

/// What one part gives of one view.
#[derive(Debug)]
pub struct PieceOfView {
    /// Windows that no other part can touch, in canonical order.
    pub finished: Vec<EncodedRows>,
    /// The states of the others.
    pub open: SavedWindows,
    /// Rows in windows, by the engine that reduced them.
    pub rows: Vec<(EngineKind, u64)>,
}

/// A part being reduced.
pub struct PieceInHand<'a> {
    of: &'a PlannedScan,
    number: usize,
    /// Those that are computed.
    range: Range<usize>,
    views: Vec<(Windows, Vec<(EngineKind, u64)>)>,
    rows_read: u64,
    rows_from_states: u64,
}

impl PlannedScan {
    /// A scan over parts that lie there.
    pub fn new(scan: Scan, places: &[Place]) -> Self {
        let of_view = |of: &ScanView| Neighbours::new(places, of.view.window);
        let neighbours = scan.views.iter().map(of_view).collect();
        Self { scan, neighbours }
    }

    /// Begins the part of this number, of some of the views: each has to come once for each part. The first ones'
    /// piece counts the part's rows.
    ///
    /// # Panics
    /// When there are no such views.
    pub fn begin(&self, number: usize, range: Range<usize>) -> PieceInHand<'_> {
        let views = self.scan.views[range.clone()].iter();
        let views = views.map(|of| (self.scan.windows(of), Vec::new())).collect();
        PieceInHand { of: self, number, range, views, rows_read: 0, rows_from_states: 0 }
    }

    /// The windows that several parts touch, of one view: empty, for the pieces'
    /// [open](PieceOfView::open) ones.
    pub fn open_windows(&self, view: usize) -> Windows {
        self.scan.windows(&self.scan.views[view])
    }
}

impl PieceInHand<'_> {
    /// Takes in a batch of the part's ticks; those that are not asked for are passed over. With
    /// [`OnFailure::ContinueOnCpu`], a failing engine is replaced by the CPU's. `between` is called
    /// after each view, with its number.
    ///
    /// # Errors
    /// That of the engine; the piece is then of no use.
    pub fn take(
        &mut self,
        ticks: &Ticks,
        engine: &mut Box<dyn Engine>,
        on_failure: OnFailure,
        mut between: impl FnMut(usize),
    ) -> Result<Option<EngineError>, EngineError> {
        let select = Select::of(ticks, &self.of.scan.keys);
        let Self { of, number, range, views, .. } = self;
        let mut failed = None;
        for ((windows, rows), view) in views.iter_mut().zip(range.clone()) {
            let update = |windows: &mut Windows, engine: &mut dyn Engine| {
                update(windows, &select, engine, *number, &of.neighbours[view])
            };
            let before = windows.passed();
            if let Err(error) = update(windows, engine.as_mut()) {
                if on_failure == OnFailure::Stop {
                    return Err(error);
                }
                failed.get_or_insert(error);
                *engine = Box::new(CpuEngine);
                update(windows, engine.as_mut())?;
            }
            count(rows, engine.kind(), windows.passed() - before);
            between(view);
        }
        self.rows_read += ticks.len() as u64;
        Ok(failed)
    }

    /// Takes in states that stand for ticks of the part, of a base that covers every view of the
    /// scan. Gives how many ticks those are.
    ///
    /// # Errors
    /// [`Unfit`] when they are none; the piece is then of no use.
    pub fn absorb(&mut self, states: &SavedWindows, base: &Base) -> Result<u64, Unfit> {
        let keys = &self.of.scan.keys;
        let mut held = 0;
        for (windows, _) in &mut self.views {
            let wanted = |key: &Key| keys.is_empty() || keys.contains(key);
            held = windows.absorb_states(states, base, wanted)?;
        }
        self.rows_from_states += held;
        Ok(held)
    }

    /// Ends the part.
    pub fn finish(self) -> Piece {
        let Self { of, number, range, views, rows_read, rows_from_states } = self;
        let nothing = |view| {
            let open = of.open_windows(view).save(|_, _| {});
            PieceOfView { finished: Vec::new(), open, rows: Vec::new() }
        };
        let neighbours = &of.neighbours[range.clone()];
        let computed =
            views.into_iter().zip(neighbours).map(|((mut windows, rows), neighbours)| {
                let mut finished = Vec::new();
                if neighbours.are_known() {
                    windows.finish(neighbours.times(number));
                    finished = blocks(windows.take_finished()).collect();
                }
                PieceOfView { finished, open: windows.save(|_, _| {}), rows }
            });
        let views = (0..range.start).map(nothing).chain(computed);
        let views = views.chain((range.end..of.scan.views.len()).map(nothing)).collect();
        let counted = |rows| if range.start == 0 { rows } else { 0 };
        Piece { views, rows_read: counted(rows_read), rows_from_states: counted(rows_from_states) }
    }
}

/// Windows as results, block by block in canonical order.
pub fn blocks(windows: Windows) -> impl Iterator<Item = EncodedRows> {
    let results = Results::of(vec![windows]);
    (0..results.blocks()).map(move |block| results.block(block))
}
