//! The recorder's side: the lease, its transaction, the cells.

use super::sql::{
    Database, Param, Row, batches, corrupt, execute_in, fitting, insert, list, params, query_in, tuples,
};
use super::*;

const CELL: &str =
    "span, start_s, aggregation_type, group_key, end_s, bytes, events, is_final, dirty, enqueued_events";
const CELL_COLUMNS: usize = 10;
const KEY: &str = "span, start_s, aggregation_type, group_key";
const KEY_COLUMNS: usize = 4;

fn lease_end_us(now_us: i64, lease: Duration) -> i64 {
    now_us.saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
}

pub fn lead<D: Database>(db: &mut D, holder: &str, lease: Duration) -> Result<Option<i64>> {
    let sql = format!("SELECT epoch, holder, expires_us FROM leader{}", db.dialect().for_update());
    let mut row = db.query_one(&sql, &[])?;
    let (epoch, present, expires_us) = (row.int(0)?, row.maybe_text(1)?, row.int(2)?);
    let now_us = db.now_us()?;
    let ours = present.as_deref() == Some(holder);
    if !ours && present.is_some() && expires_us > now_us {
        return Ok(None);
    }
    let epoch = if ours { epoch } else { epoch + 1 };
    let sql = "UPDATE leader SET epoch = $1, holder = $2, expires_us = $3";
    db.execute(sql, params![epoch, holder, lease_end_us(now_us, lease)])?;
    Ok(Some(epoch))
}

pub fn resign<D: Database>(db: &mut D, holder: &str, epoch: i64) -> Result<()> {
    let sql = "UPDATE leader SET holder = NULL, expires_us = 0 WHERE epoch = $1 AND holder = $2";
    db.execute(sql, params![epoch, holder]).map(drop)
}

/// Compares the leader's epoch and renews the lease. A lease that expired without being taken may be renewed; one given up may not.
pub fn renew<D: Database>(db: &mut D, epoch: i64, lease: Duration) -> Result<()> {
    let now_us = db.now_us()?;
    let sql = "UPDATE leader SET expires_us = $1 WHERE epoch = $2 AND holder IS NOT NULL";
    match db.execute(sql, params![lease_end_us(now_us, lease), epoch])? {
        1 => Ok(()),
        _ => Err(StoreError::NotLeader),
    }
}

/// The recorder's view of its open transaction.
pub struct Recorder<'a, D> {
    pub db: &'a mut D,
}

