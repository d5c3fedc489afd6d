//! The driver: feeds the pure halves and carries out their effects. Generic over log, store and clock, one `step` at a time, so that
//! tests can stop, crash and resume it anywhere.

use crate::aggregator::accumulator::decode_deltas;
use crate::aggregator::partition::{Source, Taken};
use crate::aggregator::record::Runtime;
use crate::aggregator::recorder::{Present, Recorder, Work};
use crate::aggregator::reducer::{Arrival, Reducer};
use crate::clock::{Clock, StepGuard};
use crate::event::Kind;
use crate::log::{LogError, LogEvent, SourceLog};
use crate::store::{Result as StoreResult, Store, StoreError};
use crate::telemetry::{Health, Telemetry};
use std::collections::BTreeMap;
use std::time::Duration;

/// Messages handled between two looks at the rest of the world.
const POLL_MESSAGES_MAX: usize = 10_000;
/// Longest wait for messages.
const POLL_WAIT_MAX: Duration = Duration::from_millis(100);
/// Dead letters held before a flush: they are kept whole.
const DEAD_LETTER_BYTES_MAX: usize = 8 << 20;
/// First and longest pause after a failure of the store or the log.
const BACKOFF_US: std::ops::RangeInclusive<i64> = 100_000..=5_000_000;
/// Flushes and bytes folded in one recorder transaction.
const FOLD_FLUSHES_MAX: usize = 64;
const FOLD_BYTES_MAX: usize = 16 << 20;
/// Cells emitted in one recorder transaction besides the changed ones.
const DUE_CELLS_MAX: usize = 5_000;
/// The recorder's lease.
pub const LEASE: Duration = Duration::from_secs(15);

/// The driver's settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `NODE_ID`.
    pub node_id: String,
    /// The kind each source topic stands for.
    pub kinds: BTreeMap<String, Kind>,
    /// `FLUSH_INTERVAL`, µs.
    pub flush_interval_us: i64,
    /// `FLUSH_EVENTS`.
    pub flush_events: u64,
    /// `DEDUP_WINDOW`.
    pub ids_max: usize,
    /// `MAX_BACKLOG`: unfolded flushes beyond which the reducer pauses.
    pub backlog_max: u64,
    /// `MAX_CLOCK_STEP`, µs.
    pub clock_step_us_max: i64,
    /// `ON_TOPIC_RECREATED` is `restart`.
    pub restart_recreated: bool,
}

/// What the reducer's driver is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The group has not given us anything.
    Unassigned,
    /// We have partitions in the group, but do not read them yet (or not any more).
    Taking,
    /// Reading.
    Running,
}

/// Doubling pauses, by monotonic time.
#[derive(Debug, Default)]
struct Backoff {
    wait_us: i64,
    until_us: i64,
}

impl Backoff {
    fn fail(&mut self, now_us: i64) {
        self.wait_us = (self.wait_us * 2).clamp(*BACKOFF_US.start(), *BACKOFF_US.end());
        self.until_us = now_us + self.wait_us;
    }

    fn succeed(&mut self) {
        *self = Backoff::default();
    }

    fn over(&self, now_us: i64) -> bool {
        now_us >= self.until_us
    }
}

/// Consumes, reduces and flushes.
pub struct ReducerDriver<L, S, C> {
    log: L,
    store: S,
    clock: C,
    reducer: Reducer,
    settings: Settings,
    telemetry: Telemetry,
    guard: StepGuard,
    phase: Phase,
    /// What the group says is ours.
    assigned: Vec<Source>,
    /// The number of the present taking: messages of earlier ones are ignored.
    taking: u64,
    stored_now_us: i64,
    flushed_us: i64,
    paused: bool,
    backoff: Backoff,
    flushes: u64,
}

