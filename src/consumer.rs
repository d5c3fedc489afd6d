//! The source topics on Kafka: a member of a consumer group that fetches from the offsets the store knows.

pub mod embedded;
pub(crate) mod group;

use crate::aggregator::partition::Source;
use crate::log::{Bounds, LogError, LogEvent, Message, SourceLog};
use group::{Group, Kind, Record};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the broker's answer to a question about topics.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a topic's id, which not every broker tells.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for leaving the group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A poll returns with what it has after that many events.
const EVENTS_PER_POLL_MAX: usize = 256;

/// How to reach Kafka, and as whom.
#[derive(Debug, Clone, Default)]
pub struct KafkaSettings {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Consumer group; unused by publishers.
    pub group_id: String,
    /// Name in the broker's logs and quotas.
    pub client_id: String,
    /// Silence after which the group gives a member's partitions to others, in ms. Must lie within the broker's limits.
    pub session_timeout_ms: u32,
    /// Further librdkafka settings by name. They replace our tuning, never what the guarantees rest on.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// Tuning, which `properties` may replace, then what must not be replaced.
    pub(crate) fn config(&self, tuning: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in tuning {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", &self.client_id);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// The settings of a group member without automatic commits.
    pub(crate) fn member(&self, fixed: &[(&str, &str)]) -> ClientConfig {
        let tuning = [
            // Pre-fetch, over all partitions: it bounds our memory. A message larger than the limit still comes, alone.
            ("queued.max.messages.kbytes", "8192"),
            ("queued.min.messages", "10000"),
            ("fetch.max.bytes", "16777216"),
            // With so short a queue, the default second of waiting for room would set the pace.
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.error.backoff.ms", "100"),
            // Added partitions are found within this time.
            ("topic.metadata.refresh.interval.ms", "15000"),
        ];
        let mut config = self.config(&tuning, fixed);
        config
            .set("group.id", &self.group_id)
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (self.session_timeout_ms / 3).clamp(1, 3000).to_string())
            .set("group.protocol", "classic")
            // Eager: the group takes everything before it gives anything.
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false");
        config
    }
}

/// The source topics as a member of a consumer group. librdkafka goes on with a rebalance when the driver answers it: it waits in
/// the group, heartbeats going on in its own thread, between `Assigned` and `assign`, and between `Revoked` and `unassign`.
pub struct KafkaSource {
    group: Option<Group>,
    topics: Vec<String>,
    assigned: Assignment,
    paused: bool,
    /// Ownership was lost, but its `Revoked` is still in the queue.
    lost: bool,
    /// Whether the broker told the last topic's id: one that does not would cost a timeout for each partition. Asked again at each taking.
    ids_told: bool,
}

impl KafkaSource {
    /// Joins the group over these topics; [`SourceLog::poll`] makes it progress. An error is a fault of the settings.
    pub fn new(settings: &KafkaSettings, topics: &[String]) -> Result<Self, LogError> {
        let fixed = [("auto.offset.reset", "error"), ("enable.partition.eof", "true")];
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let group = Group::join(&settings.member(&fixed), &names)?;
        Ok(Self {
            group: Some(group),
            topics: topics.to_vec(),
            assigned: Assignment::default(),
            paused: false,
            lost: false,
            ids_told: true,
        })
    }

    fn group(&mut self) -> Result<&mut Group, LogError> {
        self.group.as_mut().ok_or_else(closed)
    }