impl<D: Database> Recording for Recorder<'_, D> {
    fn now_us(&mut self) -> Result<i64> {
        self.db.now_us()
    }

    fn state(&mut self) -> Result<RecorderState> {
        state(self.db)
    }

    fn unfolded(&mut self, flushes_max: usize, bytes_max: usize) -> Result<(Vec<UnfoldedFlush>, bool)> {
        let sql =
            "SELECT flush_id, CAST(octet_length(deltas) AS BIGINT) FROM flushes ORDER BY flush_id LIMIT $1";
        let mut lengths = self.db.query(sql, params![flushes_max.saturating_add(1)])?;
        let beyond = lengths.len() > flushes_max;
        lengths.truncate(flushes_max);
        let (ids, left) = fitting(lengths, bytes_max)?;
        let sql = "SELECT flush_id, deltas, event_times, flushed_us FROM flushes WHERE flush_id";
        let flushes = query_in(self.db, sql, &ids)?.into_iter().map(unfolded_flush).collect::<Result<_>>()?;
        Ok((flushes, beyond || left))
    }

    fn partitions(&mut self) -> Result<Vec<PartitionRow>> {
        partitions::all(self.db)
    }

    fn cells(&mut self, keys: &[CellKey]) -> Result<Vec<Option<StoredCell>>> {
        let mut found = BTreeMap::new();
        let integer = |column, param| if column < 2 { format!("CAST({param} AS BIGINT)") } else { param };
        for piece in batches(keys) {
            let mut values = Vec::with_capacity(piece.len() * KEY_COLUMNS);
            piece.iter().for_each(|key| key_params(key, &mut values));
            let tuples = tuples(piece.len(), KEY_COLUMNS, integer);
            // The cross join keeps SQLite from scanning all cells: the wanted keys come first, each is looked up.
            let sql = format!(
                "WITH wanted (w_span, w_start, w_type, w_group) AS (VALUES {tuples}) SELECT {CELL} FROM wanted CROSS JOIN cells \
                 WHERE span = w_span AND start_s = w_start AND aggregation_type = w_type AND group_key = w_group"
            );
            for row in self.db.query(&sql, &values)? {
                let (key, cell) = cell(row)?;
                found.insert(key, cell);
            }
        }
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    fn group_counts(&mut self, span: Span, start_s: i64) -> Result<BTreeMap<String, u64>> {
        let sql = "SELECT aggregation_type, COUNT(*) FROM cells WHERE span = $1 AND start_s = $2 GROUP BY aggregation_type";
        let rows = self.db.query(sql, params![code(span), start_s])?;
        rows.into_iter().map(|mut row| Ok((row.text(0)?, row.count(1)?))).collect()
    }

    fn unfinished(&mut self, end_s_max: i64, limit: usize) -> Result<Vec<(CellKey, StoredCell)>> {
        let sql = format!(
            "SELECT {CELL} FROM cells WHERE NOT is_final AND span > 0 AND end_s <= $1 ORDER BY end_s, {KEY} LIMIT $2"
        );
        self.db.query(&sql, params![end_s_max, limit])?.into_iter().map(cell).collect()
    }

    fn dirty(&mut self, after: Option<&CellKey>, limit: usize) -> Result<Vec<(CellKey, StoredCell)>> {
        let mut values = Vec::new();
        let mut beyond = "";
        if let Some(key) = after {
            key_params(key, &mut values);
            beyond = "AND (span, start_s, aggregation_type, group_key) > ($1, $2, $3, $4)";
        }
        values.push(limit.into());
        let last = values.len();
        let sql = format!(
            "SELECT {CELL} FROM cells WHERE dirty AND span > 0 {beyond} ORDER BY {KEY} LIMIT ${last}"
        );
        self.db.query(&sql, &values)?.into_iter().map(cell).collect()
    }

    fn save(&mut self, recorded: &Recorded) -> Result<()> {
        let folded = execute_in(self.db, "DELETE FROM flushes WHERE flush_id", &recorded.folded)?;
        if folded != recorded.folded.len() as u64 {
            let asked = recorded.folded.len();
            return Err(corrupt(format!("of {asked} folded flushes only {folded} are in the store")));
        }
        save_cells(self.db, &recorded.cells)?;
        save_outbox(self.db, &recorded.outbox)?;
        for (source, &time_us) in &recorded.folded_event_times {
            let sql = "INSERT INTO folded_event_times (topic, partition, folded_event_us) VALUES ($1, $2, $3) \
                       ON CONFLICT (topic, partition) DO UPDATE SET folded_event_us = excluded.folded_event_us \
                       WHERE folded_event_times.folded_event_us < excluded.folded_event_us";
            self.db.execute(sql, params![&*source.topic, source.partition, time_us])?;
        }
        recorded.state.as_ref().map_or(Ok(()), |state| save_state(self.db, state))
    }
}

fn unfolded_flush(mut row: Row) -> Result<UnfoldedFlush> {
    let event_times: Vec<(String, i32, i64)> = serde_json::from_str(&row.text(2)?).map_err(corrupt)?;
    let timed =
        |(topic, partition, time_us): (String, _, _)| (Source { topic: topic.into(), partition }, time_us);
    Ok(UnfoldedFlush {
        flush_id: row.int(0)?,
        deltas: row.blob(1)?,
        event_times: event_times.into_iter().map(timed).collect(),
        flushed_us: row.int(3)?,
    })
}

pub fn state<D: Database>(db: &mut D) -> Result<RecorderState> {
    let sql = "SELECT s.rebuild, s.watermark_us, s.final_watermark_us, s.now_us, s.emitted_us, f.floor_us \
               FROM recorder_state s, acceptance_floor f";
    let mut row = db.query_one(sql, &[])?;
    Ok(RecorderState {
        rebuild: row.count(0)?,
        watermark_us: row.int(1)?,
        final_watermark_us: row.int(2)?,
        now_us: row.int(3)?,
        emitted_us: row.int(4)?,
        floor_us: row.int(5)?,
    })
}

