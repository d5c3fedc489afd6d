//! Membership of a consumer group, read event by event from librdkafka's own queue.
//!
//! `BaseConsumer::poll` drops the topic of a partition that ended or failed, and four topics share our partition numbers. So the
//! consumer's event queue is polled here directly, and this file holds all the unsafe code of the crate's Kafka client. A rebalance
//! event is only reported: librdkafka goes on with the group when the caller answers it by `assign` or `unassign`.

use crate::log::LogError;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as ffi;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::time::Duration;

/// What librdkafka waits for before it goes on with the group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Assign,
    Unassign,
}

/// A member of a consumer group.
pub(crate) struct Group {
    // Declared, hence dropped, before the consumer it belongs to.
    queue: Queue,
    consumer: BaseConsumer,
    awaited: Awaited,
}

impl Group {
    /// Makes the client and subscribes it; it joins as it is polled.
    pub(crate) fn join(config: &ClientConfig, topics: &[&str]) -> Result<Self, LogError> {
        let fatal = |e: rdkafka::error::KafkaError| LogError::Fatal(e.to_string());
        let consumer: BaseConsumer = config.create().map_err(fatal)?;
        // SAFETY: the pointer is that of a living client; null is refused below.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        let queue = Queue::new(queue).ok_or_else(|| LogError::Fatal("group.id is missing".into()))?;
        consumer.subscribe(topics).map_err(fatal)?;
        Ok(Self { queue, consumer, awaited: Awaited::Nothing })
    }

    /// The safe rest of the client's interface; rebalances are answered by [`Group::assign`] and [`Group::unassign`] only.
    pub(crate) fn consumer(&self) -> &BaseConsumer {
        &self.consumer
    }

    /// Waits for the next event. Stale messages, of assignments before the last one, were dropped by librdkafka.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Option<Event<'_>> {
        let event = self.queue.poll(timeout)?;
        if let Some(awaited) = event.awaits() {
            self.awaited = awaited;
        }
        Some(event)
    }

    /// Makes this the assignment; the answer to [`Kind::Assign`].
    pub(crate) fn assign(&mut self, list: &TopicPartitionList) -> Result<(), LogError> {
        self.consumer.assign(list).map_err(|e| LogError::Fatal(e.to_string()))?;
        if self.awaited == Awaited::Assign {
            self.awaited = Awaited::Nothing;
        }
        Ok(())
    }

    /// Gives the assignment up; the answer to [`Kind::Revoke`].
    pub(crate) fn unassign(&mut self) -> Result<(), LogError> {
        // A group that waits for assign() ignores unassign().
        if self.awaited == Awaited::Assign {
            self.assign(&TopicPartitionList::new())?;
        }
        self.consumer.unassign().map_err(|e| LogError::Fatal(e.to_string()))?;
        self.awaited = Awaited::Nothing;
        Ok(())
    }

    /// Whether others may have our partitions already.
    pub(crate) fn lost(&self) -> bool {
        // librdkafka does not call the assignment lost when the group ran out of patience over an orderly, unanswered revocation.
        // But then, too, it has no member id until the next join.
        self.consumer.assignment_lost() || self.member_id().is_empty()
    }

    fn member_id(&self) -> String {
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives; the id is null or a string that is ours to free.
        unsafe {
            let id = ffi::rd_kafka_memberid(client);
            let copy = owned(id);
            if !id.is_null() {
                ffi::rd_kafka_mem_free(client, id.cast());
            }
            copy
        }
    }

    /// Leaves the group. Gives up waiting after `limit`; the client then ends on its own thread.
    pub(crate) fn leave(mut self, limit: Duration) {
        // An unanswered rebalance would hold up the client's end for ever; later ones are answered by its own default.
        let _ = self.unassign();
        let (done, ended) = mpsc::channel();
        let ending = std::thread::Builder::new().name("kafka-leave".into()).spawn(move || {
            drop(self);
            let _ = done.send(());
        });
        if ending.is_ok() && ended.recv_timeout(limit).is_err() {
            tracing::warn!("left the consumer group without the broker's word");
        }
    }

    /// The topic's id, where the broker tells one (Kafka 2.8 and later, with leave to describe the topic).
    pub(crate) fn topic_id(&self, topic: &str, timeout: Duration) -> Option<String> {
        let name = CString::new(topic).ok()?;
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client lives through this function; each object made here is freed here, the answer's strings are copied
        // before the answer is, and librdkafka copies the names and options it keeps.
        unsafe {
            let mut answers = Queue::new(ffi::rd_kafka_queue_new(client))?;
            let mut names = [name.as_ptr()];
            let wanted = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let options = ffi::rd_kafka_AdminOptions_new(
                client,
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            );
            let mut text = [0 as c_char; 128];
            ffi::rd_kafka_AdminOptions_set_request_timeout(
                options,
                millis(timeout),
                text.as_mut_ptr(),
                text.len(),
            );
            ffi::rd_kafka_DescribeTopics(client, wanted, options, answers.0.as_ptr());
            ffi::rd_kafka_AdminOptions_destroy(options);
            ffi::rd_kafka_TopicCollection_destroy(wanted);
            let answer = answers.poll(timeout)?;
            let result = ffi::rd_kafka_event_DescribeTopics_result(answer.raw.as_ptr());
            if result.is_null() || !matches!(answer.code(), RDKafkaErrorCode::NoError) {
                return None;
            }
            let mut count = 0;
            let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            if count != 1 {
                return None;
            }
            let failed = ffi::rd_kafka_TopicDescription_error(*topics);
            let id = ffi::rd_kafka_TopicDescription_topic_id(*topics);
            if id.is_null() || (!failed.is_null() && ffi::rd_kafka_error_code(failed) as i32 != 0) {
                return None;
            }
            let (high, low) =
                (ffi::rd_kafka_Uuid_most_significant_bits(id), ffi::rd_kafka_Uuid_least_significant_bits(id));
            ((high, low) != (0, 0)).then(|| owned(ffi::rd_kafka_Uuid_base64str(id)))
        }
    }
}

