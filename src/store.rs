//! The store: the transactions that everything rests on, as one trait with one meaning on every database.
//!
//! The store keeps bytes and compares revisions; what a cell or a delta means is the core's business.

mod partitions;
pub mod postgres;
mod queues;
mod recording;
mod sql;
pub mod sqlite;

use crate::aggregator::partition::{Counters, DeadLetter, Flush, Source, Taken};
pub use crate::aggregator::window::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What went wrong, by who has to act.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or refused the work; nothing was written. Retry with backoff.
    #[error("store unavailable, nothing was written: {0}")]
    Unavailable(String),
    /// The connection broke inside COMMIT: it may or may not have been written. Reconnect and read before anything else.
    #[error("commit of unknown outcome: {0}")]
    Indefinite(String),
    /// A partition has a newer owner, or its offset moved: drop everything and take anew.
    #[error("partition {0} has another owner or offset")]
    Fenced(Source),
    /// An accepted event lies below the floor, which moved since: drop everything and take anew.
    #[error("the floor moved to {floor_us} µs, above an accepted event")]
    FloorMoved {
        /// The floor now in force.
        floor_us: i64,
    },
    /// The lease is another's.
    #[error("not the leader any more")]
    NotLeader,
    /// The store holds data of another meaning.
    #[error(
        "the store was made with other settings ({0}); run `rebuild` to recompute it from Kafka, or restore the settings"
    )]
    OtherGeneration(String),
    /// Another process has the store open, or it was made by a newer version.
    #[error("store refused: {0}")]
    Refused(String),
    /// A stored value cannot be read back.
    #[error("stored data cannot be read: {0}")]
    Corrupt(String),
}

/// Result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What the numbers in a store mean. A daemon whose own differs refuses to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meaning {
    /// Version of the blob formats.
    pub format: u32,
    /// IANA name of the reporting time zone.
    pub timezone: String,
    /// Version of the time zone database.
    pub tzdb: String,
    /// Slice length in seconds.
    pub slice_seconds: i64,
    /// Names of the groupings, in the contract's order.
    pub groupings: Vec<String>,
    /// Bounds of the quality buckets, as decimal text.
    pub quality_bounds: Vec<String>,
    /// Bounds of the cost buckets in USD, as decimal text.
    pub cost_bounds: Vec<String>,
    /// `MAX_GROUPS`.
    pub max_groups: u64,
}

/// A partition as the store has it, for the recorder's watermark, accounting and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRow {
    /// Which partition.
    pub source: Source,
    /// Number of takings so far.
    pub epoch: i64,
    /// Node id of the last owner.
    pub owner: Option<String>,
    /// Id of the topic, where known.
    pub topic_id: Option<String>,
    /// Where the accounting begins; `None` before the first flush.
    pub first_offset: Option<i64>,
    /// Where the next read begins; `None` before the first flush.
    pub next_offset: Option<i64>,
    /// Highest counted event time, µs, of all flushes, folded or not.
    pub max_event_us: Option<i64>,
    /// Highest counted event time, µs, of the folded flushes: what the recorder's watermark may use.
    pub folded_event_us: Option<i64>,
    /// Store time since which the owner has stood at the log's end without a new message.
    pub at_end_since_us: Option<i64>,
    /// Store time of the owner's last report that it stands there.
    pub at_end_reported_us: Option<i64>,
    /// Why the partition is halted, if it is.
    pub halted: Option<String>,
    /// Totals since `first_offset`.
    pub counters: Counters,
}

/// What a successful flush tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushed {
    /// The flush id; grows, but ids may commit out of order.
    pub flush_id: i64,
    /// The floor read inside the transaction, µs.
    pub floor_us: i64,
    /// Unfolded flushes, this one included.
    pub backlog: u64,
}

/// The recorder's own state, stored with each of its transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderState {
    /// How often the store was rebuilt.
    pub rebuild: u64,
    /// Event-time watermark, µs; never goes back. `i64::MIN` before the first.
    pub watermark_us: i64,
    /// What windows are finalised by, µs: the watermark, or wall time while all partitions are idle; never goes back.
    pub final_watermark_us: i64,
    /// Events below are too late, µs; never goes back.
    pub floor_us: i64,
    /// The leader's latest reading of now, µs.
    pub now_us: i64,
    /// When the longer windows were last emitted, µs.
    pub emitted_us: i64,
}

/// An unfolded flush as the recorder reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfoldedFlush {
    /// Its id.
    pub flush_id: i64,
    /// The encoded deltas, possibly empty.
    pub deltas: Vec<u8>,
    /// Highest counted event time per partition after this flush, µs; only partitions that moved it.
    pub event_times: Vec<(Source, i64)>,
    /// Store time at which it was written, µs.
    pub flushed_us: i64,
}

/// Identity of a cell. Orders by span, start, grouping, group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKey {
    /// What it covers.
    pub span: Span,
    /// Start of the span, seconds since the Unix epoch.
    pub start_s: i64,
    /// Name of the grouping.
    pub aggregation_type: String,
    /// Value of the group.
    pub group_key: String,
}

