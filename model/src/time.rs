//! Nanoseconds UTC and durations, from and to text.
