//! What must hold between settings.

use std::io;
use std::path::Path;

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use super::read::Reader;
use super::{Config, Database, Topics};

/// What must hold between settings that are each allowed.
pub(super) fn check_combinations<R: Fn(&Path) -> io::Result<String>>(
    reader: &mut Reader<R>,
    config: &Config,
) {
    let flushes = 3 * config.flush_interval;
    reader.require(
        &["DRAIN_TIMEOUT", "SESSION_TIMEOUT"],
        config.drain_timeout < config.session_timeout,
        "DRAIN_TIMEOUT must be below SESSION_TIMEOUT, or partitions go to others before the last flush",
    );
    reader.require(
        &["IDLE_TIMEOUT", "FLUSH_INTERVAL"],
        config.idle_timeout >= flushes,
        "IDLE_TIMEOUT must be at least three times FLUSH_INTERVAL, by which idle partitions are told",
    );
    reader.require(
        &["LIVE_TIMEOUT", "FLUSH_INTERVAL"],
        config.live_timeout >= flushes,
        "LIVE_TIMEOUT must be at least three times FLUSH_INTERVAL, or a healthy process looks dead",
    );
    reader.require(
        &["EMIT_INTERVAL", "FLUSH_INTERVAL"],
        config.emit_interval >= config.flush_interval,
        "EMIT_INTERVAL must be at least FLUSH_INTERVAL: nothing changes between flushes",
    );
    reader.require(
        &["GRACE_PERIOD", "RETENTION"],
        config.grace_period < config.retention,
        "GRACE_PERIOD must be below RETENTION, or windows are deleted before they are final",
    );
    reader.require(
        &["MAX_OUT_OF_ORDERNESS", "RETENTION"],
        config.max_out_of_orderness < config.retention,
        "MAX_OUT_OF_ORDERNESS must be below RETENTION",
    );
    reader.require(
        &["ROLES", "DATABASE_URL"],
        config.roles.is_all() || matches!(config.database, Database::Postgres { .. }),
        "SQLite serves one process: run all roles or use PostgreSQL",
    );
    reader.require(
        &["SERVICE_PORT", "CONSUL_HOST"],
        config.service_port != 0 || config.consul.is_none(),
        "Consul must be told a port that is known beforehand",
    );
    let aggregation = &config.contract.aggregation;
    reader.require(
        &["METRICS_WINDOW_TYPE", "CONTRACT_PATH"],
        aggregation.has_window(&config.metrics_window_type),
        format!("the contract keeps only the windows {}", aggregation.windows.join(", ")),
    );
    reader.require(
        &["REPORTING_TIMEZONE", "CONTRACT_PATH"],
        slice_divides_offsets(config.reporting_timezone, aggregation.slice_minutes),
        format!(
            "the contract's slice of {} min does not divide the zone's offsets",
            aggregation.slice_minutes
        ),
    );
    check_topics(reader, &config.topics);
}

fn check_topics<R: Fn(&Path) -> io::Result<String>>(reader: &mut Reader<R>, topics: &Topics) {
    const NAMES: [&str; 7] = [
        "TOPIC_STARTED",
        "TOPIC_STAGE_COMPLETED",
        "TOPIC_COMPLETED",
        "TOPIC_FAILED",
        "TOPIC_METRICS_RECORDED",
        "TOPIC_INTENTS",
        "TOPIC_DEAD_LETTERS",
    ];
    let all = topics.all();
    for (index, name) in NAMES.into_iter().enumerate() {
        if let Some(earlier) = all[..index].iter().position(|topic| *topic == all[index]) {
            reader.require(
                &[NAMES[earlier], name],
                false,
                "two topics with one name: give them different ones",
            );
        }
    }
}

/// Whether every offset of `zone` is a whole number of slices on every day of the years that events may have.
fn slice_divides_offsets(zone: Tz, slice_minutes: u32) -> bool {
    const FIRST_DAY: i64 = 10_957; // 2000-01-01
    const LAST_DAY: i64 = 47_481; // 2099-12-31
    let slice_seconds = i32::try_from(slice_minutes * 60).unwrap_or(i32::MAX);
    (FIRST_DAY..=LAST_DAY).all(|day| {
        let noon = DateTime::<Utc>::UNIX_EPOCH + chrono::TimeDelta::seconds(day * 86_400 + 43_200);
        let offset = zone.offset_from_utc_datetime(&noon.naive_utc()).fix().local_minus_utc();
        offset % slice_seconds == 0
    })
}