impl<L: SourceLog, S: Store, C: Clock> ReducerDriver<L, S, C> {
    /// A driver that has nothing yet.
    pub fn new(
        log: L,
        store: S,
        clock: C,
        reducer: Reducer,
        settings: Settings,
        telemetry: Telemetry,
    ) -> Self {
        let guard = StepGuard::new(&clock, settings.clock_step_us_max);
        let flushed_us = clock.monotonic_us();
        ReducerDriver {
            log,
            store,
            clock,
            reducer,
            settings,
            telemetry,
            guard,
            phase: Phase::Unassigned,
            assigned: Vec::new(),
            taking: 0,
            stored_now_us: i64::MIN,
            flushed_us,
            paused: false,
            backoff: Backoff::default(),
            flushes: 0,
        }
    }

    /// Polls once, and does what is due. An error is beyond repair; everything else is retried from within.
    pub fn step(&mut self) -> Result<(), DriverError> {
        self.watch_clock();
        let events = self.poll()?;
        for event in events {
            self.react(event);
        }
        let now_us = self.clock.monotonic_us();
        if self.phase == Phase::Taking
            && self.backoff.over(now_us)
            && self.guard.step_us(&self.clock).is_none()
        {
            self.take()?;
        }
        if self.phase == Phase::Running && self.flush_due(now_us) {
            self.flush()?;
        }
        Ok(())
    }

    /// Flushes what there is and leaves the group. Called once, at the end.
    pub fn drain(&mut self) -> Result<(), DriverError> {
        let outcome = if self.phase == Phase::Running { self.flush() } else { Ok(()) };
        self.give_up();
        self.log.close();
        outcome
    }

    /// Flushes that were stored since the start.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Everything received is flushed and the log has no more for us.
    pub fn caught_up(&self) -> bool {
        self.phase == Phase::Running && self.reducer.pending() == 0
    }

    /// The store, for tests that look at what was written.
    pub fn into_store(self) -> S {
        self.store
    }

    /// A clock that was set makes "now" a lie: stop reading before anything is judged by it.
    fn watch_clock(&mut self) {
        match self.guard.step_us(&self.clock) {
            Some(step_us) => {
                if self.phase == Phase::Running {
                    self.retake();
                }
                let detail =
                    format!("wall clock stepped by {} s; set it right or restart", step_us / 1_000_000);
                self.telemetry.check("clock", Health::Unhealthy, detail);
            }
            None => self.telemetry.check("clock", Health::Healthy, "steady"),
        }
    }