/// The floor is written only when it rises: that write waits for the flushes that have read it, and later flushes see it.
fn save_state<D: Database>(db: &mut D, state: &RecorderState) -> Result<()> {
    let RecorderState { rebuild, watermark_us, final_watermark_us, floor_us, now_us, emitted_us } = *state;
    let sql = "UPDATE recorder_state SET rebuild = $1, watermark_us = $2, final_watermark_us = $3, now_us = $4, emitted_us = $5";
    db.execute(sql, params![rebuild, watermark_us, final_watermark_us, now_us, emitted_us])?;
    db.execute("UPDATE acceptance_floor SET floor_us = $1 WHERE floor_us < $1", params![floor_us]).map(drop)
}

fn save_cells<D: Database>(db: &mut D, cells: &[(CellKey, StoredCell)]) -> Result<()> {
    // In key order, and each key once (the last): neighbours share pages, and one statement may not write a row twice.
    let cells: Vec<_> =
        cells.iter().map(|(key, cell)| (key, cell)).collect::<BTreeMap<_, _>>().into_iter().collect();
    insert(
        db,
        &format!("INSERT INTO cells ({CELL})"),
        // end_s follows from the key.
        &format!(
            "ON CONFLICT ({KEY}) DO UPDATE SET bytes = excluded.bytes, events = excluded.events, \
             is_final = excluded.is_final, dirty = excluded.dirty, enqueued_events = excluded.enqueued_events"
        ),
        &cells,
        |(key, cell), values| {
            values.reserve(CELL_COLUMNS);
            key_params(key, values);
            let StoredCell { end_s, bytes, events, is_final, dirty, enqueued_events } = cell;
            values.extend_from_slice(params![*end_s, &**bytes, *events, *is_final, *dirty, *enqueued_events]);
        },
        |_, param| param,
    )
}

fn save_outbox<D: Database>(db: &mut D, rows: &[OutboxRow]) -> Result<()> {
    // One snapshot: both statements see the same sent rows, and those sent meanwhile stay for the next time.
    db.execute("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox_sent)", &[])?;
    db.execute("DELETE FROM outbox_sent", &[])?;
    // Of two rows with one id the later replaces the earlier.
    let last: BTreeMap<&str, usize> =
        rows.iter().enumerate().map(|(i, row)| (&*row.aggregation_id, i)).collect();
    let rows: Vec<&OutboxRow> = rows
        .iter()
        .enumerate()
        .filter(|(i, row)| last[&*row.aggregation_id] == *i)
        .map(|(_, row)| row)
        .collect();
    for piece in batches(&rows) {
        let ids: Vec<_> = piece.iter().map(|row| Param::from(&row.aggregation_id)).collect();
        db.execute(&format!("DELETE FROM outbox WHERE aggregation_id IN ({})", list(piece.len())), &ids)?;
    }
    insert(
        db,
        "INSERT INTO outbox (aggregation_id, priority, record, created_us)",
        "",
        &rows,
        |row, values| {
            let priority = i64::from(row.priority);
            values.extend_from_slice(params![&row.aggregation_id, priority, &row.record, row.created_us]);
        },
        |_, param| param,
    )
}

fn code(span: Span) -> i64 {
    match span {
        Span::Slice => 0,
        Span::Hourly => 1,
        Span::Daily => 2,
        Span::Weekly => 3,
        Span::Monthly => 4,
    }
}

fn span(code: i64) -> Result<Span> {
    let spans = [Span::Slice, Span::Hourly, Span::Daily, Span::Weekly, Span::Monthly];
    usize::try_from(code)
        .ok()
        .and_then(|i| spans.get(i).copied())
        .ok_or_else(|| corrupt(format!("span {code}")))
}

fn key_params<'a>(key: &'a CellKey, values: &mut Vec<Param<'a>>) {
    let CellKey { span, start_s, aggregation_type, group_key } = key;
    values.extend_from_slice(params![code(*span), *start_s, aggregation_type, group_key]);
}

fn cell(mut row: Row) -> Result<(CellKey, StoredCell)> {
    let key = CellKey {
        span: span(row.int(0)?)?,
        start_s: row.int(1)?,
        aggregation_type: row.text(2)?,
        group_key: row.text(3)?,
    };
    let cell = StoredCell {
        end_s: row.int(4)?,
        bytes: row.blob(5)?,
        events: row.count(6)?,
        is_final: row.bool(7)?,
        dirty: row.bool(8)?,
        enqueued_events: row.count(9)?,
    };
    Ok((key, cell))
}

