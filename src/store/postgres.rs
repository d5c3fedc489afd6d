//! The store for many instances: PostgreSQL.
//!
//! Its client blocks on a runtime of its own: call it from plain threads, never from within an async task.

use super::sql::{Database, Dialect, Mode, Param, Row, SqlStore, Value, corrupt};
use super::sqlite::Clock;
use super::{Result, StoreError};
use ::postgres::config::SslMode;
use ::postgres::error::SqlState;
use ::postgres::types::private::BytesMut;
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use ::postgres::{Client, Config, Error, Statement};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;
use std::collections::HashMap;
use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A PostgreSQL store on one connection.
pub type PostgresStore = SqlStore<Postgres>;

const MIGRATIONS: [&str; 1] = [include_str!("migrations/postgres_1.sql")];
/// Names the migrations among the advisory locks of a database.
const MIGRATION_LOCK: i64 = 0x0063_6f64_6567_656e;

/// How to reach the database.
pub struct PostgresOptions {
    /// `postgres://user:password@host/database`, as in `DATABASE_URL`.
    pub url: String,
    /// Certificate authorities, PEM. With it the server's certificate and name are verified and TLS is required; without it TLS follows
    /// `sslmode` of the URL and verifies nothing, as libpq does.
    pub ca_file: Option<PathBuf>,
    /// Limit of a connection attempt, a statement, a pause inside a transaction, and of unacknowledged data. Keep it below the session
    /// timeout of the consumer group, so that a cut-off owner cannot hold a row.
    pub timeout: Duration,
    /// Replaces the server's clock. For tests.
    pub clock: Option<Clock>,
}

/// A PostgreSQL database whose tables are up to date.
pub struct PostgresDatabase {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    tls: MakeTlsConnector,
    timeout: Duration,
    clock: Option<Clock>,
}

impl PostgresDatabase {
    /// Connects and brings the tables, in the first schema of the search path, up to date.
    ///
    /// # Errors
    /// `Refused` if the URL or the certificates cannot be read or a newer version made the tables; `Unavailable` if the database cannot
    /// be reached.
    pub fn open(options: PostgresOptions) -> Result<PostgresDatabase> {
        let refused =
            |what: &str, error: &dyn std::fmt::Display| StoreError::Refused(format!("{what}: {error}"));
        let mut config: Config = options.url.parse().map_err(|error| refused("the database URL", &error))?;
        let (tls, verified) = connector(options.ca_file).map_err(|error| refused("TLS", &error))?;
        if verified {
            config.ssl_mode(SslMode::Require);
        }
        config.connect_timeout(options.timeout).tcp_user_timeout(options.timeout);
        if config.get_application_name().is_none() {
            config.application_name("codegen-metrics-reducer");
        }
        let shared = Arc::new(Shared { config, tls, timeout: options.timeout, clock: options.clock });
        migrate(&mut shared.client()?)?;
        Ok(PostgresDatabase { shared })
    }

    /// A store of its own connection, for one thread.
    pub fn connect(&self) -> Result<PostgresStore> {
        let mut postgres = Postgres {
            shared: self.shared.clone(),
            session: None,
            open: false,
            failed: false,
            conflicted: false,
        };
        postgres.reconnect()?;
        Ok(SqlStore::new(postgres))
    }
}

/// The TLS connector, and whether it verifies the server.
fn connector(
    ca_file: Option<PathBuf>,
) -> std::result::Result<(MakeTlsConnector, bool), openssl::error::ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    match &ca_file {
        Some(path) => builder.set_ca_file(path)?,
        None => builder.set_verify(SslVerifyMode::NONE),
    }
    Ok((MakeTlsConnector::new(builder.build()), ca_file.is_some()))
}

impl Shared {
    fn client(&self) -> Result<Client> {
        let unavailable = |error: Error| StoreError::Unavailable(describe(&error));
        let mut client = self.config.connect(self.tls.clone()).map_err(unavailable)?;
        let timeout_ms = self.timeout.as_millis();
        let settings = format!(
            "SET statement_timeout = {timeout_ms}; SET idle_in_transaction_session_timeout = {timeout_ms}; \
             SET client_min_messages = 'warning'"
        );
        client.batch_execute(&settings).map_err(unavailable)?;
        Ok(client)
    }
}

fn migrate(client: &mut Client) -> Result<()> {
    let known = MIGRATIONS.len();
    let mut transaction = client.transaction().map_err(fault)?;
    // Instances that start together take turns.
    let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
    transaction.batch_execute(&lock).map_err(fault)?;
    transaction
        .batch_execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        .map_err(fault)?;
    let sql = "SELECT COALESCE(MAX(version), 0) FROM schema_version";
    let version: i64 = transaction.query_one(sql, &[]).map_err(fault)?.get(0);
    let version = usize::try_from(version).map_err(corrupt)?;
    if version > known {
        return Err(StoreError::Refused(format!(
            "it has schema version {version}, this program knows up to {known}"
        )));
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        transaction.batch_execute(migration).map_err(fault)?;
        transaction
            .execute("INSERT INTO schema_version VALUES ($1)", &[&(index as i64 + 1)])
            .map_err(fault)?;
    }
    transaction.commit().map_err(fault)
}

