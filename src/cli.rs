//! The command line: what may be given, and which command it means.

use crate::aggregator::group::Grouping;
use crate::aggregator::window::Span;
use crate::commands::Format;
use crate::config::Flags;
use crate::config::quantity::{parse_duration, parse_integer};
use crate::decode::parse_timestamp;
use crate::generate::{Options, Scenario};
use chrono_tz::Tz;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;

mod settings;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failure
   64  bad usage or configuration
   65  bad data (aggregate --strict)
   69  a service is not available
   70  internal error
  130  interrupted

Settings of run, topics and config come from flags, then environment variables (KAFKA_GROUP_ID is --kafka-group-id), then defaults; `config print` shows them.";

/// Exact, live metrics of code-generation pipelines.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Consume, reduce, publish and serve, until told to stop.
    Run,
    /// Everything in one process with an embedded broker and generated load; nothing to set up.
    Demo(DemoArgs),
    /// Records from files of events, without Kafka.
    Aggregate(AggregateArgs),
    /// Realistic events from a seed, one a line.
    Generate(GenerateArgs),
    /// Topics in Kafka.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What to do with topics.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics that are missing; say what was found.
    Create,
}

/// What to do with settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Check all settings and the contract; every fault at once.
    Check,
    /// Print all settings with their origin, secrets masked.
    Print,
}

/// Windows and groups of a one-off aggregation.
#[derive(Debug, Args)]
pub struct RecordArgs {
    /// Kind of window: hourly, daily, weekly or monthly.
    #[arg(long, default_value = "hourly", value_parser = window)]
    pub window: Span,
    /// Groupings instead of time_window, separated by commas; composite ones joined by `*`.
    #[arg(long, value_delimiter = ',', default_value = "time_window", value_parser = grouping)]
    pub group_by: Vec<Grouping>,
}

/// `aggregate`.
#[derive(Debug, Args)]
pub struct AggregateArgs {
    /// Windows and groups.
    #[command(flatten)]
    pub records: RecordArgs,
    /// IANA zone of the windows.
    #[arg(long, default_value = "UTC", value_parser = zone)]
    pub timezone: Tz,
    /// How to print.
    #[arg(long, default_value = "table")]
    pub format: Format,
    /// Exit with 65 if any line is bad.
    #[arg(long)]
    pub strict: bool,
    /// Values per window and grouping that have their own record.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_groups: u32,
    /// Files of events, one a line; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<String>,
}

/// The stream of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// Number of lines, bad ones and duplicates included.
    #[arg(long, value_parser = count)]
    pub events: u64,
    /// Same seed, same lines.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Fraction of duplicates.
    #[arg(long, default_value_t = 0.01)]
    pub duplicates: f64,
    /// Fraction of bad lines.
    #[arg(long, default_value_t = 0.01)]
    pub bad: f64,
    /// Fraction of late events.
    #[arg(long, default_value_t = 0.01)]
    pub late: f64,
    /// First event time.
    #[arg(long, default_value = "2026-01-01T00:00:00Z", value_parser = instant)]
    pub start: i64,
    /// How far the event times reach.
    #[arg(long, default_value = "24h", value_parser = duration_us)]
    pub span: i64,
    /// What kind of day it is.
    #[arg(long, default_value = "steady")]
    pub scenario: Scenario,
}

impl GenerateArgs {
    /// As the generator takes them.
    pub fn options(&self) -> Options {
        Options {
            events: self.events,
            seed: self.seed,
            duplicates: self.duplicates,
            bad: self.bad,
            late: self.late,
            start_us: self.start,
            span_us: self.span,
            scenario: self.scenario,
        }
    }
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Number of generated lines; without it, load until Ctrl-C.
    #[arg(long, value_parser = count)]
    pub events: Option<u64>,
    /// Same seed, same lines.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// End once all lines are through the whole way.
    #[arg(long, requires = "events")]
    pub exit_when_done: bool,
    /// How to print the records at the end.
    #[arg(long, default_value = "table")]
    pub format: Format,
    /// Windows and groups.
    #[command(flatten)]
    pub records: RecordArgs,
}

fn window(text: &str) -> Result<Span, String> {
    Span::from_name(text)
        .filter(|span| *span != Span::Slice)
        .ok_or_else(|| "use hourly, daily, weekly or monthly".to_owned())
}

fn grouping(text: &str) -> Result<Grouping, String> {
    text.parse().map_err(|error: crate::aggregator::group::UnknownGrouping| error.to_string())
}

fn count(text: &str) -> Result<u64, String> {
    parse_integer(text).map_err(|error| error.to_string())
}

fn zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| "not an IANA time zone, such as UTC or Europe/Berlin".to_owned())
}

fn instant(text: &str) -> Result<i64, String> {
    parse_timestamp(text).ok_or_else(|| "not a time such as 2026-01-01T00:00:00Z".to_owned())
}

fn duration_us(text: &str) -> Result<i64, String> {
    parse_duration(text).map(|duration| duration.as_micros() as i64).map_err(|error| error.to_string())
}

/// The commands that take settings as flags.
const WITH_SETTINGS: [&str; 3] = ["run", "topics", "config"];

/// Reads the command line, the program's name first. Settings flags are made from the one table of settings.
///
/// # Errors
/// Help and version too: the error knows whether it belongs on stderr.
pub fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<(Cli, Flags), clap::Error>
where
    A: Into<OsString> + Clone,
{
    let command = WITH_SETTINGS
        .into_iter()
        .fold(Cli::command(), |command, name| command.mut_subcommand(name, settings::with_settings));
    let matches = command.try_get_matches_from(arguments)?;
    let mut flags = Flags::default();
    if let Some((_, below)) = matches.subcommand().filter(|(name, _)| WITH_SETTINGS.contains(name)) {
        settings::collect(below, &mut flags);
    }
    Ok((Cli::from_arg_matches(&matches)?, flags))
}

#[cfg(test)]
mod tests;
