//! Invented but realistic workflow events, for `generate`, `demo`, tests and benches.
//!
//! Pure: the bytes follow from [`Options`] alone, on every platform. Whatever decides bytes is integer
//! arithmetic, a table, or one of the floating-point operations that IEEE 754 fixes to the last bit.
//!
//! A workflow is STARTED, up to eight STAGE_COMPLETED, then COMPLETED or FAILED. Hundreds are in flight at
//! once, so the pauses between a workflow's events are stretched (queues) or squeezed (time lapse) to fit the
//! load into the span; the durations inside the events stay those of the work itself.

use crate::event::Kind;
use chrono::{DateTime, Datelike, Timelike};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;
/// 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z: the event times that a reader accepts.
const YEARS_US: std::ops::Range<i64> = 946_684_800 * SECOND_US..4_102_444_800 * SECOND_US;

/// A duplicate follows its original within this many lines.
const DUPLICATE_DISTANCE_MAX: u64 = 10_000;
const RECENT_LINES_MAX: usize = 4_096;
const IN_FLIGHT_MAX: usize = 4_096;
const HELD_LINES_MAX: usize = 65_536;
/// A late line trails the latest line in order by at least and at most this much event time.
const LATENESS_US: std::ops::RangeInclusive<i64> = 2 * MINUTE_US..=6 * HOUR_US;
/// Events of an average workflow, for pacing only: pacing corrects itself.
const EVENTS_PER_WORKFLOW: f64 = 9.7;
/// Typical time of work in a workflow, for pacing only.
const TYPICAL_WORK_US: f64 = 45e6;

/// What kind of traffic to invent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Scenario {
    /// Bare `CODEGEN_*` events with a daily rhythm.
    #[default]
    Steady,
    /// Both vocabularies, all four envelopes, and every form of timestamp.
    Mixed,
    /// Like steady, but in the middle third of the span one model fails often, and is slow and costly.
    Incident,
    /// Like steady, with about 2,000 distinct models.
    ManyGroups,
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Lines in all, duplicates, bad and late ones included.
    pub events: u64,
    /// Seed of every random choice.
    pub seed: u64,
    /// Share of lines that repeat an earlier good line, 0 to 1 (expected value).
    pub duplicates: f64,
    /// Share of lines that no reader accepts, 0 to 1 (expected value).
    pub bad: f64,
    /// Share of lines that are good but come 2 min to 6 h of event time too late, 0 to 1 (expected value).
    /// It is not reached where there is no room: in spans under about 3 min, with fewer than some 300
    /// ordinary lines a day, or with 65,536 lines waiting.
    pub late: f64,
    /// First possible event time, µs since the Unix epoch, years 2000 to 2099.
    pub start_us: i64,
    /// Event times are in `start_us..start_us + span_us`; µs, above 0.
    pub span_us: i64,
    /// Kind of traffic.
    pub scenario: Scenario,
}

impl Default for Options {
    /// No events yet; 1 % each of duplicates, bad and late lines; the day 2026-01-01.
    fn default() -> Self {
        Options {
            events: 0,
            seed: 0,
            duplicates: 0.01,
            bad: 0.01,
            late: 0.01,
            start_us: 1_767_225_600 * SECOND_US,
            span_us: DAY_US,
            scenario: Scenario::Steady,
        }
    }
}

/// Why [`Options`] make no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// A share is not a number from 0 to 1.
    #[error("{name} must be between 0 and 1, not {value}")]
    Share {
        /// Which share.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// Nothing would be left for ordinary lines.
    #[error("duplicates, bad and late must sum to less than 1, not {0}")]
    Shares(f64),
    /// The span is not positive.
    #[error("span must be longer than 0, not {0} µs")]
    Span(i64),
    /// An event time could be outside the accepted years.
    #[error("start and end must be in the years 2000 to 2099")]
    Years,
}

/// What a line is for, so that a caller can work out the counts a reader must arrive at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Good and in order of event time.
    Good,
    /// Good, but later than its event time.
    Late,
    /// Byte for byte an earlier line.
    Duplicate,
    /// Must be refused.
    Bad,
}

/// One message, or one line of a file (without the line feed, which no value contains).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The topic it belongs to.
    pub stream: Kind,
    /// Message key: the workflow id.
    pub key: String,
    /// Event time, µs since the Unix epoch; of a bad line, the time at which it was written.
    pub time_us: i64,
    /// The message.
    pub value: Vec<u8>,
    /// What it is for.
    pub role: Role,
}

/// The lines that [`Options`] describe, one after the other, in bounded memory.
///
/// ```
/// use codegen_metrics_reducer::generate::{Generator, Options};
/// let options = Options { events: 100, seed: 7, ..Options::default() };
/// assert_eq!(Generator::new(options).unwrap().count(), 100);
/// ```
#[derive(Debug)]
pub struct Generator {
    options: Options,
    draw: Draw,
    /// Bounds in a draw of 32 bits: below the first a duplicate, else below the second a bad line.
    duplicate_below: u64,
    bad_below: u64,
    emitted: u64,
    /// Time of the last line in order.
    now_us: i64,
    schedule: Schedule,
    /// Next event of each workflow in flight: (time, number of the workflow, slot).
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    slots: Vec<Workflow>,
    free_slots: Vec<usize>,
    workflows: u64,
    /// Events of admitted workflows that are still to come, held ones included.
    pending: u64,
    lateness: Lateness,
    /// Events kept back to come late, by (time of release, number of the workflow, step).
    held: BTreeMap<(i64, u64, usize), Held>,
    recent: VecDeque<(u64, Line)>,
    payload: Json,
}