/// A handle on one of the client's queues.
struct Queue(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}

impl Queue {
    fn new(queue: *mut ffi::rd_kafka_queue_t) -> Option<Self> {
        NonNull::new(queue).map(Self)
    }

    fn poll(&mut self, timeout: Duration) -> Option<Event<'_>> {
        // SAFETY: the handle is valid until dropped; we own the event.
        let event = unsafe { ffi::rd_kafka_queue_poll(self.0.as_ptr(), millis(timeout)) };
        NonNull::new(event).map(|raw| Event { raw, queue: PhantomData })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and no event borrows it any more.
        unsafe { ffi::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// One event; a message in it lives as long.
pub(crate) struct Event<'q> {
    raw: NonNull<ffi::rd_kafka_event_t>,
    queue: PhantomData<&'q mut Queue>,
}

/// What an event says.
pub(crate) enum Kind<'e> {
    Message(Record<'e>),
    /// These are ours; answer by [`Group::assign`].
    Assign(Vec<(String, i32)>),
    /// Nothing is ours any more; answer by [`Group::unassign`].
    Revoke,
    /// The partition's end, at this offset, is reached.
    End {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Of a partition, or of the client.
    Failed {
        code: RDKafkaErrorCode,
        text: String,
        fatal: bool,
        at: Option<(String, i32)>,
    },
    /// A line of librdkafka's log.
    Log(String),
    Other,
}

impl Event<'_> {
    /// What it says.
    pub(crate) fn kind(&mut self) -> Kind<'_> {
        let raw = self.raw.as_ptr();
        // SAFETY: the event is ours until dropped and each accessor is called on the type of event it is made for; it checks
        // that itself, too. Messages and strings belong to the event, hence the borrow.
        unsafe {
            match ffi::rd_kafka_event_type(raw) {
                ffi::RD_KAFKA_EVENT_FETCH => match ffi::rd_kafka_event_message_next(raw).as_ref() {
                    Some(message) => Kind::Message(Record(message)),
                    None => Kind::Other,
                },
                ffi::RD_KAFKA_EVENT_REBALANCE => match self.awaits() {
                    Some(Awaited::Assign) => {
                        Kind::Assign(partitions(ffi::rd_kafka_event_topic_partition_list(raw)))
                    }
                    Some(_) => Kind::Revoke,
                    None => Kind::Other,
                },
                ffi::RD_KAFKA_EVENT_ERROR => self.failure(),
                ffi::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (std::ptr::null(), std::ptr::null(), 0);
                    match ffi::rd_kafka_event_log(raw, &mut facility, &mut line, &mut level) {
                        0 => Kind::Log(format!("{}: {}", owned(facility), owned(line))),
                        _ => Kind::Other,
                    }
                }
                _ => Kind::Other,
            }
        }
    }

    fn failure(&self) -> Kind<'_> {
        let (raw, code) = (self.raw.as_ptr(), self.code());
        // SAFETY: as in `kind`; the place is a copy that we free.
        let (text, fatal, at) = unsafe {
            let text = owned(ffi::rd_kafka_event_error_string(raw));
            let place = ffi::rd_kafka_event_topic_partition(raw);
            let at = place.as_ref().map(|p| (owned(p.topic), p.partition, p.offset));
            if !place.is_null() {
                ffi::rd_kafka_topic_partition_destroy(place);
            }
            (text, ffi::rd_kafka_event_error_is_fatal(raw) != 0, at)
        };
        match (code, at) {
            (RDKafkaErrorCode::PartitionEOF, Some((topic, partition, offset))) => {
                Kind::End { topic, partition, offset }
            }
            (code, at) => Kind::Failed {
                fatal: fatal || code == RDKafkaErrorCode::Fatal,
                code,
                text,
                at: at.map(|(topic, partition, _)| (topic, partition)),
            },
        }
    }

    fn code(&self) -> RDKafkaErrorCode {
        // SAFETY: the event is ours until dropped.
        unsafe { ffi::rd_kafka_event_error(self.raw.as_ptr()) }.into()
    }

    fn awaits(&self) -> Option<Awaited> {
        // SAFETY: the event is ours until dropped.
        let kind = unsafe { ffi::rd_kafka_event_type(self.raw.as_ptr()) };
        match (kind, self.code()) {
            (ffi::RD_KAFKA_EVENT_REBALANCE, RDKafkaErrorCode::AssignPartitions) => Some(Awaited::Assign),
            (ffi::RD_KAFKA_EVENT_REBALANCE, _) => Some(Awaited::Unassign),
            _ => None,
        }
    }
}

