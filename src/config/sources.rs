//! Where values come from: flags before environment before defaults, secrets also from files; and which names are strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::fault::ConfigFault;
use super::secret::{KafkaProperties, MASK, is_secret_property};
use super::suggest;
use super::table::{SETTINGS, Setting, setting};

/// Variables that begin so become properties of the Kafka client.
pub(super) const KAFKA_CONF: &str = "KAFKA_CONF_";

/// Names under these prefixes are ours, or listed as foreign, or a mistake.
const OUR_PREFIXES: [&str; 4] = ["KAFKA_", "CONSUL_", "METRICS_", "TOPIC_"];

/// Variables of other programs that share a prefix or nearly a name with ours, and are passed over.
const FOREIGN: [&str; 48] = [
    // Kafka's own scripts and the images of brokers.
    "KAFKA_HEAP_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_DEBUG",
    "KAFKA_HOME",
    "KAFKA_VERSION",
    "KAFKA_CLASSPATH",
    "KAFKA_CLUSTER_ID",
    "KAFKA_BROKER_ID",
    "KAFKA_NODE_ID",
    "KAFKA_PROCESS_ROLES",
    "KAFKA_LISTENERS",
    "KAFKA_ADVERTISED_LISTENERS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    "KAFKA_INTER_BROKER_LISTENER_NAME",
    "KAFKA_CONTROLLER_LISTENER_NAMES",
    "KAFKA_CONTROLLER_QUORUM_VOTERS",
    "KAFKA_ZOOKEEPER_CONNECT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR",
    "KAFKA_LOG_DIRS",
    // Consul's command line and image.
    "CONSUL_HTTP_ADDR",
    "CONSUL_HTTP_AUTH",
    "CONSUL_HTTP_SSL",
    "CONSUL_HTTP_SSL_VERIFY",
    "CONSUL_CACERT",
    "CONSUL_CAPATH",
    "CONSUL_CLIENT_CERT",
    "CONSUL_CLIENT_KEY",
    "CONSUL_TLS_SERVER_NAME",
    "CONSUL_GRPC_ADDR",
    "CONSUL_GRPC_CACERT",
    "CONSUL_GRPC_CAPATH",
    "CONSUL_NAMESPACE",
    "CONSUL_PARTITION",
    "CONSUL_DATACENTER",
    "CONSUL_VERSION",
    "CONSUL_LOCAL_CONFIG",
    "CONSUL_BIND_INTERFACE",
    // Nearly ours, but common elsewhere.
    "NODE_IP",
    "ROLE",
    "LOGLEVEL",
    "APP_TOKEN",
];

/// Properties that the guarantees rest on, and who sets them. Everything else is handed on.
const OWNED_PROPERTIES: [(&str, &str); 22] = [
    ("bootstrap.servers", "set KAFKA_BOOTSTRAP_SERVERS"),
    ("metadata.broker.list", "set KAFKA_BOOTSTRAP_SERVERS"),
    ("group.id", "set KAFKA_GROUP_ID"),
    ("session.timeout.ms", "set SESSION_TIMEOUT"),
    ("heartbeat.interval.ms", "it follows from SESSION_TIMEOUT"),
    ("group.protocol", "the classic protocol is needed"),
    ("group.remote.assignor", "the classic protocol is needed"),
    ("group.instance.id", "a process that left must be noticed"),
    ("partition.assignment.strategy", "how partitions are taken and given up depends on it"),
    ("enable.auto.commit", "offsets are kept in the store"),
    ("auto.commit.enable", "offsets are kept in the store"),
    ("auto.commit.interval.ms", "offsets are kept in the store"),
    ("enable.auto.offset.store", "offsets are kept in the store"),
    ("offset.store.method", "offsets are kept in the store"),
    ("auto.offset.reset", "a lost offset must be noticed; see ON_TOPIC_RECREATED"),
    ("enable.partition.eof", "idle partitions are told by it"),
    ("message.max.bytes", "8 MiB are needed"),
    ("enable.idempotence", "no message may be lost or repeated by the producer"),
    ("acks", "all replicas must have a message"),
    ("request.required.acks", "all replicas must have a message"),
    ("transactional.id", "the producer is not transactional"),
    ("client.id", "set NODE_ID"),
];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nothing was given.
    Default,
    /// The contract says it.
    Contract,
    /// A variable of the environment.
    Environment,
    /// A flag on the command line.
    Flag,
    /// A file that a `NAME_FILE` names.
    File,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Default => "default",
            Origin::Contract => "contract",
            Origin::Environment => "environment",
            Origin::Flag => "flag",
            Origin::File => "file",
        })
    }
}