impl Generator {
    /// Checks the options.
    ///
    /// # Errors
    /// [`OptionsError`] for the first option out of its range.
    pub fn new(options: Options) -> Result<Generator, OptionsError> {
        let o = &options;
        for (name, value) in [("duplicates", o.duplicates), ("bad", o.bad), ("late", o.late)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(OptionsError::Share { name, value });
            }
        }
        let sum = o.duplicates + o.bad + o.late;
        if sum >= 1.0 {
            return Err(OptionsError::Shares(sum));
        }
        if o.span_us <= 0 {
            return Err(OptionsError::Span(o.span_us));
        }
        let end = o.start_us.checked_add(o.span_us).ok_or(OptionsError::Years)?;
        if !YEARS_US.contains(&o.start_us) || end > YEARS_US.end {
            return Err(OptionsError::Years);
        }
        let schedule = Schedule::new(o);
        let lateness = Lateness::new(o, &schedule);
        let mut generator = Generator {
            draw: Draw(ChaCha8Rng::seed_from_u64(o.seed)),
            duplicate_below: threshold(o.duplicates),
            bad_below: threshold(o.duplicates + o.bad),
            emitted: 0,
            now_us: o.start_us,
            schedule,
            queue: BinaryHeap::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            workflows: 0,
            pending: 0,
            lateness,
            held: BTreeMap::new(),
            recent: VecDeque::new(),
            payload: Json::default(),
            options,
        };
        generator.plan_next_start(generator.options.start_us);
        Ok(generator)
    }

    /// A repetition of a recent line, or `None` where there is none to repeat.
    fn duplicate_line(&mut self) -> Option<Line> {
        while self.recent.front().is_some_and(|(at, _)| at + DUPLICATE_DISTANCE_MAX <= self.emitted) {
            self.recent.pop_front();
        }
        let count = u32::try_from(self.recent.len()).ok().filter(|n| *n > 0)?;
        let (_, original) = &self.recent[self.draw.below(count) as usize];
        Some(Line { role: Role::Duplicate, ..original.clone() })
    }

    /// The next good line: a held one that is due, else the next event in order of time.
    fn good_line(&mut self) -> Line {
        loop {
            if let Some(held) = self.held.first_entry()
                && held.key().0 <= self.now_us
            {
                let Held { workflow, time_us } = held.remove();
                return self.write(&workflow, time_us, Role::Late);
            }
            self.admit_workflows();
            let Some(Reverse((time_us, number, slot))) = self.queue.pop() else {
                continue; // Not reached: admission leaves the queue non-empty.
            };
            let workflow = self.slots[slot].clone();
            self.queue_next_event(time_us, number, slot);
            if let Some(release) = self.lateness.release(&mut self.draw, time_us, self.held.len()) {
                // Number and step tell apart events with one time of release.
                self.held.insert((release, number, workflow.step), Held { workflow, time_us });
                continue;
            }
            self.now_us = time_us;
            return self.write(&workflow, time_us, Role::Good);
        }
    }

    /// Puts the event after the one just taken from `slot` in line, or frees the slot after the last.
    fn queue_next_event(&mut self, time_us: i64, number: u64, slot: usize) {
        let workflow = &mut self.slots[slot];
        if workflow.step > workflow.stages {
            self.free_slots.push(slot);
            return;
        }
        let next_us = (time_us + workflow.pause_us(workflow.step)).min(self.schedule.end_us - 1);
        workflow.step += 1;
        self.queue.push(Reverse((next_us, number, slot)));
    }

    /// Starts every workflow whose time has come; at least one if otherwise nothing is left to write.
    fn admit_workflows(&mut self) {
        loop {
            let in_flight = self.slots.len() - self.free_slots.len();
            let next_event = self.queue.peek().map(|Reverse((time_us, ..))| *time_us);
            let start_us = match (self.schedule.next_start_us, next_event) {
                (Some(start), Some(event)) if start > event || in_flight >= IN_FLIGHT_MAX => return,
                (None, Some(_)) => return,
                (Some(start), _) => start.max(self.now_us),
                // The draws used more lines than planned; held ones wait for an event to come after.
                (None, None) => self.held.first_key_value().map_or(0, |(key, _)| key.0).max(self.now_us),
            };
            self.admit(start_us.min(self.schedule.end_us - 1));
        }
    }

    fn admit(&mut self, start_us: i64) {
        let workflow = self.new_workflow(start_us);
        self.pending += workflow.stages as u64 + 2;
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.slots[slot] = workflow;
                slot
            }
            None => {
                self.slots.push(workflow);
                self.slots.len() - 1
            }
        };
        self.queue.push(Reverse((start_us, self.workflows, slot)));
        self.workflows += 1;
        self.plan_next_start(start_us);
    }

    fn new_workflow(&mut self, start_us: i64) -> Workflow {
        let third = self.options.span_us / 3;
        let incident = self.options.scenario == Scenario::Incident
            && (third..2 * third).contains(&(start_us - self.options.start_us));
        let mut workflow = Workflow::draw(&mut self.draw, self.options.scenario, incident);
        // Near the end of the span the rest of the workflow must still fit in.
        let room_us = (self.schedule.end_us - 1 - start_us) as f64 * (0.5 + self.draw.unit() / 2.0);
        workflow.pause_scale = self.schedule.pause_scale.min(room_us / workflow.work_us() as f64);
        workflow
    }

    /// Spreads the workflows that the remaining lines need over the remaining time, by the daily rhythm.
    fn plan_next_start(&mut self, after_us: i64) {
        let good_share = 1.0 - self.options.duplicates - self.options.bad;
        let good_left = (self.options.events - self.emitted) as f64 * good_share - self.pending as f64;
        let workflows_left = good_left / EVENTS_PER_WORKFLOW;
        self.schedule.next_start_us = (workflows_left >= 0.5).then(|| {
            let mass = rhythm_mass(after_us);
            let mass_left = (rhythm_mass(self.schedule.last_start_us) - mass).max(0) as f64;
            let step = mass_left / workflows_left * 2.0 * self.draw.unit();
            rhythm_time(mass + step as i64).clamp(after_us, self.schedule.last_start_us.max(after_us))
        });
    }

    /// Writes the workflow's event of this step as a message, in one of the forms of the scenario.
    fn write(&mut self, workflow: &Workflow, time_us: i64, role: Role) -> Line {
        self.pending -= 1;
        let step = workflow.step;
        let mixed = self.options.scenario == Scenario::Mixed;
        let head = Head::draw(&mut self.draw, workflow.kind(step), time_us, mixed);
        let envelope = if mixed { Envelope::draw(&mut self.draw) } else { Envelope::None };
        // A lean payload leaves type, id and time to its envelope.
        let lean = envelope != Envelope::None && self.draw.chance(300);
        workflow.write_payload(&mut self.payload, &mut self.draw, step, (!lean).then_some(&head));
        let value = if lean || envelope == Envelope::None {
            envelope.wrap(workflow, &head, &self.payload.0)
        } else {
            // The envelope was written a moment later and has an id of its own, which must not win.
            let sent_us = (time_us + i64::from(self.draw.below(2_000_000))).min(self.schedule.end_us - 1);
            let head = Head { time_us: sent_us, event_id: self.draw.uuid(), ..head };
            envelope.wrap(workflow, &head, &self.payload.0)
        };
        Line { stream: head.stream, key: uuid_text(workflow.id), time_us, value, role }
    }

    /// A message of a workflow of its own that is bad whatever its topic.
    fn bad_line(&mut self, fault: Fault) -> Line {
        let mut workflow = self.new_workflow(self.now_us);
        if matches!(fault, Fault::NegativeCost | Fault::ScoreAboveOne) {
            workflow.complete();
        }
        let last = workflow.stages + 1;
        let step = match fault {
            Fault::NegativeCost | Fault::ScoreAboveOne => last,
            Fault::NanDuration | Fault::NumberInString => 1 + self.draw.below(last as u32) as usize,
            _ => self.draw.below(last as u32 + 1) as usize,
        };
        let mixed = self.options.scenario == Scenario::Mixed;
        let head = Head::draw(&mut self.draw, workflow.kind(step), self.now_us, mixed);
        let envelope = if mixed { Envelope::draw(&mut self.draw) } else { Envelope::None };
        workflow.write_payload(&mut self.payload, &mut self.draw, step, Some(&head));
        fault.spoil_payload(&mut self.payload.0, &mut self.draw);
        let mut value = envelope.wrap(&workflow, &head, &self.payload.0);
        fault.spoil_message(&mut value, &mut self.draw);
        let key = uuid_text(workflow.id);
        Line { stream: head.stream, key, time_us: self.now_us, value, role: Role::Bad }
    }
}

impl Iterator for Generator {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.emitted == self.options.events {
            return None;
        }
        let class = u64::from(self.draw.0.next_u32());
        let duplicate = if class < self.duplicate_below { self.duplicate_line() } else { None };
        let line = match duplicate {
            Some(line) => line,
            None if (self.duplicate_below..self.bad_below).contains(&class) => {
                let fault = self.draw.pick(&Fault::ALL);
                self.bad_line(fault)
            }
            None => self.good_line(),
        };
        if line.role == Role::Good && self.duplicate_below > 0 {
            if self.recent.len() == RECENT_LINES_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((self.emitted, line.clone()));
        }
        self.emitted += 1;
        Some(line)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.options.events - self.emitted);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

/// When workflows start, and how their events are spaced.
#[derive(Debug)]
struct Schedule {
    end_us: i64,
    /// No planned start after this one, so that most workflows end by themselves before the end.
    last_start_us: i64,
    next_start_us: Option<i64>,
    /// Pause between two events over the time of work between them.
    pause_scale: f64,
}

impl Schedule {
    fn new(o: &Options) -> Schedule {
        let span = o.span_us as f64;
        let workflows = (o.events as f64 * (1.0 - o.duplicates - o.bad) / EVENTS_PER_WORKFLOW).max(1.0);
        // About 200 to 400 workflows in flight, but none for longer than half an hour.
        let (min, max) = (200.0 * span / workflows, 400.0 * span / workflows);
        let stay_us = TYPICAL_WORK_US.max(min.min(30.0 * MINUTE_US as f64)).min(max).min(span / 8.0);
        let end_us = o.start_us + o.span_us;
        Schedule {
            end_us,
            last_start_us: end_us - ((1.25 * stay_us) as i64).min(o.span_us / 4),
            next_start_us: None,
            pause_scale: stay_us / TYPICAL_WORK_US,
        }
    }
}

/// Which events come late, and by how much.
#[derive(Debug)]
struct Lateness {
    hold_below: u64,
    delay_us_max: i64,
    /// Later releases might have no event to come after.
    last_release_us: i64,
}

