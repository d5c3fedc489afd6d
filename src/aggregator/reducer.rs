//! Events to deltas: everything that happened on the owned partitions since the last flush.

use super::accumulator::{Accumulator, Groupings, encode_deltas};
use super::dedup::{EventHash, Ring};
use super::partition::{Advance, Cause, Counters, DeadLetter, Flush, GapCause, Taken};
use super::window::Calendar;
use crate::decode::{Context, Fault, decode};
use crate::event::{Event, Kind};

/// The reducer's settings; all spans in µs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `MAX_EVENT_BYTES`.
    pub bytes_max: usize,
    /// `DEDUP_WINDOW`.
    pub ids_max: usize,
    /// `MAX_FUTURE_SKEW`.
    pub future_skew_us: i64,
}

/// A message on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Index of the partition among the taken ones.
    pub partition: usize,
    /// Offset in the log.
    pub offset: i64,
    /// Record time in Kafka, µs.
    pub record_time_us: Option<i64>,
    /// Key, kept for a dead letter.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It counts.
    Counted,
    /// Its id was already counted.
    Duplicate,
    /// It became a dead letter.
    DeadLettered(Cause),
    /// Below the next offset: already dealt with, counted nowhere.
    Stale,
}

/// One owned partition: what the store has, and what came since.
#[derive(Debug)]
struct Owned {
    taken: Taken,
    kind: Kind,
    first_offset: Option<i64>,
    next_offset: i64,
    max_event_us: Option<i64>,
    at_end: bool,
    ring: Ring,
    new_ids: Vec<EventHash>,
    counters: Counters,
}

/// The reducer. It owns partitions from [`Reducer::take`] to [`Reducer::drop_all`].
#[derive(Debug)]
pub struct Reducer {
    calendar: Calendar,
    limits: Limits,
    deltas: Accumulator,
    owned: Vec<Owned>,
    floor_us: i64,
    events: u64,
    min_event_us: Option<i64>,
    dead_letters: Vec<DeadLetter>,
    dead_letter_bytes: usize,
}

impl Reducer {
    /// A reducer that owns nothing.
    pub fn new(calendar: Calendar, groupings: Groupings, limits: Limits) -> Reducer {
        Reducer {
            calendar,
            limits,
            deltas: Accumulator::new(groupings),
            owned: Vec::new(),
            floor_us: i64::MIN,
            events: 0,
            min_event_us: None,
            dead_letters: Vec::new(),
            dead_letter_bytes: 0,
        }
    }

    /// Takes ownership of these partitions instead of any before, as the store handed them out, each with the kind its topic stands for
    /// and where reading begins. A start above the stored offset is a gap, lost to retention.
    pub fn take(&mut self, taken: Vec<(Taken, Kind, i64)>, floor_us: i64) {
        self.drop_all();
        self.floor_us = floor_us;
        self.owned = taken
            .into_iter()
            .map(|(taken, kind, start)| Owned::new(taken, kind, start, self.limits.ids_max))
            .collect();
    }

    /// Gives everything up: deltas, ids, counters and offsets since the last flush are forgotten, for they will be read again.
    pub fn drop_all(&mut self) {
        self.owned.clear();
        self.forget_deltas();
    }

    fn forget_deltas(&mut self) {
        self.deltas.drain();
        self.events = 0;
        self.min_event_us = None;
        self.dead_letters.clear();
        self.dead_letter_bytes = 0;
    }

    /// Takes one message. `now_us` is the present, for events from the future.
    pub fn apply(&mut self, arrival: &Arrival<'_>, now_us: i64) -> Outcome {
        let owned = &mut self.owned[arrival.partition];
        if arrival.offset < owned.next_offset {
            return Outcome::Stale;
        }
        if arrival.offset > owned.next_offset {
            let skipped = (arrival.offset - owned.next_offset) as u64;
            *owned.counters.gaps.entry(GapCause::NotInLog).or_default() += skipped;
        }
        owned.next_offset = arrival.offset + 1;
        owned.at_end = false;
        owned.counters.received += 1;
        let context = Context {
            topic_kind: Some(owned.kind),
            record_time_us: arrival.record_time_us,
            bytes_max: self.limits.bytes_max,
        };
        let decoded = decode(arrival.value.unwrap_or_default(), &context)
            .and_then(|event| self.within_limits(&event, now_us).map(|()| event));
        match decoded {
            Ok(event) => self.count(arrival.partition, &event),
            Err(fault) => self.dead_letter(arrival, fault),
        }
    }

    fn within_limits(&self, event: &Event<'_>, now_us: i64) -> Result<(), Fault> {
        if event.time_us > now_us.saturating_add(self.limits.future_skew_us) {
            return Err(Fault { cause: Cause::TooFarInFuture, about: "beyond now + MAX_FUTURE_SKEW" });
        }
        if event.time_us < self.floor_us {
            return Err(Fault { cause: Cause::TooLate, about: "older than watermark - RETENTION" });
        }
        Ok(())
    }

