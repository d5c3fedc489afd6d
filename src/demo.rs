//! `demo`: an embedded broker, generated load, a store in a temporary folder, and the whole daemon. Nothing to set up.

use crate::aggregator::window::Span;
use crate::cli::DemoArgs;
use crate::clock::{Clock, SystemClock};
use crate::commands::{Format, exit, print_records, table};
use crate::config::{Config, Flags};
use crate::consumer::embedded::EmbeddedBroker;
use crate::daemon::{self, Daemon, DaemonError, Stop};
use crate::event::Kind;
use crate::generate::{Generator, Line, Options};
use crate::log::{Outgoing, Publisher};
use crate::publisher::KafkaPublisher;
use crate::store::sqlite::SqliteDatabase;
use crate::store::{RangeQuery, Store, StoreError};
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

const PARTITIONS: i32 = 3;
/// Lines written before the consumer must have read them: the embedded broker keeps only 5 MiB a partition.
const AHEAD_MAX: u64 = 6_000;
const BATCH: usize = 1_000;
const TICK: Duration = Duration::from_millis(50);
/// Lines a second of the endless demo.
const LIVE_RATE: u64 = 500;

/// Runs the demo.
pub fn run(args: &DemoArgs) -> Result<u8, DaemonError> {
    let folder = tempfile::tempdir().map_err(|error| part("demo", &error))?;
    let topics = settings(args, &folder, "127.0.0.1:1")?.topics;
    let broker = EmbeddedBroker::start(&topics.all().map(str::to_owned), PARTITIONS)?;
    let config = settings(args, &folder, &broker.bootstrap_servers())?;
    let database = daemon::open_store(&config)?;
    let running = Daemon::start(&config, &database)?;
    let api = daemon::api(&config, &database, running.telemetry.clone())?;
    let (stop, serving) = (running.stop.clone(), config.clone());
    let server = std::thread::spawn(move || daemon::serve(&serving, api, &stop));
    let outcome = drive(args, &config, &database, &running);
    let stopped = running.join();
    let served = server.join().unwrap_or(Ok(()));
    outcome.and_then(|code| stopped.and(served).map(|()| code))
}

fn part(part: &'static str, why: &dyn std::fmt::Display) -> DaemonError {
    DaemonError::Part { part, why: why.to_string() }
}

fn settings(args: &DemoArgs, folder: &tempfile::TempDir, servers: &str) -> Result<Config, DaemonError> {
    let mut flags = Flags::default();
    flags.set("KAFKA_BOOTSTRAP_SERVERS", servers);
    flags.set("DATABASE_URL", format!("sqlite:{}", folder.path().join("demo.db").display()));
    flags.set("FLUSH_INTERVAL", "1s");
    flags.set("FLUSH_EVENTS", "2000");
    flags.set("IDLE_TIMEOUT", "5s");
    flags.set("EMIT_INTERVAL", "5s");
    flags.set("NODE_ID", "demo");
    if args.exit_when_done {
        flags.set("HTTP_BIND", "127.0.0.1");
    }
    let mut config = Config::from_sources(std::iter::empty(), flags, |path| std::fs::read_to_string(path))
        .map_err(|faults| part("configuration", &faults))?;
    // The demo groups as it is asked to, beside what the contract lists.
    for grouping in &args.records.group_by {
        let name = grouping.to_string();
        let listed = &mut config.contract.aggregation.groupings;
        if !listed.iter().any(|g| g.aggregation_type == name) {
            listed.push(crate::contract::Grouping { aggregation_type: name, values: Vec::new() });
        }
    }
    Ok(config)
}

fn drive(
    args: &DemoArgs,
    config: &Config,
    database: &SqliteDatabase,
    running: &Daemon,
) -> Result<u8, DaemonError> {
    let mut store = database.connect()?;
    let mut producer = KafkaPublisher::new(&daemon::kafka_settings(config, "demo-producer"))?;
    let written = produce(args, config, &mut producer, &mut store, running)?;
    if args.exit_when_done {
        until(&running.stop, || Ok(received(&mut store)? >= written && store.status()?.backlog == 0))?;
        running.end_of_input.store(true, Ordering::SeqCst);
        until(&running.stop, || all_persisted(&mut store))?;
    }
    report(args, &mut store)?;
    Ok(exit::OK)
}

/// Writes the lines, never further ahead of the reducer than the embedded broker can keep; how many.
fn produce(
    args: &DemoArgs,
    config: &Config,
    producer: &mut KafkaPublisher,
    store: &mut impl Store,
    running: &Daemon,
) -> Result<u64, DaemonError> {
    let live = args.events.is_none() || !args.exit_when_done;
    let hour_us = 3_600_000_000;
    let defaults =
        Options { events: args.events.unwrap_or(u64::MAX >> 16), seed: args.seed, ..Options::default() };
    let options = match (live, args.events) {
        // Live load: as many lines as fit the rate, with the present as their time.
        (true, None) => Options {
            events: LIVE_RATE * 3_600 * 24,
            start_us: SystemClock.wall_us() - 10_000_000,
            span_us: 24 * hour_us,
            ..defaults
        },
        (true, Some(events)) => {
            Options { start_us: SystemClock.wall_us() - hour_us, span_us: hour_us, events, ..defaults }
        }
        (false, _) => defaults,
    };
    let paced = args.events.is_none();
    let lines = Generator::new(options).map_err(|error| part("generator", &error))?;
    let (mut written, mut batch) = (0u64, Vec::with_capacity(BATCH));
    let mut last_shown_us = 0;
    for line in lines {
        if paced {
            pace(&line, &running.stop);
        }
        batch.push(outgoing(line, config));
        if batch.len() >= if paced { 50 } else { BATCH } {
            written += publish(producer, &mut batch, running)?;
            while written > received(store)? + AHEAD_MAX && !running.stop.stopped() {
                running.stop.wait(TICK / 10);
            }
            show(written, store, &mut last_shown_us)?;
        }
        if running.stop.stopped() {
            return Ok(written);
        }
    }
    written += publish(producer, &mut batch, running)?;
    Ok(written)
}

