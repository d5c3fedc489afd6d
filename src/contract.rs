//! The node's contract: topics, windows, groupings, bounds and limits that the operator may change without a build.
//!
//! The document is read into a tree first and then taken apart by hand rather than by derive, because a derived reader
//! stops at its first fault and the operator is owed all of them at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

mod reader;
mod rules;

use reader::Section;
pub(crate) use rules::is_topic_name;

/// The document that is compiled in.
const EMBEDDED: &str = include_str!("../contracts/codegen_metrics_reducer.yaml");

/// Placeholder in topic names for `ENVIRONMENT`.
pub const ENVIRONMENT_PLACEHOLDER: &str = "{env}";

/// Longest `ENVIRONMENT`.
pub const ENVIRONMENT_CHARS_MAX: usize = 50;

/// The windows that a contract may list.
pub const WINDOWS: [&str; 4] = ["hourly", "daily", "weekly", "monthly"];

/// The aggregation types that a contract may list, composites aside.
pub const AGGREGATION_TYPES: [&str; 8] = [
    "time_window",
    "model_grouping",
    "node_type_grouping",
    "domain_grouping",
    "quality_score_buckets",
    "cost_buckets",
    "stage_grouping",
    "workflow_grouping",
];

/// The aggregation types of which a composite may be made.
pub const COMPOSITE_PARTS: [&str; 5] =
    ["model_grouping", "node_type_grouping", "domain_grouping", "quality_score_buckets", "cost_buckets"];

/// The buckets of the quality score, worst first; they keep their names whatever the bounds are.
pub const QUALITY_BUCKETS: [&str; 3] = ["low", "medium", "high"];

/// A contract without faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Who this node is.
    pub metadata: Metadata,
    /// The topics read and written.
    pub topics: ContractTopics,
    /// What is counted, and how finely.
    pub aggregation: Aggregation,
    /// What the node promises to reach.
    pub performance: Performance,
    /// Which services it needs.
    pub dependencies: Dependencies,
}

/// Names and version of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Always `codegen_metrics_reducer`.
    pub node_name: String,
    /// Name of the contract itself.
    pub contract_name: String,
    /// Version of the contract, `major.minor.patch`.
    pub version: String,
    /// Always `REDUCER`.
    pub node_type: String,
    /// One sentence for people.
    pub description: String,
}

/// All topics of the contract, names still as templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractTopics {
    /// CODEGEN_STARTED.
    pub started: TopicSpec,
    /// CODEGEN_STAGE_COMPLETED.
    pub stage_completed: TopicSpec,
    /// CODEGEN_COMPLETED.
    pub completed: TopicSpec,
    /// CODEGEN_FAILED.
    pub failed: TopicSpec,
    /// GENERATION_METRICS_RECORDED.
    pub metrics_recorded: TopicSpec,
    /// Intents, on the coordination topic.
    pub intents: TopicSpec,
    /// Messages that could not be counted.
    pub dead_letters: TopicSpec,
}

impl ContractTopics {
    /// All seven, inputs first, each with the path of its section.
    pub fn all(&self) -> [(&'static str, &TopicSpec); 7] {
        [
            ("input_events.started", &self.started),
            ("input_events.stage_completed", &self.stage_completed),
            ("input_events.completed", &self.completed),
            ("input_events.failed", &self.failed),
            ("output_topics.metrics_recorded", &self.metrics_recorded),
            ("output_topics.intents", &self.intents),
            ("output_topics.dead_letters", &self.dead_letters),
        ]
    }
}

/// One topic and the settings it is created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name, in which `{env}` stands for the environment.
    pub template: String,
    /// Number of partitions, 1 to 1,000.
    pub partitions: u32,
    /// `retention.ms`, 1 h to 3,650 d.
    pub retention: Duration,
    /// `cleanup.policy`: `delete`, `compact` or `compact,delete`.
    pub cleanup_policy: String,
    /// `max.message.bytes`, up to 64 MiB; at least 8 MiB for what the reducer writes.
    pub max_message_bytes: u64,
}

impl TopicSpec {
    /// The topic's name in `environment`.
    pub fn name_in(&self, environment: &str) -> String {
        self.template.replace(ENVIRONMENT_PLACEHOLDER, environment)
    }
}

/// Windows, groupings, bounds, batch and slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregation {
    /// Distinct names out of [`WINDOWS`], at least one.
    pub windows: Vec<String>,
    /// Distinct groupings; `time_window` is always among them.
    pub groupings: Vec<Grouping>,
    /// Lower bounds of `medium` and `high`: decimals in 0..1, ascending, without trailing zeros.
    pub quality_bounds: [String; 2],
    /// Lower bounds in USD of the cost buckets above the first: decimals above 0, ascending, without trailing zeros.
    pub cost_bounds: [String; 3],
    /// Records in one intent, 1 to 10,000.
    pub batch_size: u32,
    /// Length of a slice in minutes; divides 60.
    pub slice_minutes: u32,
}

