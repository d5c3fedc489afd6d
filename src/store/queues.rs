//! What leaves the store: outbox, dead letters, analytics rows, status; and its meaning.

use super::recording::{range_sql, state};
use super::sql::{Database, Dialect, Param, Row, batches, corrupt, fitting, insert, list, params, query_in};
use super::*;
use crate::aggregator::partition::Cause;

pub fn open<D: Database>(db: &mut D, meaning: &Meaning) -> Result<()> {
    let settings = serde_json::to_string(meaning).map_err(corrupt)?;
    let sql = "INSERT INTO meaning (id, timezone, settings) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
    db.execute(sql, params![&meaning.timezone, &settings])?;
    let stored = db.query_one("SELECT settings FROM meaning", &[])?.text(0)?;
    let differences = differences(&stored, &settings)?;
    if differences.is_empty() { Ok(()) } else { Err(StoreError::OtherGeneration(differences.join("; "))) }
}

/// The settings that differ, each with both values. Compared as JSON, so that an older format can still be told apart.
fn differences(stored: &str, ours: &str) -> Result<Vec<String>> {
    let object = |text| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text).map_err(corrupt);
    let (stored, ours) = (object(stored)?, object(ours)?);
    let names: std::collections::BTreeSet<_> = stored.keys().chain(ours.keys()).collect();
    let show = |value: Option<&serde_json::Value>| value.map_or("nothing".into(), ToString::to_string);
    let differing = names.into_iter().filter(|&name| stored.get(name) != ours.get(name));
    Ok(differing
        .map(|name| format!("{name}: {} there, {} here", show(stored.get(name)), show(ours.get(name))))
        .collect())
}

const UNSENT: &str = "NOT EXISTS (SELECT 1 FROM outbox_sent s WHERE s.id = outbox.id)";

pub fn outbox<D: Database>(db: &mut D, limit: usize, bytes_max: usize) -> Result<Vec<OutboxRow>> {
    let sql = format!(
        "SELECT id, CAST(octet_length(record) AS BIGINT) FROM outbox WHERE {UNSENT} ORDER BY priority, id LIMIT $1"
    );
    let (ids, _) = fitting(db.query(&sql, params![limit])?, bytes_max)?;
    let sql = "SELECT id, aggregation_id, priority, record, created_us FROM outbox WHERE id";
    query_in(db, sql, &ids)?.into_iter().map(outbox_row).collect()
}

pub fn outbox_sent<D: Database>(db: &mut D, ids: &[i64]) -> Result<()> {
    for piece in batches(ids) {
        let values: Vec<_> = piece.iter().map(|&id| Param::Int(id)).collect();
        let replaced_are_ignored = format!("SELECT id FROM outbox WHERE id IN ({})", list(piece.len()));
        db.execute(
            &format!("INSERT INTO outbox_sent (id) {replaced_are_ignored} ON CONFLICT DO NOTHING"),
            &values,
        )?;
    }
    Ok(())
}

fn outbox_row(mut row: Row) -> Result<OutboxRow> {
    Ok(OutboxRow {
        id: row.int(0)?,
        aggregation_id: row.text(1)?,
        priority: u8::try_from(row.int(2)?).map_err(corrupt)?,
        record: row.text(3)?,
        created_us: row.int(4)?,
    })
}

