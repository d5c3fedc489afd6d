//! Partitions: taking, flushing and accounting.

use super::sql::{Database, Param, Row, corrupt, insert, params};
use super::*;
use crate::aggregator::dedup::EventHash;
use crate::aggregator::partition::Advance;

const ID_BYTES: usize = 16;

/// What a flush needs of a partition's row as it was before.
struct Before {
    max_event_us: Option<i64>,
    at_end_since_us: Option<i64>,
    counters: Counters,
}

pub fn add<D: Database>(db: &mut D, sources: &[Source]) -> Result<()> {
    let counters = counters_text(&Counters::default())?;
    insert(
        db,
        "INSERT INTO partitions (topic, partition, counters)",
        "ON CONFLICT DO NOTHING",
        &sorted(sources),
        |source, values| {
            values.extend([Param::from(&*source.topic), source.partition.into(), Param::from(&counters)])
        },
        |_, param| param,
    )
}

/// Rows are always locked in (topic, partition) order.
fn sorted(sources: &[Source]) -> Vec<&Source> {
    let mut sorted: Vec<_> = sources.iter().collect();
    sorted.sort();
    sorted.dedup();
    sorted
}

pub fn take<D: Database>(db: &mut D, sources: &[Source], owner: &str, ids_max: usize) -> Result<Vec<Taken>> {
    add(db, sources)?;
    let mut epochs = BTreeMap::new();
    for source in sorted(sources) {
        // The bump waits for a flush under way and fences every later one, so the reads below are final.
        let sql = "UPDATE partitions SET epoch = epoch + 1, owner = $1, halted = NULL, at_end_since_us = NULL, \
                   at_end_reported_us = NULL WHERE topic = $2 AND partition = $3 RETURNING epoch";
        let mut row = db.query_one(sql, params![owner, &*source.topic, source.partition])?;
        epochs.insert(source, row.int(0)?);
    }
    sources.iter().map(|source| read_taken(db, source, epochs[source], ids_max)).collect()
}

fn read_taken<D: Database>(db: &mut D, source: &Source, epoch: i64, ids_max: usize) -> Result<Taken> {
    let sql =
        "SELECT topic_id, next_offset, max_event_us FROM partitions WHERE topic = $1 AND partition = $2";
    let mut row = db.query_one(sql, params![&*source.topic, source.partition])?;
    let sql = "SELECT from_seq + id_count FROM event_ids WHERE topic = $1 AND partition = $2 ORDER BY from_seq DESC LIMIT 1";
    let last = db.query(sql, params![&*source.topic, source.partition])?.pop();
    let ids_counted = last.map_or(Ok(0), |mut row| row.count(0))?;
    let sql = "SELECT ids FROM event_ids WHERE topic = $1 AND partition = $2 AND from_seq + id_count > $3 ORDER BY from_seq";
    let oldest = ids_counted.saturating_sub(ids_max as u64);
    let mut ids = Vec::new();
    for mut chunk in db.query(sql, params![&*source.topic, source.partition, oldest])? {
        ids.extend(decode_ids(&chunk.blob(0)?)?);
    }
    ids.drain(..ids.len().saturating_sub(ids_max));
    Ok(Taken {
        source: source.clone(),
        epoch,
        topic_id: row.maybe_text(0)?,
        next_offset: row.maybe_int(1)?,
        max_event_us: row.maybe_int(2)?,
        ids,
        ids_counted,
    })
}

fn encode_ids(ids: &[EventHash]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0.to_be_bytes()).collect()
}

fn decode_ids(bytes: &[u8]) -> Result<Vec<EventHash>> {
    let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
    if !rest.is_empty() {
        return Err(corrupt("event ids of a broken length"));
    }
    Ok(ids.iter().map(|id| EventHash(u128::from_be_bytes(*id))).collect())
}

pub fn set_halted<D: Database>(db: &mut D, source: &Source, epoch: i64, reason: Option<&str>) -> Result<()> {
    let sql = "UPDATE partitions SET halted = $1 WHERE topic = $2 AND partition = $3 AND epoch = $4";
    fenced_unless(db.execute(sql, params![reason, &*source.topic, source.partition, epoch])?, source)
}