impl Drop for Event<'_> {
    fn drop(&mut self) {
        // SAFETY: the event is ours and nothing borrows from it any more.
        unsafe { ffi::rd_kafka_event_destroy(self.raw.as_ptr()) }
    }
}

/// A message, borrowed from its event.
#[derive(Clone, Copy)]
pub(crate) struct Record<'e>(&'e ffi::rd_kafka_message_t);

impl<'e> Record<'e> {
    /// The topic's handle: the same for all messages of a topic as long as it is assigned.
    pub(crate) fn topic_handle(&self) -> usize {
        self.0.rkt as usize
    }

    pub(crate) fn topic(&self) -> &'e str {
        // SAFETY: the message keeps its topic alive. Topic names are ASCII.
        unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(self.0.rkt)) }.to_str().unwrap_or_default()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.0.partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.0.offset
    }

    pub(crate) fn key(&self) -> Option<&'e [u8]> {
        // SAFETY: librdkafka's pointer and length describe the key, which lives as long as the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&'e [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    /// Record time, µs since the Unix epoch.
    pub(crate) fn time_us(&self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let time_ms = unsafe { ffi::rd_kafka_message_timestamp(self.0, &mut kind) };
        let known = kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && time_ms >= 0;
        known.then(|| time_ms.saturating_mul(1000))
    }
}

fn millis(duration: Duration) -> c_int {
    duration.as_millis().try_into().unwrap_or(c_int::MAX)
}

/// # Safety
/// `start` is null or begins `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's word.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// # Safety
/// `text` is null or a C string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's word.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// # Safety
/// `list` is null or a valid list.
unsafe fn partitions(list: *const ffi::rd_kafka_topic_partition_list_t) -> Vec<(String, i32)> {
    // SAFETY: by the caller's word; `elems` begins `cnt` elements.
    unsafe {
        let Some(list) = list.as_ref().filter(|list| list.cnt > 0) else { return Vec::new() };
        let elements = std::slice::from_raw_parts(list.elems, list.cnt as usize);
        elements.iter().map(|e| (owned(e.topic), e.partition)).collect()
    }
}
