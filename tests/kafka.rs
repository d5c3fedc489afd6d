//! The Kafka client against a real broker. Each test has topics and a group of its own, so they run side by side:
//! `eval "$(scripts/services env kafka)"; cargo test --test kafka -- --ignored`.

use codegen_metrics_reducer::aggregator::partition::Source;
use codegen_metrics_reducer::consumer::{KafkaSettings, KafkaSource};
use codegen_metrics_reducer::log::{Intent, IntentLog, LogError, LogEvent, Outgoing, Publisher, SourceLog};
use codegen_metrics_reducer::publisher::{KafkaIntents, KafkaPublisher};
use codegen_metrics_reducer::topics::{TopicSpec, TopicState, create};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

fn settings() -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: std::env::var("KAFKA_BOOTSTRAP_SERVERS").expect("KAFKA_BOOTSTRAP_SERVERS"),
        group_id: unique("group"),
        client_id: "kafka-test".into(),
        session_timeout_ms: 10_000,
        properties: BTreeMap::new(),
    }
}

fn unique(what: &str) -> String {
    format!("test.{what}.{}", uuid::Uuid::new_v4())
}

fn spec(name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicSpec {
    let configs = configs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    TopicSpec { name: name.into(), partitions, replication: -1, configs }
}

fn topic(partitions: i32, configs: &[(&str, &str)]) -> String {
    let name = unique("topic");
    let made = create(&settings(), &[spec(&name, partitions, configs)]).unwrap();
    assert_eq!(made[0].state, TopicState::Created);
    name
}

fn source(topic: &str, partition: i32) -> Source {
    Source { topic: topic.into(), partition }
}

fn message(topic: &str, partition: i32, value: Vec<u8>) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        value: Some(value),
        headers: Vec::new(),
    }
}

fn numbered(topic: &str, partition: i32, numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    numbers.map(|n| message(topic, partition, n.to_string().into_bytes())).collect()
}

fn write(messages: &[Outgoing]) {
    let mut publisher = KafkaPublisher::new(&settings()).unwrap();
    for result in publisher.publish(messages, PATIENCE) {
        result.unwrap();
    }
}

/// A message as a test remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    assigned: usize,
    taking: u64,
    offset: i64,
    value: Vec<u8>,
}

/// Polls until `done` says so.
fn poll_until(
    log: &mut KafkaSource,
    mut done: impl FnMut(&[Seen], &[LogEvent]) -> bool,
) -> (Vec<Seen>, Vec<LogEvent>) {
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while !done(&seen, &events) {
        assert!(Instant::now() < deadline, "too late: {} messages, {events:?}", seen.len());
        step(log, &mut seen, &mut events, usize::MAX);
    }
    (seen, events)
}

fn step(log: &mut KafkaSource, seen: &mut Vec<Seen>, events: &mut Vec<LogEvent>, max: usize) {
    let found = log.poll(max, POLL, &mut |m| {
        assert!(m.time_us.is_some_and(|t| t > 1_000_000_000_000_000), "a record time in µs");
        let value = m.value.unwrap_or_default().to_vec();
        seen.push(Seen { assigned: m.assigned, taking: m.taking, offset: m.offset, value });
    });
    events.extend(found.unwrap());
}

fn await_assigned(log: &mut KafkaSource) -> Vec<Source> {
    let (_, events) = poll_until(log, |_, events| events.iter().any(|e| matches!(e, LogEvent::Assigned(_))));
    events.into_iter().find_map(|e| if let LogEvent::Assigned(s) = e { Some(s) } else { None }).unwrap()
}

fn joined(settings: &KafkaSettings, topics: &[String]) -> (KafkaSource, Vec<Source>) {
    let mut log = KafkaSource::new(settings, topics).unwrap();
    let mut sources = await_assigned(&mut log);
    sources.sort();
    (log, sources)
}