/// Values given on the command line, by the name of their variable.
#[derive(Clone, Default)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Gives the setting `name` (`KAFKA_GROUP_ID`) a value, over any before.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Gives a property of the Kafka client (`security.protocol`) a value.
    pub fn set_kafka_property(&mut self, property: &str, value: impl Into<String>) {
        self.set(format!("{KAFKA_CONF}{}", property.to_uppercase().replace('.', "_")), value);
    }

    /// Whether no flag was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Flags {
    /// Names only: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A value as it was given.
pub(super) struct Given {
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// All sources together.
pub(super) struct Sources<R> {
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    read_file: R,
}

impl<R: Fn(&Path) -> io::Result<String>> Sources<R> {
    pub(super) fn new(
        environment: impl Iterator<Item = (String, String)>,
        flags: Flags,
        read_file: R,
    ) -> Self {
        Sources { flags: flags.0, environment: environment.collect(), read_file }
    }

    pub(super) fn read_file(&self, path: &Path) -> io::Result<String> {
        (self.read_file)(path)
    }

    /// A variable that is no setting of ours.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// The value of `setting`, if one is given.
    pub(super) fn given(&self, setting: &Setting) -> Result<Option<Given>, ConfigFault> {
        self.lookup(setting.name, setting.secret, &setting.kind.allowed())
    }

    fn lookup(&self, name: &str, secret: bool, allowed: &str) -> Result<Option<Given>, ConfigFault> {
        let file_name = format!("{name}_FILE");
        for (layer, origin) in [(&self.flags, Origin::Flag), (&self.environment, Origin::Environment)] {
            let file = layer.get(&file_name).filter(|_| secret);
            match (layer.get(name), file) {
                (None, None) => {}
                (Some(_), Some(_)) => return Err(ConfigFault::Twice { name: name.to_owned() }),
                (Some(value), None) => {
                    // Spaces around a value are slips of the pen; in a secret they may be meant.
                    let value = if secret { value } else { value.trim() };
                    return not_empty(name, value, allowed).map(|value| Some(Given { value, origin }));
                }
                (None, Some(path)) => return self.secret_file(&file_name, path, allowed).map(Some),
            }
        }
        Ok(None)
    }

    fn secret_file(&self, file_name: &str, path: &str, allowed: &str) -> Result<Given, ConfigFault> {
        let path = PathBuf::from(not_empty(file_name, path.trim(), "the path of a file")?);
        let text = (self.read_file)(&path).map_err(|cause| ConfigFault::File {
            name: file_name.to_owned(),
            path: path.clone(),
            cause,
        })?;
        // Editors end a file with a line break that is no part of the secret.
        let value = text.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            let (name, value) = (file_name.to_owned(), path.display().to_string());
            let cause = "the file is empty".into();
            return Err(ConfigFault::NotAllowed { name, value, allowed: format!("in it, {allowed}"), cause });
        }
        Ok(Given { value: value.to_owned(), origin: Origin::File })
    }

