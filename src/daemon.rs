//! `run`: all parts of the daemon in one process, each on its own thread, until told to stop or one of them fails.

use crate::aggregator::accumulator::Groupings;
use crate::aggregator::recorder::{Recorder, TimeRules};
use crate::aggregator::reducer::{Limits, Reducer};
use crate::aggregator::window::{Calendar, Span};
use crate::clock::SystemClock;
use crate::commands::groupings_of;
use crate::config::{Config, Database, OnTopicRecreated};
use crate::consumer::{KafkaSettings, KafkaSource};
use crate::event::Kind;
use crate::executor::Executor;
use crate::http::{Api, Identity};
use crate::log::LogError;
use crate::outbox::{Relay, RelayTopics};
use crate::pipeline::{RecorderDriver, ReducerDriver, Settings};
use crate::publisher::{KafkaIntents, KafkaPublisher};
use crate::store::sqlite::{Durability, SqliteDatabase};
use crate::store::{Meaning, Store, StoreError};
use crate::telemetry::{Health, Telemetry};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a part looks for work when nothing wakes it.
const IDLE: Duration = Duration::from_millis(100);

/// Why the daemon did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Kafka client could not be made.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The HTTP port could not be bound, or serving failed.
    #[error("http on {address}: {source}")]
    Http {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// This build has no such store.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A part failed for good.
    #[error("{part} failed: {why}")]
    Part {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
}

/// Tells all parts to stop, and lets them wait without oversleeping it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    inner: Arc<(AtomicBool, Mutex<()>, Condvar)>,
}

impl Stop {
    /// Tells everyone.
    pub fn stop(&self) {
        self.inner.0.store(true, Ordering::SeqCst);
        self.inner.2.notify_all();
    }

    /// Whether it was told.
    pub fn stopped(&self) -> bool {
        self.inner.0.load(Ordering::SeqCst)
    }

    /// Waits this long, or until told to stop.
    pub fn wait(&self, timeout: Duration) {
        let guard = self.inner.1.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.inner.2.wait_timeout_while(guard, timeout, |()| !self.stopped()));
    }
}

/// What the numbers mean under this configuration.
pub fn groupings(config: &Config) -> Groupings {
    // The contract was validated: every name is a grouping.
    let names = &config.contract.aggregation.groupings;
    let list = names.iter().filter_map(|g| g.aggregation_type.parse().ok()).collect();
    groupings_of(list, &config.contract, config.max_groups as usize)
}

fn meaning(config: &Config, groupings: &Groupings) -> Meaning {
    let aggregation = &config.contract.aggregation;
    Meaning {
        format: 1,
        timezone: config.reporting_timezone.name().to_owned(),
        tzdb: chrono_tz::IANA_TZDB_VERSION.to_owned(),
        slice_seconds: i64::from(aggregation.slice_minutes) * 60,
        groupings: groupings.list.iter().map(ToString::to_string).collect(),
        quality_bounds: aggregation.quality_bounds.to_vec(),
        cost_bounds: aggregation.cost_bounds.to_vec(),
        max_groups: u64::from(config.max_groups),
    }
}

fn us(duration: Duration) -> i64 {
    duration.as_micros() as i64
}

/// The calendar of this configuration.
pub fn calendar(config: &Config) -> Calendar {
    Calendar::new(config.reporting_timezone, i64::from(config.contract.aggregation.slice_minutes) * 60)
}

/// Opens the store of this configuration: the owner of the lock, whose connections the parts use.
pub fn open_store(config: &Config) -> Result<SqliteDatabase, DaemonError> {
    let Database::Sqlite { path } = &config.database else {
        return Err(DaemonError::Unsupported(
            "PostgreSQL is not supported yet: use DATABASE_URL=sqlite:PATH",
        ));
    };
    let database = SqliteDatabase::open(path, true, Durability::Full, Box::new(crate::clock::wall_us))?;
    database.connect()?.open(&meaning(config, &groupings(config)))?;
    Ok(database)
}

/// Kafka settings of this configuration, for one of its groups.
pub fn kafka_settings(config: &Config, group_id: &str) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: config.kafka_bootstrap_servers.clone(),
        group_id: group_id.to_owned(),
        client_id: config.node_id.clone(),
        session_timeout_ms: config.session_timeout.as_millis() as u32,
        properties: config.kafka_properties.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
    }
}