    fn poll(&mut self) -> Result<Vec<LogEvent>, DriverError> {
        let (reducer, taking) = (&mut self.reducer, self.taking);
        let running = self.phase == Phase::Running;
        let now_us = self.clock.wall_us().max(self.stored_now_us);
        let mut visit = |message: crate::log::Message<'_>| {
            if running && message.taking == taking {
                let arrival = Arrival {
                    partition: message.assigned,
                    offset: message.offset,
                    record_time_us: message.time_us,
                    key: message.key,
                    value: message.value,
                };
                reducer.apply(&arrival, now_us);
            }
        };
        match self.log.poll(POLL_MESSAGES_MAX, POLL_WAIT_MAX, &mut visit) {
            Ok(events) => Ok(events),
            Err(LogError::Fatal(text)) => Err(DriverError::Log(text)),
            Err(error) => {
                self.telemetry.check("kafka", Health::Unhealthy, error.to_string());
                Ok(Vec::new())
            }
        }
    }

    fn react(&mut self, event: LogEvent) {
        match event {
            LogEvent::Assigned(sources) => {
                self.telemetry.check(
                    "kafka",
                    Health::Healthy,
                    format!("{} partitions assigned", sources.len()),
                );
                self.assigned = sources;
                self.retake();
            }
            LogEvent::Revoked { lost } => {
                if !lost && self.phase == Phase::Running {
                    // What cannot be flushed now is read again by the next owner.
                    let _ = self.flush();
                }
                self.give_up();
                self.telemetry.update(|s| s.rebalancing = true);
            }
            LogEvent::End(index) if self.phase == Phase::Running => self.reducer.mark_end(index),
            LogEvent::End(_) => {}
            LogEvent::OffsetOutOfRange(_) => self.retake(),
            LogEvent::Trouble(text) => self.telemetry.check("kafka", Health::Degraded, text),
        }
    }

    /// Drops everything since the last flush; what is still ours is taken anew.
    fn retake(&mut self) {
        self.reducer.drop_all();
        self.phase = Phase::Taking;
    }

    fn give_up(&mut self) {
        self.reducer.drop_all();
        self.assigned.clear();
        self.phase = Phase::Unassigned;
        if let Err(error) = self.log.unassign() {
            tracing::warn!(%error, "unassign failed");
        }
    }

    fn take(&mut self) -> Result<(), DriverError> {
        match self.try_take() {
            Ok(()) => {
                self.backoff.succeed();
                self.telemetry.check("store", Health::Healthy, "reachable");
                self.telemetry.update(|s| {
                    s.ready = true;
                    s.rebalancing = false;
                });
                Ok(())
            }
            Err(TakeError::Log(error)) => {
                self.telemetry.check("kafka", Health::Unhealthy, error.to_string());
                self.backoff.fail(self.clock.monotonic_us());
                if let LogError::Fatal(text) = error { Err(DriverError::Log(text)) } else { Ok(()) }
            }
            Err(TakeError::Store(error)) => self.store_failed(error),
            Err(TakeError::Clock(detail)) => {
                self.telemetry.check("clock", Health::Unhealthy, detail);
                self.backoff.fail(self.clock.monotonic_us());
                Ok(())
            }
        }
    }

    fn try_take(&mut self) -> Result<(), TakeError> {
        let all = self.log.partitions()?;
        self.store.add_partitions(&all)?;
        let status = self.store.status()?;
        self.stored_now_us = status.recorder.now_us;
        self.compare_clocks()?;
        let taken = self.store.take(&self.assigned, &self.settings.node_id, self.settings.ids_max)?;
        let mut starts = Vec::with_capacity(taken.len());
        let mut reading = Vec::with_capacity(taken.len());
        for taken in taken {
            if let Some((taken, start)) = self.place(taken)? {
                let kind =
                    self.settings.kinds.get(taken.source.topic.as_ref()).copied().unwrap_or(Kind::Started);
                starts.push((taken.source.clone(), start));
                reading.push((taken, kind, start));
            }
        }
        self.taking += 1;
        self.reducer.take(reading, status.recorder.floor_us);
        self.log.assign(&starts, self.taking)?;
        self.paused = false;
        self.phase = Phase::Running;
        self.flushed_us = self.clock.monotonic_us();
        Ok(())
    }

    /// The wall clock against the store's, and against the latest "now" that was stored.
    fn compare_clocks(&mut self) -> Result<(), TakeError> {
        let (wall_us, store_us) = (self.clock.wall_us(), self.store.now_us()?);
        let step_us_max = self.settings.clock_step_us_max;
        if (wall_us - store_us).abs() > step_us_max {
            return Err(TakeError::Clock(format!(
                "this clock and the store's differ by {} s",
                (wall_us - store_us) / 1_000_000
            )));
        }
        if wall_us < self.stored_now_us.saturating_sub(step_us_max) {
            return Err(TakeError::Clock("this clock is far behind the time the store has seen".to_owned()));
        }
        Ok(())
    }

    /// Where to read a partition from; `None` if it halts.
    fn place(&mut self, mut taken: Taken) -> Result<Option<(Taken, i64)>, TakeError> {
        let bounds = self.log.bounds(&taken.source)?;
        let recreated = match (&taken.topic_id, &bounds.topic_id) {
            (Some(stored), Some(present)) => stored != present,
            _ => false,
        };
        let beyond = taken.next_offset.is_some_and(|next| next > bounds.end);
        if recreated || beyond {
            let why =
                if recreated { "topic was re-created" } else { "stored offset lies beyond the log's end" };
            if !self.settings.restart_recreated {
                let reason = format!("{why}: set ON_TOPIC_RECREATED=restart to read it from its start");
                tracing::error!(partition = %taken.source, reason, "partition halted");
                self.store.set_halted(&taken.source, taken.epoch, Some(&reason))?;
                return Ok(None);
            }
            tracing::warn!(partition = %taken.source, why, "reading the new incarnation from its start");
            self.store.restart_partition(&taken.source, taken.epoch)?;
            taken = Taken { next_offset: None, max_event_us: None, ids: Vec::new(), ids_counted: 0, ..taken };
        }
        taken.topic_id = bounds.topic_id.or(taken.topic_id);
        let start = taken.next_offset.unwrap_or(bounds.start).max(bounds.start);
        if let Some(lost) = taken.next_offset.map(|next| start - next).filter(|&lost| lost > 0) {
            tracing::error!(partition = %taken.source, lost, "messages lost to retention before they were read");
        }
        Ok(Some((taken, start)))
    }

    fn flush_due(&self, now_us: i64) -> bool {
        self.reducer.pending() >= self.settings.flush_events
            || self.reducer.dead_letter_bytes() >= DEAD_LETTER_BYTES_MAX
            || now_us - self.flushed_us >= self.settings.flush_interval_us
    }

    fn flush(&mut self) -> Result<(), DriverError> {
        let flush = self.reducer.flush();
        match self.store.flush(&flush, self.settings.ids_max) {
            Ok(flushed) => {
                self.reducer.flushed(flushed.floor_us);
                self.flushes += 1;
                self.flushed_us = self.clock.monotonic_us();
                self.report_flush();
                self.hold_back(flushed.backlog);
                Ok(())
            }
            Err(error) => self.store_failed(error),
        }
    }

    fn report_flush(&mut self) {
        let offsets: Vec<(Source, i64)> = self.reducer.next_offsets().map(|(s, o)| (s.clone(), o)).collect();
        self.log.commit_hint(&offsets);
        let flushed_us = self.flushed_us;
        self.telemetry.check("store", Health::Healthy, "reachable");
        self.telemetry.update(|snapshot| {
            snapshot.flushed_us = Some(flushed_us);
            snapshot.partitions = offsets
                .iter()
                .map(|(source, next)| {
                    let lag = crate::telemetry::PartitionLag { next_offset: *next, lag_records: 0 };
                    (source.to_string(), lag)
                })
                .collect();
        });
    }

    /// Back-pressure: too many unfolded flushes pause the reading, not the polling.
    fn hold_back(&mut self, backlog: u64) {
        let pause = if self.paused {
            backlog > self.settings.backlog_max / 2
        } else {
            backlog > self.settings.backlog_max
        };
        if pause != self.paused && self.log.pause(pause).is_ok() {
            self.paused = pause;
            let (health, text) = if pause {
                (Health::Degraded, "paused until the recorder catches up")
            } else {
                (Health::Healthy, "reading")
            };
            self.telemetry.check("reducer", health, text);
        }
    }

    /// Nothing of the last batch may be used again: drop it all and take anew, at once or after a pause.
    fn store_failed(&mut self, error: StoreError) -> Result<(), DriverError> {
        self.retake();
        match error {
            StoreError::Fenced(_) | StoreError::FloorMoved { .. } => {
                tracing::info!(%error, "flush refused, taking anew");
                Ok(())
            }
            StoreError::Unavailable(_) | StoreError::Indefinite(_) | StoreError::NotLeader => {
                self.telemetry.check("store", Health::Unhealthy, error.to_string());
                self.backoff.fail(self.clock.monotonic_us());
                Ok(())
            }
            StoreError::OtherGeneration(_) | StoreError::Refused(_) | StoreError::Corrupt(_) => {
                Err(DriverError::Store(error))
            }
        }
    }
}

