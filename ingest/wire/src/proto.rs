//! The types generated from `isotick.proto`.

#![allow(clippy::all)]

include!(concat!(env!("OUT_DIR"), "/isotick.v1.rs"));
