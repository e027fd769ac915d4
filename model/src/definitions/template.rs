//! Commented configurations for `isotick init`.
