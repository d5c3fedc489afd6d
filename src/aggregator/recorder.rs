//! Deltas to cells and records: the pure half of what the leader does in one transaction.

use super::accumulator::{Delta, Groupings};
use super::cell::{BadBlob, Cell};
use super::group::OTHER;
use super::record::{Runtime, Subject, render};
use super::window::{Calendar, Span};
use crate::store::{CellKey, OutboxRow, PartitionRow, Recorded, RecorderState, StoredCell, UnfoldedFlush};
use std::collections::{BTreeMap, BTreeSet};

const US: i64 = 1_000_000;
/// Intent priorities, 1 the most urgent: what is final, or corrects it, goes before what will change again.
const PRIORITY_FINAL: u8 = 3;
const PRIORITY_OPEN: u8 = 5;

/// The rules of time, all in µs.
#[derive(Debug, Clone)]
pub struct TimeRules {
    /// `MAX_OUT_OF_ORDERNESS`.
    pub out_of_orderness_us: i64,
    /// `GRACE_PERIOD`.
    pub grace_us: i64,
    /// `IDLE_TIMEOUT`.
    pub idle_us: i64,
    /// A report of standing at the log's end holds this long: three flush intervals.
    pub end_report_us: i64,
    /// `RETENTION`.
    pub retention_us: i64,
    /// `EMIT_INTERVAL`.
    pub emit_us: i64,
}

/// What the recorder knows of the world at the start of a transaction.
#[derive(Debug)]
pub struct Present<'a> {
    /// max(clock, stored now), µs.
    pub now_us: i64,
    /// All partitions.
    pub partitions: &'a [PartitionRow],
    /// The flushes to fold.
    pub flushes: &'a [UnfoldedFlush],
    /// Whether unfolded flushes remain after these.
    pub more: bool,
    /// An explicit end of input: every window is final.
    pub end_of_input: bool,
}

/// The recorder's fixed part.
#[derive(Debug, Clone)]
pub struct Recorder {
    calendar: Calendar,
    groupings: Groupings,
    names: Vec<String>,
    rules: TimeRules,
}

/// Cells under work in one transaction.
#[derive(Debug, Default)]
pub struct Work {
    cells: BTreeMap<CellKey, (Cell, StoredCell)>,
    counts: BTreeMap<(Span, i64, String), u64>,
    changed: BTreeSet<CellKey>,
    outbox: Vec<OutboxRow>,
}

impl Recorder {
    /// A recorder with this meaning of the numbers.
    pub fn new(calendar: Calendar, groupings: Groupings, rules: TimeRules) -> Recorder {
        let names = groupings.list.iter().map(ToString::to_string).collect();
        Recorder { calendar, groupings, names, rules }
    }

    /// The rules of time.
    pub fn rules(&self) -> &TimeRules {
        &self.rules
    }

    /// The spans a delta goes into: its slice, and each window that contains it.
    fn spans(&mut self, start_s: i64) -> [(Span, i64, i64); 5] {
        [Span::Slice, Span::Hourly, Span::Daily, Span::Weekly, Span::Monthly].map(|span| {
            let window = self.calendar.window(span, start_s);
            (span, window.start_s, window.end_s)
        })
    }

    /// The cells these deltas may touch (`__other__` included), to be loaded before [`Recorder::fold`].
    pub fn keys(&mut self, deltas: &[Delta]) -> Vec<CellKey> {
        let mut keys = BTreeSet::new();
        for delta in deltas {
            let aggregation_type = self.names[usize::from(delta.grouping)].clone();
            for (span, start_s, _) in self.spans(delta.start_s) {
                for group_key in [delta.group_key.as_ref(), OTHER] {
                    let (aggregation_type, group_key) = (aggregation_type.clone(), group_key.to_owned());
                    keys.insert(CellKey { span, start_s, aggregation_type, group_key });
                }
            }
        }
        keys.into_iter().collect()
    }

    /// Adds deltas to the loaded cells, in order.
    pub fn fold(&mut self, work: &mut Work, deltas: &[Delta]) {
        for delta in deltas {
            let grouping = usize::from(delta.grouping);
            for (span, start_s, end_s) in self.spans(delta.start_s) {
                let aggregation_type = self.names[grouping].clone();
                let mut key =
                    CellKey { span, start_s, aggregation_type, group_key: delta.group_key.to_string() };
                if !work.cells.contains_key(&key) {
                    let count = work.counts.entry((span, start_s, key.aggregation_type.clone())).or_default();
                    if !self.groupings.admits(grouping, &delta.group_key, *count as usize) {
                        key.group_key = OTHER.to_owned();
                    }
                    if !work.cells.contains_key(&key) {
                        *count += 1;
                        work.cells.insert(key.clone(), (Cell::default(), new_cell(end_s)));
                    }
                }
                let (cell, _) = work.cells.get_mut(&key).expect("inserted just above");
                cell.merge(&delta.cell, self.groupings.groups_max);
                work.changed.insert(key);
            }
        }
    }