/// The conditions of a range query, and its order and limit. The first parameter is the caller's, used in `head`; `instant` shapes a
/// start in seconds as the column `start` stores it.
pub fn range_sql<'a>(
    query: &'a RangeQuery,
    head: &str,
    start: &str,
    instant: impl Fn(String) -> String,
    first: Param<'a>,
) -> (String, Vec<Param<'a>>) {
    let mut values = vec![first, query.from_s.into(), query.to_s.into()];
    let mut sql =
        format!("{head} AND {start} >= {} AND {start} < {}", instant("$2".into()), instant("$3".into()));
    for (column, value) in [("aggregation_type", &query.aggregation_type), ("group_key", &query.group_key)] {
        if let Some(value) = value {
            values.push(value.into());
            sql += &format!(" AND {column} = ${}", values.len());
        }
    }
    if let Some((start_s, aggregation_type, group_key)) = &query.after {
        values.extend_from_slice(params![*start_s, aggregation_type, group_key]);
        let n = values.len();
        let after = instant(format!("${}", n - 2));
        sql += &format!(" AND ({start}, aggregation_type, group_key) > ({after}, ${}, ${n})", n - 1);
    }
    values.push(query.limit.into());
    sql += &format!(" ORDER BY {start}, aggregation_type, group_key LIMIT ${}", values.len());
    (sql, values)
}

pub fn range<D: Database>(db: &mut D, query: &RangeQuery) -> Result<Vec<(CellKey, StoredCell)>> {
    let head = format!("SELECT {CELL} FROM cells WHERE span = $1");
    let (sql, values) = range_sql(query, &head, "start_s", |param| param, code(query.span).into());
    db.query(&sql, &values)?.into_iter().map(cell).collect()
}

pub fn expire<D: Database>(
    db: &mut D,
    epoch: i64,
    end_s_max: i64,
    dead_letters_us: i64,
    limit: usize,
) -> Result<u64> {
    let sql = format!(
        "SELECT epoch FROM leader WHERE epoch = $1 AND holder IS NOT NULL{}",
        db.dialect().for_share()
    );
    if db.query(&sql, params![epoch])?.is_empty() {
        return Err(StoreError::NotLeader);
    }
    if !db.query("SELECT flush_id FROM flushes LIMIT 1", &[])?.is_empty() {
        return Ok(0);
    }
    let mut deleted = 0;
    for span in 0..=4i64 {
        deleted += expire_span(db, span, end_s_max, (limit as u64).saturating_sub(deleted))?;
    }
    let sql = "DELETE FROM dead_letters WHERE id IN \
               (SELECT id FROM dead_letters WHERE published AND flushed_us < $1 ORDER BY flushed_us, id LIMIT $2)";
    Ok(deleted + db.execute(sql, params![dead_letters_us, limit])?)
}

/// Deletes the oldest cells of a span that ended by `end_s_max`. Within a span the end grows with the start, so they are one range of
/// keys: up to the last that `limit` allows, or all.
fn expire_span<D: Database>(db: &mut D, span: i64, end_s_max: i64, limit: u64) -> Result<u64> {
    let Some(before) = limit.checked_sub(1) else { return Ok(0) };
    let ended = "span = $1 AND start_s < $2 AND end_s <= $2";
    let sql = format!(
        "SELECT start_s, aggregation_type, group_key FROM cells WHERE {ended} ORDER BY {KEY} LIMIT 1 OFFSET $3"
    );
    let Some(mut last) = db.query(&sql, params![span, end_s_max, before])?.pop() else {
        return db.execute(&format!("DELETE FROM cells WHERE {ended}"), params![span, end_s_max]);
    };
    let sql =
        format!("DELETE FROM cells WHERE {ended} AND (start_s, aggregation_type, group_key) <= ($3, $4, $5)");
    let (start_s, aggregation_type, group_key) = (last.int(0)?, last.text(1)?, last.text(2)?);
    db.execute(&sql, params![span, end_s_max, start_s, &aggregation_type, &group_key])
}