/// A cell as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCell {
    /// End of the span, seconds since the Unix epoch.
    pub end_s: i64,
    /// The encoded aggregate.
    pub bytes: Vec<u8>,
    /// Events in it: the revision's middle part.
    pub events: u64,
    /// Whether the window is final.
    pub is_final: bool,
    /// Whether it changed since it was last put into the outbox.
    pub dirty: bool,
    /// Events at the last revision put into the outbox; 0 if none was.
    pub enqueued_events: u64,
}

/// A record on its way to the coordination topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Drawn by the store; a replaced row gets a new one.
    pub id: i64,
    /// The record's identity, text form.
    pub aggregation_id: String,
    /// Intent priority, 1 (most urgent) to 10.
    pub priority: u8,
    /// The record's JSON text.
    pub record: String,
    /// When it was put there, µs.
    pub created_us: i64,
}

/// What one recorder transaction writes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recorded {
    /// The new state; `None` leaves it as it is.
    pub state: Option<RecorderState>,
    /// Exactly the flushes that were read and folded; they are deleted.
    pub folded: Vec<i64>,
    /// Highest folded event time per partition, µs.
    pub folded_event_times: BTreeMap<Source, i64>,
    /// Cells to insert or replace.
    pub cells: Vec<(CellKey, StoredCell)>,
    /// Records to put into the outbox; an unsent one of the same `aggregation_id` is deleted first. `id` is ignored.
    pub outbox: Vec<OutboxRow>,
}

/// A recorder transaction: reads, then one `save`. Opened by [`Store::record`].
pub trait Recording {
    /// Store time, µs.
    fn now_us(&mut self) -> Result<i64>;
    /// The recorder's state.
    fn state(&mut self) -> Result<RecorderState>;
    /// The oldest unfolded flushes by id, at most `flushes_max` and about `bytes_max` bytes of deltas (at least one), and whether there are more.
    fn unfolded(&mut self, flushes_max: usize, bytes_max: usize) -> Result<(Vec<UnfoldedFlush>, bool)>;
    /// All partitions, in order.
    fn partitions(&mut self) -> Result<Vec<PartitionRow>>;
    /// The cells of these keys, in the same order.
    fn cells(&mut self, keys: &[CellKey]) -> Result<Vec<Option<StoredCell>>>;
    /// Number of cells per grouping in one span.
    fn group_counts(&mut self, span: Span, start_s: i64) -> Result<BTreeMap<String, u64>>;
    /// Window cells (never slices) that are not final though their window ended at or before `end_s_max`, at most `limit`.
    fn unfinished(&mut self, end_s_max: i64, limit: usize) -> Result<Vec<(CellKey, StoredCell)>>;
    /// Window cells marked dirty, at most `limit`, in key order after `after`.
    fn dirty(&mut self, after: Option<&CellKey>, limit: usize) -> Result<Vec<(CellKey, StoredCell)>>;
    /// Writes the outcome.
    fn save(&mut self, recorded: &Recorded) -> Result<()>;
}

/// A row of the analytics table `codegen_metrics_aggregated`.
#[derive(Debug, Clone, PartialEq)]
pub struct AnalyticsRow {
    /// Primary key, UUID text.
    pub aggregation_id: String,
    /// `hourly` … `monthly`.
    pub window_type: String,
    /// Seconds since the Unix epoch.
    pub window_start_s: i64,
    /// Seconds since the Unix epoch.
    pub window_end_s: i64,
    /// IANA zone of the windows.
    pub timezone: String,
    /// Name of the grouping.
    pub aggregation_type: String,
    /// Value of the group.
    pub group_key: String,
    /// successful + failed.
    pub total_generations: i64,
    /// Completed.
    pub successful_generations: i64,
    /// Failed.
    pub failed_generations: i64,
    /// Decimal text, or `None` for a rate of nothing.
    pub success_rate: Option<String>,
    /// JSON object `{avg,p50,p95,p99,min,max}_seconds`.
    pub duration_statistics: String,
    /// JSON object `{avg,min,max}_score`.
    pub quality_statistics: String,
    /// JSON object of tokens and cost.
    pub cost_statistics: String,
    /// Revision, first part.
    pub rebuild: i64,
    /// Revision, second part.
    pub events_processed: i64,
    /// Revision, last part.
    pub is_final: bool,
    /// The whole record, canonical JSON text.
    pub record: String,
}

/// Which cells or analytics rows to read: one span and time range, in (start, aggregation_type, group_key) order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeQuery {
    /// What the cells cover.
    pub span: Span,
    /// Only this grouping.
    pub aggregation_type: Option<String>,
    /// Only this group.
    pub group_key: Option<String>,
    /// Windows that start at or after this, seconds.
    pub from_s: i64,
    /// Windows that start before this, seconds.
    pub to_s: i64,
    /// Continue after this (start, aggregation_type, group_key).
    pub after: Option<(i64, String, String)>,
    /// At most this many.
    pub limit: usize,
}

