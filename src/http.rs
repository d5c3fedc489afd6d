//! HTTP: health for probes, and the query API. Reads only; every answer is JSON, errors too.

mod status;
#[cfg(test)]
mod tests;
mod windows;

use crate::aggregator::accumulator::Groupings;
use crate::aggregator::window::{Calendar, Span};
use crate::clock::{Clock, SystemClock};
use crate::store::{Store, StoreError};
use crate::telemetry::{Check, Health, Snapshot, Telemetry};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// Longest path and query accepted, bytes.
const URI_BYTES_MAX: usize = 8 << 10;
/// Longest request body accepted, bytes; none is read.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A request that takes longer is answered with 503.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// After the shutdown signal, connections still open then are dropped.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Requests that use the store at the same time; the others wait their turn.
const STORE_CALLS_MAX: usize = 4;
/// What a client is told to wait before it asks again, seconds.
const RETRY_AFTER_S: &str = "5";

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `NODE_ID`.
    pub node_id: String,
    /// Version of the package.
    pub version: String,
    /// `METRICS_WINDOW_TYPE`.
    pub window_type: String,
    /// `METRICS_BATCH_SIZE`, events.
    pub batch_size: u64,
}

/// What the endpoints answer from. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The store; its calls block, so it is used on blocking threads only.
    pub store: Arc<Mutex<Box<dyn Store>>>,
    /// What the daemon knows of itself.
    pub telemetry: Telemetry,
    /// Who answers.
    pub identity: Identity,
    /// Zone and slices of the stored cells.
    pub calendar: Calendar,
    /// The contract's groupings: the known `aggregation_type`s, and the cap of a rolling window.
    pub groupings: Arc<Groupings>,
    /// Without a flush for this long while records wait, the process is not live, µs.
    pub live_timeout_us: i64,
    /// `MAX_OUT_OF_ORDERNESS`, µs: a partition's watermark lies this far below its highest event time.
    pub out_of_orderness_us: i64,
    /// The window type of a query that names none.
    pub default_window: Span,
}

#[derive(Clone)]
struct App {
    api: Api,
    store_calls: Arc<Semaphore>,
}

/// Answers on `listener` until `shutdown` completes, then finishes the open requests, for at most 5 s.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: tokio::net::TcpListener,
    state: Api,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let signal = async move {
        shutdown.await;
        // The receiver is gone only when serving has ended anyway.
        let _ = stopping.send(());
    };
    let serving = axum::serve(listener, router(state)).with_graceful_shutdown(signal);
    let deadline = async move {
        match stopped.await {
            Ok(()) => tokio::time::sleep(DRAIN_TIME_MAX).await,
            // The signal was dropped without firing: serving has ended by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = async { serving.await } => result,
        () = deadline => {
            tracing::warn!("HTTP connections were still open at the deadline and were dropped");
            Ok(())
        }
    }
}

/// All routes, with their limits and headers.
pub fn router(state: Api) -> Router {
    router_within(state, REQUEST_TIME_MAX)
}

fn router_within(api: Api, request_time_max: Duration) -> Router {
    let app = App { api, store_calls: Arc::new(Semaphore::new(STORE_CALLS_MAX)) };
    Router::new()
        .route("/health", get(health))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/api/v1/windows", get(windows::windows))
        .route("/api/v1/accounting", get(status::accounting))
        .route("/api/v1/status", get(status::status))
        .fallback(not_found)
        .with_state(app)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, request_time_max))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(from_fn(finish))
}

/// Outermost: refuses long addresses, turns the bare errors of router and layers into JSON, and sets the security headers.
async fn finish(request: Request, next: Next) -> Response {
    let uri_bytes = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
    let mut response = if uri_bytes > URI_BYTES_MAX {
        ApiError::new(StatusCode::URI_TOO_LONG, "the address is over 8 KiB: shorten the query")
            .into_response()
    } else {
        next.run(request).await
    };
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let status = response.status();
    if (status.is_client_error() || status.is_server_error()) && !json {
        let mut plain = ApiError::new(status, advice(status)).into_response();
        // `Allow` of a 405 comes from the router.
        for (name, value) in response.headers().iter().filter(|(name, _)| *name == axum::http::header::ALLOW)
        {
            plain.headers_mut().insert(name, value.clone());
        }
        response = plain;
    }
    let defaults = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in defaults {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => "this API only reads: use GET",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is over 64 KiB: send none, this API only reads",
        StatusCode::SERVICE_UNAVAILABLE => {
            "this took too long: retry later, or ask for less (a shorter range, a lower limit)"
        }
        _ => "the request cannot be answered: see the API description",
    }
}

async fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no such path: use /health, /live, /ready, /api/v1/windows, /api/v1/accounting or /api/v1/status",
    )
}

