//! All settings, read once at start: every fault is told at once, before a port is bound.
//!
//! A setting comes from its flag, else from its environment variable, else from its default. `table` says which there are
//! and what they may hold; rules between settings are here.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;

use crate::contract::{Contract, ENVIRONMENT_CHARS_MAX, ENVIRONMENT_PLACEHOLDER, TopicSpec, is_topic_name};

mod fault;
mod parts;
mod print;
pub mod quantity;
mod read;
mod rules;
mod secret;
mod sources;
pub(crate) mod suggest;
pub mod table;

pub use fault::{Cause, ConfigFault, ConfigFaults};
pub use parts::{ConsulConfig, LogFormat, OnTopicRecreated, Role, Roles, Topics};
pub use print::{ShownSetting, settings_markdown, settings_text};
pub use secret::{Database, KafkaProperties, Secret};
pub use sources::{Flags, Origin};

use read::Reader;
use sources::{Sources, property_of, shown_property};

/// Settings without faults. Ranges of the fields are those of the table in [`table::SETTINGS`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Brokers to begin with, `host:port` separated by commas.
    pub kafka_bootstrap_servers: String,
    /// Stands for `{env}` in topic names; 1 to 50 of a-z, 0-9 and dash.
    pub environment: String,
    /// Consumer group.
    pub kafka_group_id: String,
    /// Properties for the Kafka client beside those the reducer sets itself.
    pub kafka_properties: KafkaProperties,
    /// The seven topics under their real names, all different.
    pub topics: Topics,
    /// What to do about a topic that was deleted and made anew.
    pub on_topic_recreated: OnTopicRecreated,
    /// Group session timeout, 6 s to 5 min.
    pub session_timeout: Duration,
    /// The store.
    pub database: Database,
    /// What this process does.
    pub roles: Roles,
    /// Name of this process, stable over restarts; 1 to 100 characters.
    pub node_id: String,
    /// The node's contract, embedded or from `CONTRACT_PATH`.
    pub contract: Contract,
    /// Zone of the windows; all its offsets are whole slices.
    pub reporting_timezone: Tz,
    /// Window of queries that name none; one that the contract lists.
    pub metrics_window_type: String,
    /// Records in one intent, 1 to 10,000.
    pub metrics_batch_size: u32,
    /// How far the watermark stays behind the latest event; 0 to 1 d.
    pub max_out_of_orderness: Duration,
    /// From a window's end to final, on the watermark; 0 to 7 d.
    pub grace_period: Duration,
    /// From a partition's end to idle; 1 s to 1 d, at least three flush intervals.
    pub idle_timeout: Duration,
    /// Greatest lead of an event over now; 0 to 1 d.
    pub max_future_skew: Duration,
    /// Greatest step of the clock that is not paused for; 1 s to 7 d.
    pub max_clock_step: Duration,
    /// How long windows are kept; 1 d to 3,650 d.
    pub retention: Duration,
    /// Event ids remembered for each source partition; 1 to 1,048,576.
    pub dedup_window: u32,
    /// Values of a grouping with their own record, per window; 1 to 10,000.
    pub max_groups: u32,
    /// Longest message that is decoded; 1 KiB to 8 MiB.
    pub max_event_bytes: u64,
    /// Longest time between flushes; 100 ms to 5 min.
    pub flush_interval: Duration,
    /// Events that make a flush due at once; 1 to 1,000,000.
    pub flush_events: u32,
    /// How often open windows longer than an hour are emitted; at least one flush interval, at most 1 h.
    pub emit_interval: Duration,
    /// Unfolded flushes beyond which the reducer pauses; 1 to 10,000.
    pub max_backlog: u32,
    /// Time for the last flush at SIGTERM; 1 s to 4 min, below the session timeout.
    pub drain_timeout: Duration,
    /// With lag, time without a flush that means not live; 5 s to 1 h, at least three flush intervals.
    pub live_timeout: Duration,
    /// Host under which others reach this process.
    pub service_host: String,
    /// Port of HTTP; 0 takes any free one.
    pub service_port: u16,
    /// Address on which HTTP listens.
    pub http_bind: IpAddr,
    /// Token of endpoints that change something; without one they are off.
    pub api_token: Option<Secret>,
    /// The agent to register with; none if there is no host or registration is switched off.
    pub consul: Option<ConsulConfig>,
    /// Least severe level logged: `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: &'static str,
    /// Form of the log.
    pub log_format: LogFormat,
    shown: Vec<ShownSetting>,
}