/// Waits until the line's own time has come.
fn pace(line: &Line, stop: &Stop) {
    let ahead_us = line.time_us - SystemClock.wall_us();
    if ahead_us > 0 {
        stop.wait(Duration::from_micros(ahead_us as u64));
    }
}

fn outgoing(line: Line, config: &Config) -> Outgoing {
    let index = Kind::ALL.iter().position(|&kind| kind == line.stream).unwrap_or_default();
    Outgoing {
        topic: config.topics.inputs()[index].to_owned(),
        partition: None,
        key: Some(line.key.into_bytes()),
        value: Some(line.value),
        headers: Vec::new(),
    }
}

fn publish(
    producer: &mut KafkaPublisher,
    batch: &mut Vec<Outgoing>,
    running: &Daemon,
) -> Result<u64, DaemonError> {
    let mut waiting = std::mem::take(batch);
    let count = waiting.len() as u64;
    while !waiting.is_empty() && !running.stop.stopped() {
        let results = producer.publish(&waiting, Duration::from_secs(30));
        let failed = results.iter().find_map(|result| result.as_ref().err());
        if let Some(error) = failed {
            tracing::warn!(%error, "demo producer tries again");
        }
        let mut kept = results.iter().map(Result::is_err);
        waiting.retain(|_| kept.next().unwrap_or(false));
    }
    Ok(count)
}

fn received(store: &mut impl Store) -> Result<u64, StoreError> {
    Ok(store.partitions()?.iter().map(|row| row.counters.received).sum())
}

/// Every window is final, and nothing is on its way any more.
fn all_persisted(store: &mut impl Store) -> Result<bool, StoreError> {
    let status = store.status()?;
    if status.outbox + status.backlog + status.dead_letters_unpublished > 0
        || status.recorder.final_watermark_us != i64::MAX
    {
        return Ok(false);
    }
    for span in Span::WINDOWS {
        let everything = range(span, usize::MAX >> 1);
        let cells = store.cells(&everything)?;
        let records = store.analytics(&everything)?;
        let all_final = cells.iter().all(|(_, cell)| cell.is_final)
            && records.iter().all(|record| record.contains("\"is_final\":true"));
        if !all_final || records.len() < cells.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn range(span: Span, limit: usize) -> RangeQuery {
    let (from_s, to_s) = (i64::MIN >> 1, i64::MAX >> 1);
    RangeQuery { span, aggregation_type: None, group_key: None, from_s, to_s, after: None, limit }
}

fn until(stop: &Stop, mut done: impl FnMut() -> Result<bool, StoreError>) -> Result<(), DaemonError> {
    while !done()? {
        if stop.stopped() {
            return Err(part("demo", &"stopped before all lines were through"));
        }
        stop.wait(TICK);
    }
    Ok(())
}

/// One line of live figures, four times a second, on a terminal only.
fn show(written: u64, store: &mut impl Store, last_us: &mut i64) -> Result<(), DaemonError> {
    let now_us = SystemClock.monotonic_us();
    if now_us - *last_us < 250_000 || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    *last_us = now_us;
    let rows = store.partitions()?;
    let sum = |figure: fn(&crate::aggregator::partition::Counters) -> u64| -> u64 {
        rows.iter().map(|row| figure(&row.counters)).sum()
    };
    let line = format!(
        "\r{written} written · {} counted · {} duplicates · {} dead letters   (API: http://127.0.0.1:8063/api/v1/windows) ",
        sum(|c| c.counted),
        sum(|c| c.duplicates),
        sum(|c| c.dead_lettered_total()),
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
    Ok(())
}

fn report(args: &DemoArgs, store: &mut impl Store) -> Result<(), DaemonError> {
    let mut records = Vec::new();
    let names: Vec<String> = args.records.group_by.iter().map(ToString::to_string).collect();
    for name in &names {
        let query = RangeQuery {
            aggregation_type: Some(name.clone()),
            ..range(args.records.window, usize::MAX >> 1)
        };
        records.extend(store.analytics(&query)?);
    }
    records.sort_by_cached_key(|text| sort_key(text));
    let failed = |error: std::io::Error| part("demo", &error);
    if args.format != Format::Json {
        eprintln!();
        return if args.format == Format::Table {
            println!("{}", table(&records));
            Ok(())
        } else {
            print_records(&records, args.format).map_err(failed)
        };
    }
    let mut total = crate::aggregator::partition::Counters::default();
    store.partitions()?.iter().for_each(|row| total.add(&row.counters));
    println!(
        "{{\"accounting\":{{\"received\":{},\"counted\":{},\"duplicates\":{},\"dead_lettered\":{}}},\n\"records\":[\n{}\n]}}",
        total.received,
        total.counted,
        total.duplicates,
        total.dead_lettered_total(),
        records.join(",\n")
    );
    Ok(())
}

fn sort_key(text: &str) -> (String, String, String) {
    let fields: std::collections::BTreeMap<&str, &serde_json::value::RawValue> =
        serde_json::from_str(text).unwrap_or_default();
    let get =
        |key: &str| fields.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    (get("window_start"), get("aggregation_type"), get("group_key"))
}
