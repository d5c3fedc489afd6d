//! What both databases share: the store's transactions in SQL, over the small interface `Database`.
//!
//! Statements number their parameters `$1`, `$2`, …; integers are 64 bit everywhere.

use super::*;
use crate::store::{partitions, queues, recording};

/// How often a transaction that lost to a concurrent one is run again.
const RETRIES_MAX: u32 = 10;
/// Rows of the large, the medium and the single-row statement: few shapes, so that all stay prepared.
const BATCHES: [usize; 3] = [64, 8, 1];

/// Which SQL to write where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Suffix of a read whose row must not change before the commit. SQLite has one writer and needs none.
    pub fn for_share(self) -> &'static str {
        if self == Dialect::Postgres { " FOR SHARE" } else { "" }
    }

    /// Suffix of a read whose row is to be updated.
    pub fn for_update(self) -> &'static str {
        if self == Dialect::Postgres { " FOR UPDATE" } else { "" }
    }

    /// The instant of a parameter in seconds, as the analytics table stores it.
    pub fn instant(self, param: &str) -> String {
        match self {
            Dialect::Sqlite => format!("strftime('%Y-%m-%dT%H:%M:%SZ', {param}, 'unixepoch')"),
            Dialect::Postgres => format!("to_timestamp(CAST({param} AS BIGINT))"),
        }
    }

    /// A text parameter for a column of another type.
    pub fn typed(self, param: &str, sql_type: &str) -> String {
        match self {
            Dialect::Sqlite => param.into(),
            Dialect::Postgres => format!("CAST(CAST({param} AS TEXT) AS {sql_type})"),
        }
    }
}

/// What a transaction needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads of one snapshot.
    Read,
    /// Each statement sees what was committed before it.
    Write,
    /// Writes on one snapshot; conflicts are retried.
    Snapshot,
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub enum Param<'a> {
    Null,
    Int(i64),
    Bool(bool),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Param::Int(value)
    }
}

impl From<i32> for Param<'_> {
    fn from(value: i32) -> Self {
        Param::Int(value.into())
    }
}

/// Counts and limits; those that would not fit are limits, for which the largest number is as good.
impl From<u64> for Param<'_> {
    fn from(value: u64) -> Self {
        Param::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Param<'_> {
    fn from(value: usize) -> Self {
        Param::from(value as u64)
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Param::Bool(value)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Param::Blob(value)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

/// The parameters of a statement, in order.
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::Param::from($value)),*] };
}
pub(super) use params;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Bool(bool),
    Text(String),
    Blob(Vec<u8>),
}

/// A row; columns count from 0, and each may be taken once.
#[derive(Debug)]
pub struct Row(pub Vec<Value>);

impl Row {
    fn take(&mut self, column: usize) -> Value {
        self.0.get_mut(column).map_or(Value::Null, |value| std::mem::replace(value, Value::Null))
    }

    pub fn maybe_int(&mut self, column: usize) -> Result<Option<i64>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Int(value) => Ok(Some(value)),
            other => Err(unexpected(column, &other)),
        }
    }

    pub fn int(&mut self, column: usize) -> Result<i64> {
        self.maybe_int(column)?.ok_or_else(|| unexpected(column, &Value::Null))
    }

    /// A count, which is never negative.
    pub fn count(&mut self, column: usize) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(corrupt)
    }

    pub fn bool(&mut self, column: usize) -> Result<bool> {
        match self.take(column) {
            Value::Bool(value) => Ok(value),
            Value::Int(value) => Ok(value != 0),
            other => Err(unexpected(column, &other)),
        }
    }

    pub fn maybe_text(&mut self, column: usize) -> Result<Option<String>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Text(value) => Ok(Some(value)),
            other => Err(unexpected(column, &other)),
        }
    }

    pub fn text(&mut self, column: usize) -> Result<String> {
        self.maybe_text(column)?.ok_or_else(|| unexpected(column, &Value::Null))
    }

    pub fn maybe_blob(&mut self, column: usize) -> Result<Option<Vec<u8>>> {
        match self.take(column) {
            Value::Null => Ok(None),
            Value::Blob(value) => Ok(Some(value)),
            other => Err(unexpected(column, &other)),
        }
    }

    pub fn blob(&mut self, column: usize) -> Result<Vec<u8>> {
        self.maybe_blob(column)?.ok_or_else(|| unexpected(column, &Value::Null))
    }

    /// The topic and partition in two adjacent columns.
    pub fn source(&mut self, column: usize) -> Result<Source> {
        let topic = self.text(column)?.into();
        Ok(Source { topic, partition: i32::try_from(self.int(column + 1)?).map_err(corrupt)? })
    }
}

