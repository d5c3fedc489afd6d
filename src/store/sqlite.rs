//! The embedded store: one SQLite file, one process, any number of connections within it.

use super::sql::{Database, Dialect, Mode, Param, Row, SqlStore, Value, corrupt};
use super::{Result, StoreError};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A SQLite store on one connection.
pub type SqliteStore = SqlStore<Sqlite>;

/// The clock of the process, µs since the Unix epoch.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

const MIGRATIONS: [&str; 1] = [include_str!("migrations/sqlite_1.sql")];
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENTS_MAX: usize = 128;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on the disk.
    Full,
    /// Once the operating system has it: survives the process, not the machine. For tests.
    ProcessOnly,
}

/// A SQLite file, locked against other processes for as long as this value or a store of it lives.
pub struct SqliteDatabase {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    durability: Durability,
    clock: Clock,
    /// Whether a connection of this process is writing. SQLite's own wait polls; this one queues.
    writing: Mutex<bool>,
    written: Condvar,
    /// Held, never read.
    _lock: File,
}

impl SqliteDatabase {
    /// Locks and opens the file at `path`, creating it if `create` says so, and brings its tables up to date. `clock` is the store's clock.
    ///
    /// # Errors
    /// `Refused` if another process has the store open or a newer version made it; `Unavailable` if it cannot be opened.
    pub fn open(path: &Path, create: bool, durability: Durability, clock: Clock) -> Result<SqliteDatabase> {
        if !create && !path.exists() {
            return Err(StoreError::Unavailable(format!("no store at {}", path.display())));
        }
        let shared = Shared {
            path: path.into(),
            durability,
            clock,
            writing: Mutex::new(false),
            written: Condvar::new(),
            _lock: lock(path)?,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        migrate(&mut shared.connection(flags)?)?;
        Ok(SqliteDatabase { shared: Arc::new(shared) })
    }

    /// A store of its own connection, for one thread.
    pub fn connect(&self) -> Result<SqliteStore> {
        let connection = Some(self.shared.connection(OpenFlags::SQLITE_OPEN_READ_WRITE)?);
        Ok(SqlStore::new(Sqlite { shared: self.shared.clone(), connection, turn: None }))
    }
}

/// Takes the lock file beside the store. The file stays behind: removing it would let two processes lock two files of one name.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let unavailable = |error| StoreError::Unavailable(format!("{}: {error}", Path::new(&name).display()));
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Refused(format!("another process has the store at {} open", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

fn migrate(connection: &mut Connection) -> Result<()> {
    let known = MIGRATIONS.len();
    let transaction = connection.transaction().map_err(fault)?;
    transaction
        .execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        .map_err(fault)?;
    let sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
    let version: i64 = transaction.query_row(sql, [], |row| row.get(0)).map_err(fault)?;
    let version = usize::try_from(version).map_err(corrupt)?;
    if version > known {
        return Err(StoreError::Refused(format!(
            "it has schema version {version}, this program knows up to {known}"
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        transaction.execute_batch(migration).map_err(fault)?;
        transaction.execute("INSERT INTO schema_version VALUES (?1)", [index as i64 + 1]).map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

impl Shared {
    fn connection(&self, flags: OpenFlags) -> Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(fault)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fault)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let synchronous = if self.durability == Durability::Full { "FULL" } else { "OFF" };
        for (pragma, value) in
            [("journal_mode", "WAL"), ("synchronous", synchronous), ("foreign_keys", "OFF")]
        {
            connection.pragma_update(None, pragma, value).map_err(fault)?;
        }
        Ok(connection)
    }
}

/// The right to write, passed from connection to connection.
struct Turn(Arc<Shared>);

impl Turn {
    fn wait(shared: &Arc<Shared>) -> Turn {
        // A flag survives a panic elsewhere unharmed: `Drop` gives it back.
        let mut writing = shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while *writing {
            writing = shared.written.wait(writing).unwrap_or_else(PoisonError::into_inner);
        }
        *writing = true;
        Turn(shared.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.writing.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.written.notify_one();
    }
}

/// One connection to the file.
pub struct Sqlite {
    shared: Arc<Shared>,
    /// `None` after a fault that may have broken it.
    connection: Option<Connection>,
    turn: Option<Turn>,
}

impl Sqlite {
    fn open(&self) -> Result<&Connection> {
        self.connection
            .as_ref()
            .ok_or_else(|| StoreError::Unavailable("the file was closed after a fault".into()))
    }
}

impl Database for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn now_us(&mut self) -> Result<i64> {
        Ok((self.shared.clock)())
    }

    fn begin(&mut self, mode: Mode) -> Result<()> {
        self.rollback();
        if self.connection.is_none() {
            self.connection = Some(self.shared.connection(OpenFlags::SQLITE_OPEN_READ_WRITE)?);
        }
        if mode == Mode::Read {
            return self.open()?.execute_batch("BEGIN DEFERRED").map_err(fault);
        }
        self.turn = Some(Turn::wait(&self.shared));
        self.open()?.execute_batch("BEGIN IMMEDIATE").map_err(fault)
    }

    fn commit(&mut self) -> Result<()> {
        let done = self.open()?.execute_batch("COMMIT").map_err(|error| match error.sqlite_error_code() {
            // Refused before anything was written.
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::OutOfMemory) => fault(error),
            _ => StoreError::Indefinite(error.to_string()),
        });
        if matches!(done, Err(StoreError::Indefinite(_))) {
            self.connection = None;
        }
        self.turn = None;
        done
    }

    fn rollback(&mut self) {
        if let Some(connection) = self.connection.take_if(|connection| !connection.is_autocommit()) {
            // A connection that cannot even roll back is closed, which does.
            self.connection = connection.execute_batch("ROLLBACK").is_ok().then_some(connection);
        }
        self.turn = None;
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        let mut statement = self.open()?.prepare_cached(&numbered(sql)).map_err(fault)?;
        let changed = statement.execute(rusqlite::params_from_iter(params)).map_err(fault)?;
        Ok(changed as u64)
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let mut statement = self.open()?.prepare_cached(&numbered(sql)).map_err(fault)?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(fault)?;
        let mut read = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let values = (0..columns).map(|column| value(row.get_ref(column).map_err(fault)?));
            read.push(Row(values.collect::<Result<_>>()?));
        }
        Ok(read)
    }

    /// Never: writers take turns.
    fn conflicted(&self) -> bool {
        false
    }
}

/// SQLite numbers parameters by `?1`; `$1` would be a name. No text of a statement contains a `$` otherwise.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Param::Null => ValueRef::Null,
            Param::Int(value) => ValueRef::Integer(value),
            Param::Bool(value) => ValueRef::Integer(value.into()),
            Param::Text(value) => ValueRef::Text(value.as_bytes()),
            Param::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

fn value(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(_) => return Err(corrupt("a floating-point number where none is stored")),
        ValueRef::Text(bytes) => Value::Text(str::from_utf8(bytes).map_err(corrupt)?.into()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.into()),
    })
}

/// Faults by who has to act: those of the file or the disk pass or are repaired from outside, the rest are in the stored data.
fn fault(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Corrupt(error.to_string()),
    }
}
