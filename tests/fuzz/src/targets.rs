//! Every decoder that reads what others wrote, and the state machines behind them.

mod arrow;
mod dbn;
mod frame;
mod log;
mod messages;
mod sequencer;
mod session;
mod windows;

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    messages::MESSAGE,
    messages::CONTROL,
    messages::DATAGRAM,
    frame::COLUMN,
    frame::FRAME,
    frame::FRAME_AGAIN,
    windows::WINDOWS,
    arrow::ARROW,
    session::SESSION,
    sequencer::SEQUENCER,
    log::RECORD,
    log::RECORD_AGAIN,
    dbn::DBN,
];