fn unexpected(column: usize, value: &Value) -> StoreError {
    let found = match value {
        Value::Null => "NULL",
        Value::Int(_) => "an integer",
        Value::Bool(_) => "a boolean",
        Value::Text(_) => "text",
        Value::Blob(_) => "bytes",
    };
    StoreError::Corrupt(format!("column {column} holds {found}"))
}

/// A stored value that cannot be read back.
pub fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

/// One connection to a database.
pub trait Database: Send {
    /// The SQL it speaks.
    fn dialect(&self) -> Dialect;
    /// The store's clock, µs.
    fn now_us(&mut self) -> Result<i64>;
    /// Begins a transaction, connecting first if need be.
    fn begin(&mut self, mode: Mode) -> Result<()>;
    /// Commits, or fails with `Indefinite` where the outcome is unknown.
    fn commit(&mut self) -> Result<()>;
    /// Ends the transaction, if one is open, without its writes.
    fn rollback(&mut self);
    /// Runs a statement; the number of rows it changed.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64>;
    /// Runs a statement that returns rows.
    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>>;
    /// Whether the last transaction lost to a concurrent one and may be run again.
    fn conflicted(&self) -> bool;

    /// The one row of a statement that always has one.
    fn query_one(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Row> {
        self.query(sql, params)?.pop().ok_or_else(|| corrupt(format!("no row for: {sql}")))
    }
}

/// Cuts `items` into pieces of the batch sizes.
pub fn batches<T>(mut items: &[T]) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    while let Some(size) = BATCHES.into_iter().find(|&size| size <= items.len()) {
        let (piece, rest) = items.split_at(size);
        pieces.push(piece);
        items = rest;
    }
    pieces
}

/// `($1,$2),($3,$4)`: `rows` groups of `columns` parameters; `shape` writes the parameter of a column.
pub fn tuples(rows: usize, columns: usize, shape: impl Fn(usize, String) -> String) -> String {
    let tuple = |row: usize| {
        let params: Vec<_> = (0..columns).map(|c| shape(c, format!("${}", row * columns + c + 1))).collect();
        format!("({})", params.join(","))
    };
    (0..rows).map(tuple).collect::<Vec<_>>().join(",")
}

/// `$1,$2,…`
pub fn list(count: usize) -> String {
    (1..=count).map(|n| format!("${n}")).collect::<Vec<_>>().join(",")
}

/// Inserts rows in batches: `insert` up to `VALUES`, then the tuples, then `rest`.
pub fn insert<'a, D: Database, T>(
    db: &mut D,
    insert: &str,
    rest: &str,
    items: &'a [T],
    params: impl Fn(&'a T, &mut Vec<Param<'a>>),
    shape: impl Fn(usize, String) -> String,
) -> Result<()> {
    for piece in batches(items) {
        let mut values = Vec::new();
        piece.iter().for_each(|item| params(item, &mut values));
        let tuples = tuples(piece.len(), values.len() / piece.len(), &shape);
        db.execute(&format!("{insert} VALUES {tuples} {rest}"), &values)?;
    }
    Ok(())
}

/// Runs `{statement} IN (…)` over all ids; the number of rows it changed.
pub fn execute_in<D: Database>(db: &mut D, statement: &str, ids: &[i64]) -> Result<u64> {
    let mut changed = 0;
    for piece in batches(ids) {
        let params: Vec<_> = piece.iter().map(|&id| Param::Int(id)).collect();
        changed += db.execute(&format!("{statement} IN ({})", list(piece.len())), &params)?;
    }
    Ok(changed)
}

/// Runs `{select} IN (…)` over all ids; the rows, in the order of `ids`, whose column 0 is the id.
pub fn query_in<D: Database>(db: &mut D, select: &str, ids: &[i64]) -> Result<Vec<Row>> {
    let mut rows = BTreeMap::new();
    for piece in batches(ids) {
        let params: Vec<_> = piece.iter().map(|&id| Param::Int(id)).collect();
        for row in db.query(&format!("{select} IN ({})", list(piece.len())), &params)? {
            match row.0.first() {
                Some(&Value::Int(id)) => rows.insert(id, row),
                _ => return Err(corrupt("a row without id")),
            };
        }
    }
    Ok(ids.iter().filter_map(|id| rows.remove(id)).collect())
}

/// Of (id, bytes) rows those that fit, at least one; and whether any was left.
pub fn fitting(rows: Vec<Row>, bytes_max: usize) -> Result<(Vec<i64>, bool)> {
    let (mut ids, mut bytes) = (Vec::new(), 0u64);
    for mut row in rows {
        bytes += row.count(1)?;
        if !ids.is_empty() && bytes > bytes_max as u64 {
            return Ok((ids, true));
        }
        ids.push(row.int(0)?);
    }
    Ok((ids, false))
}

/// A store on one connection. After a fault the next call reconnects.
pub struct SqlStore<D> {
    db: D,
}