    /// The properties for the Kafka client, each with its variable's origin.
    pub(super) fn kafka_properties(
        &self,
        faults: &mut Vec<ConfigFault>,
    ) -> (KafkaProperties, Vec<(String, Origin)>) {
        let mut properties = KafkaProperties::default();
        let mut origins = Vec::new();
        for name in self.property_variables() {
            let property = property_of(&name);
            if let Some((_, reason)) = OWNED_PROPERTIES.iter().find(|(owned, _)| *owned == property) {
                faults.push(ConfigFault::OwnedProperty { name, property, reason });
                continue;
            }
            let secret = is_secret_property(&property);
            match self.lookup(&name, secret, "a value that librdkafka takes for this property") {
                Ok(Some(given)) => {
                    origins.push((name, given.origin));
                    properties.0.insert(property, given.value);
                }
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        (properties, origins)
    }

    /// `KAFKA_CONF_*` from both sources; the file form of a secret counts as the secret.
    fn property_variables(&self) -> BTreeSet<String> {
        let names = self.flags.keys().chain(self.environment.keys());
        let ours = names.filter(|name| name.len() > KAFKA_CONF.len() && name.starts_with(KAFKA_CONF));
        ours.map(|name| match name.strip_suffix("_FILE") {
            Some(secret) if is_secret_property(&property_of(secret)) => secret.to_owned(),
            _ => name.clone(),
        })
        .collect()
    }

    /// Names that look like ours and are not.
    pub(super) fn strangers(&self) -> Vec<ConfigFault> {
        let known: Vec<String> =
            SETTINGS.iter().flat_map(|s| [Some(s.name.to_owned()), s.file_name()]).flatten().collect();
        let is_property = |name: &str| name.len() > KAFKA_CONF.len() && name.starts_with(KAFKA_CONF);
        let mut faults = Vec::new();
        for (name, value) in self.environment.iter().chain(&self.flags) {
            if known.contains(name) || is_property(name) || is_foreign(name, value) {
                continue;
            }
            if let Some(hint) = hint_for(name, &known) {
                faults.push(ConfigFault::Unknown { name: name.clone(), hint });
            }
        }
        faults
    }
}

fn hint_for(name: &str, known: &[String]) -> Option<String> {
    let upper = name.to_uppercase();
    let exact = known.iter().find(|known| **known == upper).map(String::as_str);
    if let Some(meant) = exact.or_else(|| suggest::nearest(&upper, known.iter().map(String::as_str))) {
        return Some(format!("did you mean {meant}?"));
    }
    if !OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let not_secret = name.strip_suffix("_FILE").and_then(setting);
    Some(match not_secret {
        Some(setting) => format!("only secrets may come from a file; set {}", setting.name),
        None if name.starts_with("KAFKA_") => {
            format!("unset it; properties of the Kafka client are written {KAFKA_CONF}…")
        }
        None => "unset it; `config print` lists all settings".to_owned(),
    })
}

/// Listed names, and what container platforms add for a service that is called `kafka` or `consul`.
fn is_foreign(name: &str, value: &str) -> bool {
    let link = |protocol| name.contains(&format!("_{protocol}_")) || name.ends_with(&format!("_{protocol}"));
    FOREIGN.contains(&name)
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.contains("_PORT_") && (link("TCP") || link("UDP")))
        || value.starts_with("tcp://")
        || value.starts_with("udp://")
}

/// The property that a `KAFKA_CONF_` variable stands for.
pub(super) fn property_of(name: &str) -> String {
    name.strip_prefix(KAFKA_CONF).unwrap_or(name).to_lowercase().replace('_', ".")
}

fn not_empty(name: &str, value: &str, allowed: &str) -> Result<String, ConfigFault> {
    if value.trim().is_empty() {
        return Err(ConfigFault::Empty { name: name.to_owned(), allowed: allowed.to_owned() });
    }
    Ok(value.to_owned())
}

/// The text to show for a value of the property that `name` stands for.
pub(super) fn shown_property<'a>(property: &str, value: &'a str) -> &'a str {
    if is_secret_property(property) { MASK } else { value }
}
