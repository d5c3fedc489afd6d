//! What the commands do. Each returns an exit code or says why not.

use crate::aggregator::accumulator::Groupings;
use crate::aggregator::group::{Buckets, Grouping};
use crate::aggregator::record::Runtime;
use crate::aggregator::window::{Calendar, Span};
use crate::aggregator::{MetricsAggregator, Outcome};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::contract::Contract;
use crate::daemon::{self, Daemon, DaemonError, kafka_settings};
use crate::generate::{Generator, Options};
use crate::topics::{TopicSpec, TopicState};
use chrono_tz::Tz;
use comfy_table::{Table, presets};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};

/// Exit codes.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// It failed.
    pub const FAILURE: u8 = 1;
    /// Bad usage or configuration.
    pub const USAGE: u8 = 64;
    /// Bad data, with `--strict`.
    pub const DATA: u8 = 65;
    /// A service is not available.
    pub const UNAVAILABLE: u8 = 69;
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON array.
    Json,
    /// One record a line.
    Jsonl,
}

/// What `aggregate` is asked for.
#[derive(Debug)]
pub struct AggregateOptions {
    /// Kind of window.
    pub window: Span,
    /// Groupings, instead of `time_window`.
    pub group_by: Vec<Grouping>,
    /// Zone of the windows.
    pub timezone: Tz,
    /// How to print.
    pub format: Format,
    /// Bad lines end in exit code 65.
    pub strict: bool,
    /// `MAX_GROUPS`.
    pub max_groups: usize,
    /// Files, or `-` for standard input.
    pub files: Vec<String>,
}

/// First reasons told of bad lines.
const REASONS_MAX: usize = 5;
/// `MAX_EVENT_BYTES` where there is no configuration.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Groupings by name under a contract, with its buckets and listed values.
pub fn groupings_of(names: Vec<Grouping>, contract: &Contract, max_groups: usize) -> Groupings {
    let aggregation = &contract.aggregation;
    let mut groupings = Groupings::of(names, max_groups);
    groupings.buckets =
        Buckets::new(&aggregation.quality_bounds, &aggregation.cost_bounds).unwrap_or_default();
    for (grouping, listed) in groupings.list.iter().zip(&mut groupings.listed) {
        let name = grouping.to_string();
        let known = aggregation.groupings.iter().find(|g| g.aggregation_type == name);
        listed.extend(known.into_iter().flat_map(|g| g.values.iter().cloned()));
    }
    groupings
}

/// `aggregate`: lines in, records out, without Kafka.
pub fn aggregate(options: &AggregateOptions, contract: &Contract) -> io::Result<u8> {
    let begun_us = SystemClock.monotonic_us();
    let groupings = groupings_of(options.group_by.clone(), contract, options.max_groups);
    let calendar = Calendar::new(options.timezone, i64::from(contract.aggregation.slice_minutes) * 60);
    let mut aggregator =
        MetricsAggregator::new(calendar, options.window, groupings, EVENT_BYTES_MAX, usize::MAX);
    let mut bad = BadLines::default();
    for name in &options.files {
        read_file(name, &mut aggregator, &mut bad)
            .map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
    }
    let counters = aggregator.counters().clone();
    let runtime = Runtime {
        timestamp_us: SystemClock.wall_us(),
        duration_us: Some((SystemClock.monotonic_us() - begun_us).max(1) as u64),
        items: counters.counted,
    };
    print_records(&aggregator.finish(&runtime), options.format)?;
    bad.tell(counters.received);
    Ok(if options.strict && bad.count > 0 { exit::DATA } else { exit::OK })
}

#[derive(Default)]
struct BadLines {
    count: u64,
    reasons: Vec<String>,
}

impl BadLines {
    fn tell(&self, received: u64) {
        if self.count > 0 {
            eprintln!("{} of {received} lines are bad; first:", self.count);
            self.reasons.iter().for_each(|reason| eprintln!("  {reason}"));
        }
    }
}

fn read_file(name: &str, aggregator: &mut MetricsAggregator, bad: &mut BadLines) -> io::Result<()> {
    let progress = indicatif::ProgressBar::hidden();
    let input: Box<dyn Read> = if name == "-" {
        Box::new(io::stdin())
    } else {
        let file = File::open(name)?;
        if io::stderr().is_terminal() {
            progress.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            progress.set_length(file.metadata()?.len());
        }
        Box::new(file)
    };
    let mut reader = BufReader::with_capacity(1 << 20, input);
    let (mut line, mut number) = (Vec::new(), 0u64);
    while read_line(&mut reader, &mut line)? {
        number += 1;
        if let Some(Outcome::Bad(fault)) = aggregator.add_line(&line) {
            bad.count += 1;
            if bad.reasons.len() < REASONS_MAX {
                bad.reasons.push(format!("{name}:{number}: {fault}"));
            }
        }
        progress.inc(line.len() as u64 + 1);
    }
    progress.finish_and_clear();
    Ok(())
}