    /// The recorder's state after folding: watermarks and floor only move forward.
    pub fn advance(&self, state: &RecorderState, present: &Present<'_>) -> RecorderState {
        let mut next = state.clone();
        next.now_us = state.now_us.max(present.now_us);
        let folded = folded_event_times(present.flushes);
        let mut low: Option<i64> = Some(i64::MAX);
        let mut all_idle = !present.partitions.is_empty();
        for row in present.partitions {
            if !present.more && self.is_idle(row, next.now_us) {
                continue;
            }
            all_idle = false;
            let seen = row.folded_event_us.max(folded.get(&row.source).copied());
            low = low.zip(seen).map(|(low, seen)| low.min(seen));
        }
        if let Some(low) = low.filter(|&low| low != i64::MAX) {
            next.watermark_us = next.watermark_us.max(low - self.rules.out_of_orderness_us);
        }
        next.final_watermark_us = next.final_watermark_us.max(next.watermark_us);
        if all_idle {
            next.final_watermark_us =
                next.final_watermark_us.max(next.now_us - self.rules.out_of_orderness_us);
        }
        if present.end_of_input && !present.more {
            next.final_watermark_us = i64::MAX;
        }
        next.floor_us = next.floor_us.max(next.watermark_us.saturating_sub(self.rules.retention_us));
        next
    }

    /// Idle: the owner has stood at the log's end for `IDLE_TIMEOUT` and still says so.
    fn is_idle(&self, row: &PartitionRow, now_us: i64) -> bool {
        let standing = row.at_end_since_us.is_some_and(|since| now_us - since >= self.rules.idle_us);
        let fresh = row.at_end_reported_us.is_some_and(|at| now_us - at <= self.rules.end_report_us);
        standing && fresh && row.halted.is_none()
    }

    /// Windows that ended at or before this second are final.
    pub fn final_end_s(&self, state: &RecorderState) -> i64 {
        state.final_watermark_us.saturating_sub(self.rules.grace_us).div_euclid(US)
    }

    /// Whether the longer windows are due for emission.
    pub fn emit_due(&self, state: &RecorderState) -> bool {
        state.now_us.saturating_sub(state.emitted_us) >= self.rules.emit_us
    }

    /// Decides what to emit, and gives all that the transaction writes. `unfinished` and `dirty` are stored cells due for emission beside
    /// those that changed.
    pub fn finish(
        &self,
        mut work: Work,
        state: RecorderState,
        present: &Present<'_>,
        due: Vec<(CellKey, StoredCell)>,
        runtime: &Runtime,
    ) -> Result<Recorded, BadBlob> {
        let final_end_s = self.final_end_s(&state);
        let mut emit: BTreeSet<CellKey> = BTreeSet::new();
        for (key, stored) in due {
            if !work.cells.contains_key(&key) {
                work.cells.insert(key.clone(), (Cell::decode(&stored.bytes)?, stored));
            }
            emit.insert(key);
        }
        let mut recorded = Recorded {
            folded: present.flushes.iter().map(|flush| flush.flush_id).collect(),
            folded_event_times: folded_event_times(present.flushes),
            ..Recorded::default()
        };
        for key in work.changed.iter().chain(emit.difference(&work.changed)) {
            let Some((mut cell, mut stored)) = work.cells.remove(key) else { continue };
            let window = key.span != Span::Slice;
            stored.is_final = window && (stored.is_final || stored.end_s <= final_end_s);
            let at_once = stored.is_final || key.span == Span::Hourly || emit.contains(key);
            stored.dirty = window && !at_once;
            if window && at_once {
                work.outbox.push(self.outbox_row(key, &cell, &stored, &state, runtime));
                stored.enqueued_events = cell.events;
            }
            stored.events = cell.events;
            stored.bytes = cell.encode();
            recorded.cells.push((key.clone(), stored));
        }
        recorded.outbox = work.outbox;
        recorded.state = Some(state);
        Ok(recorded)
    }

    fn outbox_row(
        &self,
        key: &CellKey,
        cell: &Cell,
        stored: &StoredCell,
        state: &RecorderState,
        runtime: &Runtime,
    ) -> OutboxRow {
        let subject = Subject {
            window_type: key.span.name(),
            start_s: key.start_s,
            end_s: stored.end_s,
            timezone: self.calendar.zone().name(),
            aggregation_type: &key.aggregation_type,
            group_key: &key.group_key,
            rebuild: state.rebuild,
            is_final: stored.is_final,
        };
        OutboxRow {
            id: 0,
            aggregation_id: subject.aggregation_id().to_string(),
            priority: if stored.is_final { PRIORITY_FINAL } else { PRIORITY_OPEN },
            record: render(&subject, cell, runtime),
            created_us: state.now_us,
        }
    }
}

impl Work {
    /// Takes loaded cells in.
    pub fn load(&mut self, keys: Vec<CellKey>, cells: Vec<Option<StoredCell>>) -> Result<(), BadBlob> {
        for (key, stored) in keys.into_iter().zip(cells) {
            if let Some(stored) = stored {
                self.cells.insert(key, (Cell::decode(&stored.bytes)?, stored));
            }
        }
        Ok(())
    }

    /// Takes in how many groups a span already has, per grouping.
    pub fn count(&mut self, span: Span, start_s: i64, counts: BTreeMap<String, u64>) {
        self.counts.extend(counts.into_iter().map(|(name, count)| ((span, start_s, name), count)));
    }
}

fn new_cell(end_s: i64) -> StoredCell {
    StoredCell { end_s, bytes: Vec::new(), events: 0, is_final: false, dirty: false, enqueued_events: 0 }
}

fn folded_event_times(flushes: &[UnfoldedFlush]) -> BTreeMap<super::partition::Source, i64> {
    let mut times = BTreeMap::new();
    for (source, time_us) in flushes.iter().flat_map(|flush| &flush.event_times) {
        let known = times.entry(source.clone()).or_insert(*time_us);
        *known = (*known).max(*time_us);
    }
    times
}