/// The running parts.
pub struct Daemon {
    /// Tells all parts to stop.
    pub stop: Stop,
    /// What they know of themselves.
    pub telemetry: Telemetry,
    /// Declares the end of input to the recorder: every window becomes final.
    pub end_of_input: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<Result<(), String>>)>,
}

impl Daemon {
    /// Starts reducer, recorder, publisher and executor on their threads.
    pub fn start(config: &Config, database: &SqliteDatabase) -> Result<Daemon, DaemonError> {
        let mut daemon = Daemon {
            stop: Stop::default(),
            telemetry: Telemetry::default(),
            end_of_input: Arc::default(),
            threads: Vec::new(),
        };
        daemon.start_reducer(config, database)?;
        daemon.start_recorder(config, database)?;
        daemon.start_relay(config, database)?;
        daemon.start_executor(config, database)?;
        Ok(daemon)
    }

    fn spawn(&mut self, part: &'static str, body: impl FnOnce(&Stop) -> Result<(), String> + Send + 'static) {
        let (stop, telemetry) = (self.stop.clone(), self.telemetry.clone());
        let thread = thread::Builder::new().name(part.to_owned()).spawn(move || {
            let outcome = body(&stop);
            if let Err(why) = &outcome {
                telemetry.check(part, Health::Unhealthy, why.clone());
            }
            // A part that ends ends all.
            stop.stop();
            outcome
        });
        match thread {
            Ok(thread) => self.threads.push((part, thread)),
            Err(error) => {
                self.telemetry.check(part, Health::Unhealthy, error.to_string());
                self.stop.stop();
            }
        }
    }

    fn start_reducer(&mut self, config: &Config, database: &SqliteDatabase) -> Result<(), DaemonError> {
        let topics: Vec<String> = config.topics.inputs().map(str::to_owned).to_vec();
        let source = KafkaSource::new(&kafka_settings(config, &config.kafka_group_id), &topics)?;
        let limits = Limits {
            bytes_max: config.max_event_bytes as usize,
            ids_max: config.dedup_window as usize,
            future_skew_us: us(config.max_future_skew),
        };
        let settings = Settings {
            node_id: config.node_id.clone(),
            kinds: topics.into_iter().zip(Kind::ALL).collect(),
            flush_interval_us: us(config.flush_interval),
            flush_events: u64::from(config.flush_events),
            ids_max: config.dedup_window as usize,
            backlog_max: u64::from(config.max_backlog),
            clock_step_us_max: us(config.max_clock_step),
            restart_recreated: config.on_topic_recreated == OnTopicRecreated::Restart,
        };
        let reducer = Reducer::new(calendar(config), groupings(config), limits);
        let store = database.connect()?;
        let mut driver =
            ReducerDriver::new(source, store, SystemClock, reducer, settings, self.telemetry.clone());
        self.spawn("reducer", move |stop| {
            while !stop.stopped() {
                driver.step().map_err(|error| error.to_string())?;
            }
            driver.drain().map_err(|error| error.to_string())
        });
        Ok(())
    }

    fn start_recorder(&mut self, config: &Config, database: &SqliteDatabase) -> Result<(), DaemonError> {
        let rules = TimeRules {
            out_of_orderness_us: us(config.max_out_of_orderness),
            grace_us: us(config.grace_period),
            idle_us: us(config.idle_timeout),
            end_report_us: 3 * us(config.flush_interval),
            retention_us: us(config.retention),
            emit_us: us(config.emit_interval),
        };
        let recorder = Recorder::new(calendar(config), groupings(config), rules);
        let (node_id, telemetry) = (config.node_id.clone(), self.telemetry.clone());
        let mut driver = RecorderDriver::new(database.connect()?, SystemClock, recorder, node_id, telemetry);
        let end_of_input = self.end_of_input.clone();
        self.spawn("recorder", move |stop| {
            while !stop.stopped() {
                driver.end_of_input = end_of_input.load(Ordering::SeqCst);
                let recording = driver.step().map_err(|error| error.to_string())?;
                if !recording.more {
                    stop.wait(IDLE);
                }
            }
            driver.resign();
            Ok(())
        });
        Ok(())
    }

