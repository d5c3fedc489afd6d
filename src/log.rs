//! The log as the driver sees it: traits as narrow as the job, implemented on Kafka by `consumer` and `publisher`, and by the
//! tests in memory. All calls block, for a bounded time, and are made from one thread.

use crate::aggregator::partition::Source;
use std::time::Duration;

/// A call to the log failed. Losing the broker for a while is no error: polls just return nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The broker cannot be reached or did not answer in time. Retry with backoff.
    #[error("log unavailable: {0}")]
    Unavailable(String),
    /// This one message can never be written as it is (too large, unknown topic): retrying does not help.
    #[error("message refused: {0}")]
    Refused(String),
    /// The client is beyond repair and must be made anew.
    #[error("log client failed: {0}")]
    Fatal(String),
}

/// Where a partition begins and ends now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// First offset still in the log.
    pub start: i64,
    /// Offset after the last message.
    pub end: i64,
    /// The topic's id, where the broker tells one.
    pub topic_id: Option<String>,
}

/// One message, borrowed for the length of the call.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Index into the sources of the last [`SourceLog::assign`].
    pub assigned: usize,
    /// The number of the taking it was fetched under (see [`SourceLog::assign`]).
    pub taking: u64,
    /// Its offset.
    pub offset: i64,
    /// Record time, µs since the Unix epoch.
    pub time_us: Option<i64>,
    /// Key, if any.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What a poll brought besides messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// The group gave us these partitions, instead of any we had. Nothing is fetched before [`SourceLog::assign`].
    Assigned(Vec<Source>),
    /// The group takes all our partitions. `lost`: somebody else may have them already, so nothing may be flushed.
    /// The group waits for [`SourceLog::unassign`].
    Revoked {
        /// Whether ownership is already gone.
        lost: bool,
    },
    /// Everything up to the log's end was delivered (index into the assigned sources).
    End(usize),
    /// The log no longer has the wanted offset of this partition (index): take it anew.
    OffsetOutOfRange(usize),
    /// Something to tell people about, by name and text; polling goes on.
    Trouble(String),
}

/// A member of a consumer group over the source topics.
pub trait SourceLog {
    /// Waits up to `timeout` for messages; hands each to `visit`, at most `max`, in order per partition; returns what else happened.
    /// Messages of earlier takings may still come and carry their old `taking`.
    fn poll(
        &mut self,
        max: usize,
        timeout: Duration,
        visit: &mut dyn FnMut(Message<'_>),
    ) -> Result<Vec<LogEvent>, LogError>;

    /// Where a partition begins and ends now.
    fn bounds(&mut self, source: &Source) -> Result<Bounds, LogError>;

    /// All partitions of the source topics that exist now.
    fn partitions(&mut self) -> Result<Vec<Source>, LogError>;

    /// Starts fetching exactly these partitions from these offsets, in answer to `Assigned` or to take anew what we still have.
    /// `taking` is stamped on every message from here on.
    fn assign(&mut self, starts: &[(Source, i64)], taking: u64) -> Result<(), LogError>;

    /// Stops fetching; also the answer to `Revoked`.
    fn unassign(&mut self) -> Result<(), LogError>;

    /// Stops or goes on fetching of all assigned partitions; polling must go on meanwhile.
    fn pause(&mut self, paused: bool) -> Result<(), LogError>;

    /// Tells the group how far we are. A hint for lag tools only; failures are ignored.
    fn commit_hint(&mut self, next_offsets: &[(Source, i64)]);

    /// Leaves the group, within a few seconds.
    fn close(&mut self);
}

/// A message to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Topic name.
    pub topic: String,
    /// Partition, or by key.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Writes to topics.
pub trait Publisher {
    /// Writes all messages and waits until each is acknowledged by all in-sync replicas or failed, at most `timeout` in all. One result per
    /// message, in order: one that cannot be written never holds up the others.
    fn publish(&mut self, messages: &[Outgoing], timeout: Duration) -> Vec<Result<(), LogError>>;
}

/// An owned message of the coordination topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Partition of the coordination topic.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
}

/// A member of the executors' consumer group over the coordination topic: at least once.
pub trait IntentLog {
    /// Waits up to `timeout` for the next messages, at most `max`.
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Intent>, LogError>;

    /// Everything handed out so far was carried out.
    fn commit(&mut self) -> Result<(), LogError>;

    /// Hands out again what was not committed.
    fn rewind(&mut self) -> Result<(), LogError>;

    /// Leaves the group.
    fn close(&mut self);
}
