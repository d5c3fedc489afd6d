//! Carries intents out: records to the domain topic, records to the analytics table. At least once; both effects repeat harmlessly.

use crate::intent::{BadIntent, Effect, parse};
use crate::log::{Intent, IntentLog, LogError, Outgoing, Publisher};
use crate::store::{AnalyticsRow, Store, StoreError};
use std::time::Duration;

/// Intents handled in one step.
const INTENTS_MAX: usize = 1_000;
/// Longest wait for acknowledgements.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Executes what the coordination topic asks for.
pub struct Executor<I, P, S> {
    intents: I,
    publisher: P,
    store: S,
    dead_letters: String,
}

/// Why a step did not finish; everything not committed is handed out again.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<I: IntentLog, P: Publisher, S: Store> Executor<I, P, S> {
    /// An executor; `dead_letters` is the topic for intents that nobody can carry out.
    pub fn new(intents: I, publisher: P, store: S, dead_letters: String) -> Self {
        Executor { intents, publisher, store, dead_letters }
    }

    /// Takes the next intents and carries all of them out before any counts as done; how many there were.
    pub fn step(&mut self, timeout: Duration) -> Result<usize, ExecutorError> {
        let intents = self.intents.poll(INTENTS_MAX, timeout)?;
        if intents.is_empty() {
            return Ok(0);
        }
        let outcome = self.execute(&intents);
        match outcome {
            Ok(()) => self.intents.commit()?,
            Err(error) => {
                self.intents.rewind()?;
                return Err(error);
            }
        }
        Ok(intents.len())
    }

    /// Leaves the group.
    pub fn close(&mut self) {
        self.intents.close();
    }

    fn execute(&mut self, intents: &[Intent]) -> Result<(), ExecutorError> {
        let mut messages = Vec::new();
        let mut rows: Vec<AnalyticsRow> = Vec::new();
        for intent in intents {
            match parse(intent.value.as_deref().unwrap_or_default()) {
                Ok(Effect::Publish { topic, key, event_type, payload }) => {
                    messages.push(outgoing(topic, key, &event_type, payload));
                }
                Ok(Effect::Persist(batch)) => rows.extend(batch),
                Err(fault) => messages.push(self.dead_letter(intent, &fault)),
            }
        }
        self.store.persist(&rows)?;
        let results = self.publisher.publish(&messages, PUBLISH_TIMEOUT);
        let mut refused = Vec::new();
        for (message, result) in messages.iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(LogError::Refused(why)) if message.topic != self.dead_letters => {
                    refused.push(self.refusal(message, &why));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for result in self.publisher.publish(&refused, PUBLISH_TIMEOUT) {
            result?;
        }
        Ok(())
    }

    fn dead_letter(&self, intent: &Intent, fault: &BadIntent) -> Outgoing {
        tracing::warn!(partition = intent.partition, offset = intent.offset, %fault, "intent dead-lettered");
        Outgoing {
            topic: self.dead_letters.clone(),
            partition: None,
            key: intent.key.clone(),
            value: intent.value.clone(),
            headers: vec![
                ("dlq.partition".to_owned(), intent.partition.to_string().into_bytes()),
                ("dlq.offset".to_owned(), intent.offset.to_string().into_bytes()),
                ("dlq.cause".to_owned(), b"bad_intent".to_vec()),
                ("dlq.error".to_owned(), fault.to_string().into_bytes()),
            ],
        }
    }

    fn refusal(&self, message: &Outgoing, why: &str) -> Outgoing {
        tracing::warn!(topic = message.topic, why, "event refused by its topic, dead-lettered");
        let mut headers = message.headers.clone();
        headers.push(("dlq.topic".to_owned(), message.topic.clone().into_bytes()));
        headers.push(("dlq.cause".to_owned(), b"publish_refused".to_vec()));
        headers.push(("dlq.error".to_owned(), why.as_bytes().to_vec()));
        Outgoing { topic: self.dead_letters.clone(), headers, ..message.clone() }
    }
}

fn outgoing(topic: String, key: String, event_type: &str, payload: String) -> Outgoing {
    Outgoing {
        topic,
        partition: None,
        key: Some(key.into_bytes()),
        value: Some(payload.into_bytes()),
        headers: vec![
            ("content-type".to_owned(), b"application/json".to_vec()),
            ("event_type".to_owned(), event_type.as_bytes().to_vec()),
        ],
    }
}
