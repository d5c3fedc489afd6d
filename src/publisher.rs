//! Writing to Kafka, and reading back the intents from the coordination topic.

use crate::consumer::KafkaSettings;
use crate::consumer::group::{Group, Kind};
use crate::log::{Intent, IntentLog, LogError, Outgoing, Publisher};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The producer refuses larger messages itself, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long delivery reports are awaited at a time; librdkafka's `flush` takes 100 ms slices.
const REPORT_POLL: Duration = Duration::from_millis(1);
/// How long a topic that the broker does not know is taken to be only new.
const TOPIC_PROPAGATION_MAX: Duration = Duration::from_secs(10);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes with `acks=all`, idempotent, so that the client's own retries neither repeat nor reorder. A message that timed out may still
/// be written later.
pub struct KafkaPublisher {
    settings: KafkaSettings,
    producer: Option<Client>,
    /// Ticket of the next message: tells a report of an earlier, timed-out call from one of this call.
    next_ticket: usize,
}

struct Client {
    producer: BaseProducer<Reports>,
    /// Delivery timeout it was made with.
    timeout: Duration,
}

impl KafkaPublisher {
    /// Checks the settings; the first [`Publisher::publish`] connects.
    pub fn new(settings: &KafkaSettings) -> Result<Self, LogError> {
        let publisher = Self { settings: settings.clone(), producer: None, next_ticket: 0 };
        publisher.config(Duration::from_secs(30)).create_native_config().map_err(|e| fatal(&e))?;
        Ok(publisher)
    }

    fn config(&self, timeout: Duration) -> ClientConfig {
        let tuning = [
            ("compression.type", "lz4"),
            ("linger.ms", "5"),
            ("queue.buffering.max.kbytes", "65536"),
            // Where Java clients put the same key.
            ("partitioner", "murmur2_random"),
        ];
        let bytes_max = MESSAGE_BYTES_MAX.to_string();
        let timeout_ms = timeout.as_millis().clamp(1000, 300_000);
        let propagation_ms = TOPIC_PROPAGATION_MAX.as_millis().min(timeout_ms / 2).to_string();
        let timeout_ms = timeout_ms.to_string();
        let fixed = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.max.bytes", bytes_max.as_str()),
            ("delivery.timeout.ms", &timeout_ms),
            ("topic.metadata.propagation.max.ms", &propagation_ms),
        ];
        self.settings.config(&tuning, &fixed)
    }

    /// Makes the client, or makes it anew when it failed or gives messages up too early for this call.
    fn connect(&mut self, timeout: Duration) -> Result<(), LogError> {
        let usable = self.producer.as_ref().is_some_and(|client| {
            client.timeout >= timeout && client.producer.client().fatal_error().is_none()
        });
        if !usable {
            self.producer = None;
            let producer = BaseProducer::from_config_and_context(&self.config(timeout), Reports::default())
                .map_err(|e| fatal(&e))?;
            self.producer = Some(Client { producer, timeout });
        }
        Ok(())
    }

    /// Sends those messages and waits for their reports; one that has none by the deadline stays `None`.
    fn send(&mut self, messages: &[Outgoing], wanted: &[usize], deadline: Instant, results: &mut [Outcome]) {
        let Some(Client { producer, .. }) = &self.producer else { return };
        let first = self.next_ticket;
        self.next_ticket = first.wrapping_add(wanted.len());
        let mut open = 0;
        for (place, &index) in wanted.iter().enumerate() {
            results[index] = None;
            match enqueue(producer, &messages[index], first.wrapping_add(place), deadline) {
                Ok(()) => open += 1,
                Err(error) => results[index] = Some(Err(error)),
            }
        }
        // Reports may have come while the queue was full, so look before waiting.
        loop {
            for (ticket, code) in producer.context().take() {
                if let Some(&index) = wanted.get(ticket.wrapping_sub(first)) {
                    results[index] = Some(code.map_or(Ok(()), Err));
                    open -= 1;
                }
            }
            if open == 0 || now() >= deadline {
                return;
            }
            producer.poll(REPORT_POLL);
        }
    }
}

