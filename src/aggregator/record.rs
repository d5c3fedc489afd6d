//! A cell as a GENERATION_METRICS_RECORDED record: canonical JSON text, keys in DESIGN's order.

use super::cell::{Additive, Cell, Named, NamedCell, StageCell, Total};
use super::group::OTHER;
use super::money::{Decimal, FIXED_SCALE, average};
use super::sketch::Sketch;
use chrono::DateTime;
use std::fmt::{Display, Write as _};
use uuid::Uuid;

/// `event_type` of a record.
pub const EVENT_TYPE: &str = "GENERATION_METRICS_RECORDED";
/// Entries shown of a map inside a record; the rest is merged into `__other__`.
const ENTRIES_MAX: usize = 100;
/// Digits after the point of a duration in seconds that is kept in µs.
const US_SCALE: u32 = 6;

/// What a record is about, besides its figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// `hourly` … `monthly`, or a rolling window's name.
    pub window_type: &'a str,
    /// First second of the window.
    pub start_s: i64,
    /// First second after it.
    pub end_s: i64,
    /// IANA zone.
    pub timezone: &'a str,
    /// Name of the grouping.
    pub aggregation_type: &'a str,
    /// The group.
    pub group_key: &'a str,
    /// Revision, first part.
    pub rebuild: u64,
    /// Revision, last part.
    pub is_final: bool,
}

/// Fields that differ from run to run and are left out of comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Runtime {
    /// When the record was made, µs since the Unix epoch.
    pub timestamp_us: i64,
    /// How long the aggregation behind it took, µs; `None` prints null.
    pub duration_us: Option<u64>,
    /// Events in that aggregation.
    pub items: u64,
}

/// Namespace of all ids: UUID v5 of the URL namespace and this project's URN.
pub fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:codegen-metrics-reducer")
}

/// UUID v5 of the namespace and the compact JSON array of these strings.
pub fn id_of(parts: &[&str]) -> Uuid {
    let mut name = String::from("[");
    for (index, part) in parts.iter().enumerate() {
        name.push_str(if index > 0 { "," } else { "" });
        push_json_string(&mut name, part);
    }
    name.push(']');
    Uuid::new_v5(&namespace(), name.as_bytes())
}

impl Subject<'_> {
    /// The record's identity over all its revisions, also its message key.
    pub fn aggregation_id(&self) -> Uuid {
        let start = timestamp(self.start_s * 1_000_000);
        id_of(&[self.window_type, &start, self.timezone, self.aggregation_type, self.group_key])
    }

    /// The identity of this revision.
    pub fn event_id(&self, events: u64) -> Uuid {
        let id = self.aggregation_id().to_string();
        id_of(&[
            &id,
            &self.rebuild.to_string(),
            &events.to_string(),
            if self.is_final { "true" } else { "false" },
        ])
    }
}

/// The canonical JSON text of a record.
pub fn render(subject: &Subject<'_>, cell: &Cell, runtime: &Runtime) -> String {
    let mut json = Writer::new();
    let aggregation_id = subject.aggregation_id().to_string();
    json.text("event_type", EVENT_TYPE);
    json.text("event_id", &subject.event_id(cell.events).to_string());
    json.text("correlation_id", &aggregation_id);
    json.text("timestamp", &timestamp(runtime.timestamp_us));
    json.text("aggregation_id", &aggregation_id);
    json.text("window_type", subject.window_type);
    json.text("window_start", &timestamp(subject.start_s * 1_000_000));
    json.text("window_end", &timestamp(subject.end_s * 1_000_000));
    json.text("timezone", subject.timezone);
    json.text("aggregation_type", subject.aggregation_type);
    json.text("group_key", subject.group_key);
    json.value("rebuild", subject.rebuild);
    json.value("is_final", subject.is_final);
    json.value("overflowed", subject.group_key == OTHER);
    figures(&mut json, cell);
    maps(&mut json, cell);
    failures(&mut json, cell);
    json.value("intelligence_enabled_count", cell.patterns.count);
    json.optional("avg_patterns_applied", mean(&cell.patterns, 0));
    json.optional("workflow_ids_tracked", cell.detail.as_ref().map(|detail| detail.workflows.count()));
    json.value("events_processed", cell.events);
    let ms = runtime.duration_us.map(|us| Decimal { units: us.into(), scale: 3 });
    json.optional("aggregation_duration_ms", ms);
    json.optional("items_per_second", per_second(runtime));
    json.finish()
}

