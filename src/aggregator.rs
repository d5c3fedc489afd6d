//! PURE: the two halves of the metrics aggregator, reducer (events to deltas) and recorder (deltas to cells and records), and its
//! one-call face. Time is an argument, effects are values; a test refuses I/O, clocks, async and randomness here.

pub mod accumulator;
pub mod cell;
pub mod dedup;
pub mod group;
pub mod money;
pub mod partition;
pub mod record;
pub mod recorder;
pub mod reducer;
pub mod sketch;
pub mod window;

use crate::decode::{self, Context, Fault, decode};
use crate::event::Event;
use accumulator::{Accumulator, Groupings};
use dedup::{EventHash, Ring};
use group::Grouping;
use partition::Counters;
use record::{Runtime, Subject};
use window::{Calendar, Span};

/// The whole reduction in one call, without Kafka or a store: events or lines in, final records out.
///
/// It has no "now": nothing is too early or too late, and every id is remembered.
///
/// ```
/// use codegen_metrics_reducer::aggregator::{MetricsAggregator, window::Span};
/// let line = br#"{"event_type":"CODEGEN_COMPLETED","event_id":"1","timestamp":"2026-01-01T10:20:00Z",
///                 "workflow_id":"w","total_duration_seconds":2.5,"total_cost_usd":0.12}"#;
/// let event = MetricsAggregator::decode(line).unwrap();
/// let records = MetricsAggregator::aggregate_events([event], Span::Hourly);
/// assert!(records[0].contains(r#""avg_duration_seconds":2.5"#));
/// assert!(records[0].contains(r#""window_start":"2026-01-01T10:00:00Z""#));
/// ```
#[derive(Debug)]
pub struct MetricsAggregator {
    calendar: Calendar,
    span: Span,
    sums: Accumulator,
    ids: Ring,
    context: Context,
    counters: Counters,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It counts.
    Counted,
    /// Its id was already counted.
    Duplicate,
    /// It is a dead letter.
    Bad(Fault),
}

impl MetricsAggregator {
    /// An aggregator of one kind of window; `bytes_max` is `MAX_EVENT_BYTES`, `ids_max` how many ids are remembered (`usize::MAX`: every one).
    pub fn new(
        calendar: Calendar,
        span: Span,
        groupings: Groupings,
        bytes_max: usize,
        ids_max: usize,
    ) -> MetricsAggregator {
        MetricsAggregator {
            calendar,
            span,
            sums: Accumulator::new(groupings),
            ids: Ring::new(ids_max),
            context: Context { bytes_max, ..Context::default() },
            counters: Counters::default(),
        }
    }

    /// Reads one line of a file as an event: it must tell its own type and time.
    pub fn decode(line: &[u8]) -> Result<Event<'_>, Fault> {
        decode(line, &Context { bytes_max: usize::MAX, ..Context::default() })
    }

    /// The records of `time_window` in UTC over these events, ordered by window start.
    pub fn aggregate_events<'e>(
        events: impl IntoIterator<Item = Event<'e>>,
        window_type: Span,
    ) -> Vec<String> {
        let groupings = Groupings::of(vec![Grouping::TimeWindow], 1_000);
        let calendar = Calendar::new(chrono_tz::UTC, 900);
        let mut aggregator = MetricsAggregator::new(calendar, window_type, groupings, usize::MAX, usize::MAX);
        for event in events {
            aggregator.add(&event);
        }
        aggregator.finish(&Runtime::default())
    }

    /// Takes one line; a blank one is `None` and not received.
    pub fn add_line(&mut self, line: &[u8]) -> Option<Outcome> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        self.counters.received += 1;
        Some(match decode::decode(line, &self.context) {
            Ok(event) => self.add(&event),
            Err(fault) => {
                *self.counters.dead_lettered.entry(fault.cause).or_default() += 1;
                Outcome::Bad(fault)
            }
        })
    }

    fn add(&mut self, event: &Event<'_>) -> Outcome {
        if let Some(id) = &event.event_id {
            let id = EventHash::new(event.kind, id);
            if self.ids.contains(id) {
                self.counters.duplicates += 1;
                return Outcome::Duplicate;
            }
            self.ids.push(id);
        }
        self.counters.counted += 1;
        let window = self.calendar.window(self.span, event.time_us.div_euclid(1_000_000));
        self.sums.add(window.start_s, event);
        Outcome::Counted
    }

    /// What became of all lines so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// End of input: all windows are final. Records ordered by window start, aggregation type and group key.
    pub fn finish(mut self, runtime: &Runtime) -> Vec<String> {
        let names: Vec<String> = self.sums.groupings().list.iter().map(ToString::to_string).collect();
        let mut deltas = self.sums.drain();
        deltas.sort_by(|a, b| {
            let key = |d: &accumulator::Delta| (d.start_s, names[d.grouping as usize].clone());
            key(a).cmp(&key(b)).then_with(|| a.group_key.cmp(&b.group_key))
        });
        let zone = self.calendar.zone();
        let mut render = |delta: &accumulator::Delta| {
            let subject = Subject {
                window_type: self.span.name(),
                start_s: delta.start_s,
                end_s: self.calendar.window(self.span, delta.start_s).end_s,
                timezone: zone.name(),
                aggregation_type: &names[delta.grouping as usize],
                group_key: &delta.group_key,
                rebuild: 0,
                is_final: true,
            };
            record::render(&subject, &delta.cell, runtime)
        };
        deltas.iter().map(&mut render).collect()
    }
}