impl Lateness {
    fn new(o: &Options, schedule: &Schedule) -> Lateness {
        let ordered_share = 1.0 - o.duplicates - o.bad - o.late;
        // At night and at random, two events in order can be this far apart.
        let gap_us = 64.0 * o.span_us as f64 / (o.events as f64 * ordered_share).max(1.0);
        let held_per_us = o.events as f64 * o.late / o.span_us as f64;
        let longest_us = *LATENESS_US.end() as f64 - gap_us;
        let delay_us_max = longest_us.min((HELD_LINES_MAX as f64 / held_per_us.max(1e-12)).max(300e6));
        let eligible = (schedule.last_start_us - LATENESS_US.start() - o.start_us) as f64 / o.span_us as f64;
        let possible = delay_us_max > 2.0 * *LATENESS_US.start() as f64 && eligible > 0.0;
        // The tail of the span has no late lines, so the rest has a little more.
        let share = o.late / (1.0 - o.duplicates - o.bad) / eligible.max(0.1);
        Lateness {
            hold_below: if possible { threshold(share.min(0.99)) } else { 0 },
            delay_us_max: delay_us_max as i64,
            last_release_us: schedule.last_start_us,
        }
    }

    /// Decides whether the event at `time_us` comes late: then the time it must wait for.
    fn release(&self, draw: &mut Draw, time_us: i64, held: usize) -> Option<i64> {
        if self.hold_below == 0 || u64::from(draw.0.next_u32()) >= self.hold_below {
            return None;
        }
        let room_us = self.delay_us_max.min(self.last_release_us - time_us) - LATENESS_US.start();
        let delay_us = *LATENESS_US.start() + (room_us as f64 * draw.unit()) as i64;
        (room_us >= 0 && held < HELD_LINES_MAX).then_some(time_us + delay_us)
    }
}

/// An event kept back.
#[derive(Debug)]
struct Held {
    workflow: Workflow,
    time_us: i64,
}

/// Relative number of starts in each hour of a UTC day.
const RHYTHM: [i64; 24] = [
    38, 34, 32, 32, 36, 44, 62, 88, 118, 142, 156, 160, 150, 152, 158, 154, 146, 134, 118, 100, 84, 68, 54,
    44,
];
const RHYTHM_DAY: i64 = {
    let (mut sum, mut hour) = (0, 0);
    while hour < RHYTHM.len() {
        sum += RHYTHM[hour];
        hour += 1;
    }
    sum * HOUR_US
};

/// Integral of the rhythm from the epoch to `time_us`.
fn rhythm_mass(time_us: i64) -> i64 {
    let (day, rest) = (time_us.div_euclid(DAY_US), time_us.rem_euclid(DAY_US));
    let hour = (rest / HOUR_US) as usize;
    let hours: i64 = RHYTHM[..hour].iter().sum();
    day * RHYTHM_DAY + hours * HOUR_US + RHYTHM[hour] * (rest % HOUR_US)
}

/// The inverse of [`rhythm_mass`], rounded down.
fn rhythm_time(mass: i64) -> i64 {
    let (day, mut rest) = (mass.div_euclid(RHYTHM_DAY), mass.rem_euclid(RHYTHM_DAY));
    let mut time_us = day * DAY_US;
    for weight in RHYTHM {
        if rest < weight * HOUR_US {
            return time_us + rest / weight;
        }
        rest -= weight * HOUR_US;
        time_us += HOUR_US;
    }
    time_us
}

/// A share as a bound for a draw of 32 bits.
fn threshold(share: f64) -> u64 {
    (share * 4_294_967_296.0) as u64
}

/// The random choices, from integers of the stream cipher only.
#[derive(Debug)]
struct Draw(ChaCha8Rng);

/// 1000·e^x for x = -1.5 to 1.5 in steps of 0.125.
const EXP: [i64; 25] = [
    223, 253, 287, 325, 368, 417, 472, 535, 607, 687, 779, 882, 1000, 1133, 1284, 1455, 1649, 1868, 2117,
    2399, 2718, 3080, 3490, 3955, 4482,
];

impl Draw {
    /// A whole number from 0 to `n - 1`.
    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// True in `permille` of 1,000 cases.
    fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < permille
    }

    /// A number from 0 to just below 1, a multiple of 2^-32.
    fn unit(&mut self) -> f64 {
        f64::from(self.0.next_u32()) / 4_294_967_296.0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u32) as usize]
    }

    /// A version 4 UUID.
    fn uuid(&mut self) -> u128 {
        let bits = (u128::from(self.0.next_u64()) << 64) | u128::from(self.0.next_u64());
        (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62)
    }

    /// Nearly normal, mean 0, standard deviation 1000, within ±3464: a sum of four uniform numbers.
    fn bell(&mut self) -> i64 {
        let bits = self.0.next_u64();
        let sum: i64 = (0..4).map(|i| ((bits >> (16 * i)) & 0xffff) as i64).sum();
        (sum - 131_070) * 1732 / 65_536
    }

    /// Nearly log-normal around `median`; `sigma` in thousandths, at most 430.
    fn spread(&mut self, median: u64, sigma: i64) -> u64 {
        let x = (self.bell() * sigma / 1000).clamp(-1500, 1499) + 1500;
        let (low, rest) = (EXP[(x / 125) as usize], x % 125);
        let factor = low + (EXP[(x / 125) as usize + 1] - low) * rest / 125;
        median * factor as u64 / 1000
    }
}

/// A language model, with what makes it different.
#[derive(Debug, Clone, Copy)]
struct Model {
    name: &'static str,
    /// Share of workflows, in percent.
    share: u32,
    nano_usd_per_token: u64,
    tokens_median: u64,
    /// Mean quality and its standard deviation, in 1/10,000.
    quality: i64,
    quality_spread: i64,
    /// Time of work against the usual, in thousandths.
    pace: u64,
    /// Workflows that fail, in thousandths.
    failures: u32,
    /// Indexes into [`FAILURES`]: how it usually fails.
    failure_profile: [usize; 4],
}

#[rustfmt::skip]
const MODELS: [Model; 6] = [
    Model { name: "gemini-2.5-flash", share: 34, nano_usd_per_token: 900, tokens_median: 9_000, quality: 8_400, quality_spread: 700, pace: 800, failures: 60, failure_profile: [0, 3, 4, 6] },
    Model { name: "codestral-25.01", share: 22, nano_usd_per_token: 600, tokens_median: 7_500, quality: 7_700, quality_spread: 900, pace: 700, failures: 90, failure_profile: [3, 4, 4, 5] },
    Model { name: "deepseek-v3", share: 16, nano_usd_per_token: 550, tokens_median: 12_000, quality: 8_100, quality_spread: 800, pace: 1_300, failures: 80, failure_profile: [0, 1, 1, 4] },
    Model { name: "mistral-large-2", share: 12, nano_usd_per_token: 4_000, tokens_median: 11_000, quality: 8_600, quality_spread: 600, pace: 1_100, failures: 50, failure_profile: [1, 2, 5, 7] },
    Model { name: "gemini-2.5-pro", share: 10, nano_usd_per_token: 22_000, tokens_median: 24_000, quality: 9_200, quality_spread: 400, pace: 1_600, failures: 40, failure_profile: [0, 1, 6, 7] },
    Model { name: "llama-3.3-70b", share: 6, nano_usd_per_token: 700, tokens_median: 6_000, quality: 6_300, quality_spread: 1_300, pace: 1_000, failures: 170, failure_profile: [2, 3, 4, 4] },
];
const MANY_MODELS: u32 = 2_000;

/// One way to fail.
#[derive(Debug)]
struct Failure {
    /// Index into [`STAGES`].
    stage: usize,
    code: &'static str,
    message: &'static str,
    retry_after_seconds: Option<u64>,
}

#[rustfmt::skip]
const FAILURES: [Failure; 8] = [
    Failure { stage: 3, code: "MODEL_TIMEOUT", message: "no answer from the model within the deadline", retry_after_seconds: Some(30) },
    Failure { stage: 3, code: "RATE_LIMITED", message: "too many requests to the model", retry_after_seconds: Some(60) },
    Failure { stage: 1, code: "INTELLIGENCE_UNAVAILABLE", message: "pattern store did not answer", retry_after_seconds: Some(15) },
    Failure { stage: 2, code: "INVALID_CONTRACT", message: "contract misses the section 'performance'", retry_after_seconds: None },
    Failure { stage: 5, code: "VALIDATION_FAILED", message: "3 of 14 checks failed", retry_after_seconds: None },
    Failure { stage: 0, code: "PROMPT_UNCLEAR", message: "no node type fits the prompt \\\"as given\\\"", retry_after_seconds: None },
    Failure { stage: 6, code: "REFINEMENT_EXHAUSTED", message: "quality below target after 3 rounds", retry_after_seconds: None },
    Failure { stage: 7, code: "FILE_WRITE", message: "no space left on device", retry_after_seconds: Some(120) },
];