impl Publisher for KafkaPublisher {
    fn publish(&mut self, messages: &[Outgoing], timeout: Duration) -> Vec<Result<(), LogError>> {
        let deadline = now() + timeout;
        if let Err(error) = self.connect(timeout) {
            let text = error.to_string();
            return messages.iter().map(|_| Err(LogError::Fatal(text.clone()))).collect();
        }
        let mut results: Vec<Outcome> = vec![None; messages.len()];
        let all: Vec<usize> = (0..messages.len()).collect();
        self.send(messages, &all, deadline, &mut results);
        // A broker refuses a whole batch for its size. Which message was to blame shows when each goes alone.
        let refused: Vec<usize> = all.into_iter().filter(|&i| results[i] == Some(Err(TOO_LARGE))).collect();
        for index in refused.iter().copied().filter(|_| refused.len() > 1) {
            self.send(messages, &[index], deadline, &mut results);
        }
        let failed = self.producer.as_ref().and_then(|client| client.producer.client().fatal_error());
        let failed = failed.map(|(code, text)| format!("{code}: {text}"));
        results
            .into_iter()
            .zip(messages)
            .map(|(result, m)| outcome(result, &m.topic, failed.as_deref()))
            .collect()
    }
}

/// Puts a message into the client's queue, waiting for room.
fn enqueue(
    producer: &BaseProducer<Reports>,
    message: &Outgoing,
    ticket: usize,
    deadline: Instant,
) -> Result<(), RDKafkaErrorCode> {
    loop {
        let record = BaseRecord {
            topic: &message.topic,
            partition: message.partition,
            payload: message.value.as_deref(),
            key: message.key.as_deref(),
            timestamp: None,
            headers: headers(message),
            delivery_opaque: ticket,
        };
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                if now() >= deadline {
                    return Err(RDKafkaErrorCode::QueueFull);
                }
                producer.poll(REPORT_POLL);
            }
            // Without a code: a name that no topic can have.
            Err((error, _)) => {
                return Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::InvalidTopic));
            }
        }
    }
}

fn headers(message: &Outgoing) -> Option<OwnedHeaders> {
    let filled = OwnedHeaders::new_with_capacity(message.headers.len());
    let filled = message
        .headers
        .iter()
        .fold(filled, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
    (!message.headers.is_empty()).then_some(filled)
}

/// A message's delivery; `None` while unknown.
type Outcome = Option<Result<(), RDKafkaErrorCode>>;

const TOO_LARGE: RDKafkaErrorCode = RDKafkaErrorCode::MessageSizeTooLarge;

fn outcome(result: Outcome, topic: &str, failed: Option<&str>) -> Result<(), LogError> {
    use RDKafkaErrorCode as Code;
    match (result, failed) {
        (Some(Ok(())), _) => Ok(()),
        (
            Some(Err(
                code @ (Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::InvalidTopic
                | Code::InvalidArgument
                | Code::InvalidRecord
                | Code::InvalidTimestamp),
            )),
            _,
        ) => Err(LogError::Refused(format!("{topic}: {code}"))),
        (_, Some(failed)) => Err(LogError::Fatal(failed.to_owned())),
        (Some(Err(code)), None) => Err(LogError::Unavailable(format!("{topic}: {code}"))),
        (None, None) => Err(LogError::Unavailable(format!("{topic}: not acknowledged in time"))),
    }
}

/// Tickets of delivered messages, with the error where one failed.
#[derive(Default)]
struct Reports(Mutex<Vec<(usize, Option<RDKafkaErrorCode>)>>);

impl Reports {
    fn take(&self) -> Vec<(usize, Option<RDKafkaErrorCode>)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::warn!(target: "kafka", "{facility}: {line}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "kafka", "{error}: {reason}");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let failed =
            result.as_ref().err().map(|(e, _)| e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, failed));
    }
}

/// The coordination topic as a member of the executors' consumer group. Rebalances are answered at once: intents may be carried out
/// twice, so there is nothing to finish first.
pub struct KafkaIntents {
    group: Option<Group>,
    /// Owned partitions, with the offset after the last intent handed out but not yet committed.
    owned: BTreeMap<(String, i32), Option<i64>>,
}

impl KafkaIntents {
    /// Joins `settings.group_id` over the topic; a new group begins at the topic's start. An error is a fault of the settings.
    pub fn new(settings: &KafkaSettings, topic: &str) -> Result<Self, LogError> {
        let config = settings.member(&[("auto.offset.reset", "earliest")]);
        Ok(Self { group: Some(Group::join(&config, &[topic])?), owned: BTreeMap::new() })
    }