    fn set_paused(&mut self, paused: bool) -> Result<(), LogError> {
        let list = self.assigned.list(|_| None)?;
        let consumer = self.group()?.consumer();
        let done = if paused { consumer.pause(&list) } else { consumer.resume(&list) };
        done.map_err(|e| LogError::Fatal(e.to_string()))?;
        self.paused = paused;
        Ok(())
    }
}

impl SourceLog for KafkaSource {
    fn poll(
        &mut self,
        max: usize,
        timeout: Duration,
        visit: &mut dyn FnMut(Message<'_>),
    ) -> Result<Vec<LogEvent>, LogError> {
        let group = self.group.as_mut().ok_or_else(closed)?;
        let (mut events, mut visited, mut wait) = (Vec::new(), 0, timeout);
        while visited < max.max(1) && events.len() < EVENTS_PER_POLL_MAX {
            let Some(mut event) = group.poll(wait) else { break };
            wait = Duration::ZERO;
            match event.kind() {
                Kind::Message(record) => {
                    if let Some(message) = self.assigned.accept(&record) {
                        visit(message);
                        visited += 1;
                    }
                }
                Kind::Assign(partitions) => {
                    self.lost = false;
                    events.push(LogEvent::Assigned(partitions.into_iter().map(source).collect()));
                    break;
                }
                Kind::Revoke => {
                    drop(event);
                    let lost = std::mem::take(&mut self.lost) | group.lost();
                    events.push(LogEvent::Revoked { lost });
                    break;
                }
                Kind::End { topic, partition, offset } => {
                    events.extend(self.assigned.at_end(&topic, partition, offset).map(LogEvent::End));
                }
                Kind::Failed { code, text, fatal: true, .. } => {
                    return Err(LogError::Fatal(format!("{code}: {text}")));
                }
                Kind::Failed {
                    code: RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
                    at: Some((topic, partition)),
                    ..
                } => {
                    events.extend(self.assigned.index(&topic, partition).map(LogEvent::OffsetOutOfRange));
                }
                Kind::Failed { code, text, at: Some((topic, partition)), .. } => {
                    events.push(LogEvent::Trouble(format!("{topic}[{partition}]: {code}: {text}")));
                }
                Kind::Failed { code, text, at: None, .. } => {
                    events.push(LogEvent::Trouble(format!("{code}: {text}")));
                }
                Kind::Log(line) => events.push(LogEvent::Trouble(line)),
                Kind::Other => {}
            }
        }
        Ok(events)
    }

    fn bounds(&mut self, source: &Source) -> Result<Bounds, LogError> {
        let group = self.group()?;
        let (start, end) = group
            .consumer()
            .fetch_watermarks(&source.topic, source.partition, QUERY_TIMEOUT)
            .map_err(|e| unavailable(&format!("bounds of {source}"), &e))?;
        let topic_id =
            if self.ids_told { self.group()?.topic_id(&source.topic, TOPIC_ID_TIMEOUT) } else { None };
        self.ids_told = topic_id.is_some();
        Ok(Bounds { start, end, topic_id })
    }

    fn partitions(&mut self) -> Result<Vec<Source>, LogError> {
        self.ids_told = true;
        let mut found = Vec::new();
        for name in &self.topics {
            let metadata = self
                .group
                .as_ref()
                .ok_or_else(closed)?
                .consumer()
                .fetch_metadata(Some(name), QUERY_TIMEOUT)
                .map_err(|e| unavailable(&format!("partitions of {name}"), &e))?;
            let topic: Arc<str> = name.as_str().into();
            // A topic that does not exist comes with an error and no partitions.
            let numbers = metadata.topics().iter().filter(|t| t.name() == name).flat_map(|t| t.partitions());
            found.extend(numbers.map(|p| Source { topic: Arc::clone(&topic), partition: p.id() }));
        }
        found.sort();
        Ok(found)
    }

    /// An assignment begins unpaused.
    fn assign(&mut self, starts: &[(Source, i64)], taking: u64) -> Result<(), LogError> {
        if self.paused {
            self.set_paused(false)?;
        }
        let assigned = Assignment::new(starts, taking);
        let list = assigned.list(|index| Some(starts[index].1))?;
        let group = self.group.as_mut().ok_or_else(closed)?;
        // assign() makes librdkafka forget that the assignment was lost; its `Revoked` may not have been polled yet.
        self.lost |= !self.assigned.sources.is_empty() && group.lost();
        group.assign(&list)?;
        self.assigned = assigned;
        Ok(())
    }

    fn unassign(&mut self) -> Result<(), LogError> {
        self.assigned = Assignment::default();
        self.paused = false;
        self.group()?.unassign()
    }

    fn pause(&mut self, paused: bool) -> Result<(), LogError> {
        if paused == self.paused || self.assigned.sources.is_empty() {
            return Ok(());
        }
        self.set_paused(paused)
    }

    fn commit_hint(&mut self, next_offsets: &[(Source, i64)]) {
        let mut list = TopicPartitionList::new();
        for (source, next) in next_offsets {
            if self.assigned.index(&source.topic, source.partition).is_some() {
                let _ = list.add_partition_offset(&source.topic, source.partition, Offset::Offset(*next));
            }
        }
        if let (Some(group), 1..) = (&self.group, list.count()) {
            let _ = group.consumer().commit(&list, CommitMode::Async);
        }
    }

    fn close(&mut self) {
        self.assigned = Assignment::default();
        if let Some(group) = self.group.take() {
            group.leave(LEAVE_TIMEOUT);
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.close();
    }
}

/// The partitions of one taking. Messages of others are dropped.
#[derive(Default)]
struct Assignment {
    taking: u64,
    sources: Vec<Source>,
    /// The least offset still wanted, by index.
    next: Vec<i64>,
    /// Indices by source.
    sorted: Vec<usize>,
    /// Topic handle, partition and index of the last message: they come in runs.
    last: Option<(usize, i32, usize)>,
}

impl Assignment {
    fn new(starts: &[(Source, i64)], taking: u64) -> Self {
        let sources: Vec<Source> = starts.iter().map(|(source, _)| source.clone()).collect();
        let mut sorted: Vec<usize> = (0..sources.len()).collect();
        sorted.sort_by(|&a, &b| sources[a].cmp(&sources[b]));
        let next = starts.iter().map(|(_, start)| *start).collect();
        Self { taking, sources, next, sorted, last: None }
    }

    fn index(&self, topic: &str, partition: i32) -> Option<usize> {
        let place = |&index: &usize| {
            let source = &self.sources[index];
            (&*source.topic, source.partition).cmp(&(topic, partition))
        };
        self.sorted.binary_search_by(place).ok().map(|found| self.sorted[found])
    }

    fn accept<'a>(&mut self, record: &Record<'a>) -> Option<Message<'a>> {
        let (handle, partition, offset) = (record.topic_handle(), record.partition(), record.offset());
        let assigned = match self.last {
            Some((last, number, index)) if (last, number) == (handle, partition) => index,
            _ => {
                let index = self.index(record.topic(), partition)?;
                self.last = Some((handle, partition, index));
                index
            }
        };
        let next = &mut self.next[assigned];
        if offset < *next {
            return None;
        }
        *next = offset + 1;
        Some(Message {
            assigned,
            taking: self.taking,
            offset,
            time_us: record.time_us(),
            key: record.key(),
            value: record.value(),
        })
    }

    /// The index of a partition whose end is at `offset`, unless that is an old tale.
    fn at_end(&self, topic: &str, partition: i32, offset: i64) -> Option<usize> {
        self.index(topic, partition).filter(|&index| offset >= self.next[index])
    }

    fn list(&self, offset: impl Fn(usize) -> Option<i64>) -> Result<TopicPartitionList, LogError> {
        let mut list = TopicPartitionList::with_capacity(self.sources.len());
        for (index, source) in self.sources.iter().enumerate() {
            let at = offset(index).map_or(Offset::Invalid, Offset::Offset);
            list.add_partition_offset(&source.topic, source.partition, at)
                .map_err(|e| LogError::Fatal(format!("{source} from {at:?}: {e}")))?;
        }
        Ok(list)
    }
}

fn source((topic, partition): (String, i32)) -> Source {
    Source { topic: topic.into(), partition }
}

fn closed() -> LogError {
    LogError::Fatal("closed".into())
}

fn unavailable(what: &str, error: &KafkaError) -> LogError {
    LogError::Unavailable(format!("{what}: {error}"))
}
