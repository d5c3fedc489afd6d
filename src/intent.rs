//! Intents and their envelopes, with repeatable ids (pure).

use crate::aggregator::record::{EVENT_TYPE, id_of, push_json_string, timestamp};
use crate::store::{AnalyticsRow, OutboxRow};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// `operation` of an intent to publish an event.
pub const EVENT_PUBLISH: &str = "EVENT_PUBLISH_INTENT";
/// `operation` and `intent_type` of an intent to store records.
pub const PERSIST_METRICS: &str = "PERSIST_METRICS";
/// `source_node` of the envelope.
const SOURCE_NODE: &str = "omninode_bridge.NodeCodegenMetricsReducer";
/// `created_by` of the intent.
const CREATED_BY: &str = "NodeCodegenMetricsReducer";

/// An intent as a message: key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentMessage {
    /// The intent id, text: the message key.
    pub intent_id: String,
    /// The envelope, JSON text.
    pub value: String,
}

/// The intent to publish a record to the domain topic. Equal records give equal messages but for `created_at`.
pub fn event_publish(row: &OutboxRow, event_id: &str, target_topic: &str) -> IntentMessage {
    let intent_id = id_of(&[EVENT_PUBLISH, event_id, target_topic]).to_string();
    let mut payload = head(&intent_id, &row.aggregation_id, row.created_us);
    text(&mut payload, "target_topic", target_topic);
    text(&mut payload, "target_key", &row.aggregation_id);
    text(&mut payload, "target_event_type", EVENT_TYPE);
    raw(&mut payload, "target_event_payload", &row.record);
    raw(&mut payload, "priority", &row.priority.to_string());
    raw(&mut payload, "retry_policy", "null");
    envelope(EVENT_PUBLISH, intent_id, &row.aggregation_id, row.created_us, payload)
}

/// The intent to store a batch of records; `rows` is not empty.
pub fn persist_metrics(rows: &[(&OutboxRow, &str)]) -> IntentMessage {
    let mut parts = vec![PERSIST_METRICS];
    parts.extend(rows.iter().map(|(_, event_id)| *event_id));
    let intent_id = id_of(&parts).to_string();
    let created_us = rows.iter().map(|(row, _)| row.created_us).max().unwrap_or_default();
    let priority = rows.iter().map(|(row, _)| row.priority).min().unwrap_or(5);
    let mut payload = head(&intent_id, &intent_id, created_us);
    text(&mut payload, "intent_type", PERSIST_METRICS);
    text(&mut payload, "target", "store_effect");
    let records: Vec<&str> = rows.iter().map(|(row, _)| row.record.as_str()).collect();
    raw(&mut payload, "payload", &format!("{{\"metrics\":[{}]}}", records.join(",")));
    raw(&mut payload, "priority", &priority.to_string());
    raw(&mut payload, "lease_id", "null");
    raw(&mut payload, "epoch", "null");
    envelope(PERSIST_METRICS, intent_id.clone(), &intent_id, created_us, payload)
}

fn head(intent_id: &str, correlation_id: &str, created_us: i64) -> String {
    let mut payload = String::from("{");
    text(&mut payload, "intent_id", intent_id);
    text(&mut payload, "correlation_id", correlation_id);
    text(&mut payload, "created_at", &timestamp(created_us));
    text(&mut payload, "created_by", CREATED_BY);
    payload
}