/// A stage: name, median time of work in ms, share of the tokens in percent.
const STAGES: [(&str, u64, u64); 8] = [
    ("prompt_parsing", 5_000, 6),
    ("intelligence_gathering", 3_000, 8),
    ("contract_building", 2_000, 14),
    ("code_generation", 12_500, 44),
    ("event_bus_integration", 2_000, 6),
    ("validation", 5_000, 8),
    ("refinement", 3_000, 14),
    ("file_writing", 3_000, 0),
];
const NODE_TYPES: [&str; 4] = ["effect", "orchestrator", "reducer", "compute"];
/// Domain, what its nodes do (escaped for JSON), and a short name for services.
const DOMAINS: [(&str, [&str; 2], &str); 6] = [
    ("api", ["calls a REST service with retries", "answers \\\"who am I\\\" requests"], "gateway"),
    ("ml", ["trains a naïve Bayes filter", "scores images in batches"], "scorer"),
    ("data", ["loads CSV files into a table", "merges two feeds:\\n- orders\\n- refunds"], "loader"),
    ("infrastructure", ["rotates certificates", "scales a worker pool"], "operator"),
    ("testing", ["replays recorded traffic", "checks contracts of two services"], "checker"),
    ("documentation", ["renders OpenAPI pages", "finds dead links"], "writer"),
];
const SUBJECTS: [&str; 8] = ["orders", "invoices", "users", "mail", "payments", "stock", "search", "audit"];
const PATTERNS: [&str; 5] =
    ["retry_with_backoff", "circuit_breaker", "outbox", "idempotent_consumer", "cache_aside"];
const SOURCES: [&str; 3] = ["qdrant", "memgraph", "rag"];

/// Which producer wrote the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vocabulary {
    Codegen,
    NodeGeneration,
}

/// Everything about one workflow that its events must agree on.
#[derive(Debug, Clone)]
struct Workflow {
    id: u128,
    correlation_id: u128,
    vocabulary: Vocabulary,
    /// Index into [`MODELS`].
    model: usize,
    /// Number of a model of its own, in the scenario with many.
    variant: Option<u32>,
    node_type: &'static str,
    /// Index into [`DOMAINS`].
    domain: usize,
    subject: &'static str,
    stage_us: [u64; 8],
    /// Time of work outside the stages.
    overhead_us: u64,
    /// Tokens of all eight stages.
    tokens: u64,
    failure: Option<&'static Failure>,
    /// Stage events before the last event.
    stages: usize,
    /// Next event: 0 is STARTED, up to `stages` a stage, then the last.
    step: usize,
    pause_scale: f64,
}

impl Workflow {
    fn draw(draw: &mut Draw, scenario: Scenario, incident: bool) -> Workflow {
        let many = scenario == Scenario::ManyGroups;
        // Squared, so that some of the many models are far more frequent than others.
        let variant = many.then(|| (draw.unit() * draw.unit() * f64::from(MANY_MODELS)) as u32);
        let model = match variant {
            Some(variant) => variant as usize % MODELS.len(),
            None => draw_model(draw),
        };
        let Model { tokens_median, pace, failures, failure_profile, .. } = MODELS[model];
        let hit = incident && model == 0;
        let (pace, tokens_median) = if hit { (pace * 3, tokens_median * 3) } else { (pace, tokens_median) };
        let failing = draw.chance(if hit { 600 } else { failures });
        let way = if hit { draw.below(2) as usize } else { draw.pick(&failure_profile) };
        // Parallel requests make long workflows long in all stages.
        let pace = draw.spread(pace, 250);
        let node_generation = scenario == Scenario::Mixed && draw.chance(400);
        let mut workflow = Workflow {
            id: draw.uuid(),
            correlation_id: draw.uuid(),
            vocabulary: if node_generation { Vocabulary::NodeGeneration } else { Vocabulary::Codegen },
            model,
            variant,
            node_type: NODE_TYPES[[0, 0, 0, 1, 2, 2, 3, 3][draw.below(8) as usize]],
            domain: draw.below(DOMAINS.len() as u32) as usize,
            subject: draw.pick(&SUBJECTS),
            stage_us: STAGES.map(|(_, median_ms, _)| draw.spread(median_ms * pace, 350)),
            overhead_us: 20_000 + u64::from(draw.below(400_000)),
            tokens: draw.spread(tokens_median, 420),
            failure: failing.then(|| &FAILURES[way]),
            stages: STAGES.len(),
            step: 0,
            pause_scale: 1.0,
        };
        if let Some(failure) = workflow.failure {
            // Mostly the failing stage still reports; after a crash it does not.
            workflow.stages = failure.stage + usize::from(draw.chance(750));
        }
        workflow
    }

    /// Makes it succeed.
    fn complete(&mut self) {
        (self.failure, self.stages) = (None, STAGES.len());
    }

    fn kind(&self, step: usize) -> Kind {
        match (step, self.failure) {
            (0, _) => Kind::Started,
            (step, _) if step <= self.stages => Kind::StageCompleted,
            (_, Some(_)) => Kind::Failed,
            (_, None) => Kind::Completed,
        }
    }

    /// The type in two parts: vocabulary and kind.
    fn event_type(&self, kind: Kind) -> [&'static str; 2] {
        let (vocabulary, name) = kind.event_type().split_at("CODEGEN_".len());
        match self.vocabulary {
            Vocabulary::Codegen => [vocabulary, name],
            Vocabulary::NodeGeneration => ["NODE_GENERATION_", name],
        }
    }

    /// Number of stages that did any work.
    fn stages_begun(&self) -> usize {
        self.failure.map_or(STAGES.len(), |failure| failure.stage + 1)
    }

    /// Time of work in all.
    fn work_us(&self) -> u64 {
        self.stage_us[..self.stages_begun()].iter().sum::<u64>() + self.overhead_us
    }

    /// Event time between the event of `step` and the next.
    fn pause_us(&self, step: usize) -> i64 {
        let work_us = match step < self.stages {
            true => self.stage_us[step],
            false => self.stage_us[self.stages..self.stages_begun()].iter().sum::<u64>() + self.overhead_us,
        };
        (work_us as f64 * self.pause_scale) as i64
    }

    /// Tokens of the first `stages` stages.
    fn tokens_of(&self, stages: usize) -> u64 {
        let percent: u64 = STAGES[..stages].iter().map(|(.., percent)| percent).sum();
        self.tokens * percent / 100
    }

    /// Price of `tokens` in millionths of a USD.
    fn cost_micro(&self, tokens: u64) -> u64 {
        // Each of the many models has a price of its own.
        let percent = self.variant.map_or(100, |variant| 60 + u64::from(variant * 37 % 80));
        tokens * MODELS[self.model].nano_usd_per_token * percent / 100_000
    }

    fn model_name(&self) -> String {
        let name = MODELS[self.model].name;
        self.variant.map_or(name.to_owned(), |variant| format!("{name}-tuned-{variant:04}"))
    }

    /// Writes the event itself; without a head, type, id and time are left to the envelope.
    fn write_payload(&self, json: &mut Json, draw: &mut Draw, step: usize, head: Option<&Head>) {
        json.0.clear();
        json.open();
        if let Some(head) = head {
            json.joined("event_type", &self.event_type(head.stream));
            json.uuid("event_id", head.event_id);
            json.time("timestamp", head.time_us, head.form);
        }
        json.uuid("workflow_id", self.id);
        let kind = self.kind(step);
        match (self.vocabulary, kind) {
            (Vocabulary::Codegen, Kind::Started) => self.codegen_started(json, draw),
            (Vocabulary::Codegen, Kind::StageCompleted) => self.codegen_stage(json, draw, step),
            (Vocabulary::Codegen, Kind::Completed) => self.codegen_completed(json, draw),
            (Vocabulary::Codegen, Kind::Failed) => self.codegen_failed(json, draw),
            (Vocabulary::NodeGeneration, _) => self.node_generation(json, draw, step, kind),
        }
        json.close();
    }