/// A dead letter as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDeadLetter {
    /// Row id, in order of flushes.
    pub id: i64,
    /// Store time at which it was written, µs.
    pub flushed_us: i64,
    /// The letter.
    pub letter: DeadLetter,
}

/// Depths and state for status, health and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The recorder's state.
    pub recorder: RecorderState,
    /// Node id of the leader and the store time its lease ends, µs.
    pub leader: Option<(String, i64)>,
    /// Unfolded flushes.
    pub backlog: u64,
    /// Unsent records.
    pub outbox: u64,
    /// Dead letters not yet on their topic.
    pub dead_letters_unpublished: u64,
}

/// The store. All calls block; each is one transaction unless it says otherwise. After `Indefinite` or `Unavailable` the next call
/// reconnects by itself.
pub trait Store: Send {
    /// The store's clock, µs since the Unix epoch.
    fn now_us(&mut self) -> Result<i64>;

    /// Makes the store mean `meaning` if it is new, or compares; returns nothing but refuses a difference, naming it.
    fn open(&mut self, meaning: &Meaning) -> Result<()>;

    /// Adds rows for partitions that have none.
    fn add_partitions(&mut self, sources: &[Source]) -> Result<()>;

    /// Takes partitions: bumps each `epoch` and names the owner first, reads the rest second. Rows that are missing are added.
    fn take(&mut self, sources: &[Source], owner: &str, ids_max: usize) -> Result<Vec<Taken>>;

    /// Records that a partition is halted and why, or (with `None`) that it no longer is; only under this epoch.
    fn set_halted(&mut self, source: &Source, epoch: i64, reason: Option<&str>) -> Result<()>;

    /// A new incarnation of a topic is to be read from its start: clears offset, ids, event time and topic id of the partition under this
    /// epoch; the accounting begins anew, the old totals are added to no sum.
    fn restart_partition(&mut self, source: &Source, epoch: i64) -> Result<()>;

    /// Writes a flush: first the compare-and-set of each partition's row in order, then the floor, then all the rest, under an id drawn after.
    /// Ids beyond `ids_max` per partition may be pruned.
    fn flush(&mut self, flush: &Flush, ids_max: usize) -> Result<Flushed>;

    /// Takes the recorder's lease if it is free, expired or already `holder`'s, by the store's clock; the epoch to act under, or `None`.
    /// A new holder bumps the epoch; the present one keeps it.
    fn lead(&mut self, holder: &str, lease: Duration) -> Result<Option<i64>>;

    /// Gives the lease up, if it is still ours.
    fn resign(&mut self, holder: &str, epoch: i64) -> Result<()>;

    /// One recorder transaction (repeatable read): checks the leader's epoch and renews the lease first, then runs `work`, then commits. Serialization
    /// conflicts are retried from the start, at most 10 times, so `work` may run more than once.
    fn record(
        &mut self,
        epoch: i64,
        lease: Duration,
        work: &mut dyn FnMut(&mut dyn Recording) -> Result<()>,
    ) -> Result<()>;

    /// Unsent records, most urgent first, then oldest; at most `limit` rows and about `bytes_max` bytes (at least one).
    fn outbox(&mut self, limit: usize, bytes_max: usize) -> Result<Vec<OutboxRow>>;

    /// Deletes sent records by id; ids already replaced are ignored.
    fn outbox_sent(&mut self, ids: &[i64]) -> Result<()>;

    /// Dead letters not yet on their topic, oldest first.
    fn dead_letters_unpublished(&mut self, limit: usize, bytes_max: usize) -> Result<Vec<StoredDeadLetter>>;

    /// Marks dead letters as being on their topic.
    fn dead_letters_published(&mut self, ids: &[i64]) -> Result<()>;

    /// Upserts analytics rows; a row moves only forward in (rebuild, events_processed, is_final).
    fn persist(&mut self, rows: &[AnalyticsRow]) -> Result<()>;

    /// Cells in a range.
    fn cells(&mut self, query: &RangeQuery) -> Result<Vec<(CellKey, StoredCell)>>;

    /// The `record` texts of analytics rows in a range.
    fn analytics(&mut self, query: &RangeQuery) -> Result<Vec<String>>;

    /// All partitions, in order.
    fn partitions(&mut self) -> Result<Vec<PartitionRow>>;

    /// Depths and state.
    fn status(&mut self) -> Result<StoreStatus>;

    /// Deletes cells of slices and windows that ended at or before `end_s_max`, published dead letters flushed before `dead_letters_us`, at most `limit`
    /// rows each; how many were deleted. Under the leader's epoch; does nothing while an unfolded flush exists.
    fn expire(&mut self, epoch: i64, end_s_max: i64, dead_letters_us: i64, limit: usize) -> Result<u64>;

    /// Forgets everything that comes from Kafka (partitions, deltas, ids, cells, outbox, dead letters) and raises `rebuild`; fences owners and leader by
    /// their epochs; adopts `meaning`. Analytics rows stay and are overtaken by the new revisions. Returns the new `rebuild`.
    fn rebuild(&mut self, meaning: &Meaning) -> Result<u64>;
}