/// The driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The Kafka client is beyond repair.
    #[error("kafka client failed: {0}")]
    Log(String),
    /// The store refuses for good.
    #[error(transparent)]
    Store(StoreError),
}

#[derive(Debug)]
enum TakeError {
    Log(LogError),
    Store(StoreError),
    Clock(String),
}

impl From<LogError> for TakeError {
    fn from(error: LogError) -> Self {
        TakeError::Log(error)
    }
}

impl From<StoreError> for TakeError {
    fn from(error: StoreError) -> Self {
        TakeError::Store(error)
    }
}

/// Folds flushes into cells and fills the outbox, as the one leader.
pub struct RecorderDriver<S, C> {
    store: S,
    clock: C,
    recorder: Recorder,
    node_id: String,
    telemetry: Telemetry,
    epoch: Option<i64>,
    led_us: i64,
    expired_us: i64,
    backoff: Backoff,
    /// End of input was declared: every window becomes final.
    pub end_of_input: bool,
}

/// What a recorder step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recording {
    /// Flushes folded.
    pub folded: usize,
    /// Records put into the outbox.
    pub enqueued: usize,
    /// Whether more is waiting already.
    pub more: bool,
}

impl<S: Store, C: Clock> RecorderDriver<S, C> {
    /// A recorder that does not lead yet.
    pub fn new(store: S, clock: C, recorder: Recorder, node_id: String, telemetry: Telemetry) -> Self {
        RecorderDriver {
            store,
            clock,
            recorder,
            node_id,
            telemetry,
            epoch: None,
            led_us: i64::MIN,
            expired_us: i64::MIN,
            backoff: Backoff::default(),
            end_of_input: false,
        }
    }

