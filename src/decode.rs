//! Bytes to an event, or the reason why not. Pure; `docs/semantics.md` has the rules.

use crate::aggregator::money::{Fixed, Fraction, NumberFault, parse_scaled};
use crate::aggregator::partition::Cause;
use crate::event::{Event, Kind};
use chrono::NaiveDate;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Why a message is no event: the cause, and the field or limit it is about (never any of the payload).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}: {about}", cause.name())]
pub struct Fault {
    /// The closed set that labels counters.
    pub cause: Cause,
    /// A field name or a short fixed text.
    pub about: &'static str,
}

/// What is known of a message besides its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// The kind its topic stands for; `None` for lines of a file.
    pub topic_kind: Option<Kind>,
    /// Record time in Kafka, µs.
    pub record_time_us: Option<i64>,
    /// `MAX_EVENT_BYTES`.
    pub bytes_max: usize,
}

/// 2^53: the greatest whole number that every JSON reader keeps exactly.
const TOKENS_MAX: i128 = 1 << 53;
/// Money and complexity: 10^12.
const AMOUNT_MAX: i128 = 1_000_000_000_000;
/// Durations: 30 days, in µs.
pub const DURATION_US_MAX: i128 = 30 * 86_400 * 1_000_000;

/// Reads one message.
pub fn decode<'a>(bytes: &'a [u8], context: &Context) -> Result<Event<'a>, Fault> {
    if bytes.len() > context.bytes_max {
        return fault(Cause::TooLarge, "MAX_EVENT_BYTES");
    }
    if bytes.is_empty() {
        return fault(Cause::Tombstone, "empty message");
    }
    let text = std::str::from_utf8(bytes).or(fault(Cause::InvalidUtf8, "message"))?;
    let outer = Object::parse(text)?;
    match outer.get(Field::Payload) {
        Some(payload) if payload.starts_with('{') && outer.get(Field::WorkflowId).is_none() => {
            Object::parse(payload)?.event(Some(&outer), context)
        }
        _ => outer.event(None, context),
    }
}

fn fault<T>(cause: Cause, about: &'static str) -> Result<T, Fault> {
    Err(Fault { cause, about })
}

macro_rules! fields {
    ($($variant:ident = $name:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Field { $($variant),* }

        impl Field {
            const COUNT: usize = [$($name),*].len();

            fn of(name: &str) -> Option<Field> {
                match name { $($name => Some(Field::$variant),)* _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),* }
            }
        }
    };
}

fields! {
    EventType = "event_type", EventId = "event_id", Timestamp = "timestamp", WorkflowId = "workflow_id",
    NodeTypeHint = "node_type_hint", NodeType = "node_type", Domain = "domain",
    StageName = "stage_name", DurationSeconds = "duration_seconds", DurationMs = "duration_ms", Success = "success",
    TokensConsumed = "tokens_consumed", CostUsd = "cost_usd",
    TotalDurationSeconds = "total_duration_seconds", PrimaryModel = "primary_model", QualityScore = "quality_score",
    TestCoverage = "test_coverage", ComplexityScore = "complexity_score", TotalTokens = "total_tokens",
    TotalCostUsd = "total_cost_usd", PatternsApplied = "patterns_applied",
    FailedStage = "failed_stage", PartialDurationSeconds = "partial_duration_seconds", ErrorCode = "error_code",
    IsRetryable = "is_retryable",
    Payload = "payload", Operation = "operation", EnvelopeId = "envelope_id", EventTimestamp = "event_timestamp",
    EnvelopeTimestamp = "envelope_timestamp",
}

/// The known fields of one JSON object, as raw text; of a repeated key the last, `null` as absent.
struct Object<'a> {
    raw: [Option<&'a str>; Field::COUNT],
}