fn envelope(
    operation: &str,
    intent_id: String,
    correlation_id: &str,
    at_us: i64,
    payload: String,
) -> IntentMessage {
    let mut value = String::from("{");
    text(&mut value, "envelope_id", &intent_id);
    raw(&mut value, "envelope_version", r#"{"major":1,"minor":0,"patch":0}"#);
    text(&mut value, "correlation_id", correlation_id);
    raw(&mut value, "causation_id", "null");
    text(&mut value, "source_node", SOURCE_NODE);
    raw(&mut value, "source_node_id", "null");
    raw(&mut value, "target_node", "null");
    raw(&mut value, "handler_type", "null");
    text(&mut value, "operation", operation);
    raw(&mut value, "metadata", "{}");
    text(&mut value, "timestamp", &timestamp(at_us));
    raw(&mut value, "is_response", "false");
    raw(&mut value, "success", "null");
    raw(&mut value, "error", "null");
    raw(&mut value, "payload", &(payload + "}"));
    value.push('}');
    IntentMessage { intent_id, value }
}

fn text(json: &mut String, key: &str, value: &str) {
    let mut quoted = String::new();
    push_json_string(&mut quoted, value);
    raw(json, key, &quoted);
}

fn raw(json: &mut String, key: &str, value: &str) {
    if !json.ends_with('{') {
        json.push(',');
    }
    push_json_string(json, key);
    json.push(':');
    json.push_str(value);
}

/// What an executor has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Publish this event.
    Publish {
        /// Topic.
        topic: String,
        /// Message key.
        key: String,
        /// `event_type`, for the header.
        event_type: String,
        /// JSON text.
        payload: String,
    },
    /// Store these records.
    Persist(Vec<AnalyticsRow>),
}

/// Why an intent cannot be carried out, whoever tries: it becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("intent refused: {0}")]
pub struct BadIntent(pub String);

#[derive(Deserialize)]
struct Envelope<'a> {
    operation: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
struct PublishPayload<'a> {
    target_topic: String,
    target_key: String,
    target_event_type: String,
    #[serde(borrow)]
    target_event_payload: &'a RawValue,
    priority: u8,
}

#[derive(Deserialize)]
struct PersistPayload<'a> {
    target: String,
    #[serde(borrow)]
    payload: PersistBody<'a>,
    priority: u8,
}

#[derive(Deserialize)]
struct PersistBody<'a> {
    #[serde(borrow)]
    metrics: Vec<&'a RawValue>,
}

/// Reads an intent message.
pub fn parse(value: &[u8]) -> Result<Effect, BadIntent> {
    let bad = |error: &dyn std::fmt::Display| BadIntent(error.to_string());
    let envelope: Envelope<'_> = serde_json::from_slice(value).map_err(|e| bad(&e))?;
    let priority_in_range = |priority: u8| match priority {
        1..=10 => Ok(()),
        _ => Err(BadIntent(format!("priority {priority} is outside 1 to 10"))),
    };
    match envelope.operation.as_str() {
        EVENT_PUBLISH => {
            let payload: PublishPayload<'_> =
                serde_json::from_str(envelope.payload.get()).map_err(|e| bad(&e))?;
            priority_in_range(payload.priority)?;
            Ok(Effect::Publish {
                topic: payload.target_topic,
                key: payload.target_key,
                event_type: payload.target_event_type,
                payload: payload.target_event_payload.get().to_owned(),
            })
        }
        PERSIST_METRICS => {
            let payload: PersistPayload<'_> =
                serde_json::from_str(envelope.payload.get()).map_err(|e| bad(&e))?;
            priority_in_range(payload.priority)?;
            if payload.target != "store_effect" {
                return Err(BadIntent(format!("unknown target {:?}", payload.target)));
            }
            let rows = payload.payload.metrics.iter().map(|record| analytics_row(record.get()));
            Ok(Effect::Persist(rows.collect::<Result<_, _>>()?))
        }
        other => Err(BadIntent(format!("unknown operation {other:?}"))),
    }
}