    /// Leads if it may, folds what there is. Failures of the store are retried with pauses; what is beyond repair is an error.
    pub fn step(&mut self) -> Result<Recording, DriverError> {
        let now_us = self.clock.monotonic_us();
        if !self.backoff.over(now_us) {
            return Ok(Recording::default());
        }
        match self.lead(now_us).and_then(|leads| if leads { self.record() } else { Ok(Recording::default()) })
        {
            Ok(recording) => {
                self.backoff.succeed();
                self.telemetry.check(
                    "recorder",
                    Health::Healthy,
                    if self.epoch.is_some() { "leads" } else { "follows" },
                );
                Ok(recording)
            }
            Err(StoreError::NotLeader) => {
                self.epoch = None;
                Ok(Recording::default())
            }
            Err(
                error @ (StoreError::OtherGeneration(_) | StoreError::Refused(_) | StoreError::Corrupt(_)),
            ) => Err(DriverError::Store(error)),
            Err(error) => {
                self.telemetry.check("recorder", Health::Unhealthy, error.to_string());
                self.epoch = None;
                self.backoff.fail(now_us);
                Ok(Recording::default())
            }
        }
    }

    /// Gives the lease up.
    pub fn resign(&mut self) {
        if let Some(epoch) = self.epoch.take() {
            let _ = self.store.resign(&self.node_id, epoch);
        }
    }

    fn lead(&mut self, now_us: i64) -> StoreResult<bool> {
        let third = LEASE.as_micros() as i64 / 3;
        if self.epoch.is_none() || now_us.saturating_sub(self.led_us) >= third {
            self.epoch = self.store.lead(&self.node_id, LEASE)?;
            self.led_us = now_us;
        }
        Ok(self.epoch.is_some())
    }