fn offsets(seen: &[Seen], assigned: usize) -> Vec<i64> {
    seen.iter().filter(|s| s.assigned == assigned).map(|s| s.offset).collect()
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn reads_all_from_the_given_offsets_and_tells_each_partitions_end() {
    let topics = vec![topic(2, &[]), topic(2, &[])];
    let mut messages = Vec::new();
    for t in &topics {
        messages.extend(numbered(t, 0, 0..2_500));
        messages.extend(numbered(t, 1, 0..2_500));
    }
    write(&messages);
    let (mut log, sources) = joined(&settings(), &topics);
    assert_eq!(sources, log.partitions().unwrap());
    assert_eq!(sources.len(), 4);
    let starts: Vec<(Source, i64)> =
        sources.into_iter().enumerate().map(|(i, s)| (s, i as i64 * 10)).collect();
    log.assign(&starts, 7).unwrap();
    let mut ends = BTreeSet::new();
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while ends.len() < 4 {
        assert!(Instant::now() < deadline, "{ends:?}");
        step(&mut log, &mut seen, &mut events, 100);
        for event in events.drain(..) {
            let LogEvent::End(index) = event else { continue };
            // The two topics share partition numbers: an end must be told of the right one, after its last message.
            assert_eq!(offsets(&seen, index).last(), Some(&2_499));
            ends.insert(index);
        }
    }
    assert!(seen.iter().all(|s| s.taking == 7 && s.value == s.offset.to_string().into_bytes()));
    for index in 0..4 {
        assert_eq!(offsets(&seen, index), (index as i64 * 10..2_500).collect::<Vec<_>>());
    }
    log.commit_hint(&[(starts[0].0.clone(), 2_500)]);
    log.close();
    assert!(matches!(log.poll(1, POLL, &mut |_| ()), Err(LogError::Fatal(_))));
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn a_new_taking_from_an_older_offset_brings_exactly_the_messages_again() {
    let topic = topic(1, &[]);
    write(&numbered(&topic, 0, 0..10_000));
    let (mut log, _) = joined(&settings(), std::slice::from_ref(&topic));
    log.assign(&[(source(&topic, 0), 0)], 1).unwrap();
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    // Each time while later messages are queued already, once also with fetching paused.
    for (taking, start, paused) in [(2, 4_000, false), (3, 10, true), (4, 0, false)] {
        let deadline = Instant::now() + PATIENCE;
        while seen.len() < 500 {
            assert!(Instant::now() < deadline);
            let rest = 500 - seen.len();
            step(&mut log, &mut seen, &mut events, rest);
        }
        if paused {
            log.pause(true).unwrap();
        }
        seen.clear();
        log.assign(&[(source(&topic, 0), start)], taking).unwrap();
        step(&mut log, &mut seen, &mut events, 100);
        assert!(seen.iter().all(|s| s.taking == taking && s.offset >= start));
    }
    let ended = |_: &[Seen], events: &[LogEvent]| events.contains(&LogEvent::End(0));
    let (rest, _) = poll_until(&mut log, ended);
    seen.extend(rest);
    assert_eq!(offsets(&seen, 0), (0..10_000).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn paused_partitions_bring_nothing_and_go_on_where_they_stopped() {
    let topic = topic(1, &[]);
    write(&numbered(&topic, 0, 0..5_000));
    let (mut log, _) = joined(&settings(), std::slice::from_ref(&topic));
    log.assign(&[(source(&topic, 0), 0)], 1).unwrap();
    let mut seen = Vec::new();
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 700 {
        assert!(Instant::now() < deadline);
        let rest = 700 - seen.len();
        step(&mut log, &mut seen, &mut events, rest);
    }
    log.pause(true).unwrap();
    for _ in 0..5 {
        step(&mut log, &mut seen, &mut events, 1_000);
    }
    assert_eq!(seen.len(), 700);
    log.pause(false).unwrap();
    let (rest, _) = poll_until(&mut log, |_, events| events.contains(&LogEvent::End(0)));
    seen.extend(rest);
    assert_eq!(offsets(&seen, 0), (0..5_000).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn a_group_moves_partitions_only_when_their_owner_let_go() {
    let topic = topic(4, &[]);
    let shared = settings();
    let topics = std::slice::from_ref(&topic);
    let (mut first, sources) = joined(&shared, topics);
    assert_eq!(sources.len(), 4);
    let starts: Vec<_> = sources.iter().map(|s| (s.clone(), 0)).collect();
    first.assign(&starts, 1).unwrap();

    let mut second = KafkaSource::new(&shared, topics).unwrap();
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while !events.contains(&LogEvent::Revoked { lost: false }) {
        assert!(Instant::now() < deadline, "{events:?}");
        step(&mut first, &mut seen, &mut events, 100);
        step(&mut second, &mut seen, &mut events, 100);
        assert!(!events.iter().any(|e| matches!(e, LogEvent::Assigned(_))));
    }
    // The group waits for the answer, however long we poll without giving one.
    for _ in 0..20 {
        step(&mut first, &mut seen, &mut events, 100);
        step(&mut second, &mut seen, &mut events, 100);
    }
    assert!(!events.iter().any(|e| matches!(e, LogEvent::Assigned(_))), "{events:?}");
    first.unassign().unwrap();

    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    let assigned = |events: &[LogEvent]| {
        events.iter().find_map(|e| if let LogEvent::Assigned(s) = e { Some(s.clone()) } else { None })
    };
    while assigned(&of_first).is_none() || assigned(&of_second).is_none() {
        assert!(Instant::now() < deadline, "{of_first:?} {of_second:?}");
        step(&mut first, &mut seen, &mut of_first, 100);
        step(&mut second, &mut seen, &mut of_second, 100);
    }
    let (mine, yours) = (assigned(&of_first).unwrap(), assigned(&of_second).unwrap());
    assert_eq!((mine.len(), yours.len()), (2, 2));
    let all: BTreeSet<_> = mine.iter().chain(&yours).cloned().collect();
    assert_eq!(all, sources.into_iter().collect());
    first.assign(&mine.iter().map(|s| (s.clone(), 0)).collect::<Vec<_>>(), 2).unwrap();
    second.assign(&yours.iter().map(|s| (s.clone(), 0)).collect::<Vec<_>>(), 1).unwrap();

    write(&(0..4).flat_map(|p| numbered(&topic, p, 0..100)).collect::<Vec<_>>());
    let (mut by_first, mut by_second) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + PATIENCE;
    while by_first.len() + by_second.len() < 400 {
        assert!(Instant::now() < deadline, "{} {}", by_first.len(), by_second.len());
        step(&mut first, &mut by_first, &mut of_first, 100);
        step(&mut second, &mut by_second, &mut of_second, 100);
    }
    for seen in [&by_first, &by_second] {
        assert_eq!((offsets(seen, 0), offsets(seen, 1)), ((0..100).collect(), (0..100).collect()));
    }

    // One leaves; the other gets everything.
    second.close();
    let (_, events) = poll_until(&mut first, |_, events| events.contains(&LogEvent::Revoked { lost: false }));
    assert!(!events.iter().any(|e| matches!(e, LogEvent::Assigned(_))));
    first.unassign().unwrap();
    assert_eq!(await_assigned(&mut first).len(), 4);
    // Closed with its rebalance unanswered, it still leaves.
    let before = Instant::now();
    first.close();
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(joined(&shared, topics).1.len(), 4);
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn a_member_without_partitions_waits_for_its_turn() {
    let topic = topic(1, &[]);
    write(&numbered(&topic, 0, 0..10));
    let shared = settings();
    let topics = std::slice::from_ref(&topic);
    let mut members =
        [KafkaSource::new(&shared, topics).unwrap(), KafkaSource::new(&shared, topics).unwrap()];
    let mut owned: [Option<usize>; 2] = [None, None];
    let (mut seen, mut events) = (Vec::new(), Vec::new());
    let mut serve = |member: &mut KafkaSource, owned: &mut Option<usize>| {
        step(member, &mut seen, &mut events, 100);
        for event in events.drain(..) {
            match event {
                LogEvent::Assigned(sources) => {
                    let starts: Vec<_> = sources.into_iter().map(|s| (s, 0)).collect();
                    member.assign(&starts, 1).unwrap();
                    *owned = Some(starts.len());
                }
                LogEvent::Revoked { lost } => {
                    assert!(!lost);
                    member.unassign().unwrap();
                    *owned = None;
                }
                _ => {}
            }
        }
        seen.len()
    };
    let deadline = Instant::now() + PATIENCE;
    while owned[0].is_none() || owned[1].is_none() || owned[0] == owned[1] {
        assert!(Instant::now() < deadline, "{owned:?}");
        for (member, owned) in members.iter_mut().zip(&mut owned) {
            serve(member, owned);
        }
    }
    let busy = owned.iter().position(|&count| count == Some(1)).unwrap();
    members[busy].close();
    let idle = 1 - busy;
    let before = serve(&mut members[idle], &mut owned[idle]);
    let deadline = Instant::now() + PATIENCE;
    while serve(&mut members[idle], &mut owned[idle]) < before + 10 {
        assert!(Instant::now() < deadline, "{owned:?}");
    }
    assert_eq!(owned[idle], Some(1));
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn partitions_that_went_to_another_member_unasked_are_lost() {
    let topic = topic(2, &[]);
    let topics = std::slice::from_ref(&topic);
    let patient = KafkaSettings { session_timeout_ms: 6_000, ..settings() };
    let mut hasty = patient.clone();
    hasty.properties.insert("max.poll.interval.ms".into(), "6000".into());
    let (mut first, sources) = joined(&hasty, topics);
    let starts: Vec<_> = sources.into_iter().map(|s| (s, 0)).collect();
    first.assign(&starts, 1).unwrap();
    // The first polls no more, so the group waits for it only so long.
    let (mut second, sources) = joined(&patient, topics);
    assert_eq!(sources.len(), 2);
    second.assign(&starts, 1).unwrap();
    // Not even taking anew, before the news is read, makes it look like an orderly rebalance.
    first.assign(&starts, 2).unwrap();
    let revoked = |e: &LogEvent| matches!(e, LogEvent::Revoked { .. });
    let (_, events) = poll_until(&mut first, |_, events| events.iter().any(revoked));
    assert!(events.contains(&LogEvent::Revoked { lost: true }), "{events:?}");
    first.unassign().unwrap();
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn an_offset_the_log_does_not_have_is_told_of_its_partition_alone() {
    let topics = vec![topic(1, &[]), topic(1, &[])];
    write(&numbered(&topics[0], 0, 0..50));
    write(&numbered(&topics[1], 0, 0..50));
    let (mut log, _) = joined(&settings(), &topics);
    let (good, bad) = (source(&topics[0], 0), source(&topics[1], 0));
    log.assign(&[(good.clone(), 0), (bad.clone(), 1_000)], 1).unwrap();
    let both = |_: &[Seen], events: &[LogEvent]| {
        events.contains(&LogEvent::End(0)) && events.contains(&LogEvent::OffsetOutOfRange(1))
    };
    let (seen, events) = poll_until(&mut log, both);
    assert_eq!((seen.len(), offsets(&seen, 0).len()), (50, 50));
    assert!(!events.contains(&LogEvent::OffsetOutOfRange(0)) && !events.contains(&LogEvent::End(1)));

    let bounds = log.bounds(&bad).unwrap();
    assert_eq!((bounds.start, bounds.end), (0, 50));
    let other = log.bounds(&good).unwrap();
    assert!(bounds.topic_id.is_some() && other.topic_id != bounds.topic_id);
    log.assign(&[(bad, bounds.start)], 2).unwrap();
    let (seen, _) = poll_until(&mut log, |_, events| events.contains(&LogEvent::End(0)));
    assert_eq!(offsets(&seen, 0), (0..50).collect::<Vec<_>>());
    assert!(log.bounds(&source(&unique("absent"), 0)).is_err());
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn a_message_that_cannot_be_written_leaves_the_others_alone() {
    let small = topic(1, &[("max.message.bytes", "100000")]);
    let large = topic(1, &[("max.message.bytes", "9000000")]);
    let absent = unique("absent");
    // Bytes that do not compress.
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut incompressible = |length: usize| -> Vec<u8> {
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let mut messages = numbered(&small, 0, 0..3);
    messages.push(message(&small, 0, incompressible(150_000)));
    messages.extend(numbered(&small, 0, 3..5));
    messages.push(message(&large, 0, incompressible(9_500_000)));
    messages.push(message(&large, 0, incompressible(7_500_000)));
    messages.push(message(&absent, 0, b"x".to_vec()));
    messages.push(message(&small, 9, b"x".to_vec()));
    messages.push(Outgoing {
        topic: small.clone(),
        partition: None,
        key: Some(b"k".to_vec()),
        value: None,
        headers: vec![("a".into(), b"1".to_vec()), ("b".into(), Vec::new())],
    });
    let mut publisher = KafkaPublisher::new(&settings()).unwrap();
    let results = publisher.publish(&messages, PATIENCE);
    let refused: Vec<usize> =
        (0..results.len()).filter(|&i| matches!(results[i], Err(LogError::Refused(_)))).collect();
    assert_eq!(refused, [3, 6, 8, 9], "{results:?}");
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 7, "{results:?}");

    // The same client goes on, and what it wrote is there: large ones too, and each of the small ones once.
    publisher.publish(&numbered(&small, 0, 9..10), PATIENCE)[0].as_ref().unwrap();
    let topics = vec![small.clone(), large.clone()];
    let (mut log, _) = joined(&settings(), &topics);
    log.assign(&[(source(&small, 0), 0), (source(&large, 0), 0)], 1).unwrap();
    let ended = |_: &[Seen], events: &[LogEvent]| (0..2).all(|i| events.contains(&LogEvent::End(i)));
    let (seen, _) = poll_until(&mut log, ended);
    let mut values: Vec<_> = seen.iter().filter(|s| s.assigned == 0).map(|s| s.value.clone()).collect();
    values.sort();
    let expected = ["", "0", "1", "2", "3", "4", "9"].map(|v| v.as_bytes().to_vec());
    assert_eq!(values, expected);
    let lengths: Vec<usize> = seen.iter().filter(|s| s.assigned == 1).map(|s| s.value.len()).collect();
    assert_eq!(lengths, [7_500_000]);
}

fn take(log: &mut KafkaIntents, count: usize) -> Vec<Intent> {
    let mut intents = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while intents.len() < count {
        assert!(Instant::now() < deadline, "{} of {count}", intents.len());
        intents.extend(log.poll(count - intents.len(), POLL).unwrap());
    }
    intents
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn intents_come_again_until_they_are_committed() {
    let topic = topic(1, &[]);
    write(&numbered(&topic, 0, 0..30));
    let shared = settings();
    let mut log = KafkaIntents::new(&shared, &topic).unwrap();
    log.rewind().unwrap();
    let offsets = |intents: &[Intent]| intents.iter().map(|i| i.offset).collect::<Vec<_>>();
    assert_eq!(offsets(&take(&mut log, 10)), (0..10).collect::<Vec<_>>());
    log.rewind().unwrap();
    let again = take(&mut log, 10);
    assert_eq!(offsets(&again), (0..10).collect::<Vec<_>>());
    assert_eq!(again[3].value.as_deref(), Some(&b"3"[..]));
    log.commit().unwrap();
    assert_eq!(offsets(&take(&mut log, 5)), (10..15).collect::<Vec<_>>());
    log.rewind().unwrap();
    // Nothing was handed out since, so there is nothing to commit.
    log.commit().unwrap();
    assert_eq!(offsets(&take(&mut log, 5)), (10..15).collect::<Vec<_>>());
    log.close();

    let mut other = KafkaIntents::new(&shared, &topic).unwrap();
    assert_eq!(offsets(&take(&mut other, 20)), (10..30).collect::<Vec<_>>());
    other.commit().unwrap();
    other.rewind().unwrap();
    write(&numbered(&topic, 0, 30..31));
    assert_eq!(offsets(&take(&mut other, 1)), [30]);
}

#[test]
#[ignore = "needs Kafka: KAFKA_BOOTSTRAP_SERVERS"]
fn topics_that_exist_are_compared_and_left_alone() {
    let (name, other) = (unique("topic"), unique("topic"));
    let wanted = spec(&name, 2, &[("cleanup.policy", "compact")]);
    let states = |specs: &[TopicSpec]| -> Vec<TopicState> {
        create(&settings(), specs).unwrap().into_iter().map(|outcome| outcome.state).collect()
    };
    assert_eq!(states(std::slice::from_ref(&wanted)), [TopicState::Created]);
    let bad = TopicSpec { replication: 99, ..spec(&unique("topic"), 1, &[]) };
    let found = states(&[wanted, spec(&other, 1, &[]), bad]);
    assert_eq!(found[..2], [TopicState::AsWanted, TopicState::Created]);
    assert!(matches!(found[2], TopicState::Failed(_)), "{found:?}");

    let more = TopicSpec {
        replication: 3,
        ..spec(&name, 4, &[("cleanup.policy", "delete"), ("max.message.bytes", "8388608")])
    };
    let TopicState::Differs(findings) = states(&[more]).remove(0) else { panic!("must differ") };
    assert_eq!(findings.len(), 4, "{findings:?}");
    assert_eq!(findings[0], "2 partitions instead of 4");
    assert_eq!(states(&[spec(&name, 2, &[("cleanup.policy", "compact")])]), [TopicState::AsWanted]);
}

/// Needs no broker: the port is one that nobody listens on.
#[test]
fn without_a_broker_calls_end_in_time() {
    let away = without_broker();
    let mut publisher = KafkaPublisher::new(&away).unwrap();
    let before = Instant::now();
    let results = publisher.publish(&numbered("any", 0, 0..3), Duration::from_secs(2));
    assert!(before.elapsed() < Duration::from_secs(10));
    assert!(matches!(&results[..], [Err(LogError::Unavailable(_)), Err(_), Err(_)]), "{results:?}");

    let mut log = KafkaSource::new(&away, &["any".into()]).unwrap();
    let (_, events) =
        poll_until(&mut log, |_, events| events.iter().any(|e| matches!(e, LogEvent::Trouble(_))));
    assert!(!events.is_empty());
    assert!(matches!(log.bounds(&source("any", 0)), Err(LogError::Unavailable(_))));
    assert!(matches!(log.partitions(), Err(LogError::Unavailable(_))));

    let mut intents = KafkaIntents::new(&away, "any").unwrap();
    assert_eq!(intents.poll(10, POLL).unwrap(), []);
    intents.commit().unwrap();
    let before = Instant::now();
    log.close();
    intents.close();
    drop(publisher);
    assert!(before.elapsed() < Duration::from_secs(20));
}

#[test]
fn settings_that_librdkafka_refuses_are_told() {
    let mut wrong = without_broker();
    wrong.properties.insert("no.such.setting".into(), "1".into());
    assert!(matches!(KafkaSource::new(&wrong, &["any".into()]), Err(LogError::Fatal(_))));
    assert!(matches!(KafkaPublisher::new(&wrong), Err(LogError::Fatal(_))));
    assert!(matches!(KafkaIntents::new(&wrong, "any"), Err(LogError::Fatal(_))));
}

fn without_broker() -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: "127.0.0.1:1".into(),
        group_id: unique("group"),
        client_id: "kafka-test".into(),
        session_timeout_ms: 10_000,
        properties: BTreeMap::new(),
    }
}