impl<D: Database> SqlStore<D> {
    pub(super) fn new(db: D) -> SqlStore<D> {
        SqlStore { db }
    }

    fn transaction<T>(&mut self, mode: Mode, mut work: impl FnMut(&mut D) -> Result<T>) -> Result<T> {
        let mut retries = 0;
        loop {
            let begun = self.db.begin(mode);
            match begun.and_then(|()| work(&mut self.db)).and_then(|done| self.db.commit().map(|()| done)) {
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.db.rollback();
                    if !self.db.conflicted() || retries == RETRIES_MAX {
                        return Err(error);
                    }
                }
            }
            retries += 1;
        }
    }
}

impl<D: Database> Store for SqlStore<D> {
    fn now_us(&mut self) -> Result<i64> {
        self.transaction(Mode::Read, |db| db.now_us())
    }

    fn open(&mut self, meaning: &Meaning) -> Result<()> {
        self.transaction(Mode::Write, |db| queues::open(db, meaning))
    }

    fn add_partitions(&mut self, sources: &[Source]) -> Result<()> {
        self.transaction(Mode::Write, |db| partitions::add(db, sources))
    }

    fn take(&mut self, sources: &[Source], owner: &str, ids_max: usize) -> Result<Vec<Taken>> {
        self.transaction(Mode::Write, |db| partitions::take(db, sources, owner, ids_max))
    }

    fn set_halted(&mut self, source: &Source, epoch: i64, reason: Option<&str>) -> Result<()> {
        self.transaction(Mode::Write, |db| partitions::set_halted(db, source, epoch, reason))
    }

    fn restart_partition(&mut self, source: &Source, epoch: i64) -> Result<()> {
        self.transaction(Mode::Write, |db| partitions::restart(db, source, epoch))
    }

    fn flush(&mut self, flush: &Flush, ids_max: usize) -> Result<Flushed> {
        self.transaction(Mode::Write, |db| partitions::flush(db, flush, ids_max))
    }

    fn lead(&mut self, holder: &str, lease: Duration) -> Result<Option<i64>> {
        self.transaction(Mode::Write, |db| recording::lead(db, holder, lease))
    }

    fn resign(&mut self, holder: &str, epoch: i64) -> Result<()> {
        self.transaction(Mode::Write, |db| recording::resign(db, holder, epoch))
    }

    fn record(
        &mut self,
        epoch: i64,
        lease: Duration,
        work: &mut dyn FnMut(&mut dyn Recording) -> Result<()>,
    ) -> Result<()> {
        self.transaction(Mode::Snapshot, |db| {
            recording::renew(db, epoch, lease)?;
            work(&mut recording::Recorder { db })
        })
    }

    fn outbox(&mut self, limit: usize, bytes_max: usize) -> Result<Vec<OutboxRow>> {
        self.transaction(Mode::Read, |db| queues::outbox(db, limit, bytes_max))
    }

    fn outbox_sent(&mut self, ids: &[i64]) -> Result<()> {
        self.transaction(Mode::Write, |db| queues::outbox_sent(db, ids))
    }

    fn dead_letters_unpublished(&mut self, limit: usize, bytes_max: usize) -> Result<Vec<StoredDeadLetter>> {
        self.transaction(Mode::Read, |db| queues::dead_letters_unpublished(db, limit, bytes_max))
    }

    fn dead_letters_published(&mut self, ids: &[i64]) -> Result<()> {
        let statement = "UPDATE dead_letters SET published = TRUE WHERE id";
        self.transaction(Mode::Write, |db| execute_in(db, statement, ids).map(drop))
    }

    fn persist(&mut self, rows: &[AnalyticsRow]) -> Result<()> {
        self.transaction(Mode::Write, |db| queues::persist(db, rows))
    }

    fn cells(&mut self, query: &RangeQuery) -> Result<Vec<(CellKey, StoredCell)>> {
        self.transaction(Mode::Read, |db| recording::range(db, query))
    }

    fn analytics(&mut self, query: &RangeQuery) -> Result<Vec<String>> {
        self.transaction(Mode::Read, |db| queues::analytics(db, query))
    }

    fn partitions(&mut self) -> Result<Vec<PartitionRow>> {
        self.transaction(Mode::Read, partitions::all)
    }

    fn status(&mut self) -> Result<StoreStatus> {
        self.transaction(Mode::Read, queues::status)
    }

    fn expire(&mut self, epoch: i64, end_s_max: i64, dead_letters_us: i64, limit: usize) -> Result<u64> {
        self.transaction(Mode::Write, |db| recording::expire(db, epoch, end_s_max, dead_letters_us, limit))
    }

    fn rebuild(&mut self, meaning: &Meaning) -> Result<u64> {
        self.transaction(Mode::Write, |db| queues::rebuild(db, meaning))
    }
}