fn per_second(runtime: &Runtime) -> Option<Decimal> {
    let us = runtime.duration_us.filter(|&us| us > 0)?;
    average(i128::from(runtime.items) * 1_000_000, us, 0)
}

fn figures(json: &mut Writer, cell: &Cell) {
    let total = cell.successful + cell.failed;
    json.value("started_generations", cell.started);
    json.value("total_generations", total);
    json.value("successful_generations", cell.successful);
    json.value("failed_generations", cell.failed);
    json.optional("success_rate", average(cell.successful.into(), total, 0));
    durations(json, &cell.duration);
    json.optional("min_duration_seconds", cell.duration.min_us().map(seconds));
    json.optional("max_duration_seconds", cell.duration.max_us().map(seconds));
    json.optional("avg_quality_score", mean(&cell.quality, FIXED_SCALE));
    let extremes = cell.quality_extremes;
    json.optional("min_quality_score", extremes.map(|e| fixed(e.min.0)));
    json.optional("max_quality_score", extremes.map(|e| fixed(e.max.0)));
    json.optional("avg_test_coverage", mean(&cell.coverage, FIXED_SCALE));
    json.optional("avg_complexity_score", mean(&cell.complexity, FIXED_SCALE));
    json.value("total_tokens", cell.tokens.sum);
    json.value("total_cost_usd", fixed(cell.cost.sum));
    json.optional("avg_cost_per_generation", mean(&cell.cost, FIXED_SCALE));
    json.optional("avg_tokens_per_generation", mean(&cell.tokens, 0));
}

fn durations(json: &mut Writer, duration: &Sketch) {
    json.optional("avg_duration_seconds", average(duration.sum_us() as i128, duration.count(), US_SCALE));
    for (percent, key) in
        [(50, "p50_duration_seconds"), (95, "p95_duration_seconds"), (99, "p99_duration_seconds")]
    {
        json.optional(key, duration.percentile_us(percent).map(seconds));
    }
}

fn maps(json: &mut Writer, cell: &Cell) {
    let detail = cell.detail.as_deref();
    let stages = shown(detail.map(|d| &d.stages));
    json.map("avg_stage_durations", &stages, |json, name, stage| {
        json.optional(name, average(stage.duration.sum_us() as i128, stage.duration.count(), US_SCALE));
    });
    json.map("stage_metrics", &stages, |json, name, stage| {
        json.object(name, |json| stage_metrics(json, stage))
    });
    for (key, cells) in
        [("model_metrics", detail.map(|d| &d.models)), ("node_type_metrics", detail.map(|d| &d.node_types))]
    {
        json.map(key, &shown(cells), |json, name, cell| json.object(name, |json| named_metrics(json, cell)));
    }
}

fn stage_metrics(json: &mut Writer, stage: &StageCell) {
    json.value("count", stage.count);
    json.value("failed", stage.failed);
    durations(json, &stage.duration);
    json.value("total_tokens", stage.tokens.sum);
    json.value("total_cost_usd", fixed(stage.cost.sum));
}

fn named_metrics(json: &mut Writer, cell: &NamedCell) {
    json.value("total_generations", cell.total);
    json.value("failed_generations", cell.failed);
    json.optional("avg_duration_seconds", mean(&cell.duration_us, US_SCALE));
    json.optional("avg_quality_score", mean(&cell.quality, FIXED_SCALE));
    json.value("total_tokens", cell.tokens.sum);
    json.value("total_cost_usd", fixed(cell.cost.sum));
    json.optional("avg_cost_per_generation", mean(&cell.cost, FIXED_SCALE));
}

