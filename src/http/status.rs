//! `/api/v1/accounting` and `/api/v1/status`: what became of every offset, and how far everything is.

use super::{ApiError, App, parameters};
use crate::aggregator::partition::{Cause, Counters, GapCause};
use crate::aggregator::record::timestamp;
use crate::clock::wall_us;
use crate::store::{PartitionRow, RecorderState, StoreStatus};
use crate::telemetry::Snapshot;
use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Counts {
    received: u64,
    counted: u64,
    duplicates: u64,
    dead_lettered: u64,
    dead_lettered_by_cause: BTreeMap<Cause, u64>,
    gaps: u64,
    gaps_by_cause: BTreeMap<GapCause, u64>,
}

impl From<&Counters> for Counts {
    fn from(counters: &Counters) -> Counts {
        Counts {
            received: counters.received,
            counted: counters.counted,
            duplicates: counters.duplicates,
            dead_lettered: counters.dead_lettered_total(),
            dead_lettered_by_cause: counters.dead_lettered.clone(),
            gaps: counters.gaps_total(),
            gaps_by_cause: counters.gaps.clone(),
        }
    }
}

#[derive(Serialize)]
struct PartitionAccount {
    topic: String,
    partition: i32,
    first_offset: Option<i64>,
    next_offset: Option<i64>,
    #[serde(flatten)]
    counts: Counts,
    closes: bool,
}

/// The accounting, whole and by partition.
#[derive(Serialize)]
pub struct Accounting {
    totals: Counts,
    closes: bool,
    partitions: Vec<PartitionAccount>,
}

impl Accounting {
    fn of(rows: &[PartitionRow]) -> Accounting {
        let mut totals = Counters::default();
        rows.iter().for_each(|row| totals.add(&row.counters));
        let partitions: Vec<_> = rows.iter().map(PartitionAccount::of).collect();
        let closes = partitions.iter().all(|partition| partition.closes);
        Accounting { totals: Counts::from(&totals), closes, partitions }
    }
}

impl PartitionAccount {
    fn of(row: &PartitionRow) -> PartitionAccount {
        let closes = match (row.first_offset, row.next_offset) {
            (Some(first), Some(next)) => row.counters.closes(first, next),
            // Never flushed: then nothing was counted either.
            _ => row.counters.closes(0, 0),
        };
        PartitionAccount {
            topic: row.source.topic.to_string(),
            partition: row.source.partition,
            first_offset: row.first_offset,
            next_offset: row.next_offset,
            counts: Counts::from(&row.counters),
            closes,
        }
    }
}

/// `GET /api/v1/accounting`
pub(super) async fn accounting(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Accounting>, ApiError> {
    parameters(query.as_deref(), &[])?;
    let rows = app.read(|reader| reader.call(|store| store.partitions())).await?;
    Ok(Json(Accounting::of(&rows)))
}

#[derive(Serialize)]
struct PartitionState {
    topic: String,
    partition: i32,
    epoch: i64,
    owner: Option<String>,
    owned_here: bool,
    next_offset: Option<i64>,
    max_event_time: Option<String>,
    watermark: Option<String>,
    /// Only the owner knows how long the log is.
    lag_records: Option<u64>,
    lag_seconds: Option<i64>,
    halted: Option<String>,
}

#[derive(Serialize)]
struct Recorder {
    rebuild: u64,
    watermark: Option<String>,
    final_watermark: Option<String>,
    floor: Option<String>,
}

#[derive(Serialize)]
struct Leader {
    node_id: String,
    lease_until: String,
}

/// How far everything is.
#[derive(Serialize)]
pub struct Status {
    partitions: Vec<PartitionState>,
    recorder: Recorder,
    leader: Option<Leader>,
    backlog: u64,
    outbox: u64,
    dead_letters_unpublished: u64,
}

/// A time as text; the state "none yet" is `i64::MIN`.
fn instant(us: i64) -> Option<String> {
    (us != i64::MIN).then(|| timestamp(us))
}

impl From<&RecorderState> for Recorder {
    fn from(state: &RecorderState) -> Recorder {
        Recorder {
            rebuild: state.rebuild,
            watermark: instant(state.watermark_us),
            final_watermark: instant(state.final_watermark_us),
            floor: instant(state.floor_us),
        }
    }
}

impl PartitionState {
    fn of(row: &PartitionRow, snapshot: &Snapshot, out_of_orderness_us: i64, now_us: i64) -> PartitionState {
        let lag = snapshot.partitions.get(&row.source.to_string());
        let behind_s = || row.max_event_us.map(|us| (now_us - us).max(0) / 1_000_000);
        PartitionState {
            topic: row.source.topic.to_string(),
            partition: row.source.partition,
            epoch: row.epoch,
            owner: row.owner.clone(),
            owned_here: lag.is_some(),
            next_offset: row.next_offset,
            max_event_time: row.max_event_us.and_then(instant),
            // The recorder knows only what it has folded.
            watermark: row.folded_event_us.map(|us| us.saturating_sub(out_of_orderness_us)).and_then(instant),
            lag_records: lag.map(|lag| lag.lag_records),
            lag_seconds: lag.and_then(|lag| if lag.lag_records > 0 { behind_s() } else { Some(0) }),
            halted: row.halted.clone(),
        }
    }
}

/// `GET /api/v1/status`
pub(super) async fn status(
    State(app): State<App>,
    RawQuery(query): RawQuery,
) -> Result<Json<Status>, ApiError> {
    parameters(query.as_deref(), &[])?;
    let (rows, depths): (Vec<PartitionRow>, StoreStatus) = app
        .read(|reader| Ok((reader.call(|store| store.partitions())?, reader.call(|store| store.status())?)))
        .await?;
    let (snapshot, now_us) = (app.api.telemetry.snapshot(), wall_us());
    let state = |row| PartitionState::of(row, &snapshot, app.api.out_of_orderness_us, now_us);
    Ok(Json(Status {
        partitions: rows.iter().map(state).collect(),
        recorder: Recorder::from(&depths.recorder),
        leader: depths.leader.map(|(node_id, until_us)| Leader { node_id, lease_until: timestamp(until_us) }),
        backlog: depths.backlog,
        outbox: depths.outbox,
        dead_letters_unpublished: depths.dead_letters_unpublished,
    }))
}