    fn codegen_started(&self, json: &mut Json, draw: &mut Draw) {
        let (domain, tasks, short) = DOMAINS[self.domain];
        json.uuid("correlation_id", self.correlation_id);
        json.uuid("orchestrator_node_id", draw.uuid());
        json.joined("prompt", &["Write a node of type ", self.node_type, " that ", draw.pick(&tasks)]);
        json.joined("output_directory", &["/srv/generated/", short, "_", self.subject]);
        match draw.chance(950) {
            true => json.joined("node_type_hint", &[self.node_type]),
            false => json.null("node_type_hint"),
        }
        if draw.chance(900) {
            json.joined("domain", &[domain]);
        }
        if draw.chance(500) {
            json.list("pipeline_stages", STAGES.iter().map(|(name, ..)| *name));
        }
        json.int("estimated_duration_seconds", 53);
    }

    fn codegen_stage(&self, json: &mut Json, draw: &mut Draw, step: usize) {
        let stage_us = self.stage_us[step - 1];
        let success = self.stage_succeeds(draw, step);
        json.uuid("correlation_id", self.correlation_id);
        json.joined("stage_name", &[STAGES[step - 1].0]);
        json.int("stage_number", step as u64);
        json.seconds("duration_seconds", stage_us, draw);
        if draw.chance(800) {
            json.decimal("cpu_time_seconds", stage_us * u64::from(100 + draw.below(500)) / 1_000_000, 3);
            json.decimal("memory_mb", 800 + u64::from(draw.below(4_000)), 1);
        } else {
            json.null("cpu_time_seconds");
            json.null("memory_mb");
        }
        json.boolean("success", success);
        let warning = if success { "retried once" } else { "stage did not reach its goal" };
        json.list("warnings", (!success || draw.chance(50)).then_some(warning).into_iter());
        json.key("stage_output");
        json.open();
        json.int("artifacts", u64::from(draw.below(6)));
        json.close();
    }

    /// The failing stage has no success; validation may, as refinement can mend it.
    fn stage_succeeds(&self, draw: &mut Draw, step: usize) -> bool {
        let failing = self.failure.is_some_and(|failure| step == failure.stage + 1);
        !(failing || STAGES[step - 1].0 == "validation" && draw.chance(40))
    }

    fn codegen_completed(&self, json: &mut Json, draw: &mut Draw) {
        let (domain, _, short) = DOMAINS[self.domain];
        json.uuid("correlation_id", self.correlation_id);
        json.seconds("total_duration_seconds", self.work_us(), draw);
        json.list("generated_files", ["node.py", "contract.yaml", "test_node.py"].into_iter());
        json.joined("node_type", &[self.node_type]);
        if draw.chance(900) {
            json.joined("domain", &[domain]);
        }
        json.joined("service_name", &[short, "_", self.subject]);
        self.scores(json, draw);
        let (first, count) = (draw.below(PATTERNS.len() as u32) as usize, draw.below(5).saturating_sub(1));
        json.list("patterns_applied", PATTERNS.iter().cycle().skip(first).take(count as usize).copied());
        json.list("intelligence_sources", SOURCES[..draw.below(4) as usize].iter().copied());
        json.joined("primary_model", &[&self.model_name()]);
        json.int("total_tokens", self.tokens_of(STAGES.len()));
        json.decimal("total_cost_usd", self.cost_micro(self.tokens_of(STAGES.len())), 6);
        json.joined("contract_yaml", &["contract.yaml"]);
        json.joined("node_module", &["node.py"]);
        json.list("models", [].into_iter());
        json.list("enums", [].into_iter());
        json.list("tests", ["test_node.py"].into_iter());
    }

    fn scores(&self, json: &mut Json, draw: &mut Draw) {
        let Model { quality, quality_spread, .. } = MODELS[self.model];
        let shift = self.variant.map_or(0, |variant| i64::from(variant * 53 % 900) - 450);
        let quality = (quality + shift + quality_spread * draw.bell() / 1000).clamp(0, 10_000);
        let step = draw.pick(&[1, 10, 100]);
        json.decimal("quality_score", (quality / step * step) as u64, 4);
        match draw.chance(750) {
            true => json.decimal("test_coverage", 4_000 + u64::from(draw.below(6_001)), 4),
            false => json.null("test_coverage"),
        }
        match draw.chance(800) {
            true => json.decimal("complexity_score", draw.spread(60, 400), 1),
            false => json.null("complexity_score"),
        }
    }

    fn codegen_failed(&self, json: &mut Json, draw: &mut Draw) {
        let Some(failure) = self.failure else { return };
        json.uuid("correlation_id", self.correlation_id);
        json.joined("failed_stage", &[STAGES[failure.stage].0]);
        json.seconds("partial_duration_seconds", self.work_us(), draw);
        json.joined("error_code", &[failure.code]);
        json.joined("error_message", &[failure.message]);
        json.key("error_context");
        json.open();
        json.int("attempt", 1 + u64::from(draw.below(3)));
        json.joined("host", &[draw.pick(&["worker-a", "worker-b", "worker-c"])]);
        json.close();
        match draw.chance(300) {
            true => {
                json.joined("stack_trace", &["File \\\"pipeline.py\\\", line 212, in run\\n", failure.code])
            }
            false => json.null("stack_trace"),
        }
        let written = if failure.stage > 3 { 2 } else { 0 };
        json.list("partial_files", ["contract.yaml", "node.py"][..written].iter().copied());
        json.int("retry_count", u64::from(draw.below(4)));
        json.boolean("is_retryable", failure.retry_after_seconds.is_some());
        match failure.retry_after_seconds {
            Some(seconds) => json.int("retry_after_seconds", seconds),
            None => json.null("retry_after_seconds"),
        }
        if draw.chance(750) {
            json.joined("node_type", &[self.node_type]);
            json.joined("domain", &[DOMAINS[self.domain].0]);
        }
        self.failed_model(json, draw);
    }

    /// Half of the failures know model, tokens and cost.
    fn failed_model(&self, json: &mut Json, draw: &mut Draw) {
        if draw.chance(500) {
            let tokens = self.tokens_of(self.stages_begun());
            json.joined("primary_model", &[&self.model_name()]);
            json.int("total_tokens", tokens);
            json.decimal("total_cost_usd", self.cost_micro(tokens), 6);
        }
    }

    /// The second vocabulary: fewer fields, milliseconds, tokens and cost in each stage.
    fn node_generation(&self, json: &mut Json, draw: &mut Draw, step: usize, kind: Kind) {
        if kind == Kind::StageCompleted {
            let (name, _, percent) = STAGES[step - 1];
            json.joined("stage_name", &[name]);
            json.int("stage_number", step as u64);
            json.int("duration_ms", self.stage_us[step - 1] / 1000);
            json.boolean("success", self.stage_succeeds(draw, step));
            let tokens = self.tokens * percent / 100;
            match percent {
                0 => json.null("tokens_consumed"),
                _ => json.int("tokens_consumed", tokens),
            }
            return json.small_cost("cost_usd", self.cost_micro(tokens));
        }
        json.joined("node_type", &[self.node_type]);
        match draw.chance(850) {
            true => json.joined("domain", &[DOMAINS[self.domain].0]),
            false => json.null("domain"),
        }
        match (kind, self.failure) {
            (Kind::Completed, _) => {
                json.seconds("total_duration_seconds", self.work_us(), draw);
                self.scores(json, draw);
                if draw.chance(500) {
                    json.joined("primary_model", &[&self.model_name()]);
                }
                json.int("total_tokens", self.tokens_of(STAGES.len()));
                json.decimal("total_cost_usd", self.cost_micro(self.tokens_of(STAGES.len())), 6);
            }
            (Kind::Failed, Some(failure)) => {
                json.joined("failed_stage", &[STAGES[failure.stage].0]);
                json.seconds("partial_duration_seconds", self.work_us(), draw);
                json.joined("error_message", &[failure.message]);
                self.failed_model(json, draw);
            }
            _ => json.joined("prompt", &[draw.pick(&DOMAINS[self.domain].1)]),
        }
    }
}

fn draw_model(draw: &mut Draw) -> usize {
    let mut rest = draw.below(100);
    for (index, model) in MODELS.iter().enumerate() {
        if rest < model.share {
            return index;
        }
        rest -= model.share;
    }
    0
}

/// What every event must have, wherever it stands.
#[derive(Debug, Clone, Copy)]
struct Head {
    stream: Kind,
    event_id: u128,
    time_us: i64,
    form: TimeForm,
}

impl Head {
    fn draw(draw: &mut Draw, stream: Kind, time_us: i64, mixed: bool) -> Head {
        let form = if mixed { draw.pick(&TimeForm::ALL) } else { TimeForm::Utc };
        Head { stream, event_id: draw.uuid(), time_us, form }
    }
}