    fn group(&mut self) -> Result<&mut Group, LogError> {
        self.group.as_mut().ok_or_else(closed)
    }

    /// Fetches all owned partitions from the group's committed offsets.
    fn start(&mut self) -> Result<(), LogError> {
        let mut list = TopicPartitionList::with_capacity(self.owned.len());
        for ((topic, partition), handed_out) in &mut self.owned {
            *handed_out = None;
            list.add_partition_offset(topic, *partition, Offset::Invalid).map_err(|e| fatal(&e))?;
        }
        self.group()?.assign(&list)
    }
}

impl IntentLog for KafkaIntents {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Intent>, LogError> {
        let (mut intents, mut wait) = (Vec::new(), timeout);
        while intents.len() < max.max(1) {
            let group = self.group.as_mut().ok_or_else(closed)?;
            let Some(mut event) = group.poll(wait) else { break };
            match event.kind() {
                Kind::Message(record) => {
                    wait = Duration::ZERO;
                    let (partition, offset) = (record.partition(), record.offset());
                    let place = self.owned.get_mut(&(record.topic().to_owned(), partition));
                    if let Some(handed_out) = place {
                        *handed_out = Some(offset + 1);
                        let (key, value) =
                            (record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec));
                        intents.push(Intent { partition, offset, key, value });
                    }
                }
                Kind::Assign(partitions) => {
                    drop(event);
                    self.owned = partitions.into_iter().map(|place| (place, None)).collect();
                    self.start()?;
                    break;
                }
                Kind::Revoke => {
                    drop(event);
                    self.owned.clear();
                    group.unassign()?;
                    break;
                }
                Kind::Failed { code, text, fatal: true, .. } => {
                    return Err(LogError::Fatal(format!("{code}: {text}")));
                }
                Kind::Failed { code, text, .. } => {
                    wait = Duration::ZERO;
                    tracing::warn!(target: "kafka", "{code}: {text}");
                }
                Kind::Log(line) => {
                    wait = Duration::ZERO;
                    tracing::warn!(target: "kafka", "{line}");
                }
                Kind::End { .. } | Kind::Other => wait = Duration::ZERO,
            }
        }
        Ok(intents)
    }

    /// Waits for the broker. What the group took away meanwhile is not committed: its new owner carries it out again.
    fn commit(&mut self) -> Result<(), LogError> {
        use RDKafkaErrorCode as Code;
        let mut list = TopicPartitionList::new();
        for ((topic, partition), handed_out) in &self.owned {
            if let Some(next) = handed_out {
                list.add_partition_offset(topic, *partition, Offset::Offset(*next)).map_err(|e| fatal(&e))?;
            }
        }
        if list.count() > 0 {
            match self.group()?.consumer().commit(&list, CommitMode::Sync) {
                Ok(()) => {}
                Err(e) => match e.rdkafka_error_code() {
                    Some(
                        Code::IllegalGeneration
                        | Code::UnknownMemberId
                        | Code::RebalanceInProgress
                        | Code::FencedInstanceId
                        | Code::AssignmentLost,
                    ) => tracing::warn!(target: "kafka", "intents will be handed out again: {e}"),
                    Some(Code::Fatal) => return Err(fatal(&e)),
                    _ => return Err(LogError::Unavailable(e.to_string())),
                },
            }
        }
        self.owned.values_mut().for_each(|handed_out| *handed_out = None);
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), LogError> {
        // Before the group gave anything there is nothing to hand out again.
        if self.owned.is_empty() { Ok(()) } else { self.start() }
    }

    fn close(&mut self) {
        self.owned.clear();
        if let Some(group) = self.group.take() {
            group.leave(LEAVE_TIMEOUT);
        }
    }
}

impl Drop for KafkaIntents {
    fn drop(&mut self) {
        self.close();
    }
}

/// Deadlines of calls to the broker are of the real clock, not of the one that numbers depend on.
#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

fn closed() -> LogError {
    LogError::Fatal("closed".into())
}

fn fatal(error: &KafkaError) -> LogError {
    LogError::Fatal(error.to_string())
}