/// Reads one line without its newline, keeping no more than one byte over the limit of an event; false at the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let newline = available.iter().position(|&b| b == b'\n');
        let part = &available[..newline.unwrap_or(available.len())];
        let room = (EVENT_BYTES_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = part.len() + usize::from(newline.is_some());
        reader.consume(used);
        if newline.is_some() {
            return Ok(true);
        }
    }
}

/// Prints records.
pub fn print_records(records: &[String], format: Format) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match format {
        Format::Json => {
            out.write_all(b"[")?;
            for (index, record) in records.iter().enumerate() {
                out.write_all(if index > 0 { b",\n" } else { b"\n" })?;
                out.write_all(record.as_bytes())?;
            }
            out.write_all(b"\n]\n")?;
        }
        Format::Jsonl => {
            for record in records {
                writeln!(out, "{record}")?;
            }
        }
        Format::Table => writeln!(out, "{}", table(records))?,
    }
    out.flush()
}

/// The columns a person looks at first.
const COLUMNS: [(&str, &str); 11] = [
    ("window_start", "window start"),
    ("aggregation_type", "grouping"),
    ("group_key", "group"),
    ("total_generations", "total"),
    ("failed_generations", "failed"),
    ("success_rate", "success"),
    ("avg_duration_seconds", "avg s"),
    ("p95_duration_seconds", "p95 s"),
    ("avg_quality_score", "quality"),
    ("total_tokens", "tokens"),
    ("total_cost_usd", "cost USD"),
];

/// Records as a table.
pub fn table(records: &[String]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(COLUMNS.map(|(_, title)| title));
    for record in records {
        let fields: BTreeMap<&str, &serde_json::value::RawValue> =
            serde_json::from_str(record).unwrap_or_default();
        table.add_row(COLUMNS.map(|(key, _)| {
            let raw = fields.get(key).map_or("", |raw| raw.get());
            match raw {
                "null" => "–".to_owned(),
                raw if raw.starts_with('"') => serde_json::from_str(raw).unwrap_or_default(),
                raw => shorten(raw),
            }
        }));
    }
    table
}

/// Numbers to four decimals: the table is for reading, the JSON for figures.
fn shorten(number: &str) -> String {
    match number.find('.') {
        Some(point) if number.len() > point + 5 => number[..point + 5].to_owned(),
        _ => number.to_owned(),
    }
}

/// `generate`: seeded lines on standard output.
pub fn generate(options: Options) -> Result<u8, String> {
    let generator = Generator::new(options).map_err(|error| error.to_string())?;
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    for line in generator {
        let written = out.write_all(&line.value).and_then(|()| out.write_all(b"\n"));
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(exit::OK),
            Err(error) => return Err(error.to_string()),
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(exit::OK),
    }
}

/// `run`: the daemon, until told to stop.
pub fn run(config: &Config) -> Result<u8, DaemonError> {
    let database = daemon::open_store(config)?;
    let running = Daemon::start(config, &database)?;
    let served = daemon::api(config, &database, running.telemetry.clone())
        .and_then(|api| daemon::serve(config, api, &running.stop));
    tracing::info!("stopping");
    running.join()?;
    served?;
    tracing::info!("stopped");
    Ok(exit::OK)
}

/// `topics create`: makes what is missing and says what it found.
pub fn create_topics(config: &Config) -> Result<u8, DaemonError> {
    let names = config.topics.all();
    let specs: Vec<TopicSpec> = config
        .contract
        .topics
        .all()
        .iter()
        .zip(names)
        .map(|((_, spec), name)| TopicSpec {
            name: name.to_owned(),
            partitions: spec.partitions as i32,
            replication: -1,
            configs: BTreeMap::from([
                ("retention.ms".to_owned(), spec.retention.as_millis().to_string()),
                ("cleanup.policy".to_owned(), spec.cleanup_policy.clone()),
                ("max.message.bytes".to_owned(), spec.max_message_bytes.to_string()),
            ]),
        })
        .collect();
    let outcomes = crate::topics::create(&kafka_settings(config, &config.kafka_group_id), &specs)?;
    let mut failed = false;
    for outcome in &outcomes {
        let state = match &outcome.state {
            TopicState::Created => "created".to_owned(),
            TopicState::AsWanted => "exists, as wanted".to_owned(),
            TopicState::Differs(differences) => format!("exists, but differs: {}", differences.join("; ")),
            TopicState::Failed(why) => {
                failed = true;
                format!("failed: {why}")
            }
        };
        println!("{}: {state}", outcome.name);
    }
    Ok(if failed { exit::FAILURE } else { exit::OK })
}