impl Aggregation {
    /// The names of the cost buckets, cheapest first: `lt_0.01`, `0.01_to_0.1`, `0.1_to_1`, `ge_1`.
    pub fn cost_buckets(&self) -> [String; 4] {
        let [a, b, c] = &self.cost_bounds;
        [format!("lt_{a}"), format!("{a}_to_{b}"), format!("{b}_to_{c}"), format!("ge_{c}")]
    }

    /// Whether windows of this name are kept.
    pub fn has_window(&self, window: &str) -> bool {
        self.windows.iter().any(|listed| listed == window)
    }
}

/// One grouping of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// One of [`AGGREGATION_TYPES`], or a composite: two or more of [`COMPOSITE_PARTS`] joined by `*`.
    pub aggregation_type: String,
    /// Raw values, as events give them, that keep their own record beyond the cap.
    pub values: Vec<String>,
}

impl Grouping {
    /// The parts of a composite; of any other grouping itself alone.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.aggregation_type.split('*')
    }
}

/// What the node promises, for the benchmark to hold it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Performance {
    /// Events a second that one process takes.
    pub events_per_second: u32,
    /// 95th percentile of the time to aggregate one batch, in milliseconds.
    pub latency_p95_ms: u32,
    /// Greatest resident memory in MiB.
    pub max_memory_mb: u32,
}

/// How much each service is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependencies {
    /// The log; always required.
    pub kafka: Need,
    /// The store for several instances; SQLite otherwise.
    pub postgresql: Need,
    /// Service discovery.
    pub consul: Need,
}

/// Whether the node works without a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Unhealthy without it.
    Required,
    /// Degraded at most without it.
    Optional,
}

/// One fault of a contract: where it is and what to do.
#[derive(Debug, Error)]
pub enum ContractFault {
    /// The text is not YAML, or a key stands twice.
    #[error("not readable as YAML: {}", .0.without_snippet())]
    Syntax(Box<serde_saphyr::Error>),
    /// A key is not there.
    #[error("{path}: missing; add {expected}")]
    Missing {
        /// Place in the document, keys joined by dots.
        path: String,
        /// What belongs there.
        expected: String,
    },
    /// A key is not known.
    #[error("{path}: unknown key; {hint}")]
    UnknownKey {
        /// Place in the document.
        path: String,
        /// The key that was probably meant, or those that are known.
        hint: String,
    },
    /// A value has the wrong type.
    #[error("{path}: is {found}; write {expected}")]
    Type {
        /// Place in the document.
        path: String,
        /// Type and value that stand there.
        found: String,
        /// What belongs there.
        expected: String,
    },
    /// A value has the right type, but is not allowed.
    #[error("{path}: {value:?} is not allowed; {remedy}")]
    Value {
        /// Place in the document.
        path: String,
        /// The value as given.
        value: String,
        /// What to write instead.
        remedy: String,
    },
}

/// All faults of a contract, at least one.
#[derive(Debug, Error)]
pub struct ContractFaults(pub Vec<ContractFault>);

impl fmt::Display for ContractFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults in the contract: {}", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Which kind of topic is read from the document: their limits differ.
#[derive(Clone, Copy)]
enum TopicUse {
    Input,
    Output,
    Record,
}

impl Contract {
    /// The contract that is compiled in.
    pub fn embedded() -> Contract {
        // The tests parse the same text, so a build with a faulty one does not pass them.
        Contract::parse(EMBEDDED).expect("the embedded contract is valid")
    }

    /// Reads a contract and returns it, or everything that is wrong with it.
    pub fn parse(text: &str) -> Result<Contract, ContractFaults> {
        let tree: serde_json::Value = serde_saphyr::from_str(text)
            .map_err(|error| ContractFaults(vec![ContractFault::Syntax(Box::new(error))]))?;
        let mut faults = Vec::new();
        let contract = Contract::read(Section::root(tree, &mut faults));
        if faults.is_empty() { Ok(contract) } else { Err(ContractFaults(faults)) }
    }

    fn read(mut root: Section<'_>) -> Contract {
        let contract = Contract {
            metadata: read_metadata(root.section("metadata")),
            topics: read_topics(&mut root),
            aggregation: read_aggregation(root.section("aggregation")),
            performance: read_performance(root.section("performance")),
            dependencies: read_dependencies(root.section("dependencies")),
        };
        root.finish();
        contract
    }
}

