//! Settings.
pub mod quantity;
pub(crate) mod suggest;