impl<'a> Object<'a> {
    fn parse(text: &'a str) -> Result<Object<'a>, Fault> {
        serde_json::from_str(text).or(fault(Cause::InvalidJson, "message"))
    }

    fn get(&self, field: Field) -> Option<&'a str> {
        self.raw[field as usize]
    }

    fn text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return fault(Cause::WrongType, field.name());
        };
        if inner.contains('\\') {
            let owned: String = serde_json::from_str(raw).or(fault(Cause::InvalidJson, field.name()))?;
            return Ok(Some(Cow::Owned(owned)));
        }
        Ok(Some(Cow::Borrowed(inner)))
    }

    fn required_text(&self, field: Field) -> Result<Cow<'a, str>, Fault> {
        self.text(field)?.map_or(fault(Cause::MissingField, field.name()), Ok)
    }

    /// A number in units of 10⁻ˢᶜᵃˡᵉ, at most `limit` such units.
    fn number(
        &self,
        field: Field,
        scale: u32,
        limit: i128,
        fraction: Fraction,
    ) -> Result<Option<i128>, Fault> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        match parse_scaled(raw, scale, limit, fraction) {
            Ok(units) => Ok(Some(units)),
            Err(NumberFault::Negative | NumberFault::TooLarge) => fault(Cause::OutOfRange, field.name()),
            Err(NumberFault::NotWhole | NumberFault::NotANumber) => fault(Cause::WrongType, field.name()),
        }
    }

    fn fixed(&self, field: Field, limit: i128) -> Result<Option<Fixed>, Fault> {
        Ok(self.number(field, 12, limit * Fixed::ONE, Fraction::Round)?.map(Fixed))
    }

    fn tokens(&self, field: Field) -> Result<Option<u64>, Fault> {
        Ok(self.number(field, 0, TOKENS_MAX, Fraction::Refuse)?.map(|n| n as u64))
    }

    /// A duration in µs; `scale` is 6 for a field in seconds, 3 for one in milliseconds.
    fn duration(&self, field: Field, scale: u32) -> Result<Option<u64>, Fault> {
        Ok(self.number(field, scale, DURATION_US_MAX, Fraction::Round)?.map(|us| us as u64))
    }

    fn boolean(&self, field: Field) -> Result<Option<bool>, Fault> {
        match self.get(field) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => fault(Cause::WrongType, field.name()),
        }
    }

    fn array_length(&self, field: Field) -> Result<u64, Fault> {
        match self.get(field) {
            None => Ok(0),
            Some(raw) if raw.starts_with('[') => {
                let items: Vec<IgnoredAny> =
                    serde_json::from_str(raw).or(fault(Cause::InvalidJson, field.name()))?;
                Ok(items.len() as u64)
            }
            Some(_) => fault(Cause::WrongType, field.name()),
        }
    }

    fn event(&self, envelope: Option<&Object<'a>>, context: &Context) -> Result<Event<'a>, Fault> {
        let kind = self.kind(envelope, context)?;
        let mut event = Event {
            kind,
            event_id: self.id(envelope)?,
            time_us: self.time(envelope, context)?,
            workflow_id: self.required_text(Field::WorkflowId)?,
            node_type: None,
            domain: None,
            primary_model: None,
            stage: None,
            error_code: None,
            duration_us: None,
            quality: None,
            coverage: None,
            complexity: None,
            tokens: None,
            cost: None,
            success: true,
            retryable: false,
            patterns: 0,
        };
        match kind {
            Kind::Started => self.read_started(&mut event)?,
            Kind::StageCompleted => self.read_stage(&mut event)?,
            Kind::Completed => self.read_completed(&mut event)?,
            Kind::Failed => self.read_failed(&mut event)?,
        }
        Ok(event)
    }

    fn kind(&self, envelope: Option<&Object<'a>>, context: &Context) -> Result<Kind, Fault> {
        let named = match (self.text(Field::EventType)?, envelope) {
            (None, Some(outer)) => match outer.text(Field::EventType)? {
                None => outer.text(Field::Operation)?,
                named => named,
            },
            (named, _) => named,
        };
        match named {
            Some(name) => {
                Kind::from_event_type(&name).map_or(fault(Cause::UnknownEventType, "event_type"), Ok)
            }
            None => context.topic_kind.map_or(fault(Cause::UnknownEventType, "event_type absent"), Ok),
        }
    }

    fn id(&self, envelope: Option<&Object<'a>>) -> Result<Option<Cow<'a, str>>, Fault> {
        let present = |id: Option<Cow<'a, str>>| id.filter(|id| !id.is_empty());
        if let Some(id) = present(self.text(Field::EventId)?) {
            return Ok(Some(id));
        }
        let Some(outer) = envelope else { return Ok(None) };
        match present(outer.text(Field::EventId)?) {
            Some(id) => Ok(Some(id)),
            None => Ok(present(outer.text(Field::EnvelopeId)?)),
        }
    }

    fn time(&self, envelope: Option<&Object<'a>>, context: &Context) -> Result<i64, Fault> {
        let own = [(self, Field::Timestamp)];
        let outer = envelope.into_iter().flat_map(|outer| {
            [Field::Timestamp, Field::EventTimestamp, Field::EnvelopeTimestamp].map(|field| (outer, field))
        });
        for (object, field) in own.into_iter().chain(outer) {
            if let Some(text) = object.text(field)? {
                return parse_timestamp(&text).map_or(fault(Cause::InvalidTimestamp, field.name()), Ok);
            }
        }
        match context.record_time_us {
            Some(time_us) if in_range(time_us) => Ok(time_us),
            Some(_) => fault(Cause::InvalidTimestamp, "record time"),
            None => fault(Cause::MissingField, "timestamp"),
        }
    }

    fn read_started(&self, event: &mut Event<'a>) -> Result<(), Fault> {
        let (hint, node_type) = (self.text(Field::NodeTypeHint)?, self.text(Field::NodeType)?);
        event.node_type = hint.or(node_type);
        event.domain = self.text(Field::Domain)?;
        Ok(())
    }

    fn read_stage(&self, event: &mut Event<'a>) -> Result<(), Fault> {
        event.stage = Some(self.required_text(Field::StageName)?);
        let (seconds, ms) = (self.duration(Field::DurationSeconds, 6)?, self.duration(Field::DurationMs, 3)?);
        event.duration_us = seconds.or(ms);
        if event.duration_us.is_none() {
            return fault(Cause::MissingField, "duration_seconds or duration_ms");
        }
        event.success = self.boolean(Field::Success)?.unwrap_or(true);
        event.tokens = self.tokens(Field::TokensConsumed)?;
        event.cost = self.fixed(Field::CostUsd, AMOUNT_MAX)?;
        Ok(())
    }

    fn read_completed(&self, event: &mut Event<'a>) -> Result<(), Fault> {
        event.duration_us = self.duration(Field::TotalDurationSeconds, 6)?;
        if event.duration_us.is_none() {
            return fault(Cause::MissingField, Field::TotalDurationSeconds.name());
        }
        event.quality = self.fixed(Field::QualityScore, 1)?;
        event.coverage = self.fixed(Field::TestCoverage, 1)?;
        event.complexity = self.fixed(Field::ComplexityScore, AMOUNT_MAX)?;
        event.patterns = self.array_length(Field::PatternsApplied)?;
        self.read_outcome(event)
    }

    fn read_failed(&self, event: &mut Event<'a>) -> Result<(), Fault> {
        event.stage = Some(self.required_text(Field::FailedStage)?);
        event.duration_us = self.duration(Field::PartialDurationSeconds, 6)?;
        event.error_code = self.text(Field::ErrorCode)?;
        event.retryable = self.boolean(Field::IsRetryable)?.unwrap_or(false);
        self.read_outcome(event)
    }

    /// What COMPLETED and FAILED share.
    fn read_outcome(&self, event: &mut Event<'a>) -> Result<(), Fault> {
        event.node_type = self.text(Field::NodeType)?;
        event.domain = self.text(Field::Domain)?;
        event.primary_model = self.text(Field::PrimaryModel)?;
        event.tokens = self.tokens(Field::TotalTokens)?;
        event.cost = self.fixed(Field::TotalCostUsd, AMOUNT_MAX)?;
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut raw = [None; Field::COUNT];
                while let Some(key) = map.next_key::<&'de RawValue>()? {
                    match field_of(key.get()) {
                        None => {
                            map.next_value::<IgnoredAny>()?;
                        }
                        Some(field) => {
                            let value = map.next_value::<&'de RawValue>()?.get();
                            raw[field as usize] = (value != "null").then_some(value);
                        }
                    }
                }
                Ok(Object { raw })
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// The field a raw key names. A key that cannot be unescaped (a lone surrogate) names none of ours.
fn field_of(raw_key: &str) -> Option<Field> {
    let name = raw_key.strip_prefix('"')?.strip_suffix('"')?;
    if name.contains('\\') {
        let name: String = serde_json::from_str(raw_key).ok()?;
        return Field::of(&name);
    }
    Field::of(name)
}

const US_PER_SECOND: i64 = 1_000_000;
/// 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z in seconds: the years accepted.
const YEARS_S: std::ops::Range<i64> = 946_684_800..4_102_444_800;

fn in_range(time_us: i64) -> bool {
    YEARS_S.contains(&time_us.div_euclid(US_PER_SECOND))
}

/// Reads `YYYY-MM-DD`, `T` or space, `HH:MM:SS`, optional fraction, optional zone (none is UTC); µs since the Unix epoch. `None` if it
/// cannot be read or lies outside the years 2000 to 2099.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || !text.is_ascii() {
        return None;
    }
    let separators = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    if separators.iter().any(|&(at, mark)| bytes[at] != mark[0]) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let date = NaiveDate::from_ymd_opt(
        digits(&bytes[..4])? as i32,
        digits(&bytes[5..7])? as u32,
        digits(&bytes[8..10])? as u32,
    )?;
    let (hour, minute, second) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_us, rest) = parse_fraction(&bytes[19..])?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - parse_offset(rest)?;
    let time_us = seconds * US_PER_SECOND + fraction_us;
    in_range(time_us).then_some(time_us)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
}