fn fenced_unless(changed: u64, source: &Source) -> Result<()> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Fenced(source.clone())) }
}

pub fn restart<D: Database>(db: &mut D, source: &Source, epoch: i64) -> Result<()> {
    let counters = counters_text(&Counters::default())?;
    let sql = "UPDATE partitions SET topic_id = NULL, first_offset = NULL, next_offset = NULL, max_event_us = NULL, \
               at_end_since_us = NULL, at_end_reported_us = NULL, counters = $1 \
               WHERE topic = $2 AND partition = $3 AND epoch = $4";
    fenced_unless(db.execute(sql, params![&counters, &*source.topic, source.partition, epoch])?, source)?;
    for table in ["event_ids", "folded_event_times"] {
        let sql = format!("DELETE FROM {table} WHERE topic = $1 AND partition = $2");
        db.execute(&sql, params![&*source.topic, source.partition])?;
    }
    Ok(())
}

pub fn flush<D: Database>(db: &mut D, flush: &Flush, ids_max: usize) -> Result<Flushed> {
    let before: Vec<Before> = flush.advances.iter().map(|a| compare_and_set(db, a)).collect::<Result<_>>()?;
    let floor_us = floor(db)?;
    if flush.min_event_us.is_some_and(|time| time < floor_us) {
        return Err(StoreError::FloorMoved { floor_us });
    }
    let now_us = db.now_us()?;
    let mut event_times = Vec::new();
    for (advance, before) in flush.advances.iter().zip(before) {
        if let Some(time_us) = advance.max_event_us.filter(|&time| Some(time) > before.max_event_us) {
            event_times.push((&*advance.source.topic, advance.source.partition, time_us));
        }
        account(db, advance, before, now_us)?;
        append_ids(db, advance, ids_max as u64)?;
    }
    append_dead_letters(db, &flush.dead_letters, now_us)?;
    let mut flush_id = 0;
    if !flush.deltas.is_empty() {
        let event_times = serde_json::to_string(&event_times).map_err(corrupt)?;
        let sql =
            "INSERT INTO flushes (flushed_us, deltas, event_times) VALUES ($1, $2, $3) RETURNING flush_id";
        flush_id = db.query_one(sql, params![now_us, &*flush.deltas, &event_times])?.int(0)?;
    }
    let backlog = db.query_one("SELECT COUNT(*) FROM flushes", &[])?.count(0)?;
    Ok(Flushed { flush_id, floor_us, backlog })
}

/// The floor, held where it is until the commit.
fn floor<D: Database>(db: &mut D) -> Result<i64> {
    let sql = format!("SELECT floor_us FROM acceptance_floor{}", db.dialect().for_share());
    db.query_one(&sql, &[])?.int(0)
}

fn compare_and_set<D: Database>(db: &mut D, advance: &Advance) -> Result<Before> {
    let sql = "UPDATE partitions SET next_offset = $1, first_offset = COALESCE(first_offset, $2), \
               topic_id = COALESCE($3, topic_id) \
               WHERE topic = $4 AND partition = $5 AND epoch = $6 AND next_offset IS NOT DISTINCT FROM $7 \
               RETURNING max_event_us, at_end_since_us, counters";
    let Advance { source, epoch, from_offset, next_offset, first_offset, topic_id, .. } = advance;
    let params: &[Param<'_>] = params![
        *next_offset,
        *first_offset,
        topic_id.as_deref(),
        &*source.topic,
        source.partition,
        *epoch,
        *from_offset
    ];
    let mut row = db.query(sql, params)?.pop().ok_or_else(|| StoreError::Fenced(source.clone()))?;
    Ok(Before {
        max_event_us: row.maybe_int(0)?,
        at_end_since_us: row.maybe_int(1)?,
        counters: counters_from(&row.text(2)?)?,
    })
}

