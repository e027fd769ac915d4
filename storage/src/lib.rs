//! Empty.

pub mod source;