    fn record(&mut self) -> StoreResult<Recording> {
        let Some(epoch) = self.epoch else { return Ok(Recording::default()) };
        let (recorder, end_of_input) = (&mut self.recorder, self.end_of_input);
        let (wall_us, begun_us) = (self.clock.wall_us(), self.clock.monotonic_us());
        let clock = &self.clock;
        let mut done = Recording::default();
        let mut floor_us = i64::MIN;
        let mut work = |tx: &mut dyn crate::store::Recording| {
            let elapsed = || (clock.monotonic_us() - begun_us).max(0) as u64;
            (done, floor_us) = record_once(recorder, tx, wall_us, end_of_input, &elapsed)?;
            Ok(())
        };
        self.store.record(epoch, LEASE, &mut work)?;
        self.expire(epoch, floor_us, wall_us, begun_us)?;
        Ok(done)
    }

    /// Deletes what no window at or above the floor needs, once a minute.
    fn expire(&mut self, epoch: i64, floor_us: i64, wall_us: i64, now_us: i64) -> StoreResult<()> {
        const EVERY_US: i64 = 60_000_000;
        const LONGEST_WINDOW_US: i64 = 31 * 86_400 * 1_000_000;
        if floor_us == i64::MIN || now_us.saturating_sub(self.expired_us) < EVERY_US {
            return Ok(());
        }
        self.expired_us = now_us;
        let end_s_max = (floor_us - LONGEST_WINDOW_US).div_euclid(1_000_000);
        let letters_us = wall_us - self.recorder.rules().retention_us;
        let deleted = self.store.expire(epoch, end_s_max, letters_us, 10_000)?;
        if deleted > 0 {
            tracing::info!(deleted, "expired cells and dead letters");
        }
        Ok(())
    }
}

fn record_once(
    recorder: &mut Recorder,
    tx: &mut dyn crate::store::Recording,
    wall_us: i64,
    end_of_input: bool,
    elapsed_us: &dyn Fn() -> u64,
) -> StoreResult<(Recording, i64)> {
    let corrupt = |error: crate::aggregator::cell::BadBlob| StoreError::Corrupt(error.to_string());
    let before = tx.state()?;
    let (flushes, more) = tx.unfolded(FOLD_FLUSHES_MAX, FOLD_BYTES_MAX)?;
    let partitions = tx.partitions()?;
    let mut deltas = Vec::new();
    for flush in &flushes {
        deltas.extend(decode_deltas(&flush.deltas).map_err(corrupt)?);
    }
    let mut work = Work::default();
    let keys = recorder.keys(&deltas);
    let spans: std::collections::BTreeSet<_> = keys.iter().map(|key| (key.span, key.start_s)).collect();
    for (span, start_s) in spans {
        work.count(span, start_s, tx.group_counts(span, start_s)?);
    }
    let cells = tx.cells(&keys)?;
    work.load(keys, cells).map_err(corrupt)?;
    recorder.fold(&mut work, &deltas);

    let store_now_us = tx.now_us()?;
    let present = Present {
        now_us: wall_us.max(store_now_us),
        partitions: &partitions,
        flushes: &flushes,
        more,
        end_of_input,
    };
    let mut state = recorder.advance(&before, &present);
    let mut due = tx.unfinished(recorder.final_end_s(&state), DUE_CELLS_MAX)?;
    let mut due_more = due.len() >= DUE_CELLS_MAX;
    if recorder.emit_due(&state) && !due_more {
        let dirty = tx.dirty(None, DUE_CELLS_MAX)?;
        if dirty.len() < DUE_CELLS_MAX {
            state.emitted_us = state.now_us;
        } else {
            due_more = true;
        }
        due.extend(dirty);
    }
    let items = deltas.iter().filter(|delta| delta.grouping == 0).map(|delta| delta.cell.events).sum();
    let runtime = Runtime { timestamp_us: present.now_us, duration_us: Some(elapsed_us()), items };
    let floor_us = state.floor_us;
    let idle = flushes.is_empty() && due.is_empty() && state == before;
    let recorded = recorder.finish(work, state, &present, due, &runtime).map_err(corrupt)?;
    let done = Recording { folded: flushes.len(), enqueued: recorded.outbox.len(), more: more || due_more };
    if !idle {
        tx.save(&recorded)?;
    }
    Ok((done, floor_us))
}