pub fn dead_letters_unpublished<D: Database>(
    db: &mut D,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<StoredDeadLetter>> {
    let sql = "SELECT id, CAST(COALESCE(octet_length(message_key), 0) + COALESCE(octet_length(message_value), 0) AS BIGINT) \
               FROM dead_letters WHERE NOT published ORDER BY id LIMIT $1";
    let (ids, _) = fitting(db.query(sql, params![limit])?, bytes_max)?;
    let sql = "SELECT id, flushed_us, topic, partition, topic_id, log_offset, record_time_us, cause, detail, message_key, \
               message_value, value_bytes FROM dead_letters WHERE id";
    query_in(db, sql, &ids)?.into_iter().map(dead_letter).collect()
}

fn dead_letter(mut row: Row) -> Result<StoredDeadLetter> {
    let cause = row.text(7)?;
    let cause = Cause::ALL.into_iter().find(|known| known.name() == cause);
    Ok(StoredDeadLetter {
        id: row.int(0)?,
        flushed_us: row.int(1)?,
        letter: DeadLetter {
            source: row.source(2)?,
            topic_id: row.maybe_text(4)?,
            offset: row.int(5)?,
            record_time_us: row.maybe_int(6)?,
            cause: cause.ok_or_else(|| corrupt("a dead letter of unknown cause"))?,
            detail: row.text(8)?,
            key: row.maybe_blob(9)?,
            value: row.maybe_blob(10)?,
            value_bytes: row.count(11)?,
        },
    })
}

const ANALYTICS_COLUMNS: [&str; 18] = [
    "aggregation_id",
    "window_type",
    "window_start",
    "window_end",
    "timezone",
    "aggregation_type",
    "group_key",
    "total_generations",
    "successful_generations",
    "failed_generations",
    "success_rate",
    "duration_statistics",
    "quality_statistics",
    "cost_statistics",
    "rebuild",
    "events_processed",
    "is_final",
    "record",
];

fn analytics_param(dialect: Dialect, column: usize, param: String) -> String {
    match ANALYTICS_COLUMNS[column] {
        "aggregation_id" => dialect.typed(&param, "UUID"),
        "window_start" | "window_end" => dialect.instant(&param),
        "success_rate" => dialect.typed(&param, "NUMERIC"),
        "duration_statistics" | "quality_statistics" | "cost_statistics" => dialect.typed(&param, "JSONB"),
        _ => param,
    }
}

fn revision(row: &AnalyticsRow) -> (i64, i64, bool) {
    (row.rebuild, row.events_processed, row.is_final)
}

pub fn persist<D: Database>(db: &mut D, rows: &[AnalyticsRow]) -> Result<()> {
    // In one order everywhere, against deadlocks, and of each record only its newest revision.
    let mut newest: BTreeMap<&str, &AnalyticsRow> = BTreeMap::new();
    for row in rows {
        let kept = newest.entry(&row.aggregation_id).or_insert(row);
        if revision(kept) < revision(row) {
            *kept = row;
        }
    }
    let newest: Vec<&AnalyticsRow> = newest.into_values().collect();
    let sets: Vec<_> = ANALYTICS_COLUMNS[1..].iter().map(|c| format!("{c} = excluded.{c}")).collect();
    let rest = format!(
        "ON CONFLICT (aggregation_id) DO UPDATE SET {} WHERE (codegen_metrics_aggregated.rebuild, \
         codegen_metrics_aggregated.events_processed, codegen_metrics_aggregated.is_final) \
         < (excluded.rebuild, excluded.events_processed, excluded.is_final)",
        sets.join(", ")
    );
    let into = format!("INSERT INTO codegen_metrics_aggregated ({})", ANALYTICS_COLUMNS.join(", "));
    let dialect = db.dialect();
    insert(
        db,
        &into,
        &rest,
        &newest,
        |row, values| {
            values.extend_from_slice(params![
                &row.aggregation_id,
                &row.window_type,
                row.window_start_s,
                row.window_end_s,
                &row.timezone,
                &row.aggregation_type,
                &row.group_key,
                row.total_generations,
                row.successful_generations,
                row.failed_generations,
                row.success_rate.as_deref(),
                &row.duration_statistics,
                &row.quality_statistics,
                &row.cost_statistics,
                row.rebuild,
                row.events_processed,
                row.is_final,
                &row.record,
            ]);
        },
        |column, param| analytics_param(dialect, column, param),
    )
}

/// The first and the last second that a database can write as text of one width; bounds beyond mean these.
const YEAR_1: i64 = -62_135_596_800;
const YEAR_9999: i64 = 253_402_300_799;

/// Only rows of the store's own time zone: those of an earlier one stay in the table, but are other windows.
pub fn analytics<D: Database>(db: &mut D, query: &RangeQuery) -> Result<Vec<String>> {
    let head = "SELECT record FROM codegen_metrics_aggregated WHERE window_type = $1 \
                AND timezone = (SELECT timezone FROM meaning)";
    let dialect = db.dialect();
    let instant = |param: String| dialect.instant(&param);
    let written = |seconds: i64| seconds.clamp(YEAR_1, YEAR_9999);
    let mut query = query.clone();
    (query.from_s, query.to_s) = (written(query.from_s), written(query.to_s));
    query.after.iter_mut().for_each(|after| after.0 = written(after.0));
    let (sql, values) = range_sql(&query, head, "window_start", instant, query.span.name().into());
    db.query(&sql, &values)?.into_iter().map(|mut row| row.text(0)).collect()
}

pub fn status<D: Database>(db: &mut D) -> Result<StoreStatus> {
    let recorder = state(db)?;
    let sql = format!(
        "SELECT holder, expires_us, (SELECT COUNT(*) FROM flushes), (SELECT COUNT(*) FROM outbox WHERE {UNSENT}), \
         (SELECT COUNT(*) FROM dead_letters WHERE NOT published) FROM leader"
    );
    let mut row = db.query_one(&sql, &[])?;
    let (holder, expires_us) = (row.maybe_text(0)?, row.int(1)?);
    Ok(StoreStatus {
        recorder,
        leader: holder.map(|holder| (holder, expires_us)),
        backlog: row.count(2)?,
        outbox: row.count(3)?,
        dead_letters_unpublished: row.count(4)?,
    })
}

pub fn rebuild<D: Database>(db: &mut D, meaning: &Meaning) -> Result<u64> {
    // The leader first, as the recorder does: its transaction under way ends before anything is cleared.
    db.execute("UPDATE leader SET epoch = epoch + 1, holder = NULL, expires_us = 0", &[])?;
    if db.dialect() == Dialect::Postgres {
        // Clearing large tables takes its time.
        db.execute("SET LOCAL statement_timeout = 0", &[])?;
        // No taking may add a row that the bump below misses.
        db.execute("LOCK TABLE partitions IN SHARE ROW EXCLUSIVE MODE", &[])?;
    }
    let counters = partitions::counters_text(&Counters::default())?;
    let sql = "UPDATE partitions SET epoch = epoch + 1, owner = NULL, topic_id = NULL, first_offset = NULL, \
               next_offset = NULL, max_event_us = NULL, at_end_since_us = NULL, at_end_reported_us = NULL, halted = NULL, \
               counters = $1";
    db.execute(sql, params![&counters])?;
    for table in
        ["flushes", "event_ids", "cells", "outbox", "outbox_sent", "dead_letters", "folded_event_times"]
    {
        db.execute(&format!("DELETE FROM {table}"), &[])?;
    }
    db.execute("UPDATE acceptance_floor SET floor_us = $1", params![i64::MIN])?;
    let settings = serde_json::to_string(meaning).map_err(corrupt)?;
    let sql = "INSERT INTO meaning (id, timezone, settings) VALUES (1, $1, $2) \
               ON CONFLICT (id) DO UPDATE SET timezone = excluded.timezone, settings = excluded.settings";
    db.execute(sql, params![&meaning.timezone, &settings])?;
    let sql = "UPDATE recorder_state SET rebuild = rebuild + 1, watermark_us = $1, final_watermark_us = $1, emitted_us = 0 \
               RETURNING rebuild";
    db.query_one(sql, params![i64::MIN])?.count(0)
}