/// The environment of this process. Text that is not Unicode is made so, which leaves it invalid wherever it matters.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

impl Config {
    /// Reads all settings; `read_file` reads secrets, the contract and the host's name.
    ///
    /// # Errors
    /// Every fault of names, values, files, contract and combinations, in one.
    pub fn from_sources(
        environment: impl Iterator<Item = (String, String)>,
        flags: Flags,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Config, ConfigFaults> {
        let mut reader = Reader::new(Sources::new(environment, flags, read_file));
        let config = Config::read(&mut reader);
        if reader.faults.is_empty() { Ok(config) } else { Err(ConfigFaults(reader.faults)) }
    }

    /// All settings with value, masked if secret, and origin, in the order of the table.
    pub fn shown(&self) -> &[ShownSetting] {
        &self.shown
    }

    fn read<R: Fn(&Path) -> io::Result<String>>(reader: &mut Reader<R>) -> Config {
        let contract = read_contract(reader);
        let environment = reader.value("ENVIRONMENT", parse_environment);
        let (kafka_properties, property_origins) = reader.sources.kafka_properties(&mut reader.faults);
        let mut config = Config {
            kafka_bootstrap_servers: reader.value("KAFKA_BOOTSTRAP_SERVERS", parse_brokers),
            kafka_group_id: reader.value("KAFKA_GROUP_ID", parse_group_id),
            kafka_properties,
            topics: read_topics(reader, &contract, &environment),
            environment,
            on_topic_recreated: match reader.choice("ON_TOPIC_RECREATED") {
                "restart" => OnTopicRecreated::Restart,
                _ => OnTopicRecreated::Halt,
            },
            session_timeout: reader.duration("SESSION_TIMEOUT"),
            database: reader.value("DATABASE_URL", Database::parse),
            roles: reader.value("ROLES", Roles::parse),
            node_id: read_node_id(reader),
            reporting_timezone: reader.value("REPORTING_TIMEZONE", |text| Ok(text.parse::<Tz>()?)),
            metrics_window_type: reader.choice("METRICS_WINDOW_TYPE").to_owned(),
            metrics_batch_size: reader.integer_or(
                "METRICS_BATCH_SIZE",
                contract.aggregation.batch_size.into(),
                Origin::Contract,
            ),
            contract,
            max_out_of_orderness: reader.duration("MAX_OUT_OF_ORDERNESS"),
            grace_period: reader.duration("GRACE_PERIOD"),
            idle_timeout: reader.duration("IDLE_TIMEOUT"),
            max_future_skew: reader.duration("MAX_FUTURE_SKEW"),
            max_clock_step: reader.duration("MAX_CLOCK_STEP"),
            retention: reader.duration("RETENTION"),
            dedup_window: reader.integer("DEDUP_WINDOW"),
            max_groups: reader.integer("MAX_GROUPS"),
            max_event_bytes: reader.size("MAX_EVENT_BYTES"),
            flush_interval: reader.duration("FLUSH_INTERVAL"),
            flush_events: reader.integer("FLUSH_EVENTS"),
            emit_interval: reader.duration("EMIT_INTERVAL"),
            max_backlog: reader.integer("MAX_BACKLOG"),
            drain_timeout: reader.duration("DRAIN_TIMEOUT"),
            live_timeout: reader.duration("LIVE_TIMEOUT"),
            service_host: reader.value("SERVICE_HOST", parse_host),
            service_port: reader.integer("SERVICE_PORT"),
            http_bind: reader.address("HTTP_BIND"),
            api_token: reader.token("API_TOKEN", 16),
            consul: read_consul(reader),
            log_level: reader.choice("LOG_LEVEL"),
            log_format: if reader.choice("LOG_FORMAT") == "json" { LogFormat::Json } else { LogFormat::Text },
            shown: Vec::new(),
        };
        rules::check_combinations(reader, &config);
        reader.sort_shown();
        config.shown = std::mem::take(&mut reader.shown);
        for (name, origin) in property_origins {
            let property = property_of(&name);
            let value = config.kafka_properties.get(&property).unwrap_or_default();
            let value = shown_property(&property, value).to_owned();
            config.shown.push(ShownSetting { name, value, origin });
        }
        config
    }
}

fn read_contract<R: Fn(&Path) -> io::Result<String>>(reader: &mut Reader<R>) -> Contract {
    let name = "CONTRACT_PATH";
    let Some(path) = reader.value_if_any(name, |text| Ok(PathBuf::from(text))) else {
        return Contract::embedded();
    };
    match reader.sources.read_file(&path) {
        Ok(text) => match Contract::parse(&text) {
            Ok(contract) => return contract,
            Err(faults) => {
                for fault in faults.0 {
                    reader.fail(name, ConfigFault::Contract(fault));
                }
            }
        },
        Err(cause) => reader.fail(name, ConfigFault::File { name: name.to_owned(), path, cause }),
    }
    Contract::embedded()
}

fn read_topics<R: Fn(&Path) -> io::Result<String>>(
    reader: &mut Reader<R>,
    contract: &Contract,
    environment: &str,
) -> Topics {
    let mut topic = |name: &'static str, spec: &TopicSpec| {
        reader.value_or(name, spec.name_in(environment), Origin::Contract, |text| {
            let name = text.replace(ENVIRONMENT_PLACEHOLDER, environment);
            if is_topic_name(&name) { Ok(name) } else { Err("not the name of a topic".into()) }
        })
    };
    let specs = &contract.topics;
    Topics {
        started: topic("TOPIC_STARTED", &specs.started),
        stage_completed: topic("TOPIC_STAGE_COMPLETED", &specs.stage_completed),
        completed: topic("TOPIC_COMPLETED", &specs.completed),
        failed: topic("TOPIC_FAILED", &specs.failed),
        metrics_recorded: topic("TOPIC_METRICS_RECORDED", &specs.metrics_recorded),
        intents: topic("TOPIC_INTENTS", &specs.intents),
        dead_letters: topic("TOPIC_DEAD_LETTERS", &specs.dead_letters),
    }
}

