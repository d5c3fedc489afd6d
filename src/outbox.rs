//! The outbox relay: records to the coordination topic as intents, dead letters to theirs. At least once, with repeatable ids.

use crate::aggregator::partition::DeadLetter;
use crate::aggregator::record::timestamp;
use crate::intent::{IntentMessage, event_id_of, event_publish, persist_metrics};
use crate::log::{LogError, Outgoing, Publisher};
use crate::store::{OutboxRow, Result, Store, StoredDeadLetter};
use std::time::Duration;

/// Rows and bytes handled in one step.
const ROWS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 << 20;
/// Longest wait for acknowledgements.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Topics the relay writes to.
#[derive(Debug, Clone)]
pub struct RelayTopics {
    /// The coordination topic.
    pub intents: String,
    /// Where executors publish records.
    pub metrics_recorded: String,
    /// Dead letters.
    pub dead_letters: String,
}

/// Moves the outbox and the dead letters to Kafka.
pub struct Relay<S, P> {
    store: S,
    publisher: P,
    topics: RelayTopics,
    batch: usize,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Records whose intents are written.
    pub records: usize,
    /// Dead letters written.
    pub dead_letters: usize,
    /// The first failure to write, if any; what it concerns is tried again.
    pub failure: Option<LogError>,
}

impl<S: Store, P: Publisher> Relay<S, P> {
    /// A relay; `batch` is `METRICS_BATCH_SIZE`, the records of one PERSIST_METRICS intent, 1 or more.
    pub fn new(store: S, publisher: P, topics: RelayTopics, batch: usize) -> Self {
        Relay { store, publisher, topics, batch: batch.max(1) }
    }

    /// Sends what is waiting, at most one batch of each.
    pub fn step(&mut self) -> Result<Relayed> {
        let mut relayed = Relayed::default();
        self.relay_records(&mut relayed)?;
        self.relay_dead_letters(&mut relayed)?;
        Ok(relayed)
    }

    fn relay_records(&mut self, relayed: &mut Relayed) -> Result<()> {
        let rows = self.store.outbox(ROWS_MAX, BYTES_MAX)?;
        for batch in rows.chunks(self.batch) {
            let (messages, ids) = self.intents(batch);
            let results = self.publisher.publish(&messages, PUBLISH_TIMEOUT);
            // The last message carries the whole batch for the store: without it no row is done.
            let persisted = results.last().is_some_and(std::result::Result::is_ok);
            let sent = ids.iter().zip(&results).filter(|(_, result)| persisted && result.is_ok());
            let sent: Vec<i64> = sent.map(|(id, _)| *id).collect();
            self.store.outbox_sent(&sent)?;
            relayed.records += sent.len();
            relayed.failure =
                relayed.failure.take().or(results.into_iter().find_map(std::result::Result::err));
        }
        Ok(())
    }

    /// One publish intent a row, then one persist intent for all of them.
    fn intents(&self, rows: &[OutboxRow]) -> (Vec<Outgoing>, Vec<i64>) {
        // Every record was rendered by `record::render`, which writes an event_id.
        let event_ids: Vec<String> =
            rows.iter().map(|row| event_id_of(&row.record).unwrap_or_default()).collect();
        let pairs: Vec<(&OutboxRow, &str)> = rows.iter().zip(event_ids.iter().map(String::as_str)).collect();
        let mut messages: Vec<Outgoing> = pairs
            .iter()
            .map(|(row, event_id)| self.outgoing(event_publish(row, event_id, &self.topics.metrics_recorded)))
            .collect();
        messages.push(self.outgoing(persist_metrics(&pairs)));
        (messages, rows.iter().map(|row| row.id).collect())
    }

    fn outgoing(&self, intent: IntentMessage) -> Outgoing {
        Outgoing {
            topic: self.topics.intents.clone(),
            partition: None,
            key: Some(intent.intent_id.into_bytes()),
            value: Some(intent.value.into_bytes()),
            headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
        }
    }

    fn relay_dead_letters(&mut self, relayed: &mut Relayed) -> Result<()> {
        let letters = self.store.dead_letters_unpublished(ROWS_MAX, BYTES_MAX)?;
        if letters.is_empty() {
            return Ok(());
        }
        let messages: Vec<Outgoing> =
            letters.iter().map(|stored| dead_letter(&stored.letter, &self.topics.dead_letters)).collect();
        let results = self.publisher.publish(&messages, PUBLISH_TIMEOUT);
        let done: Vec<i64> = letters
            .iter()
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .map(|(StoredDeadLetter { id, .. }, _)| *id)
            .collect();
        self.store.dead_letters_published(&done)?;
        relayed.dead_letters += done.len();
        relayed.failure = relayed.failure.take().or(results.into_iter().find_map(std::result::Result::err));
        Ok(())
    }
}

/// A dead letter as a message: the original key and bytes, and headers that say where it came from and why.
pub fn dead_letter(letter: &DeadLetter, topic: &str) -> Outgoing {
    let mut headers = vec![
        ("dlq.topic", letter.source.topic.to_string()),
        ("dlq.partition", letter.source.partition.to_string()),
        ("dlq.offset", letter.offset.to_string()),
        ("dlq.cause", letter.cause.name().to_owned()),
        ("dlq.error", letter.detail.clone()),
        ("dlq.value_bytes", letter.value_bytes.to_string()),
    ];
    headers.extend(letter.topic_id.clone().map(|id| ("dlq.topic_id", id)));
    headers.extend(letter.record_time_us.map(|us| ("dlq.timestamp", timestamp(us))));
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())).collect();
    Outgoing {
        topic: topic.to_owned(),
        partition: None,
        key: letter.key.clone(),
        value: letter.value.clone(),
        headers,
    }
}
