//! One source partition: its identity, its accounting, and what a flush moves.

use super::dedup::EventHash;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A partition of a source topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: i32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Why a message became a dead letter. The set is closed: it labels counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// More than `MAX_EVENT_BYTES`.
    TooLarge,
    /// No value at all.
    Tombstone,
    /// Not UTF-8.
    InvalidUtf8,
    /// Not one JSON object.
    InvalidJson,
    /// An `event_type` that is not one of the eight, or none and no topic to tell.
    UnknownEventType,
    /// A required field is absent or null.
    MissingField,
    /// A field has another JSON type than it should.
    WrongType,
    /// A number outside its range.
    OutOfRange,
    /// A timestamp that cannot be read, or outside the years 2000 to 2099.
    InvalidTimestamp,
    /// Event time beyond now + `MAX_FUTURE_SKEW`.
    TooFarInFuture,
    /// Event time below the floor.
    TooLate,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 11] = [
        Cause::TooLarge,
        Cause::Tombstone,
        Cause::InvalidUtf8,
        Cause::InvalidJson,
        Cause::UnknownEventType,
        Cause::MissingField,
        Cause::WrongType,
        Cause::OutOfRange,
        Cause::InvalidTimestamp,
        Cause::TooFarInFuture,
        Cause::TooLate,
    ];

    /// The name used in records, metrics, logs and headers.
    pub fn name(self) -> &'static str {
        match self {
            Cause::TooLarge => "too_large",
            Cause::Tombstone => "tombstone",
            Cause::InvalidUtf8 => "invalid_utf8",
            Cause::InvalidJson => "invalid_json",
            Cause::UnknownEventType => "unknown_event_type",
            Cause::MissingField => "missing_field",
            Cause::WrongType => "wrong_type",
            Cause::OutOfRange => "out_of_range",
            Cause::InvalidTimestamp => "invalid_timestamp",
            Cause::TooFarInFuture => "too_far_in_future",
            Cause::TooLate => "too_late",
        }
    }
}

/// Why offsets were never received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// Holes that the broker skipped: transaction markers, aborted or compacted records.
    NotInLog,
    /// The log's start had passed the stored offset.
    LostToRetention,
}

impl GapCause {
    /// The name used in accounting and metrics.
    pub fn name(self) -> &'static str {
        match self {
            GapCause::NotInLog => "not_in_log",
            GapCause::LostToRetention => "lost_to_retention",
        }
    }
}

/// What happened to the offsets of a partition:
/// `next_offset − first_offset = received + gaps` and `received = counted + duplicates + dead_lettered`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Messages handed to the reducer.
    pub received: u64,
    /// Events that count in the records.
    pub counted: u64,
    /// Events whose id was already counted.
    pub duplicates: u64,
    /// Dead letters by cause.
    pub dead_lettered: BTreeMap<Cause, u64>,
    /// Offsets never received, by cause.
    pub gaps: BTreeMap<GapCause, u64>,
}

impl Counters {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Counters) {
        self.received += other.received;
        self.counted += other.counted;
        self.duplicates += other.duplicates;
        other.dead_lettered.iter().for_each(|(&cause, n)| *self.dead_lettered.entry(cause).or_default() += n);
        other.gaps.iter().for_each(|(&cause, n)| *self.gaps.entry(cause).or_default() += n);
    }

    /// Dead letters of all causes.
    pub fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.values().sum()
    }

    /// Gaps of all causes.
    pub fn gaps_total(&self) -> u64 {
        self.gaps.values().sum()
    }

    /// Whether the two equations hold for a partition that moved from `first_offset` to `next_offset`.
    pub fn closes(&self, first_offset: i64, next_offset: i64) -> bool {
        (next_offset - first_offset) as u64 == self.received + self.gaps_total()
            && self.received == self.counted + self.duplicates + self.dead_lettered_total()
    }
}

/// A partition as the store hands it to a new owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Which partition.
    pub source: Source,
    /// The epoch of this taking; a later taking has a greater one.
    pub epoch: i64,
    /// The topic's id when it was last taken, where the broker tells one.
    pub topic_id: Option<String>,
    /// Where the next read begins; `None` if the partition was never read.
    pub next_offset: Option<i64>,
    /// Highest counted event time so far, µs.
    pub max_event_us: Option<i64>,
    /// The last counted ids, oldest first, at most `DEDUP_WINDOW`.
    pub ids: Vec<EventHash>,
    /// How many ids were ever counted; the last of `ids` has the number `ids_counted − 1`.
    pub ids_counted: u64,
}

/// How a flush moves one partition. The store applies it only where `epoch` and `from_offset` are still what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Which partition.
    pub source: Source,
    /// The epoch of the taking.
    pub epoch: i64,
    /// The stored `next_offset` this flush began with (`None`: never read).
    pub from_offset: Option<i64>,
    /// Where the next read begins after this flush.
    pub next_offset: i64,
    /// Set by the first flush of a partition: the offset its accounting begins with.
    pub first_offset: Option<i64>,
    /// The topic's id as seen at the taking, to be stored.
    pub topic_id: Option<String>,
    /// Highest counted event time so far, µs.
    pub max_event_us: Option<i64>,
    /// Whether the owner stands at the log's end and nothing is left to read.
    pub at_end: bool,
    /// Additions to the counters.
    pub counters: Counters,
    /// Ids counted in this flush, in order.
    pub new_ids: Vec<EventHash>,
    /// The number of the first of `new_ids`.
    pub new_ids_from: u64,
}

/// A message that could not be counted, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it came from.
    pub source: Source,
    /// The id of that topic, where known: with partition and offset the letter's identity.
    pub topic_id: Option<String>,
    /// Its offset there.
    pub offset: i64,
    /// Record time in Kafka, µs, if any.
    pub record_time_us: Option<i64>,
    /// Why.
    pub cause: Cause,
    /// What exactly, without any of the payload: a field name, a limit.
    pub detail: String,
    /// The message's key.
    pub key: Option<Vec<u8>>,
    /// The original bytes; `None` for a tombstone and for values over `MAX_EVENT_BYTES`, which stay in the log at that offset.
    pub value: Option<Vec<u8>>,
    /// Size of the original value in bytes.
    pub value_bytes: u64,
}

/// One flush: everything since the last, to be written in one transaction or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flush {
    /// Every owned partition, in (topic, partition) order, also those that did not move.
    pub advances: Vec<Advance>,
    /// The encoded deltas (see `delta.rs`), empty if no event was counted.
    pub deltas: Vec<u8>,
    /// Number of counted events in the deltas.
    pub events: u64,
    /// The lowest event time among them, µs: compared with the floor inside the transaction.
    pub min_event_us: Option<i64>,
    /// Dead letters, in order of arrival.
    pub dead_letters: Vec<DeadLetter>,
}