    fn start_relay(&mut self, config: &Config, database: &SqliteDatabase) -> Result<(), DaemonError> {
        let topics = RelayTopics {
            intents: config.topics.intents.clone(),
            metrics_recorded: config.topics.metrics_recorded.clone(),
            dead_letters: config.topics.dead_letters.clone(),
        };
        let publisher = KafkaPublisher::new(&kafka_settings(config, &config.kafka_group_id))?;
        let mut relay =
            Relay::new(database.connect()?, publisher, topics, config.metrics_batch_size as usize);
        let telemetry = self.telemetry.clone();
        self.spawn("publisher", move |stop| {
            while !stop.stopped() {
                match relay.step() {
                    Ok(relayed) => {
                        match &relayed.failure {
                            Some(error) => telemetry.check("publisher", Health::Degraded, error.to_string()),
                            None => telemetry.check("publisher", Health::Healthy, "publishing"),
                        }
                        if relayed.failure.is_some() || relayed.records + relayed.dead_letters == 0 {
                            stop.wait(IDLE);
                        }
                    }
                    Err(error) => {
                        telemetry.check("publisher", Health::Degraded, error.to_string());
                        stop.wait(IDLE * 10);
                    }
                }
            }
            Ok(())
        });
        Ok(())
    }

    fn start_executor(&mut self, config: &Config, database: &SqliteDatabase) -> Result<(), DaemonError> {
        let settings = kafka_settings(config, &format!("{}-executor", config.kafka_group_id));
        let intents = KafkaIntents::new(&settings, &config.topics.intents)?;
        let publisher = KafkaPublisher::new(&settings)?;
        let dead_letters = config.topics.dead_letters.clone();
        let mut executor = Executor::new(intents, publisher, database.connect()?, dead_letters);
        let telemetry = self.telemetry.clone();
        self.spawn("executor", move |stop| {
            while !stop.stopped() {
                match executor.step(IDLE) {
                    Ok(_) => telemetry.check("executor", Health::Healthy, "executing"),
                    Err(error) => {
                        telemetry.check("executor", Health::Degraded, error.to_string());
                        stop.wait(IDLE * 10);
                    }
                }
            }
            executor.close();
            Ok(())
        });
        Ok(())
    }

    /// Stops all parts, waits for them, and tells the first failure.
    pub fn join(self) -> Result<(), DaemonError> {
        self.stop.stop();
        let mut first = Ok(());
        for (part, thread) in self.threads {
            let outcome = thread.join().unwrap_or_else(|_| Err("panicked".to_owned()));
            if let (Err(why), true) = (outcome, first.is_ok()) {
                first = Err(DaemonError::Part { part, why });
            }
        }
        first
    }
}

/// The HTTP side of this configuration.
pub fn api(config: &Config, database: &SqliteDatabase, telemetry: Telemetry) -> Result<Api, DaemonError> {
    let store: Box<dyn Store> = Box::new(database.connect()?);
    Ok(Api {
        store: Arc::new(Mutex::new(store)),
        telemetry,
        identity: Identity {
            node_id: config.node_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            window_type: config.metrics_window_type.clone(),
            batch_size: u64::from(config.metrics_batch_size),
        },
        calendar: calendar(config),
        groupings: Arc::new(groupings(config)),
        live_timeout_us: us(config.live_timeout),
        out_of_orderness_us: us(config.max_out_of_orderness),
        default_window: Span::from_name(&config.metrics_window_type).unwrap_or(Span::Hourly),
    })
}

/// Serves HTTP on the calling thread until `stop`, a signal, or the end of `until`. Signals: the first drains, a second one ends the process at once.
pub fn serve(config: &Config, api: Api, stop: &Stop) -> Result<(), DaemonError> {
    let address = format!("{}:{}", config.http_bind, config.service_port);
    let failed = |source| DaemonError::Http { address: address.clone(), source };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(&address).await.map_err(failed)?;
        tracing::info!(address, "listening");
        let told = stop.clone();
        let until = async move {
            let polled = async {
                while !told.stopped() {
                    tokio::time::sleep(IDLE).await;
                }
            };
            tokio::select! { () = polled => (), () = signal() => () }
            told.stop();
            tokio::spawn(async {
                signal().await;
                // A second signal: at once.
                std::process::exit(130);
            });
        };
        crate::http::serve(listener, api, until).await.map_err(failed)
    })
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = tokio::signal::ctrl_c() => (),
    }
}
