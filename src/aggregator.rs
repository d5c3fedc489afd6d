//! PURE: the two halves of the metrics aggregator, reducer (events to deltas) and recorder (deltas to cells and records).

pub mod dedup;
pub mod money;
pub mod partition;
pub mod sketch;