/// An error as the client sees it: what to do, nothing of the inside.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into() }
    }

    fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// What cannot be read stays unreadable; anything else may pass. Details go to the log only: they may name hosts.
    fn store(error: &StoreError) -> ApiError {
        tracing::warn!(%error, "a query could not read the store");
        match error {
            StoreError::Corrupt(_) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "stored data cannot be read: see the log of this node",
            ),
            _ => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the store is not available: retry later, /health says more",
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(serde_json::json!({ "error": self.message }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

/// Tells work on a blocking thread that nobody waits for it any more (time-out, client gone).
#[derive(Clone, Default)]
struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// An error once the request is gone, so that a long read ends between two store calls.
    fn check(&self) -> Result<(), StoreError> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("the request was given up".to_owned())),
            false => Ok(()),
        }
    }
}

struct AbandonOnDrop(Abandoned);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The store on a blocking thread, locked call by call: a long query lets short ones pass in between.
struct Reader {
    store: Arc<Mutex<Box<dyn Store>>>,
    abandoned: Abandoned,
}

impl Reader {
    fn call<T>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.abandoned.check()?;
        // A panic elsewhere leaves at most an open transaction behind, which the database rolls back.
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        work(store.as_mut())
    }
}

impl App {
    /// Runs `work` on a blocking thread, a few at a time. The permit goes with the work: also an abandoned one counts until it ends.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = Arc::clone(&self.store_calls).acquire_owned().await.ok();
        let abandoned = Abandoned::default();
        let _guard = AbandonOnDrop(abandoned.clone());
        let reader = Reader { store: Arc::clone(&self.api.store), abandoned };
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&reader)
        });
        match done.await {
            Ok(result) => result.map_err(|error| ApiError::store(&error)),
            Err(_) => Err(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the query failed: see the log of this node",
            )),
        }
    }
}

/// Name and value pairs of a query; an empty value counts as not given, a name that is unknown or given twice is refused.
fn parameters(
    query: Option<&str>,
    known: &[&'static str],
) -> Result<BTreeMap<&'static str, String>, ApiError> {
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(
        &format!("/?{}", query.unwrap_or(""))
            .parse()
            .map_err(|_| ApiError::bad_request("the query cannot be read"))?,
    )
    .map_err(|_| ApiError::bad_request("the query cannot be read: percent-encode its values"))?
    .0;
    let mut found = BTreeMap::new();
    for (name, value) in pairs {
        let Some(&name) = known.iter().find(|&&k| k == name) else {
            let hint = match known {
                [] => "this path takes none".to_owned(),
                known => format!("use {}", known.join(", ")),
            };
            return Err(ApiError::bad_request(format!("unknown query parameter {name:?}: {hint}")));
        };
        if !value.is_empty() && found.insert(name, value).is_some() {
            return Err(ApiError::bad_request(format!(
                "query parameter {name} is given twice: give it once"
            )));
        }
    }
    Ok(found)
}

#[derive(Serialize)]
struct HealthBody<'a> {
    status: Health,
    node_id: &'a str,
    node_type: &'static str,
    version: &'a str,
    window_type: &'a str,
    batch_size: u64,
    checks: &'a BTreeMap<&'static str, Check>,
}

/// The worst check; without Consul the node still does its work, so that alone only degrades it.
fn overall(checks: &BTreeMap<&'static str, Check>) -> Health {
    let worst = checks.iter().map(|(&part, check)| match part {
        "consul" => check.status.min(Health::Degraded),
        _ => check.status,
    });
    worst.max().unwrap_or(Health::Healthy)
}

async fn health(State(app): State<App>) -> Response {
    let checks = app.api.telemetry.snapshot().checks;
    let identity = &app.api.identity;
    let status = overall(&checks);
    let body = HealthBody {
        status,
        node_id: &identity.node_id,
        node_type: "REDUCER",
        version: &identity.version,
        window_type: &identity.window_type,
        batch_size: identity.batch_size,
        checks: &checks,
    };
    (probe(status != Health::Unhealthy), Json(body)).into_response()
}

fn probe(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Not live: records wait, nothing was flushed for too long (since the process began, if ever), and no rebalance explains it.
fn is_live(snapshot: &Snapshot, now_us: i64, live_timeout_us: i64) -> bool {
    let waiting = snapshot.partitions.values().any(|partition| partition.lag_records > 0);
    let since_flush_us = now_us.saturating_sub(snapshot.flushed_us.unwrap_or(0));
    !waiting || snapshot.rebalancing || since_flush_us <= live_timeout_us
}

async fn live(State(app): State<App>) -> Response {
    let now_us = SystemClock.monotonic_us();
    let live = is_live(&app.api.telemetry.snapshot(), now_us, app.api.live_timeout_us);
    (probe(live), Json(serde_json::json!({ "live": live }))).into_response()
}

async fn ready(State(app): State<App>) -> Response {
    let ready = app.api.telemetry.snapshot().ready;
    (probe(ready), Json(serde_json::json!({ "ready": ready }))).into_response()
}
