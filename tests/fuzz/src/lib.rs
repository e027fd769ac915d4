#![doc = include_str!("../README.md")]

pub mod mutate;
mod numbers;
mod rows;
mod targets;

pub use numbers::Numbers;
pub use targets::TARGETS;

/// A decoder or state machine with the promises that hold for any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on command lines, and that of its folder of inputs.
    pub name: &'static str,
    /// Runs on any bytes; panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that lead far into it, to be changed.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// What a run may allocate at once, in bytes.
    pub bound: Bound,
}

/// A bound on memory: so much, and so much per byte of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes whatever the input.
    pub bytes: usize,
    /// Bytes per byte of input.
    pub per_byte: usize,
}

impl Bound {
    /// The bound for an input of this many bytes.
    pub fn of(self, input_bytes: usize) -> usize {
        self.bytes + self.per_byte * input_bytes
    }
}

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