/// How a timestamp is written. All mean the same instant to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimeForm {
    /// `2026-01-01T00:00:00.000001Z`
    Utc,
    /// `2026-01-01 00:00:00.000001+00:00`
    Space,
    /// `2026-01-01T00:00:00.000001`, read as UTC.
    Naive,
    /// With nine digits of a second, of which the last three are cut.
    Nanoseconds,
    /// Local time with this offset: hours, minutes, separator, minutes written.
    Offset(i64, i64, &'static str),
    /// Lower-case `t` and `z`.
    LowerCase,
}

impl TimeForm {
    const ALL: [TimeForm; 9] = [
        TimeForm::Utc,
        TimeForm::Utc,
        TimeForm::Space,
        TimeForm::Naive,
        TimeForm::Nanoseconds,
        TimeForm::Offset(2, 0, "+02:00"),
        TimeForm::Offset(5, 30, "+0530"),
        TimeForm::Offset(-8, 0, "-08"),
        TimeForm::LowerCase,
    ];

    fn write(self, out: &mut Vec<u8>, time_us: i64) {
        let (t, end, shift_us) = match self {
            TimeForm::Utc => (b'T', "Z", 0),
            TimeForm::Space => (b' ', "+00:00", 0),
            TimeForm::Naive => (b'T', "", 0),
            TimeForm::Nanoseconds => (b'T', "789Z", 0),
            TimeForm::Offset(hours, minutes, text) => (b'T', text, hours * HOUR_US + minutes * MINUTE_US),
            TimeForm::LowerCase => (b't', "z", 0),
        };
        if !YEARS_US.contains(&(time_us + shift_us)) {
            return TimeForm::Utc.write(out, time_us);
        }
        let time = DateTime::from_timestamp_micros(time_us + shift_us).unwrap_or_default();
        push_padded(out, u64::from(time.year_ce().1), 4);
        for (before, number) in [(b'-', time.month()), (b'-', time.day()), (t, time.hour())] {
            out.push(before);
            push_padded(out, u64::from(number), 2);
        }
        for (before, number) in [(b':', time.minute()), (b':', time.second())] {
            out.push(before);
            push_padded(out, u64::from(number), 2);
        }
        let micros = time_us.rem_euclid(SECOND_US) as u64;
        // Nine digits need all six of the microseconds before them.
        if micros > 0 || self == TimeForm::Nanoseconds {
            out.push(b'.');
            push_padded(out, micros, 6);
        }
        out.extend_from_slice(end.as_bytes());
    }
}

/// The four wrappings in use, and none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    None,
    /// `envelope_id`, `envelope_timestamp`.
    Events,
    /// `event_id`, `event_timestamp`.
    Registry,
    /// `event_id`, `timestamp`.
    Simple,
    /// `envelope_id`, `timestamp`, and `operation` for the type.
    Core,
}

impl Envelope {
    fn draw(draw: &mut Draw) -> Envelope {
        use Envelope::{Core, Events, None, Registry, Simple};
        draw.pick(&[None, None, None, Events, Registry, Simple, Core])
    }

    /// The message: `payload` alone or wrapped.
    fn wrap(self, workflow: &Workflow, head: &Head, payload: &[u8]) -> Vec<u8> {
        if self == Envelope::None {
            return payload.to_vec();
        }
        let mut json = Json(Vec::with_capacity(payload.len() + 700));
        let event_type = workflow.event_type(head.stream);
        json.open();
        match self {
            Envelope::None => {}
            Envelope::Events => {
                json.joined("envelope_version", &["v1"]);
                json.uuid("envelope_id", head.event_id);
                json.time("envelope_timestamp", head.time_us, head.form);
                json.joined("event_type", &event_type);
                json.joined("event_version", &["v1"]);
                json.uuid("correlation_id", workflow.correlation_id);
                json.null("trace_id");
                json.joined("source_service", &["omninode-bridge"]);
                json.payload(payload);
                json.raw("provenance", "{}");
            }
            Envelope::Registry => {
                json.joined("envelope_version", &["1.0"]);
                json.uuid("event_id", head.event_id);
                json.joined("event_type", &event_type);
                json.joined("event_version", &["1.0"]);
                json.time("event_timestamp", head.time_us, head.form);
                json.joined("source_node_id", &["orch-7"]);
                json.joined("source_service", &["omninode-bridge"]);
                json.uuid("correlation_id", workflow.correlation_id);
                json.null("partition_key");
                json.payload(payload);
                json.key("metadata");
                json.open();
                json.joined("event_category", &["code_generation"]);
                json.uuid("workflow_id", workflow.id);
                json.close();
            }
            Envelope::Simple => {
                json.uuid("event_id", head.event_id);
                json.joined("event_type", &event_type);
                json.time("timestamp", head.time_us, head.form);
                json.joined("source_service", &["omninode-bridge"]);
                json.raw("envelope_version", r#"{"major":1,"minor":0,"patch":0}"#);
                json.payload(payload);
            }
            Envelope::Core => {
                json.uuid("envelope_id", head.event_id);
                json.raw("envelope_version", r#"{"major":1,"minor":0,"patch":0}"#);
                json.uuid("correlation_id", workflow.correlation_id);
                json.null("causation_id");
                json.joined("source_node", &["omninode_bridge.NodeCodegenOrchestrator"]);
                json.joined("operation", &event_type);
                json.payload(payload);
                json.raw("metadata", "{}");
                json.time("timestamp", head.time_us, head.form);
                json.boolean("is_response", false);
            }
        }
        json.close();
        json.0
    }
}

/// What is wrong with a bad line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    CutOff,
    NanDuration,
    NegativeCost,
    NumberInString,
    MissingWorkflowId,
    UnknownEventType,
    ScoreAboveOne,
    InvalidUtf8,
    BadTimestamp,
}

impl Fault {
    const ALL: [Fault; 9] = [
        Fault::CutOff,
        Fault::NanDuration,
        Fault::NegativeCost,
        Fault::NumberInString,
        Fault::MissingWorkflowId,
        Fault::UnknownEventType,
        Fault::ScoreAboveOne,
        Fault::InvalidUtf8,
        Fault::BadTimestamp,
    ];

    /// Faults of the event itself.
    fn spoil_payload(self, payload: &mut Vec<u8>, draw: &mut Draw) {
        match self {
            Fault::NanDuration => set_duration(payload, |_| "NaN".to_owned()),
            Fault::NumberInString => set_duration(payload, |old| format!("\"{old}\"")),
            Fault::NegativeCost => set_value(payload, "total_cost_usd", |_| "-0.25".to_owned()),
            Fault::ScoreAboveOne => {
                let score = draw.pick(&["1.0001", "1.2", "87.5"]);
                set_value(payload, "quality_score", |_| score.to_owned());
            }
            Fault::MissingWorkflowId => match draw.chance(500) {
                true => set_value(payload, "workflow_id", |_| "null".to_owned()),
                false => remove_value(payload, "workflow_id"),
            },
            Fault::UnknownEventType => {
                let name = draw.pick(&["\"CODEGEN_PAUSED\"", "\"codegen_started\"", "\"STARTED\""]);
                set_value(payload, "event_type", |_| name.to_owned());
            }
            Fault::BadTimestamp => {
                let texts =
                    ["\"2026-02-30T10:00:00Z\"", "\"yesterday\"", "1767225600", "\"2026-01-01T24:00:00Z\""];
                let text = draw.pick(&texts);
                set_value(payload, "timestamp", |_| text.to_owned());
            }
            Fault::CutOff | Fault::InvalidUtf8 => {}
        }
    }

    /// Faults of the message as a whole.
    fn spoil_message(self, value: &mut Vec<u8>, draw: &mut Draw) {
        // Somewhere inside: neither empty nor complete.
        let at = 1 + draw.below(value.len() as u32 - 1) as usize;
        match self {
            Fault::CutOff => value.truncate(at),
            Fault::InvalidUtf8 => value.insert(at, 0xff),
            _ => {}
        }
    }
}

/// Where the value of the first `key` stands; `None` without one. For values without a comma or brace.
fn find_value(json: &[u8], key: &str) -> Option<std::ops::Range<usize>> {
    let key = format!("\"{key}\":");
    let start = json.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let end = json[start..].iter().position(|byte| matches!(byte, b',' | b'}'))?;
    Some(start..start + end)
}

fn set_value(json: &mut Vec<u8>, key: &str, new: impl Fn(&str) -> String) {
    if let Some(range) = find_value(json, key) {
        let new = new(&String::from_utf8_lossy(&json[range.clone()]));
        json.splice(range, new.into_bytes());
    }
}

fn set_duration(json: &mut Vec<u8>, new: impl Fn(&str) -> String) {
    for key in ["duration_seconds", "duration_ms", "total_duration_seconds", "partial_duration_seconds"] {
        set_value(json, key, &new);
    }
}

/// Takes out a key that is not the last.
fn remove_value(json: &mut Vec<u8>, key: &str) {
    if let Some(range) = find_value(json, key) {
        json.drain(range.start - key.len() - 3..=range.end);
    }
}

/// Writes JSON by hand: members in order, values known to need no escaping.
#[derive(Debug, Default)]
struct Json(Vec<u8>);

impl Json {
    fn open(&mut self) {
        self.0.push(b'{');
    }

