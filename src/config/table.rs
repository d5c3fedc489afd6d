//! The one table of settings: names, defaults, limits and words. Reader, flags, `config print` and the README follow it.

use std::time::Duration;

use super::quantity::{format_duration, format_size};

/// What a setting may hold.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A text with a rule of its own, said in words.
    Text(&'static str),
    /// A whole number from … to ….
    Integer(u64, u64),
    /// A duration from … to …, both in milliseconds here.
    Duration(u64, u64),
    /// A size from … to …, both in bytes here.
    Size(u64, u64),
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// `true` or `false`, in any case.
    Boolean,
}

impl Kind {
    /// What is allowed, in words.
    pub fn allowed(&self) -> String {
        let duration = |ms: &u64| format_duration(Duration::from_millis(*ms));
        match self {
            Kind::Text(words) => (*words).to_owned(),
            Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Duration(min, max) => format!("a duration from {} to {}", duration(min), duration(max)),
            Kind::Size(min, max) => format!("a size from {} to {}", format_size(*min), format_size(*max)),
            Kind::Choice(words) => words.join(", "),
            Kind::Boolean => "true, false".to_owned(),
        }
    }
}

/// One setting. Its flag is the name in lower case with dashes: `KAFKA_GROUP_ID` is `--kafka-group-id`.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Value when nothing is given; none if it is then unset, or follows from something else.
    pub default: Option<&'static str>,
    /// Words for a default that is no fixed value.
    pub default_words: &'static str,
    /// Never shown in full, and may come from the file that `NAME_FILE` names.
    pub secret: bool,
    /// What it does.
    pub description: &'static str,
}

impl Setting {
    /// The name of its flag, without the two dashes.
    pub fn flag(&self) -> String {
        flag_of(self.name)
    }

    /// The variable that names a file with the value, for secrets.
    pub fn file_name(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.name))
    }
}