/// `.` and digits, cut after the microsecond; what follows.
fn parse_fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let kept = digits(&rest[..length.min(6)])?;
    Some((kept * 10i64.pow(6 - length.min(6) as u32), &rest[length..]))
}

/// `Z`, `±HH`, `±HHMM`, `±HH:MM` or nothing; seconds east of UTC.
fn parse_offset(bytes: &[u8]) -> Option<i64> {
    let (sign, rest) = match bytes {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Context = Context { topic_kind: None, record_time_us: None, bytes_max: 1 << 20 };

    fn cause(text: &str) -> Cause {
        decode(text.as_bytes(), &FILE).expect_err(text).cause
    }

    #[test]
    fn both_vocabularies_and_envelopes_read_alike() {
        let inner =
            r#"{"workflow_id":"w","stage_name":"s","duration_ms":1.5,"tokens_consumed":90,"cost_usd":0.009}"#;
        let envelope = format!(
            r#"{{"envelope_version":"1.0","event_id":"e","event_type":"NODE_GENERATION_STAGE_COMPLETED","event_timestamp":"2026-01-15T10:00:50+00:00","payload":{inner}}}"#
        );
        let event = decode(envelope.as_bytes(), &FILE).unwrap();
        assert_eq!(event.kind, Kind::StageCompleted);
        assert_eq!(event.event_id.as_deref(), Some("e"));
        assert_eq!(event.duration_us, Some(1500));
        assert_eq!(event.tokens, Some(90));
        assert_eq!(event.time_us, 1_768_471_250_000_000);
        assert!(event.success);
    }

    #[test]
    fn the_last_of_repeated_keys_counts() {
        let text = r#"{"workflow_id":1,"event_type":"CODEGEN_STARTED","timestamp":"2026-01-01 00:00:00","workflow_id":"w","\u0064omain":"api"}"#;
        let event = decode(text.as_bytes(), &FILE).unwrap();
        assert_eq!((event.workflow_id.as_ref(), event.domain.as_deref()), ("w", Some("api")));
    }

    #[test]
    fn every_fault_has_its_cause() {
        let with = |rest: &str| {
            format!(
                r#"{{"event_type":"CODEGEN_COMPLETED","timestamp":"2026-01-01T00:00:00Z","workflow_id":"w"{rest}}}"#
            )
        };
        assert_eq!(cause(&with("")), Cause::MissingField);
        assert_eq!(cause(&with(r#","total_duration_seconds":"1""#)), Cause::WrongType);
        assert_eq!(cause(&with(r#","total_duration_seconds":NaN"#)), Cause::InvalidJson);
        assert_eq!(cause(&with(r#","total_duration_seconds":-1"#)), Cause::OutOfRange);
        assert_eq!(cause(&with(r#","total_duration_seconds":2592000.0000001"#)), Cause::OutOfRange);
        assert_eq!(cause(&with(r#","total_duration_seconds":1,"quality_score":1.01"#)), Cause::OutOfRange);
        assert_eq!(cause(&with(r#","total_duration_seconds":1,"total_tokens":1.5"#)), Cause::WrongType);
        assert_eq!(cause(&with(r#","total_duration_seconds":1,"patterns_applied":{}"#)), Cause::WrongType);
        assert_eq!(cause(&with(r#","total_duration_seconds":1,"domain":"\ud800""#)), Cause::InvalidJson);
        assert_eq!(
            cause(&with(r#","total_duration_seconds":1,"timestamp":"2026-02-30T00:00:00Z""#)),
            Cause::InvalidTimestamp
        );
        assert_eq!(cause(r#"{"event_type":"CODEGEN_DONE","workflow_id":"w"}"#), Cause::UnknownEventType);
        assert_eq!(cause(r#"{"workflow_id":"w"}"#), Cause::UnknownEventType);
        assert_eq!(cause("[]"), Cause::InvalidJson);
        assert_eq!(cause(&"[".repeat(100_000)), Cause::InvalidJson);
        assert_eq!(decode(b"", &FILE).unwrap_err().cause, Cause::Tombstone);
        assert_eq!(decode(b"\"\xff\"", &FILE).unwrap_err().cause, Cause::InvalidUtf8);
        assert_eq!(decode(&vec![b' '; (1 << 20) + 1], &FILE).unwrap_err().cause, Cause::TooLarge);
    }

    #[test]
    fn timestamps_of_all_forms() {
        let noon = 1_767_268_800_000_000;
        for text in [
            "2026-01-01T12:00:00Z",
            "2026-01-01 12:00:00",
            "2026-01-01t12:00:00z",
            "2026-01-01T13:00:00+01:00",
            "2026-01-01T06:30:00-0530",
            "2026-01-01 14:00:00+02",
        ] {
            assert_eq!(parse_timestamp(text), Some(noon), "{text}");
        }
        assert_eq!(parse_timestamp("2026-01-01T12:00:00.1234567Z"), Some(noon + 123_456));
        for text in [
            "2026-01-01",
            "2026-01-01T12:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:00:60Z",
            "2026-01-01T12:00:00.Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in [
            "1999-12-31T23:59:59Z",
            "2100-01-01T00:00:00Z",
            "2026-01-01T12:00:00+24:00",
            "2026-01-01T12:00:00 Z",
            "２026-01-01T12:00:0",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }
}