/// Writes what follows from the row before: counters, event time, the stand at the log's end.
fn account<D: Database>(db: &mut D, advance: &Advance, before: Before, now_us: i64) -> Result<()> {
    let mut counters = before.counters;
    counters.add(&advance.counters);
    let moved = advance.counters.received > 0;
    let since_us = advance.at_end.then(|| before.at_end_since_us.filter(|_| !moved).unwrap_or(now_us));
    let sql = "UPDATE partitions SET max_event_us = $1, at_end_since_us = $2, at_end_reported_us = $3, counters = $4 \
               WHERE topic = $5 AND partition = $6";
    let max_event_us = before.max_event_us.max(advance.max_event_us);
    let reported_us = advance.at_end.then_some(now_us);
    let (topic, partition) = (&*advance.source.topic, advance.source.partition);
    let counters = counters_text(&counters)?;
    db.execute(sql, params![max_event_us, since_us, reported_us, &counters, topic, partition]).map(drop)
}

fn append_ids<D: Database>(db: &mut D, advance: &Advance, ids_max: u64) -> Result<()> {
    if advance.new_ids.is_empty() {
        return Ok(());
    }
    let (topic, partition) = (&*advance.source.topic, advance.source.partition);
    let (from, count) = (advance.new_ids_from, advance.new_ids.len() as u64);
    let ids = encode_ids(&advance.new_ids);
    let sql = "INSERT INTO event_ids (topic, partition, from_seq, id_count, ids) VALUES ($1, $2, $3, $4, $5)";
    db.execute(sql, params![topic, partition, from, count, &*ids])?;
    // Eight prunings per window keep the surplus small and the common flush cheap.
    let (to, step) = (from + count, (ids_max / 8).max(1));
    if to / step != from / step && to > ids_max {
        let sql = "DELETE FROM event_ids WHERE topic = $1 AND partition = $2 AND from_seq < $3 AND from_seq + id_count <= $3";
        db.execute(sql, params![topic, partition, to - ids_max])?;
    }
    Ok(())
}

fn append_dead_letters<D: Database>(db: &mut D, letters: &[DeadLetter], now_us: i64) -> Result<()> {
    insert(
        db,
        "INSERT INTO dead_letters (flushed_us, topic, topic_id, partition, log_offset, record_time_us, cause, detail, \
         message_key, message_value, value_bytes)",
        "ON CONFLICT DO NOTHING",
        letters,
        |letter, values| {
            values.extend_from_slice(params![
                now_us,
                &*letter.source.topic,
                letter.topic_id.as_deref(),
                letter.source.partition,
                letter.offset,
                letter.record_time_us,
                letter.cause.name(),
                &letter.detail,
                letter.key.as_deref(),
                letter.value.as_deref(),
                letter.value_bytes,
            ]);
        },
        |_, param| param,
    )
}

pub fn all<D: Database>(db: &mut D) -> Result<Vec<PartitionRow>> {
    let sql = "SELECT p.topic, p.partition, p.epoch, p.owner, p.topic_id, p.first_offset, p.next_offset, p.max_event_us, \
               f.folded_event_us, p.at_end_since_us, p.at_end_reported_us, p.halted, p.counters \
               FROM partitions p LEFT JOIN folded_event_times f ON f.topic = p.topic AND f.partition = p.partition \
               ORDER BY p.topic, p.partition";
    db.query(sql, &[])?.into_iter().map(partition_row).collect()
}

fn partition_row(mut row: Row) -> Result<PartitionRow> {
    Ok(PartitionRow {
        source: row.source(0)?,
        epoch: row.int(2)?,
        owner: row.maybe_text(3)?,
        topic_id: row.maybe_text(4)?,
        first_offset: row.maybe_int(5)?,
        next_offset: row.maybe_int(6)?,
        max_event_us: row.maybe_int(7)?,
        folded_event_us: row.maybe_int(8)?,
        at_end_since_us: row.maybe_int(9)?,
        at_end_reported_us: row.maybe_int(10)?,
        halted: row.maybe_text(11)?,
        counters: counters_from(&row.text(12)?)?,
    })
}

pub fn counters_text(counters: &Counters) -> Result<String> {
    serde_json::to_string(counters).map_err(corrupt)
}

fn counters_from(text: &str) -> Result<Counters> {
    serde_json::from_str(text).map_err(corrupt)
}