/// The flag of an environment variable, without the two dashes.
pub fn flag_of(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// The setting of this name.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const HOST: Kind = Kind::Text("a host name or address, without scheme and port");
const TOPIC: Kind = Kind::Text("1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'; {env} stands for ENVIRONMENT");

const fn fixed(name: &'static str, kind: Kind, default: &'static str, description: &'static str) -> Setting {
    Setting { name, kind, default: Some(default), default_words: "", secret: false, description }
}

const fn derived(name: &'static str, kind: Kind, words: &'static str, description: &'static str) -> Setting {
    Setting { name, kind, default: None, default_words: words, secret: false, description }
}

const fn secret(setting: Setting) -> Setting {
    Setting { secret: true, ..setting }
}

/// All settings, grouped as an operator meets them. `KAFKA_CONF_*` is open-ended and stands beside the table.
pub const SETTINGS: &[Setting] = &[
    fixed(
        "KAFKA_BOOTSTRAP_SERVERS",
        Kind::Text("host:port, several separated by commas"),
        "localhost:9092",
        "Brokers to begin with.",
    ),
    fixed("ENVIRONMENT", Kind::Text("1 to 50 of a-z, 0-9, '-'"), "dev", "Stands for {env} in topic names."),
    fixed(
        "KAFKA_GROUP_ID",
        Kind::Text("1 to 255 characters, no control characters"),
        "codegen-metrics-reducer",
        "Consumer group.",
    ),
    derived("TOPIC_STARTED", TOPIC, "contract", "Topic of CODEGEN_STARTED."),
    derived("TOPIC_STAGE_COMPLETED", TOPIC, "contract", "Topic of CODEGEN_STAGE_COMPLETED."),
    derived("TOPIC_COMPLETED", TOPIC, "contract", "Topic of CODEGEN_COMPLETED."),
    derived("TOPIC_FAILED", TOPIC, "contract", "Topic of CODEGEN_FAILED."),
    derived("TOPIC_METRICS_RECORDED", TOPIC, "contract", "Topic of GENERATION_METRICS_RECORDED."),
    derived("TOPIC_INTENTS", TOPIC, "contract", "Topic of intents."),
    derived("TOPIC_DEAD_LETTERS", TOPIC, "contract", "Topic of dead letters."),
    fixed(
        "ON_TOPIC_RECREATED",
        Kind::Choice(&["halt", "restart"]),
        "halt",
        "A topic that was deleted and made anew: halt its partitions, or take it from its start.",
    ),
    fixed(
        "SESSION_TIMEOUT",
        Kind::Duration(6 * SECOND, 5 * MINUTE),
        "45s",
        "Silence after which the group gives a process's partitions to others.",
    ),
    secret(fixed(
        "DATABASE_URL",
        Kind::Text("sqlite:PATH, or postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
        "sqlite:codegen_metrics.db",
        "Store. SQLite serves one process, PostgreSQL many.",
    )),
    fixed(
        "ROLES",
        Kind::Text("all, or some of reducer, recorder, publisher, executor, api, separated by commas"),
        "all",
        "What this process does.",
    ),
    derived(
        "NODE_ID",
        Kind::Text("1 to 100 of a-z, A-Z, 0-9, '_', '.', '-'"),
        "codegen-metrics-reducer-HOSTNAME",
        "Name of this process; the same after a restart, and different for each process.",
    ),
    derived("CONTRACT_PATH", Kind::Text("the path of a file"), "built in", "Contract of the node."),
    fixed(
        "REPORTING_TIMEZONE",
        Kind::Text("an IANA name such as Europe/Berlin"),
        "UTC",
        "Zone in which windows begin and end.",
    ),
    fixed(
        "METRICS_WINDOW_TYPE",
        Kind::Choice(&["hourly", "daily", "weekly", "monthly"]),
        "hourly",
        "Window of queries that name none, and of the Consul tag.",
    ),
    derived("METRICS_BATCH_SIZE", Kind::Integer(1, 10_000), "contract", "Records in one intent."),
    fixed(
        "MAX_OUT_OF_ORDERNESS",
        Kind::Duration(0, DAY),
        "30s",
        "How far the watermark stays behind the latest event.",
    ),
    fixed(
        "GRACE_PERIOD",
        Kind::Duration(0, 7 * DAY),
        "60s",
        "How far the watermark must be past a window's end to make it final.",
    ),
    fixed(
        "IDLE_TIMEOUT",
        Kind::Duration(SECOND, DAY),
        "60s",
        "Time at its end after which a partition no longer holds the watermark back.",
    ),
    fixed(
        "MAX_FUTURE_SKEW",
        Kind::Duration(0, DAY),
        "5m",
        "Events further in the future become dead letters.",
    ),
    fixed(
        "MAX_CLOCK_STEP",
        Kind::Duration(SECOND, 7 * DAY),
        "1h",
        "A greater step of the clock pauses the reducer.",
    ),
    fixed(
        "RETENTION",
        Kind::Duration(DAY, 3650 * DAY),
        "35d",
        "How long windows are kept; older events become dead letters.",
    ),
    fixed(
        "DEDUP_WINDOW",
        Kind::Integer(1, 1_048_576),
        "65536",
        "Event ids remembered for each source partition.",
    ),
    fixed(
        "MAX_GROUPS",
        Kind::Integer(1, 10_000),
        "1000",
        "Values of a grouping with a record of their own, per window.",
    ),
    fixed("MAX_EVENT_BYTES", Kind::Size(KIB, 8 * MIB), "1MiB", "Longer messages become dead letters."),
    fixed("FLUSH_INTERVAL", Kind::Duration(100, 5 * MINUTE), "5s", "Longest time between two flushes."),
    fixed(
        "FLUSH_EVENTS",
        Kind::Integer(1, 1_000_000),
        "50000",
        "Events after which a flush does not wait for its time.",
    ),
    fixed(
        "EMIT_INTERVAL",
        Kind::Duration(100, HOUR),
        "60s",
        "How often open windows longer than an hour are emitted.",
    ),
    fixed(
        "MAX_BACKLOG",
        Kind::Integer(1, 10_000),
        "64",
        "Flushes not yet folded, beyond which the reducer pauses.",
    ),
    fixed("DRAIN_TIMEOUT", Kind::Duration(SECOND, 4 * MINUTE), "20s", "Time for the last flush at SIGTERM."),
    fixed(
        "LIVE_TIMEOUT",
        Kind::Duration(5 * SECOND, HOUR),
        "120s",
        "With lag, no flush for so long means not live.",
    ),
    fixed("SERVICE_HOST", HOST, "localhost", "Host under which others reach this process."),
    fixed("SERVICE_PORT", Kind::Integer(0, 65_535), "8063", "Port of HTTP; 0 takes any free one."),
    fixed("HTTP_BIND", Kind::Text("an IP address"), "127.0.0.1", "Address on which HTTP listens."),
    secret(derived(
        "API_TOKEN",
        Kind::Text("16 to 512 visible ASCII characters"),
        "unset",
        "Bearer token of endpoints that change something; unset, they are off.",
    )),
    derived(
        "CONSUL_HOST",
        HOST,
        "unset",
        "Consul agent, spoken to over http://; unset, nothing is registered.",
    ),
    fixed("CONSUL_PORT", Kind::Integer(1, 65_535), "8500", "Port of the Consul agent."),
    fixed("CONSUL_ENABLE_REGISTRATION", Kind::Boolean, "true", "Whether to register with Consul."),
    secret(derived(
        "CONSUL_HTTP_TOKEN",
        Kind::Text("1 to 512 visible ASCII characters"),
        "unset",
        "ACL token for the Consul agent.",
    )),
    fixed(
        "LOG_LEVEL",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "info",
        "Least severe level that is logged.",
    ),
    fixed("LOG_FORMAT", Kind::Choice(&["text", "json"]), "text", "Form of the log, on standard error."),
];