    fn count(&mut self, partition: usize, event: &Event<'_>) -> Outcome {
        let owned = &mut self.owned[partition];
        if let Some(id) = &event.event_id {
            let id = EventHash::new(event.kind, id);
            if owned.ring.contains(id) {
                owned.counters.duplicates += 1;
                return Outcome::Duplicate;
            }
            owned.ring.push(id);
            owned.new_ids.push(id);
        }
        owned.counters.counted += 1;
        owned.max_event_us = owned.max_event_us.max(Some(event.time_us));
        self.events += 1;
        self.min_event_us = Some(self.min_event_us.map_or(event.time_us, |min| min.min(event.time_us)));
        let slice = self.calendar.slice(event.time_us.div_euclid(1_000_000));
        self.deltas.add(slice.start_s, event);
        Outcome::Counted
    }

    fn dead_letter(&mut self, arrival: &Arrival<'_>, fault: Fault) -> Outcome {
        let owned = &mut self.owned[arrival.partition];
        *owned.counters.dead_lettered.entry(fault.cause).or_default() += 1;
        // A huge value stays where it is, by reference; everything else is kept whole.
        let value = arrival.value.filter(|_| fault.cause != Cause::TooLarge);
        let letter = DeadLetter {
            source: owned.taken.source.clone(),
            topic_id: owned.taken.topic_id.clone(),
            offset: arrival.offset,
            record_time_us: arrival.record_time_us,
            cause: fault.cause,
            detail: fault.about.to_owned(),
            key: arrival.key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            value_bytes: arrival.value.map_or(0, <[u8]>::len) as u64,
        };
        self.dead_letter_bytes += value.map_or(0, <[u8]>::len);
        self.dead_letters.push(letter);
        Outcome::DeadLettered(fault.cause)
    }

    /// The owner stands at the log's end of this partition.
    pub fn mark_end(&mut self, partition: usize) {
        self.owned[partition].at_end = true;
    }

    /// Messages received since the last flush.
    pub fn pending(&self) -> u64 {
        self.owned.iter().map(|owned| owned.counters.received).sum()
    }

    /// Bytes of dead letters held since the last flush: a reason to flush early.
    pub fn dead_letter_bytes(&self) -> usize {
        self.dead_letter_bytes
    }

    /// Whether anything is owned.
    pub fn owns_any(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Where each owned partition stands, in the order they were taken.
    pub fn next_offsets(&self) -> impl Iterator<Item = (&super::partition::Source, i64)> {
        self.owned.iter().map(|owned| (&owned.taken.source, owned.next_offset))
    }

    /// Everything since the last flush, to be written whole or not at all. Follow with [`Reducer::flushed`] or [`Reducer::drop_all`].
    pub fn flush(&mut self) -> Flush {
        let mut advances: Vec<Advance> = self.owned.iter().map(Owned::advance).collect();
        advances.sort_by(|a, b| a.source.cmp(&b.source));
        let deltas = self.deltas.drain();
        Flush {
            advances,
            deltas: if deltas.is_empty() { Vec::new() } else { encode_deltas(&deltas) },
            events: self.events,
            min_event_us: self.min_event_us,
            dead_letters: std::mem::take(&mut self.dead_letters),
        }
    }

    /// The flush is stored: go on from there, under the floor it read.
    pub fn flushed(&mut self, floor_us: i64) {
        self.forget_deltas();
        self.floor_us = floor_us;
        self.owned.iter_mut().for_each(Owned::settle);
    }
}

impl Owned {
    fn new(taken: Taken, kind: Kind, start: i64, ids_max: usize) -> Owned {
        let mut ring = Ring::new(ids_max);
        taken.ids.iter().for_each(|&id| ring.push(id));
        let mut counters = Counters::default();
        if let Some(lost) = taken.next_offset.map(|next| start - next).filter(|&lost| lost > 0) {
            counters.gaps.insert(GapCause::LostToRetention, lost as u64);
        }
        Owned {
            kind,
            first_offset: taken.next_offset.is_none().then_some(start),
            next_offset: start,
            max_event_us: taken.max_event_us,
            at_end: false,
            ring,
            new_ids: Vec::new(),
            counters,
            taken,
        }
    }

    fn advance(&self) -> Advance {
        Advance {
            source: self.taken.source.clone(),
            epoch: self.taken.epoch,
            from_offset: self.taken.next_offset,
            next_offset: self.next_offset,
            first_offset: self.first_offset,
            topic_id: self.taken.topic_id.clone(),
            max_event_us: self.max_event_us,
            at_end: self.at_end,
            counters: self.counters.clone(),
            new_ids: self.new_ids.clone(),
            new_ids_from: self.taken.ids_counted,
        }
    }

    fn settle(&mut self) {
        self.taken.next_offset = Some(self.next_offset);
        self.taken.ids_counted += self.new_ids.len() as u64;
        self.first_offset = None;
        self.new_ids.clear();
        self.counters = Counters::default();
    }
}
