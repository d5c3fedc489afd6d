//! Making the topics, and telling where existing ones differ from what is wanted.

use crate::consumer::KafkaSettings;
use crate::log::LogError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// Longest wait for each of the three questions to the broker.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Copies of each partition; -1 is the broker's default, and whatever an existing topic has.
    pub replication: i32,
    /// Topic settings by name, as the broker writes them.
    pub configs: BTreeMap<String, String>,
}

/// What became of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOutcome {
    /// Name.
    pub name: String,
    /// What became of it.
    pub state: TopicState,
}

/// Whether a topic is as it should be. Existing topics are never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// It did not exist and was made as wanted.
    Created,
    /// It existed and has at least the wanted partitions, and the wanted copies and settings.
    AsWanted,
    /// It existed and differs in these points.
    Differs(Vec<String>),
    /// It could not be made or looked at, for this reason.
    Failed(String),
}

/// Creates the topics that do not exist. One outcome per spec, in order; an error means that the broker could not be asked.
pub fn create(settings: &KafkaSettings, specs: &[TopicSpec]) -> Result<Vec<TopicOutcome>, LogError> {
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    let admin: AdminClient<DefaultClientContext> =
        settings.config(&[], &[]).create().map_err(|e| LogError::Fatal(e.to_string()))?;
    let wanted: Vec<NewTopic<'_>> = specs
        .iter()
        .map(|spec| {
            let new = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(spec.replication));
            spec.configs.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let options =
        AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    let made = block_on(admin.create_topics(&wanted, &options)).map_err(|e| classify(&e))?;
    let made: BTreeMap<String, RDKafkaErrorCode> = made
        .into_iter()
        .map(|result| result.map_or_else(|failed| failed, |name| (name, RDKafkaErrorCode::NoError)))
        .collect();
    let outcome = |spec: &TopicSpec| {
        let state = match made.get(&spec.name) {
            Some(RDKafkaErrorCode::NoError) => TopicState::Created,
            Some(RDKafkaErrorCode::TopicAlreadyExists) => compare(&admin, spec, &options)?,
            Some(code) => TopicState::Failed(code.to_string()),
            None => TopicState::Failed("the broker gave no answer".into()),
        };
        Ok(TopicOutcome { name: spec.name.clone(), state })
    };
    specs.iter().map(outcome).collect()
}

fn compare(
    admin: &AdminClient<DefaultClientContext>,
    spec: &TopicSpec,
    options: &AdminOptions,
) -> Result<TopicState, LogError> {
    let metadata = admin.inner().fetch_metadata(Some(&spec.name), ADMIN_TIMEOUT).map_err(|e| classify(&e))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == spec.name) else {
        return Ok(TopicState::Failed("the broker does not describe it".into()));
    };
    let mut findings = Vec::new();
    let partitions = topic.partitions().len();
    if partitions < usize::try_from(spec.partitions).unwrap_or(0) {
        findings.push(format!("{partitions} partitions instead of {}", spec.partitions));
    }
    let copies = topic.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
    if spec.replication > 0 && usize::try_from(spec.replication) != Ok(copies) {
        findings.push(format!("replication {copies} instead of {}", spec.replication));
    }
    if !spec.configs.is_empty() {
        let resource = [ResourceSpecifier::Topic(&spec.name)];
        let described = block_on(admin.describe_configs(&resource, options)).map_err(|e| classify(&e))?;
        let config = match described.into_iter().next() {
            Some(Ok(config)) => config,
            Some(Err(code)) => return Ok(TopicState::Failed(format!("its settings: {code}"))),
            None => return Ok(TopicState::Failed("the broker does not tell its settings".into())),
        };
        for (name, value) in &spec.configs {
            let found = config.get(name).and_then(|entry| entry.value.as_deref());
            if found != Some(value) {
                findings.push(format!("{name}={} instead of {value}", found.unwrap_or("(unknown)")));
            }
        }
    }
    Ok(if findings.is_empty() { TopicState::AsWanted } else { TopicState::Differs(findings) })
}

fn classify(error: &KafkaError) -> LogError {
    match error {
        // The request could not even be made: a spec is at fault.
        KafkaError::AdminOpCreation(_) | KafkaError::Nul(_) => LogError::Refused(error.to_string()),
        _ => LogError::Unavailable(error.to_string()),
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for an answer of the admin client, whose own thread wakes us; the request's timeout bounds the wait.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