fn read_metadata(mut section: Section<'_>) -> Metadata {
    let metadata = Metadata {
        node_name: section.choice("node_name", &["codegen_metrics_reducer"]),
        contract_name: section.text("contract_name", "the contract's name"),
        version: section.text("version", "a version such as 1.0.0"),
        node_type: section.choice("node_type", &["REDUCER"]),
        description: section.text("description", "one sentence"),
    };
    rules::check_version(&mut section, "version", &metadata.version);
    section.finish();
    metadata
}

fn read_topics(root: &mut Section<'_>) -> ContractTopics {
    let mut inputs = root.section("input_events");
    let (started, stage_completed, completed, failed) = (
        read_input(&mut inputs, "started"),
        read_input(&mut inputs, "stage_completed"),
        read_input(&mut inputs, "completed"),
        read_input(&mut inputs, "failed"),
    );
    inputs.finish();
    let mut outputs = root.section("output_topics");
    let metrics_recorded = read_topic(outputs.section("metrics_recorded"), TopicUse::Record);
    let intents = read_topic(outputs.section("intents"), TopicUse::Output);
    let dead_letters = read_topic(outputs.section("dead_letters"), TopicUse::Output);
    outputs.finish();
    let topics = ContractTopics {
        started,
        stage_completed,
        completed,
        failed,
        metrics_recorded,
        intents,
        dead_letters,
    };
    rules::check_distinct(root, &topics);
    topics
}

fn read_input(inputs: &mut Section<'_>, kind: &'static str) -> TopicSpec {
    let mut section = inputs.section(kind);
    let event_types = section.texts("event_types", "the two names of the event");
    rules::check_event_types(&mut section, kind, &event_types);
    read_topic(section, TopicUse::Input)
}

fn read_topic(mut section: Section<'_>, topic_use: TopicUse) -> TopicSpec {
    const MIB: u64 = 1 << 20;
    let bytes: RangeInclusive<u64> = match topic_use {
        TopicUse::Input => 1024..=64 * MIB,
        // What the reducer writes may be as long as a batch of records: the producer is set to the same 8 MiB.
        TopicUse::Output | TopicUse::Record => 8 * MIB..=64 * MIB,
    };
    // Compaction would lose events and intents; of the records it would keep the last one written.
    let policies: &[&str] = match topic_use {
        TopicUse::Input | TopicUse::Output => &["delete"],
        TopicUse::Record => &["delete", "compact", "compact,delete"],
    };
    let spec = TopicSpec {
        template: section.text("topic", "a topic name, with {env} for the environment"),
        partitions: section.integer("partitions", 1..=1000),
        retention: section.duration("retention", Duration::from_hours(1)..=Duration::from_hours(3650 * 24)),
        cleanup_policy: section.choice("cleanup_policy", policies),
        max_message_bytes: section.size("max_message_bytes", bytes),
    };
    rules::check_topic(&mut section, "topic", &spec.template);
    section.finish();
    spec
}

fn read_aggregation(mut section: Section<'_>) -> Aggregation {
    let windows = section.texts("windows", "a list of windows");
    rules::check_windows(&mut section, &windows);
    let groupings = rules::read_groupings(&mut section);
    let aggregation = Aggregation {
        windows,
        groupings,
        quality_bounds: rules::read_bounds(&mut section, "quality_bounds", rules::QUALITY_LIMITS),
        cost_bounds: rules::read_bounds(&mut section, "cost_bounds", rules::COST_LIMITS),
        batch_size: section.integer("batch_size", 1..=10_000),
        slice_minutes: section.integer("slice_minutes", 1..=60),
    };
    rules::check_slice(&mut section, aggregation.slice_minutes);
    section.finish();
    aggregation
}

fn read_performance(mut section: Section<'_>) -> Performance {
    let performance = Performance {
        events_per_second: section.integer("events_per_second", 1..=10_000_000),
        latency_p95_ms: section.integer("latency_p95_ms", 1..=60_000),
        max_memory_mb: section.integer("max_memory_mb", 16..=1_048_576),
    };
    section.finish();
    performance
}

fn read_dependencies(mut section: Section<'_>) -> Dependencies {
    fn need(text: &str) -> Need {
        if text == "required" { Need::Required } else { Need::Optional }
    }
    // Nothing can be counted without Kafka, whatever a contract says.
    let kafka = section.choice("kafka", &["required"]);
    let postgresql = section.choice("postgresql", &["required", "optional"]);
    let consul = section.choice("consul", &["required", "optional"]);
    section.finish();
    Dependencies { kafka: need(&kafka), postgresql: need(&postgresql), consul: need(&consul) }
}

#[cfg(test)]
mod tests;