    fn close(&mut self) {
        self.0.push(b'}');
    }

    fn key(&mut self, key: &str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.extend_from_slice(value.as_bytes());
    }

    /// A string of these parts.
    fn joined(&mut self, key: &str, parts: &[&str]) {
        self.key(key);
        self.0.push(b'"');
        for part in parts {
            self.0.extend_from_slice(part.as_bytes());
        }
        self.0.push(b'"');
    }

    fn uuid(&mut self, key: &str, uuid: u128) {
        self.key(key);
        self.0.push(b'"');
        push_uuid(&mut self.0, uuid);
        self.0.push(b'"');
    }

    fn time(&mut self, key: &str, time_us: i64, form: TimeForm) {
        self.key(key);
        self.0.push(b'"');
        form.write(&mut self.0, time_us);
        self.0.push(b'"');
    }

    fn int(&mut self, key: &str, number: u64) {
        self.key(key);
        push_padded(&mut self.0, number, 1);
    }

    /// `number` / 10^`scale`, with at least one and no needless decimals.
    fn decimal(&mut self, key: &str, number: u64, scale: u32) {
        self.key(key);
        let (one, mut scale) = (10_u64.pow(scale), scale as usize);
        push_padded(&mut self.0, number / one, 1);
        self.0.push(b'.');
        let mut fraction = number % one;
        while scale > 1 && fraction.is_multiple_of(10) {
            (fraction, scale) = (fraction / 10, scale - 1);
        }
        push_padded(&mut self.0, fraction, scale);
    }

    /// A duration with three to six decimals.
    fn seconds(&mut self, key: &str, micros: u64, draw: &mut Draw) {
        let unit = draw.pick(&[1, 10, 100, 1000]);
        self.decimal(key, micros / unit * unit, 6);
    }

    /// Millionths of a USD; below 100 with an exponent, as many producers do.
    fn small_cost(&mut self, key: &str, micro: u64) {
        if !(1..100).contains(&micro) {
            return self.decimal(key, micro, 6);
        }
        self.decimal(key, micro, 1);
        self.0.extend_from_slice(b"e-05");
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.raw(key, if value { "true" } else { "false" });
    }

    fn null(&mut self, key: &str) {
        self.raw(key, "null");
    }

    fn payload(&mut self, payload: &[u8]) {
        self.key("payload");
        self.0.extend_from_slice(payload);
    }

    fn list<'a>(&mut self, key: &str, items: impl Iterator<Item = &'a str>) {
        self.key(key);
        self.0.push(b'[');
        for (index, item) in items.enumerate() {
            self.0.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            self.0.extend_from_slice(item.as_bytes());
            self.0.push(b'"');
        }
        self.0.push(b']');
    }
}