/// A record as a row of the analytics table.
pub fn analytics_row(record: &str) -> Result<AnalyticsRow, BadIntent> {
    let fields: BTreeMap<&str, &RawValue> =
        serde_json::from_str(record).map_err(|e| BadIntent(format!("record: {e}")))?;
    let raw = |key: &str| {
        fields.get(key).map(|raw| raw.get()).ok_or_else(|| BadIntent(format!("record without {key}")))
    };
    let string = |key: &str| -> Result<String, BadIntent> {
        serde_json::from_str(raw(key)?).map_err(|_| BadIntent(format!("{key} is no string")))
    };
    let number = |key: &str| -> Result<i64, BadIntent> {
        raw(key)?.parse().map_err(|_| BadIntent(format!("{key} is no whole number")))
    };
    let instant = |key: &str| {
        let us = crate::decode::parse_timestamp(&string(key)?);
        us.map(|us| us.div_euclid(1_000_000)).ok_or_else(|| BadIntent(format!("{key} is no timestamp")))
    };
    let object = |prefixes: &[(&str, &str)]| -> Result<String, BadIntent> {
        let mut json = String::from("{");
        for (name, key) in prefixes {
            self::raw(&mut json, name, raw(key)?);
        }
        Ok(json + "}")
    };
    Ok(AnalyticsRow {
        aggregation_id: string("aggregation_id")?,
        window_type: string("window_type")?,
        window_start_s: instant("window_start")?,
        window_end_s: instant("window_end")?,
        timezone: string("timezone")?,
        aggregation_type: string("aggregation_type")?,
        group_key: string("group_key")?,
        total_generations: number("total_generations")?,
        successful_generations: number("successful_generations")?,
        failed_generations: number("failed_generations")?,
        success_rate: Some(raw("success_rate")?.to_owned()).filter(|rate| rate != "null"),
        duration_statistics: object(&[
            ("avg_seconds", "avg_duration_seconds"),
            ("p50_seconds", "p50_duration_seconds"),
            ("p95_seconds", "p95_duration_seconds"),
            ("p99_seconds", "p99_duration_seconds"),
            ("min_seconds", "min_duration_seconds"),
            ("max_seconds", "max_duration_seconds"),
        ])?,
        quality_statistics: object(&[
            ("avg_score", "avg_quality_score"),
            ("min_score", "min_quality_score"),
            ("max_score", "max_quality_score"),
        ])?,
        cost_statistics: object(&[
            ("total_tokens", "total_tokens"),
            ("total_cost_usd", "total_cost_usd"),
            ("avg_tokens_per_generation", "avg_tokens_per_generation"),
            ("avg_cost_per_generation", "avg_cost_per_generation"),
        ])?,
        rebuild: number("rebuild")?,
        events_processed: number("events_processed")?,
        is_final: raw("is_final")? == "true",
        record: record.to_owned(),
    })
}

/// The `event_id` inside a record's text.
pub fn event_id_of(record: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        event_id: String,
    }
    serde_json::from_str::<Head>(record).ok().map(|head| head.event_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregator::record::{Runtime, Subject, render};

    fn row() -> OutboxRow {
        let subject = Subject {
            window_type: "hourly",
            start_s: 1_767_261_600,
            end_s: 1_767_265_200,
            timezone: "UTC",
            aggregation_type: "model_grouping",
            group_key: "a \"quoted\" \\ name",
            rebuild: 0,
            is_final: true,
        };
        OutboxRow {
            id: 7,
            aggregation_id: subject.aggregation_id().to_string(),
            priority: 3,
            record: render(&subject, &Default::default(), &Runtime::default()),
            created_us: 1_767_265_200_000_000,
        }
    }

    #[test]
    fn an_intent_reads_back_as_its_effect() {
        let row = row();
        let event_id = event_id_of(&row.record).unwrap();
        let publish = event_publish(&row, &event_id, "dev.codegen.metrics_recorded.v1");
        assert_eq!(
            parse(publish.value.as_bytes()),
            Ok(Effect::Publish {
                topic: "dev.codegen.metrics_recorded.v1".into(),
                key: row.aggregation_id.clone(),
                event_type: EVENT_TYPE.into(),
                payload: row.record.clone(),
            })
        );
        let Ok(Effect::Persist(rows)) = parse(persist_metrics(&[(&row, &event_id)]).value.as_bytes()) else {
            panic!("not a persist effect")
        };
        assert_eq!(rows[0].group_key, "a \"quoted\" \\ name");
        assert_eq!(rows[0].record, row.record);
        assert_eq!(rows[0].success_rate, None);
    }

    #[test]
    fn the_same_record_gives_the_same_ids() {
        let (row, event_id) = (row(), "e");
        assert_eq!(
            event_publish(&row, event_id, "t").intent_id,
            event_publish(&row, event_id, "t").intent_id
        );
        assert_ne!(event_publish(&row, event_id, "t").intent_id, event_publish(&row, "f", "t").intent_id);
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"operation":"X","payload":{}}"#,
            r#"{"operation":"PERSIST_METRICS","payload":{"target":"store_effect","priority":11,"payload":{"metrics":[]}}}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