fn failures(json: &mut Writer, cell: &Cell) {
    let detail = cell.detail.as_deref();
    let by_stage = shown(detail.map(|d| &d.failures_by_stage));
    json.map("failures_by_stage", &by_stage, |json, name, count| json.value(name, count));
    let by_code = shown(detail.map(|d| &d.failures_by_error_code));
    json.map("failures_by_error_code", &by_code, |json, name, count| json.value(name, count));
    json.value("wasted_seconds", Decimal { units: cell.wasted_us.sum, scale: US_SCALE });
    json.value("failed_tokens", cell.failed_tokens.sum);
    json.value("failed_cost_usd", fixed(cell.failed_cost.sum));
    json.value("retryable_failures", cell.retryable);
}

/// The 100 heaviest entries by name, the rest merged into `__other__`.
fn shown<T: Additive + Clone>(map: Option<&Named<T>>) -> Vec<(Box<str>, T)> {
    let Some(Named(map)) = map else { return Vec::new() };
    let mut entries: Vec<_> = map.iter().filter(|(name, _)| name.as_ref() != OTHER).collect();
    entries.sort_by(|(a, x), (b, y)| y.weight().cmp(&x.weight()).then(a.cmp(b)));
    let rest = entries.split_off(entries.len().min(ENTRIES_MAX));
    let mut kept: Vec<_> = entries.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut other = map.get(OTHER).cloned();
    for (_, value) in rest {
        other.get_or_insert_default().merge(value);
    }
    kept.extend(other.map(|other| (OTHER.into(), other)));
    kept.sort_by(|(a, _), (b, _)| a.cmp(b));
    kept
}

fn mean(total: &Total, scale: u32) -> Option<Decimal> {
    average(total.sum, total.count, scale)
}

fn fixed(units: i128) -> Decimal {
    Decimal { units, scale: FIXED_SCALE }
}

fn seconds(us: u64) -> Decimal {
    Decimal { units: us.into(), scale: US_SCALE }
}

/// `2026-01-01T00:00:00Z`, with a fraction only where there is one.
pub fn timestamp(us: i64) -> String {
    let instant = DateTime::from_timestamp_micros(us).unwrap_or_default();
    let fraction = us.rem_euclid(1_000_000);
    let text = instant.format("%Y-%m-%dT%H:%M:%S").to_string();
    if fraction == 0 {
        return text + "Z";
    }
    let fraction = Decimal { units: fraction.into(), scale: US_SCALE }.to_string();
    format!("{text}{}Z", fraction.trim_start_matches('0'))
}

/// Appends a JSON string: only quotes, backslashes and control characters are escaped.
pub fn push_json_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

/// Writes one JSON object with its keys in the order of the calls.
struct Writer {
    json: String,
    first: bool,
}

impl Writer {
    fn new() -> Writer {
        Writer { json: String::from("{"), first: true }
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.json.push(',');
        }
        self.first = false;
        push_json_string(&mut self.json, key);
        self.json.push(':');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        push_json_string(&mut self.json, value);
    }

    fn value(&mut self, key: &str, value: impl Display) {
        self.key(key);
        let _ = write!(self.json, "{value}");
    }

    fn optional(&mut self, key: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.value(key, value),
            None => self.value(key, "null"),
        }
    }

    fn object(&mut self, key: &str, fill: impl FnOnce(&mut Writer)) {
        self.key(key);
        self.json.push('{');
        self.first = true;
        fill(self);
        self.json.push('}');
        self.first = false;
    }

    fn map<T>(&mut self, key: &str, entries: &[(Box<str>, T)], mut write: impl FnMut(&mut Writer, &str, &T)) {
        self.object(key, |json| entries.iter().for_each(|(name, value)| write(json, name, value)));
    }

    fn finish(mut self) -> String {
        self.json.push('}');
        self.json
    }
}