struct Session {
    client: Client,
    /// By text. The shapes of statements are few, so it stays small.
    statements: HashMap<String, Statement>,
}

/// One connection to the server.
pub struct Postgres {
    shared: Arc<Shared>,
    session: Option<Session>,
    /// Whether a transaction is open.
    open: bool,
    /// Whether a statement of it failed: COMMIT would then roll back without an error.
    failed: bool,
    conflicted: bool,
}

impl Postgres {
    fn reconnect(&mut self) -> Result<()> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = Some(Session { client: self.shared.client()?, statements: HashMap::new() });
        }
        Ok(())
    }

    fn session(&mut self) -> Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| StoreError::Unavailable("not connected".into()))
    }

    /// Runs `work` with the prepared statement and notes how it failed.
    fn run<T>(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
        work: impl FnOnce(&mut Client, &Statement, &[&(dyn ToSql + Sync)]) -> std::result::Result<T, Error>,
    ) -> Result<T> {
        let params: Vec<_> = params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
        let session = self.session()?;
        let done =
            session.statement(sql).and_then(|statement| work(&mut session.client, &statement, &params));
        done.map_err(|error| {
            self.failed = true;
            self.conflicted = is_conflict(&error);
            fault(error)
        })
    }
}

impl Session {
    fn statement(&mut self, sql: &str) -> std::result::Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }
}

impl Database for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    fn now_us(&mut self) -> Result<i64> {
        if let Some(clock) = &self.shared.clock {
            return Ok(clock());
        }
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";
        self.query_one(sql, &[])?.int(0)
    }

    fn begin(&mut self, mode: Mode) -> Result<()> {
        self.rollback();
        self.conflicted = false;
        self.reconnect()?;
        let begin = match mode {
            Mode::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Mode::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
            Mode::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        };
        (self.open, self.failed) = (true, false);
        self.session()?.client.batch_execute(begin).map_err(fault)
    }

    fn commit(&mut self) -> Result<()> {
        if self.failed {
            self.rollback();
            return Err(StoreError::Unavailable("a statement of the transaction failed".into()));
        }
        let done = self.session()?.client.batch_execute("COMMIT");
        self.open = done.is_err();
        done.map_err(|error| {
            if is_conflict(&error) {
                self.conflicted = true;
                return fault(error);
            }
            // Anything else may have come after the commit record was written; the connection is of no more use.
            (self.session, self.open) = (None, false);
            StoreError::Indefinite(describe(&error))
        })
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.open) {
            let rolled_back =
                self.session.as_mut().is_some_and(|session| session.client.batch_execute("ROLLBACK").is_ok());
            if !rolled_back {
                // Closing the connection rolls back, too.
                self.session = None;
            }
        }
    }

    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        self.run(sql, params, |client, statement, params| client.execute(statement, params))
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let rows = self.run(sql, params, |client, statement, params| client.query(statement, params))?;
        rows.iter()
            .map(|row| (0..row.len()).map(|column| value(row, column)).collect::<Result<_>>().map(Row))
            .collect()
    }

    fn conflicted(&self) -> bool {
        self.conflicted
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Int(value) => value.to_sql_checked(ty, out),
            Param::Bool(value) => value.to_sql_checked(ty, out),
            Param::Text(value) => value.to_sql_checked(ty, out),
            Param::Blob(value) => value.to_sql_checked(ty, out),
        }
    }

    /// Whatever the statement wants; each kind checks for itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn value(row: &::postgres::Row, column: usize) -> Result<Value> {
    let ty = row.columns()[column].type_();
    let value = match *ty {
        Type::INT8 => row.try_get::<_, Option<i64>>(column).map(|v| v.map(Value::Int)),
        Type::BOOL => row.try_get::<_, Option<bool>>(column).map(|v| v.map(Value::Bool)),
        Type::TEXT => row.try_get::<_, Option<String>>(column).map(|v| v.map(Value::Text)),
        Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(column).map(|v| v.map(Value::Blob)),
        _ => return Err(corrupt(format!("column {column} has the type {ty}"))),
    };
    Ok(value.map_err(corrupt)?.unwrap_or(Value::Null))
}

/// Serialization failures and deadlocks: SQLSTATE class 40.
fn is_conflict(error: &Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("40"))
}

/// With the cause, which the client's own text leaves out.
fn describe(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Faults by who has to act. Of the server's errors those in the data (values, constraints, missing tables, broken pages) do not pass
/// with time; all others, and all of the connection, may.
fn fault(error: Error) -> StoreError {
    let code = error.code().cloned().unwrap_or(SqlState::CONNECTION_FAILURE);
    let in_data = ["22", "23", "42", "XX"].iter().any(|class| code.code().starts_with(class));
    match in_data && code != SqlState::INSUFFICIENT_PRIVILEGE {
        true => StoreError::Corrupt(describe(&error)),
        false => StoreError::Unavailable(describe(&error)),
    }
}
