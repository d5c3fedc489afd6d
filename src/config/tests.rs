use std::collections::HashMap;

use super::table::SETTINGS;
use super::*;

/// Sources of a test: variables, flags and files.
#[derive(Default)]
struct Given {
    environment: Vec<(String, String)>,
    flags: Flags,
    files: HashMap<String, String>,
}

impl Given {
    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.set(name, value);
        self
    }

    fn read(self) -> Result<Config, ConfigFaults> {
        let files = self.files;
        Config::from_sources(self.environment.into_iter(), self.flags, move |path| {
            let text = files.get(path.to_str().expect("test paths are Unicode")).cloned();
            text.ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn config(self) -> Config {
        self.read().unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn faults(self) -> Vec<ConfigFault> {
        self.read().map(|_| Vec::new()).unwrap_or_else(|faults| faults.0)
    }

    /// The only fault, in words.
    fn fault(self) -> String {
        let faults = self.faults();
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].to_string()
    }
}

fn environment(variables: &[(&str, &str)]) -> Given {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Given { environment, ..Given::default() }
}

fn assert_words(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn defaults_are_those_of_the_design() {
    let config = environment(&[]).config();
    assert_eq!(config.kafka_bootstrap_servers, "localhost:9092");
    assert_eq!(config.topics.started, "dev.codegen.started.v1");
    assert_eq!(config.topics.all()[6], "dev.codegen.metrics_reducer.dlq.v1");
    assert_eq!(config.database, Database::Sqlite { path: "codegen_metrics.db".into() });
    assert!(config.roles.is_all());
    assert_eq!(config.node_id, "codegen-metrics-reducer-localhost");
    assert_eq!(config.reporting_timezone, Tz::UTC);
    assert_eq!(config.metrics_batch_size, 100);
    let seconds = [
        (config.max_out_of_orderness, 30),
        (config.grace_period, 60),
        (config.idle_timeout, 60),
        (config.max_future_skew, 300),
        (config.max_clock_step, 3600),
        (config.retention, 35 * 86_400),
        (config.flush_interval, 5),
        (config.emit_interval, 60),
        (config.drain_timeout, 20),
        (config.session_timeout, 45),
        (config.live_timeout, 120),
    ];
    for (duration, seconds) in seconds {
        assert_eq!(duration, Duration::from_secs(seconds));
    }
    assert_eq!((config.dedup_window, config.max_groups, config.max_event_bytes), (65_536, 1000, 1 << 20));
    assert_eq!((config.flush_events, config.max_backlog), (50_000, 64));
    assert_eq!((config.service_port, config.http_bind.to_string().as_str()), (8063, "127.0.0.1"));
    assert_eq!((config.api_token, config.consul), (None, None));
    assert_eq!((config.log_level, config.log_format), ("info", LogFormat::Text));
    assert_eq!(config.on_topic_recreated, OnTopicRecreated::Halt);
}

#[test]
fn every_setting_of_the_table_is_read_and_shown_once() {
    let config = environment(&[]).config();
    let shown: Vec<&str> = config.shown().iter().map(|shown| shown.name.as_str()).collect();
    let table: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(shown, table);
    assert_eq!(config.shown()[3].value, "dev.codegen.started.v1", "topics under their real names");
}

#[test]
fn every_setting_takes_its_variable_and_its_flag() {
    let values = [
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2"),
        ("ENVIRONMENT", "prod-2"),
        ("KAFKA_GROUP_ID", "other"),
        ("TOPIC_STARTED", "{env}.s"),
        ("TOPIC_STAGE_COMPLETED", "st"),
        ("TOPIC_COMPLETED", "c"),
        ("TOPIC_FAILED", "f"),
        ("TOPIC_METRICS_RECORDED", "m"),
        ("TOPIC_INTENTS", "i"),
        ("TOPIC_DEAD_LETTERS", "d"),
        ("ON_TOPIC_RECREATED", "restart"),
        ("SESSION_TIMEOUT", "1m"),
        ("DATABASE_URL", "postgres://u@h/db"),
        ("ROLES", "reducer,api"),
        ("NODE_ID", "n_1"),
        ("CONTRACT_PATH", "/contract.yaml"),
        ("REPORTING_TIMEZONE", "Asia/Kathmandu"),
        ("METRICS_WINDOW_TYPE", "daily"),
        ("METRICS_BATCH_SIZE", "7"),
        ("MAX_OUT_OF_ORDERNESS", "0s"),
        ("GRACE_PERIOD", "2m"),
        ("IDLE_TIMEOUT", "90s"),
        ("MAX_FUTURE_SKEW", "1m"),
        ("MAX_CLOCK_STEP", "2h"),
        ("RETENTION", "400d"),
        ("DEDUP_WINDOW", "1_000"),
        ("MAX_GROUPS", "10"),
        ("MAX_EVENT_BYTES", "64KiB"),
        ("FLUSH_INTERVAL", "250ms"),
        ("FLUSH_EVENTS", "9"),
        ("EMIT_INTERVAL", "5m"),
        ("MAX_BACKLOG", "3"),
        ("DRAIN_TIMEOUT", "30s"),
        ("LIVE_TIMEOUT", "3m"),
        ("SERVICE_HOST", "reducer"),
        ("SERVICE_PORT", "80"),
        ("HTTP_BIND", "::1"),
        ("API_TOKEN", "0123456789abcdef"),
        ("CONSUL_HOST", "consul"),
        ("CONSUL_PORT", "28500"),
        ("CONSUL_ENABLE_REGISTRATION", "True"),
        ("CONSUL_HTTP_TOKEN", "t"),
        ("LOG_LEVEL", "DEBUG"),
        ("LOG_FORMAT", "json"),
    ];
    assert_eq!(values.map(|(name, _)| name).as_slice(), SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>());
    let contract = include_str!("../../contracts/codegen_metrics_reducer.yaml");
    let from_environment = environment(&values).file("/contract.yaml", contract).config();
    assert!(from_environment.shown().iter().all(|shown| shown.origin == Origin::Environment));
    let from_flags = values
        .iter()
        .fold(Given::default(), |given, (name, value)| given.flag(name, value))
        .file("/contract.yaml", contract)
        .config();
    assert!(from_flags.shown().iter().all(|shown| shown.origin == Origin::Flag));

    for config in [from_environment, from_flags] {
        assert_eq!(config.topics.inputs(), ["prod-2.s", "st", "c", "f"]);
        assert_eq!(config.on_topic_recreated, OnTopicRecreated::Restart);
        assert!(config.roles.has(Role::Api) && !config.roles.has(Role::Recorder));
        assert_eq!(config.reporting_timezone, Tz::Asia__Kathmandu);
        assert_eq!((config.metrics_window_type.as_str(), config.metrics_batch_size), ("daily", 7));
        assert_eq!((config.dedup_window, config.max_event_bytes), (1000, 65_536));
        assert_eq!(config.flush_interval, Duration::from_millis(250));
        assert_eq!(config.api_token.expect("given").expose(), "0123456789abcdef");
        let consul = config.consul.expect("given");
        assert_eq!((consul.host.as_str(), consul.port), ("consul", 28500));
        assert_eq!((config.log_level, config.log_format), ("debug", LogFormat::Json));
    }
}

#[test]
fn flags_win_over_environment_over_defaults() {
    let variables = [("MAX_GROUPS", "5"), ("MAX_BACKLOG", "6")];
    let config = environment(&variables).flag("MAX_GROUPS", "7").config();
    assert_eq!((config.max_groups, config.max_backlog, config.flush_events), (7, 6, 50_000));
    let text = settings_text(config.shown());
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).expect("is shown").to_owned();
    assert_eq!(line("MAX_GROUPS").split_whitespace().collect::<Vec<_>>(), ["MAX_GROUPS", "7", "flag"]);
    assert!(line("MAX_BACKLOG").ends_with("  environment"));
    assert!(line("FLUSH_EVENTS").ends_with("  default"));
    assert!(line("METRICS_BATCH_SIZE").ends_with("  contract"));
    // A flag decides even over a file in the environment.
    let config = environment(&[("API_TOKEN_FILE", "/absent")]).flag("API_TOKEN", "0123456789abcdef").config();
    assert!(config.api_token.is_some());
}

#[test]
fn every_fault_is_told_at_once() {
    let faults = environment(&[
        ("KAFKA_GRUOP_ID", "x"),
        ("MAX_GROUPS", "0"),
        ("RETENTION", "35"),
        ("LOG_LEVEL", ""),
        ("API_TOKEN", "0123456789abcdef"),
        ("API_TOKEN_FILE", "/token"),
        ("CONSUL_HTTP_TOKEN_FILE", "/absent"),
        ("KAFKA_CONF_GROUP_ID", "x"),
        ("DRAIN_TIMEOUT", "45s"),
    ])
    .flag("SERVICE_PORT", "high")
    .read()
    .expect_err("faulty");
    assert_eq!(faults.0.len(), 9, "{faults}");
    let text = faults.to_string();
    assert!(text.starts_with("faults in the settings: 9\n  "), "{text}");
    assert_words(
        &text,
        &[
            "KAFKA_GRUOP_ID is not a setting: did you mean KAFKA_GROUP_ID?",
            "MAX_GROUPS=\"0\": out of range; allowed: a whole number from 1 to 10000",
            "RETENTION=\"35\": a duration needs a unit: write 35s",
            "LOG_LEVEL is set but empty: unset it, or give error, warn, info, debug, trace",
            "API_TOKEN and API_TOKEN_FILE are both set: keep one",
            "CONSUL_HTTP_TOKEN_FILE=/absent: the file cannot be read: ",
            "KAFKA_CONF_GROUP_ID: the property group.id is not yours to set: set KAFKA_GROUP_ID",
            "SERVICE_PORT=\"high\"",
            "DRAIN_TIMEOUT=45s, SESSION_TIMEOUT=45s: DRAIN_TIMEOUT must be below SESSION_TIMEOUT",
        ],
    );
    let causes = faults.0.iter().filter(|fault| match fault {
        ConfigFault::NotAllowed { name, cause, .. } => {
            name == "RETENTION"
                && cause.downcast_ref() == Some(&quantity::QuantityError::UnitMissing("35".into()))
        }
        ConfigFault::File { cause, .. } => cause.kind() == io::ErrorKind::NotFound,
        _ => false,
    });
    assert_eq!(causes.count(), 2, "the causes are kept");
}

#[test]
fn values_that_are_not_allowed_are_named_with_what_is() {
    for (name, value, part) in [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost", "is not host:port"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:1,,b:2", "is not host:port"),
        ("ENVIRONMENT", "Prod", "a-z, 0-9"),
        ("TOPIC_INTENTS", "a b", "{env} stands for ENVIRONMENT"),
        ("KAFKA_GROUP_ID", "a\tb", "control characters"),
        ("DATABASE_URL", "sqlite::memory:", "forgets everything"),
        ("ROLES", "reducer,wizard", "\"wizard\" is no role"),
        ("ROLES", "reducer,", "\"\" is no role"),
        ("NODE_ID", "a b", "1 to 100"),
        ("REPORTING_TIMEZONE", "Europe/Atlantis", "IANA"),
        ("METRICS_WINDOW_TYPE", "rolling_hourly", "hourly, daily, weekly, monthly"),
        ("METRICS_BATCH_SIZE", "10_001", "from 1 to 10000"),
        ("RETENTION", "23h", "from 1d to 3650d"),
        ("FLUSH_INTERVAL", "5 parsecs", "\"parsecs\" is unknown"),
        ("MAX_EVENT_BYTES", "1MB", "B, KiB, MiB, GiB"),
        ("MAX_EVENT_BYTES", "9MiB", "from 1KiB to 8MiB"),
        ("SESSION_TIMEOUT", "5s", "from 6s to 5m"),
        ("SERVICE_HOST", "http://h", "without scheme"),
        ("SERVICE_PORT", "65536", "from 0 to 65535"),
        ("HTTP_BIND", "localhost", "an IP address"),
        ("CONSUL_HOST", "https://consul", "without scheme"),
        ("CONSUL_PORT", "tcp://10.0.0.1:8500", "enableServiceLinks"),
        ("CONSUL_ENABLE_REGISTRATION", "yes", "true, false"),
        ("LOG_LEVEL", "loud", "error, warn"),
        ("LOG_FORMAT", "xml", "text, json"),
        ("ON_TOPIC_RECREATED", "ignore", "halt, restart"),
    ] {
        let fault = environment(&[(name, value)]).fault();
        assert_words(&fault, &[&format!("{name}={value:?}: "), "; allowed: ", part]);
    }
}

#[test]
fn an_empty_variable_is_no_default() {
    for setting in SETTINGS {
        let fault = environment(&[(setting.name, " ")]).fault();
        assert_words(&fault, &[&format!("{} is set but empty: unset it, or give ", setting.name)]);
    }
    assert_words(&environment(&[("API_TOKEN_FILE", "")]).fault(), &["API_TOKEN_FILE is set but empty"]);
    assert_words(&environment(&[("KAFKA_CONF_DEBUG", "")]).fault(), &["KAFKA_CONF_DEBUG is set but empty"]);
}

#[test]
fn near_misses_and_strangers_under_our_prefixes_are_faults() {
    for (name, hint) in [
        ("KAFKA_BOOTSTRAP_SERVER", "did you mean KAFKA_BOOTSTRAP_SERVERS?"),
        ("RETENTOIN", "did you mean RETENTION?"),
        ("DATABASE_URI", "did you mean DATABASE_URL?"),
        ("DATABASE_URL_FIEL", "did you mean DATABASE_URL_FILE?"),
        ("metrics_batch_size", "did you mean METRICS_BATCH_SIZE?"),
        ("KAFKA_ENABLE_DLQ", "written KAFKA_CONF_"),
        ("KAFKA_CONF_", "written KAFKA_CONF_"),
        ("METRICS_PORT", "config print"),
        ("TOPIC_SUCCEEDED", "config print"),
        ("KAFKA_GROUP_ID_FILE", "only secrets may come from a file"),
    ] {
        assert_words(&environment(&[(name, "x")]).fault(), &[&format!("{name} is not a setting: "), hint]);
    }
    assert_words(&Given::default().flag("KAFKA_GROUP", "x").fault(), &["KAFKA_GROUP is not a setting"]);
}

#[test]
fn variables_of_other_programs_are_passed_over() {
    let config = environment(&[
        ("PATH", "/bin"),
        ("HOME", ""),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
        ("CONSUL_HTTP_ADDR", "http://c:8500"),
        ("KAFKA_SERVICE_HOST", "10.0.0.1"),
        ("KAFKA_SERVICE_PORT", "9092"),
        ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
        ("KAFKA_PORT_9092_TCP", "tcp://10.0.0.1:9092"),
        ("KAFKA_PORT_9092_TCP_PROTO", "tcp"),
        ("CONSUL_PORT_8500_TCP_ADDR", "10.0.0.1"),
        ("NODE_IP", "10.0.0.1"),
        ("NPM_TOKEN", "x"),
        ("LOGLEVEL", "x"),
    ]);
    assert_eq!(config.config().max_groups, 1000);
}

#[test]
fn secrets_come_from_files_too() {
    let config = environment(&[
        ("API_TOKEN_FILE", "/run/token"),
        ("DATABASE_URL_FILE", "/run/url"),
        ("KAFKA_CONF_SASL_PASSWORD_FILE", "/run/password"),
    ])
    .file("/run/token", "0123456789abcdef\n")
    .file("/run/url", "postgres://u:hunter2@h/db\r\n")
    .file("/run/password", "hunter3\n")
    .config();
    assert_eq!(config.api_token.as_ref().expect("given").expose(), "0123456789abcdef");
    assert_eq!(config.kafka_properties.get("sasl.password"), Some("hunter3"));
    assert!(
        matches!(&config.database, Database::Postgres { url } if url.expose() == "postgres://u:hunter2@h/db")
    );
    let files = config.shown().iter().filter(|shown| shown.origin == Origin::File).count();
    assert_eq!(files, 3);

    let empty = environment(&[("API_TOKEN_FILE", "/run/token")]).file("/run/token", "\n").fault();
    assert_words(&empty, &["API_TOKEN_FILE=/run/token: the file is empty"]);
    let twice = [("KAFKA_CONF_SASL_PASSWORD", "a"), ("KAFKA_CONF_SASL_PASSWORD_FILE", "/b")];
    assert_words(&environment(&twice).fault(), &["KAFKA_CONF_SASL_PASSWORD_FILE are both set"]);
}

#[test]
fn no_secret_is_ever_shown() {
    let secrets = [
        ("API_TOKEN", "hunter2-hunter2-hunter2"),
        ("CONSUL_HOST", "consul"),
        ("CONSUL_HTTP_TOKEN", "hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2@h/db"),
        ("KAFKA_CONF_SASL_PASSWORD", "hunter2"),
        ("KAFKA_CONF_SASL_OAUTHBEARER_CLIENT_SECRET", "hunter2"),
        ("KAFKA_CONF_SASL_MECHANISM", "PLAIN"),
    ];
    let config = environment(&secrets).config();
    let shown = settings_text(config.shown());
    assert_words(&shown, &["postgres://u:***@h/db", "PLAIN", "KAFKA_CONF_SASL_PASSWORD"]);
    assert!(!shown.contains("hunter2"), "{shown}");
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2"), "{debug}");

    // Not in faults either, whatever they are about.
    let faulty = [
        ("API_TOKEN", "hunter2"),
        ("CONSUL_HTTP_TOKEN", "hunter2 hunter2"),
        ("DATABASE_URL", "postgres://u:hunter2/@h/db"),
        ("KAFKA_CONF_TRANSACTIONAL_ID", "hunter2"),
    ];
    let faults = environment(&faulty).faults();
    assert_eq!(faults.len(), 4, "{faults:?}");
    let words = format!("{} {faults:?}", ConfigFaults(environment(&faulty).faults()));
    assert_words(&words, &["API_TOKEN=***: it has 7 characters", "DATABASE_URL=postgres:***: "]);
    assert!(!words.contains("hunter2"), "{words}");
    let split = [("DATABASE_URL", "hunter2://x"), ("ROLES", "api")];
    assert!(!environment(&split).fault().contains("hunter2"));
    let mut flags = Flags::default();
    flags.set("API_TOKEN", "hunter2");
    assert!(!format!("{flags:?}").contains("hunter2"));
}

#[test]
fn settings_that_do_not_go_together_are_told() {
    let contract = include_str!("../../contracts/codegen_metrics_reducer.yaml");
    for (variables, part) in [
        (&[("DRAIN_TIMEOUT", "1m")][..], "DRAIN_TIMEOUT=1m, SESSION_TIMEOUT=45s: "),
        (&[("IDLE_TIMEOUT", "14s")], "IDLE_TIMEOUT must be at least three times FLUSH_INTERVAL"),
        (&[("LIVE_TIMEOUT", "14s")], "LIVE_TIMEOUT must be at least three times FLUSH_INTERVAL"),
        (&[("EMIT_INTERVAL", "4s")], "EMIT_INTERVAL must be at least FLUSH_INTERVAL"),
        (&[("RETENTION", "1d"), ("GRACE_PERIOD", "1d")], "GRACE_PERIOD must be below RETENTION"),
        (
            &[("RETENTION", "1d"), ("MAX_OUT_OF_ORDERNESS", "1d")],
            "MAX_OUT_OF_ORDERNESS must be below RETENTION",
        ),
        (&[("SERVICE_PORT", "0"), ("CONSUL_HOST", "c")], "a port that is known beforehand"),
        (&[("ROLES", "reducer")], "SQLite serves one process: run all roles or use PostgreSQL"),
        (&[("TOPIC_FAILED", "dev.codegen.started.v1")], "two topics with one name"),
    ] {
        assert_words(&environment(variables).fault(), &[part]);
    }
    let hourly = contract.replace("[hourly, daily, weekly, monthly]", "[hourly]");
    let variables = [("CONTRACT_PATH", "/c"), ("METRICS_WINDOW_TYPE", "daily")];
    assert_words(&environment(&variables).file("/c", &hourly).fault(), &["keeps only the windows hourly"]);
    let slice = contract.replace("slice_minutes: 15", "slice_minutes: 30");
    let variables = [("CONTRACT_PATH", "/c"), ("REPORTING_TIMEZONE", "Asia/Kathmandu")];
    assert_words(&environment(&variables).file("/c", &slice).fault(), &["slice of 30 min does not divide"]);
    let variables = [("CONTRACT_PATH", "/c"), ("REPORTING_TIMEZONE", "Asia/Kolkata")];
    assert_eq!(environment(&variables).file("/c", &slice).config().contract.aggregation.slice_minutes, 30);
}

#[test]
fn a_setting_with_a_fault_is_not_faulted_again_with_others() {
    let fault = environment(&[("SESSION_TIMEOUT", "forever"), ("DRAIN_TIMEOUT", "50s")]).fault();
    assert_words(&fault, &["SESSION_TIMEOUT=\"forever\""]);
}

#[test]
fn all_roles_by_name_are_all() {
    let named = environment(&[("ROLES", "api, executor,publisher,recorder,Reducer")]).config();
    assert!(named.roles.is_all());
    assert_eq!(named.roles.to_string(), "reducer,recorder,publisher,executor,api");
}

#[test]
fn kafka_properties_are_handed_on() {
    let mut given =
        environment(&[("KAFKA_CONF_SECURITY_PROTOCOL", "SASL_SSL"), ("KAFKA_CONF_SSL_KEY_LOCATION", "/k")]);
    given.flags.set_kafka_property("security.protocol", "SSL");
    let config = given.config();
    let properties: Vec<_> = config.kafka_properties.iter().collect();
    assert_eq!(properties, [("security.protocol", "SSL"), ("ssl.key.location", "/k")]);
    assert_eq!(config.shown().last().expect("is shown").name, "KAFKA_CONF_SSL_KEY_LOCATION");
    for name in ["ENABLE_AUTO_COMMIT", "AUTO_OFFSET_RESET", "GROUP_PROTOCOL", "ENABLE_PARTITION_EOF"] {
        let fault = environment(&[(&format!("KAFKA_CONF_{name}"), "x")]).fault();
        assert_words(&fault, &["is not yours to set"]);
    }
}

#[test]
fn the_contract_may_come_from_a_file_and_its_faults_join_the_others() {
    let contract = include_str!("../../contracts/codegen_metrics_reducer.yaml");
    let given = || environment(&[("CONTRACT_PATH", "/c.yaml")]);
    let config = given().file("/c.yaml", &contract.replace("batch_size: 100", "batch_size: 7")).config();
    assert_eq!(config.metrics_batch_size, 7);
    assert_words(&given().fault(), &["CONTRACT_PATH=/c.yaml: the file cannot be read"]);
    let faulty = contract.replace("batch_size: 100", "batch_size: 0").replace("REDUCER", "EFFECT");
    let faults = given().flag("MAX_GROUPS", "0").file("/c.yaml", &faulty).faults();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert_words(&faults[0].to_string(), &["contract: metadata.node_type"]);
}

#[test]
fn the_node_id_follows_the_host() {
    let host = || Given::default().file("/proc/sys/kernel/hostname", "web 1\n");
    assert_eq!(host().config().node_id, "codegen-metrics-reducer-web-1");
    assert_eq!(host().flag("NODE_ID", "a").config().node_id, "a");
    assert_eq!(environment(&[("HOSTNAME", "pod-7")]).config().node_id, "codegen-metrics-reducer-pod-7");
    let long = "x".repeat(300);
    assert!(environment(&[("HOSTNAME", &long)]).config().node_id.len() <= 100);
}

#[test]
fn consul_needs_a_host_and_may_be_switched_off() {
    assert!(environment(&[("CONSUL_PORT", "1")]).config().consul.is_none());
    let off = [("CONSUL_HOST", "c"), ("CONSUL_ENABLE_REGISTRATION", "false")];
    assert!(environment(&off).config().consul.is_none());
    assert!(environment(&off[..1]).config().consul.is_some());
}

#[test]
fn the_longest_environment_fits_every_topic() {
    let longest = "e".repeat(crate::contract::ENVIRONMENT_CHARS_MAX);
    let config = environment(&[("ENVIRONMENT", &longest)]).config();
    assert!(config.topics.all().iter().all(|topic| topic.contains(&longest)));
}

#[test]
fn the_markdown_table_has_a_row_for_each_setting() {
    let table = settings_markdown();
    for setting in SETTINGS {
        assert_words(&table, &[&format!("| `{}` | ", setting.name)]);
    }
    assert_eq!(table.lines().count(), SETTINGS.len() + 3);
    assert!(table.lines().all(|line| line.matches('|').count() == 5), "{table}");
    assert_words(
        &table,
        &["| `RETENTION` | `35d` | a duration from 1d to 3650d |", "Secret; also `API_TOKEN_FILE`."],
    );
}