/// Decimal digits, with leading zeros up to `width`.
fn push_padded(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 || digits.len() - at < width {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn push_uuid(out: &mut Vec<u8>, uuid: u128) {
    for (index, byte) in uuid.to_be_bytes().into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        let hex = b"0123456789abcdef";
        out.extend_from_slice(&[hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
    }
}

fn uuid_text(uuid: u128) -> String {
    let mut text = Vec::with_capacity(36);
    push_uuid(&mut text, uuid);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Fault as Spoil, *};
    use crate::aggregator::partition::Cause;
    use crate::decode::{Context, Fault, decode};
    use crate::event::Event;
    use std::collections::{HashMap, HashSet};

    const SCENARIOS: [Scenario; 4] =
        [Scenario::Steady, Scenario::Mixed, Scenario::Incident, Scenario::ManyGroups];

    fn options(events: u64, seed: u64, scenario: Scenario) -> Options {
        Options { events, seed, scenario, ..Options::default() }
    }

    fn lines(options: Options) -> Vec<Line> {
        Generator::new(options).unwrap().collect()
    }

    /// What a reader makes of a line, by docs/semantics.md, for every topic and record time it may stand under.
    fn read(line: &[u8]) -> Result<Event<'_>, Fault> {
        let topics = std::iter::once(None).chain(Kind::ALL.map(Some));
        let mut results = topics.flat_map(|topic_kind| {
            let times = [None, Some(Options::default().start_us)];
            times
                .map(|record_time_us| decode(line, &Context { topic_kind, record_time_us, bytes_max: 4_096 }))
        });
        let first = results.next().unwrap();
        results.for_each(|other| assert_eq!(first, other, "{}", String::from_utf8_lossy(line)));
        first
    }

    fn count(lines: &[Line], role: Role) -> f64 {
        lines.iter().filter(|line| line.role == role).count() as f64
    }

    #[test]
    fn same_seed_same_bytes() {
        for scenario in SCENARIOS {
            let first = lines(options(3_000, 5, scenario));
            assert_eq!(first, lines(options(3_000, 5, scenario)));
            assert_ne!(first, lines(options(3_000, 6, scenario)));
        }
    }

    /// Holds the bytes still across platforms and dependency upgrades; a change of the generator changes it.
    #[test]
    fn bytes_are_pinned() {
        let digest = |scenario| {
            let bytes: Vec<u8> =
                lines(options(2_000, 1, scenario)).into_iter().flat_map(|l| l.value).collect();
            xxhash_rust::xxh3::xxh3_64(&bytes)
        };
        assert_eq!(
            SCENARIOS.map(digest),
            [16016645389594615049, 9094273256958751125, 13331695996751208213, 1543466429356492369]
        );
    }

    #[test]
    fn writes_exactly_as_many_lines_as_asked_within_the_span() {
        for scenario in SCENARIOS {
            for (events, span_us) in
                [(0, 1), (1, 1), (7, 1), (10, DAY_US), (999, 60 * SECOND_US), (2_500, 30 * DAY_US)]
            {
                let mut o = Options { span_us, ..options(events, 3, scenario) };
                (o.duplicates, o.bad, o.late) = (0.2, 0.3, 0.4);
                let lines = lines(o.clone());
                assert_eq!(lines.len() as u64, events);
                assert!(lines.iter().all(|l| (o.start_us..o.start_us + span_us).contains(&l.time_us)));
                assert!(lines.iter().all(|l| !l.value.contains(&b'\n')));
            }
        }
    }

    #[test]
    fn good_lines_are_read_and_bad_ones_are_not() {
        for scenario in SCENARIOS {
            let mut o = options(4_000, 11, scenario);
            o.bad = 0.1;
            let mut ids = HashSet::new();
            for line in lines(o) {
                let shown = String::from_utf8_lossy(&line.value).into_owned();
                match (line.role, read(&line.value)) {
                    (Role::Bad, result) => assert!(result.is_err(), "{shown}"),
                    (_, Err(fault)) => panic!("{fault}: {shown}"),
                    (role, Ok(event)) => {
                        assert_eq!((event.kind, event.time_us), (line.stream, line.time_us), "{shown}");
                        assert_eq!(event.workflow_id, line.key.as_str());
                        let id = event.event_id.expect("every line has an id").into_owned();
                        assert_eq!(ids.insert((event.kind, id)), role != Role::Duplicate, "{shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_fault_spoils_every_event_it_meets() {
        for scenario in [Scenario::Steady, Scenario::Mixed] {
            let mut generator = Generator::new(options(10, 1, scenario)).unwrap();
            for fault in Spoil::ALL {
                for _ in 0..100 {
                    let line = generator.bad_line(fault);
                    let cause = read(&line.value).unwrap_err().cause;
                    let as_meant = match fault {
                        Spoil::CutOff | Spoil::NanDuration => cause == Cause::InvalidJson,
                        Spoil::NegativeCost | Spoil::ScoreAboveOne => cause == Cause::OutOfRange,
                        Spoil::NumberInString => cause == Cause::WrongType,
                        Spoil::MissingWorkflowId => cause == Cause::MissingField,
                        Spoil::UnknownEventType => cause == Cause::UnknownEventType,
                        Spoil::InvalidUtf8 => cause == Cause::InvalidUtf8,
                        Spoil::BadTimestamp => matches!(cause, Cause::InvalidTimestamp | Cause::WrongType),
                    };
                    assert!(as_meant, "{fault:?}: {cause:?}");
                }
            }
        }
    }

    #[test]
    fn shares_are_kept() {
        for (duplicates, bad, late) in
            [(0.01, 0.01, 0.01), (0.1, 0.05, 0.2), (0.0, 0.0, 0.0), (0.5, 0.2, 0.1)]
        {
            let lines = lines(Options { duplicates, bad, late, ..options(20_000, 9, Scenario::Steady) });
            for (role, share) in [(Role::Duplicate, duplicates), (Role::Bad, bad), (Role::Late, late)] {
                let seen = count(&lines, role) / 20_000.0;
                assert!((seen - share).abs() <= 0.15 * share, "{role:?}: {seen}, not {share}");
            }
        }
    }

    #[test]
    fn order_is_that_of_event_time_but_for_late_lines() {
        for (late, scenario) in [(0.01, Scenario::Steady), (0.2, Scenario::Mixed), (0.05, Scenario::Incident)]
        {
            let mut latest_us = i64::MIN;
            for line in lines(Options { late, ..options(10_000, 2, scenario) }) {
                match line.role {
                    Role::Good => assert!(line.time_us >= latest_us),
                    Role::Late => assert!(LATENESS_US.contains(&(latest_us - line.time_us))),
                    Role::Duplicate | Role::Bad => {}
                }
                latest_us = latest_us.max(line.time_us);
            }
        }
    }

    #[test]
    fn a_duplicate_is_an_earlier_line_not_far_back() {
        for (duplicates, bad) in [(0.05, 0.01), (0.97, 0.029)] {
            let mut seen: HashMap<Vec<u8>, (usize, Line)> = HashMap::new();
            let o = Options { duplicates, bad, late: 0.0005, ..options(30_000, 4, Scenario::Mixed) };
            for (index, line) in lines(o).into_iter().enumerate() {
                if line.role == Role::Duplicate {
                    let (at, original) = &seen[&line.value];
                    assert!((index - at) as u64 <= DUPLICATE_DISTANCE_MAX);
                    assert_eq!((&original.key, original.stream), (&line.key, line.stream));
                } else if line.role == Role::Good {
                    seen.insert(line.value.clone(), (index, line));
                }
            }
        }
    }

    #[test]
    fn a_workflow_tells_its_story_in_order() {
        let o = Options { duplicates: 0.0, bad: 0.0, late: 0.0, ..options(20_000, 8, Scenario::Steady) };
        let mut stories: HashMap<String, Vec<Kind>> = HashMap::new();
        let (mut in_flight, mut most) = (0_i32, 0);
        for line in lines(o) {
            in_flight += match line.stream {
                Kind::Started => 1,
                Kind::StageCompleted => 0,
                Kind::Completed | Kind::Failed => -1,
            };
            most = most.max(in_flight);
            stories.entry(line.key).or_default().push(line.stream);
        }
        assert!((20..=IN_FLIGHT_MAX as i32).contains(&most), "{most} in flight");
        let mut unfinished = 0;
        for story in stories.values() {
            assert_eq!(story[0], Kind::Started);
            let stages = story.iter().filter(|s| **s == Kind::StageCompleted).count();
            match story[story.len() - 1] {
                Kind::Completed => assert_eq!((stages, story.len()), (8, 10)),
                Kind::Failed => assert_eq!(stages + 2, story.len()),
                _ => unfinished += 1,
            }
        }
        assert!(unfinished * 50 < stories.len(), "{unfinished} of {}", stories.len());
    }

    /// Per model: completed, failed, and mean duration and cost of the completed, by thirds of the span.
    fn by_model(scenario: Scenario) -> HashMap<(String, i64), [f64; 4]> {
        let o = options(15_000, 21, scenario);
        let mut sums: HashMap<(String, i64), [f64; 4]> = HashMap::new();
        for line in lines(o.clone()).iter().filter(|line| matches!(line.role, Role::Good | Role::Late)) {
            let event = read(&line.value).unwrap();
            let Some(model) = event.primary_model else { continue };
            let third = (event.time_us - o.start_us) * 3 / o.span_us;
            let sum = sums.entry((model.into_owned(), third)).or_default();
            if event.kind == Kind::Failed {
                sum[1] += 1.0;
            } else {
                sum[0] += 1.0;
                sum[2] += event.duration_us.unwrap() as f64;
                sum[3] += event.cost.unwrap().0 as f64;
            }
        }
        sums.values_mut().for_each(|sum| (sum[2], sum[3]) = (sum[2] / sum[0], sum[3] / sum[0]));
        sums
    }

    #[test]
    fn an_incident_hits_one_model_in_the_middle_third() {
        let sums = by_model(Scenario::Incident);
        let share = |model: usize, third| {
            let sum = sums[&(MODELS[model].name.to_owned(), third)];
            [sum[1] / (sum[0] + sum[1]), sum[2], sum[3]]
        };
        for figure in 0..3 {
            assert!(share(0, 1)[figure] > 1.8 * share(0, 0)[figure]);
            assert!(share(0, 1)[figure] > 1.8 * share(0, 2)[figure]);
        }
        assert!(share(1, 1)[1] < 1.3 * share(1, 0)[1]);
    }

    #[test]
    fn traffic_is_plausible() {
        for scenario in [Scenario::Steady, Scenario::Mixed, Scenario::Incident] {
            let lines = lines(options(15_000, 13, scenario));
            let of = |stream| lines.iter().filter(|line| line.stream == stream).count() as f64;
            let failures = of(Kind::Failed) / (of(Kind::Failed) + of(Kind::Completed));
            assert!((0.03..0.30).contains(&failures), "{scenario:?}: {failures}");
            assert!(of(Kind::Started) > 1_250.0 && of(Kind::StageCompleted) > 10_000.0);
            let bytes: usize = lines.iter().map(|line| line.value.len()).sum();
            assert!((300..700).contains(&(bytes / lines.len())), "{scenario:?}: {}", bytes / lines.len());
            // The rhythm: days are busier than nights.
            let within = |hours: std::ops::Range<i64>| {
                lines.iter().filter(|l| hours.contains(&(l.time_us.rem_euclid(DAY_US) / HOUR_US))).count()
            };
            assert!(within(9..15) > 2 * within(1..7));
            // The whole span is used.
            assert!(lines.iter().any(|l| l.time_us > Options::default().start_us + DAY_US * 97 / 100));
        }
        let many: HashSet<String> =
            by_model(Scenario::ManyGroups).into_keys().map(|(model, _)| model).collect();
        assert!((500..=MANY_MODELS as usize).contains(&many.len()), "{} models", many.len());
        let few: HashSet<String> = by_model(Scenario::Steady).into_keys().map(|(model, _)| model).collect();
        assert_eq!(few.len(), MODELS.len());
    }

    #[test]
    fn rhythm_time_inverts_rhythm_mass() {
        for time_us in (0..3 * DAY_US).step_by(7_654_321_001) {
            assert!((time_us - rhythm_time(rhythm_mass(time_us))).abs() <= 1);
        }
    }

    #[test]
    fn options_are_checked() {
        let fault = |change: fn(&mut Options)| {
            let mut o = Options::default();
            change(&mut o);
            Generator::new(o).unwrap_err()
        };
        assert!(matches!(fault(|o| o.bad = -0.1), OptionsError::Share { name: "bad", .. }));
        assert!(matches!(fault(|o| o.late = f64::NAN), OptionsError::Share { name: "late", .. }));
        assert!(matches!(fault(|o| o.duplicates = 0.98), OptionsError::Shares(_)));
        assert_eq!(fault(|o| o.span_us = 0), OptionsError::Span(0));
        assert_eq!(fault(|o| o.start_us = 0), OptionsError::Years);
        assert_eq!(fault(|o| o.span_us = i64::MAX), OptionsError::Years);
        assert_eq!(fault(|o| o.span_us = 100 * 366 * DAY_US), OptionsError::Years);
    }
}
