//! The definitions of streams and views, as written in `isotick.toml`.