/// The default follows the host's name, so that it is the same after a restart.
fn read_node_id<R: Fn(&Path) -> io::Result<String>>(reader: &mut Reader<R>) -> String {
    let host = reader.sources.read_file(Path::new("/proc/sys/kernel/hostname")).ok();
    let host = host.or_else(|| reader.sources.variable("HOSTNAME").map(str::to_owned)).unwrap_or_default();
    let host: String =
        host.trim().chars().map(|c| if is_node_id_char(c) { c } else { '-' }).take(70).collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    reader.value_or("NODE_ID", format!("codegen-metrics-reducer-{host}"), Origin::Default, |text| {
        if text.len() <= 100 && text.chars().all(is_node_id_char) {
            Ok(text.to_owned())
        } else {
            Err("too long, or with other characters".into())
        }
    })
}

fn read_consul<R: Fn(&Path) -> io::Result<String>>(reader: &mut Reader<R>) -> Option<ConsulConfig> {
    let host = reader.value_if_any("CONSUL_HOST", parse_host);
    let port = reader.integer("CONSUL_PORT");
    let token = reader.token("CONSUL_HTTP_TOKEN", 1);
    let enabled = reader.boolean("CONSUL_ENABLE_REGISTRATION");
    host.filter(|_| enabled).map(|host| ConsulConfig { host, port, token })
}

fn is_node_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn parse_environment(text: &str) -> Result<String, Cause> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() <= ENVIRONMENT_CHARS_MAX && text.bytes().all(legal) {
        Ok(text.to_owned())
    } else {
        Err("too long, or with other characters".into())
    }
}

fn parse_brokers(text: &str) -> Result<String, Cause> {
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    match brokers.iter().find(|broker| !secret::is_host_port(broker, true)) {
        Some(broker) => Err(format!("{broker:?} is not host:port").into()),
        None => Ok(brokers.join(",")),
    }
}

fn parse_group_id(text: &str) -> Result<String, Cause> {
    if text.chars().count() <= 255 && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("too long, or with control characters".into())
    }
}

fn parse_host(text: &str) -> Result<String, Cause> {
    if secret::is_host(text) {
        Ok(text.to_owned())
    } else {
        Err("not a host: leave scheme, port and path away".into())
    }
}

#[cfg(test)]
mod tests;
