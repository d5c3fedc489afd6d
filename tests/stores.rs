//! One suite, both databases.

use codegen_metrics_reducer::aggregator::dedup::EventHash;
use codegen_metrics_reducer::aggregator::partition::{
    Advance, Cause, Counters, DeadLetter, Flush, Source, Taken,
};
use codegen_metrics_reducer::store::postgres::{PostgresDatabase, PostgresOptions};
use codegen_metrics_reducer::store::sqlite::{Clock, Durability, SqliteDatabase};
use codegen_metrics_reducer::store::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(15);
const IDS_MAX: usize = 100;
const BYTES_MAX: usize = 1 << 20;

/// A fresh database, a way to connect to it, and its clock.
struct Bed {
    connect: Box<dyn Fn() -> Box<dyn Store>>,
    clock: Arc<AtomicI64>,
}

impl Bed {
    fn store(&self) -> Box<dyn Store> {
        let mut store = (self.connect)();
        store.open(&meaning()).unwrap();
        store
    }

    fn advance_s(&self, seconds: i64) {
        self.clock.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }
}

fn test_clock() -> (Arc<AtomicI64>, Clock) {
    let clock = Arc::new(AtomicI64::new(1_000_000_000_000_000));
    let read = clock.clone();
    (clock, Box::new(move || read.load(Ordering::SeqCst)))
}

fn sqlite_bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let (clock, read) = test_clock();
    let path = dir.path().join("store.db");
    let database = SqliteDatabase::open(&path, true, Durability::ProcessOnly, read).unwrap();
    let connect = move || {
        assert!(dir.path().exists(), "the directory lives as long as the bed");
        Box::new(database.connect().unwrap()) as Box<dyn Store>
    };
    Bed { connect: Box::new(connect), clock }
}

/// A schema of its own, dropped with the bed.
struct Schema {
    url: String,
    name: String,
}

impl Schema {
    fn new() -> Schema {
        let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a PostgreSQL database");
        let schema = Schema { url, name: format!("test_{}", uuid::Uuid::new_v4().simple()) };
        schema.run(&format!("CREATE SCHEMA {}", schema.name));
        schema
    }

    fn run(&self, sql: &str) {
        ::postgres::Client::connect(&self.url, ::postgres::NoTls).unwrap().batch_execute(sql).unwrap();
    }

    fn options(&self, clock: Option<Clock>) -> PostgresOptions {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}options=-c%20search_path%3D{}", self.url, self.name);
        PostgresOptions { url, ca_file: None, timeout: Duration::from_secs(30), clock }
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        self.run(&format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

fn postgres_bed() -> Bed {
    let schema = Schema::new();
    let (clock, read) = test_clock();
    let database = PostgresDatabase::open(schema.options(Some(read))).unwrap();
    let connect = move || {
        assert!(!schema.name.is_empty(), "the schema lives as long as the bed");
        Box::new(database.connect().unwrap()) as Box<dyn Store>
    };
    Bed { connect: Box::new(connect), clock }
}

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&super::sqlite_bed()); })*
        }
        mod postgres {
            $(
                #[test]
                #[ignore = "needs PostgreSQL: DATABASE_URL"]
                fn $name() { super::$name(&super::postgres_bed()); }
            )*
        }
    };
}

suite![
    a_flush_moves_only_from_the_stored_offset,
    a_fenced_flush_writes_nothing,
    the_later_of_two_takers_owns,
    a_failed_flush_of_many_partitions_moves_none,
    the_stand_at_the_end_is_kept_by_rule,
    events_below_the_floor_are_refused,
    only_moved_event_times_are_reported,
    halts_and_restarts_are_fenced,
    leases_follow_the_store_clock,
    a_stale_leader_cannot_record,
    a_failed_recording_leaves_no_trace,
    unfolded_flushes_come_in_order_within_limits,
    a_flush_is_folded_once,
    cells_are_found_by_key_and_state,
    ranges_continue_after_a_cursor,
    a_replaced_outbox_row_survives_the_old_relay,
    the_outbox_is_ordered_by_urgency_and_bounded,
    dead_letters_are_published_once,
    ids_come_back_in_order_over_many_flushes,
    analytics_rows_move_only_forward,
    analytics_ranges_continue_after_a_cursor,
    another_meaning_is_refused_by_name,
    expiry_waits_for_folding_and_leadership,
    a_rebuild_fences_and_forgets,
    status_counts_what_waits,
    a_large_recording_is_whole,
    concurrent_flushes_and_recordings_lose_nothing,
];

fn meaning() -> Meaning {
    Meaning {
        format: 1,
        timezone: "UTC".into(),
        tzdb: "2026a".into(),
        slice_seconds: 900,
        groupings: vec!["time_window".into()],
        quality_bounds: vec!["0.6".into(), "0.8".into()],
        cost_bounds: vec!["0.01".into()],
        max_groups: 1000,
    }
}

fn source(partition: i32) -> Source {
    Source { topic: "dev.codegen.completed.v1".into(), partition }
}

/// A flush of `messages` counted messages from where `taken` stands, which moves along.
fn advance(taken: &mut Taken, messages: i64) -> Advance {
    let from_offset = taken.next_offset;
    let next_offset = from_offset.unwrap_or(0) + messages;
    taken.next_offset = Some(next_offset);
    Advance {
        source: taken.source.clone(),
        epoch: taken.epoch,
        from_offset,
        next_offset,
        first_offset: from_offset.is_none().then_some(0),
        topic_id: Some("topic-1".into()),
        max_event_us: taken.max_event_us,
        at_end: false,
        counters: Counters { received: messages as u64, counted: messages as u64, ..Counters::default() },
        new_ids: vec![],
        new_ids_from: taken.ids_counted,
    }
}

fn flush_of(advances: Vec<Advance>) -> Flush {
    Flush { advances, deltas: b"deltas".to_vec(), events: 1, min_event_us: Some(1), dead_letters: vec![] }
}

fn take_one(store: &mut dyn Store, partition: i32, owner: &str) -> Taken {
    store.take(&[source(partition)], owner, IDS_MAX).unwrap().remove(0)
}

fn state(store: &mut dyn Store) -> RecorderState {
    store.status().unwrap().recorder
}

fn save(store: &mut dyn Store, epoch: i64, recorded: &Recorded) {
    store.record(epoch, LEASE, &mut |recording| recording.save(recorded)).unwrap();
}

fn raise_floor(store: &mut dyn Store, epoch: i64, floor_us: i64) {
    let state = RecorderState { floor_us, ..state(store) };
    save(store, epoch, &Recorded { state: Some(state), ..Recorded::default() });
}

fn unfolded(store: &mut dyn Store, epoch: i64) -> Vec<UnfoldedFlush> {
    let mut flushes = vec![];
    let mut read = |recording: &mut dyn Recording| {
        flushes = recording.unfolded(10_000, BYTES_MAX)?.0;
        Ok(())
    };
    store.record(epoch, LEASE, &mut read).unwrap();
    flushes
}

fn key(span: Span, start_s: i64, group: &str) -> CellKey {
    CellKey { span, start_s, aggregation_type: "model_grouping".into(), group_key: group.into() }
}

fn cell(end_s: i64, events: u64) -> StoredCell {
    let bytes = events.to_be_bytes().to_vec();
    StoredCell { end_s, bytes, events, is_final: false, dirty: false, enqueued_events: 0 }
}

fn range(span: Span, limit: usize) -> RangeQuery {
    RangeQuery {
        span,
        aggregation_type: None,
        group_key: None,
        from_s: 0,
        to_s: i64::MAX / 4,
        after: None,
        limit,
    }
}

fn outbox_row(aggregation_id: &str, priority: u8, record: &str) -> OutboxRow {
    OutboxRow { id: 0, aggregation_id: aggregation_id.into(), priority, record: record.into(), created_us: 7 }
}

fn enqueue(store: &mut dyn Store, epoch: i64, outbox: Vec<OutboxRow>) {
    save(store, epoch, &Recorded { outbox, ..Recorded::default() });
}

fn a_flush_moves_only_from_the_stored_offset(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = take_one(&mut *store, 0, "a");
    assert_eq!((taken.epoch, taken.next_offset, taken.ids_counted), (1, None, 0));
    let first = flush_of(vec![advance(&mut taken, 5)]);
    let one = store.flush(&first, IDS_MAX).unwrap();
    assert_eq!((one.floor_us, one.backlog), (i64::MIN, 1));
    assert!(matches!(store.flush(&first, IDS_MAX), Err(StoreError::Fenced(s)) if s == source(0)));
    let two = store.flush(&flush_of(vec![advance(&mut taken, 3)]), IDS_MAX).unwrap();
    assert!(two.flush_id > one.flush_id && two.backlog == 2);
    let row = store.partitions().unwrap().remove(0);
    assert_eq!((row.first_offset, row.next_offset, row.counters.received), (Some(0), Some(8), 8));
    assert!(row.counters.closes(0, 8));
    assert_eq!(row.topic_id.as_deref(), Some("topic-1"));
    assert_eq!(take_one(&mut *store, 0, "a").next_offset, Some(8));
    // Nothing counted: the offset moves, no row waits for the recorder.
    let mut taken = take_one(&mut *store, 0, "a");
    let empty = Flush { deltas: vec![], min_event_us: None, ..flush_of(vec![advance(&mut taken, 1)]) };
    assert_eq!(store.flush(&empty, IDS_MAX).unwrap().backlog, 2);
    assert_eq!(store.partitions().unwrap()[0].next_offset, Some(9));
}

fn a_fenced_flush_writes_nothing(bed: &Bed) {
    let mut store = bed.store();
    let mut old = take_one(&mut *store, 0, "a");
    let new = take_one(&mut *store, 0, "b");
    assert_eq!((old.epoch, new.epoch), (1, 2));
    let before = store.partitions().unwrap();
    let letter = letter(0, 3);
    let mut stale = advance(&mut old, 5);
    stale.new_ids = vec![EventHash(1)];
    let flush = Flush { dead_letters: vec![letter], ..flush_of(vec![stale]) };
    assert!(matches!(store.flush(&flush, IDS_MAX), Err(StoreError::Fenced(_))));
    assert_eq!(store.partitions().unwrap(), before);
    assert_eq!(before[0].owner.as_deref(), Some("b"));
    let status = store.status().unwrap();
    assert_eq!((status.backlog, status.dead_letters_unpublished), (0, 0));
    assert_eq!(take_one(&mut *store, 0, "c").ids_counted, 0);
}

fn the_later_of_two_takers_owns(bed: &Bed) {
    let (mut one, mut two) = (bed.store(), bed.store());
    let mut first = take_one(&mut *one, 0, "one");
    let mut second = take_one(&mut *two, 0, "two");
    two.flush(&flush_of(vec![advance(&mut second, 2)]), IDS_MAX).unwrap();
    assert!(matches!(
        one.flush(&flush_of(vec![advance(&mut first, 2)]), IDS_MAX),
        Err(StoreError::Fenced(_))
    ));
    let again = take_one(&mut *one, 0, "one");
    assert_eq!((again.epoch, again.next_offset), (3, Some(2)));
    assert!(matches!(
        two.flush(&flush_of(vec![advance(&mut second, 2)]), IDS_MAX),
        Err(StoreError::Fenced(_))
    ));
    // In the order asked for, whatever the order of locking.
    let asked = [source(2), source(0), source(1)];
    let taken = one.take(&asked, "one", IDS_MAX).unwrap();
    assert_eq!(taken.iter().map(|t| t.source.clone()).collect::<Vec<_>>(), asked);
    one.add_partitions(&[source(0), source(9)]).unwrap();
    let epochs: Vec<_> = one.partitions().unwrap().iter().map(|p| (p.source.partition, p.epoch)).collect();
    assert_eq!(epochs, [(0, 4), (1, 1), (2, 1), (9, 0)]);
}

fn a_failed_flush_of_many_partitions_moves_none(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = store.take(&[source(0), source(1), source(2)], "a", IDS_MAX).unwrap();
    take_one(&mut *store, 1, "b");
    let before = store.partitions().unwrap();
    let flush = flush_of(taken.iter_mut().map(|t| advance(t, 4)).collect());
    assert!(matches!(store.flush(&flush, IDS_MAX), Err(StoreError::Fenced(s)) if s == source(1)));
    assert_eq!(store.partitions().unwrap(), before);
}

fn the_stand_at_the_end_is_kept_by_rule(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = take_one(&mut *store, 0, "a");
    let start = bed.clock.load(Ordering::SeqCst);
    // (messages, at end) and the seconds after the start since which, and at which, the end was reported.
    let steps = [
        (3, false, None),
        (3, true, Some((10, 10))),
        (0, true, Some((10, 20))),
        (1, true, Some((30, 30))),
        (0, true, Some((30, 40))),
        (0, false, None),
        (0, true, Some((60, 60))),
    ];
    for (step, (messages, at_end, expected)) in steps.into_iter().enumerate() {
        let moved = Advance { at_end, ..advance(&mut taken, messages) };
        store.flush(&flush_of(vec![moved]), IDS_MAX).unwrap();
        let row = store.partitions().unwrap().remove(0);
        let seconds = |us: Option<i64>| us.map(|us| (us - start) / 1_000_000);
        assert_eq!(
            seconds(row.at_end_since_us).zip(seconds(row.at_end_reported_us)),
            expected,
            "step {step}"
        );
        assert_eq!(row.at_end_since_us.is_some(), row.at_end_reported_us.is_some());
        bed.advance_s(10);
    }
    take_one(&mut *store, 0, "b");
    assert_eq!(store.partitions().unwrap()[0].at_end_since_us, None, "a new owner has not reported yet");
}

fn events_below_the_floor_are_refused(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    raise_floor(&mut *store, epoch, 1000);
    let at =
        |taken: &mut Taken, time| Flush { min_event_us: Some(time), ..flush_of(vec![advance(taken, 1)]) };
    let refused = store.flush(&at(&mut taken.clone(), 999), IDS_MAX);
    assert!(matches!(refused, Err(StoreError::FloorMoved { floor_us: 1000 })));
    assert_eq!(store.partitions().unwrap()[0].next_offset, None);
    assert_eq!(store.flush(&at(&mut taken, 1000), IDS_MAX).unwrap().floor_us, 1000);
    raise_floor(&mut *store, epoch, 500);
    assert_eq!(state(&mut *store).floor_us, 1000, "the floor never goes back");
}

fn only_moved_event_times_are_reported(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = store.take(&[source(0), source(1)], "a", IDS_MAX).unwrap();
    for times in [[Some(5), None], [Some(5), Some(9)], [Some(7), Some(8)]] {
        let moved =
            taken.iter_mut().zip(times).map(|(t, time)| Advance { max_event_us: time, ..advance(t, 1) });
        let flush = flush_of(moved.collect());
        store.flush(&flush, IDS_MAX).unwrap();
    }
    let flushes = unfolded(&mut *store, epoch);
    let times: Vec<_> = flushes.iter().map(|f| f.event_times.clone()).collect();
    assert_eq!(times, [vec![(source(0), 5)], vec![(source(1), 9)], vec![(source(0), 7)]]);
    let recorded = Recorded {
        folded: flushes[..2].iter().map(|f| f.flush_id).collect(),
        folded_event_times: BTreeMap::from([(source(0), 5), (source(1), 9)]),
        ..Recorded::default()
    };
    save(&mut *store, epoch, &recorded);
    let older = BTreeMap::from([(source(1), 2)]);
    save(&mut *store, epoch, &Recorded { folded_event_times: older, ..Recorded::default() });
    let rows = store.partitions().unwrap();
    let times: Vec<_> = rows.iter().map(|r| (r.max_event_us, r.folded_event_us)).collect();
    assert_eq!(times, [(Some(7), Some(5)), (Some(9), Some(9))]);
    assert_eq!(take_one(&mut *store, 1, "a").max_event_us, Some(9));
}

fn halts_and_restarts_are_fenced(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = take_one(&mut *store, 0, "a");
    store.set_halted(&source(0), taken.epoch, Some("the log was recreated")).unwrap();
    assert_eq!(store.partitions().unwrap()[0].halted.as_deref(), Some("the log was recreated"));
    assert!(matches!(store.set_halted(&source(0), 99, None), Err(StoreError::Fenced(_))));
    store.set_halted(&source(0), taken.epoch, None).unwrap();
    assert_eq!(store.partitions().unwrap()[0].halted, None);
    store.set_halted(&source(0), taken.epoch, Some("again")).unwrap();
    let mut moved = Advance { max_event_us: Some(4), ..advance(&mut taken, 2) };
    moved.new_ids = vec![EventHash(1), EventHash(2)];
    store.flush(&flush_of(vec![moved]), IDS_MAX).unwrap();
    let taken = take_one(&mut *store, 0, "a");
    assert_eq!((store.partitions().unwrap()[0].halted.clone(), taken.ids_counted), (None, 2));
    assert!(matches!(store.restart_partition(&source(0), taken.epoch - 1), Err(StoreError::Fenced(_))));
    store.restart_partition(&source(0), taken.epoch).unwrap();
    let row = store.partitions().unwrap().remove(0);
    assert_eq!((row.epoch, row.first_offset, row.next_offset), (taken.epoch, None, None));
    assert_eq!((row.topic_id, row.max_event_us, row.counters), (None, None, Counters::default()));
    let taken = take_one(&mut *store, 0, "a");
    assert_eq!((taken.next_offset, taken.ids, taken.ids_counted), (None, vec![], 0));
}

fn leases_follow_the_store_clock(bed: &Bed) {
    let mut store = bed.store();
    assert_eq!(store.lead("a", LEASE).unwrap(), Some(1));
    bed.advance_s(14);
    assert_eq!(store.lead("b", LEASE).unwrap(), None);
    assert_eq!(store.lead("a", LEASE).unwrap(), Some(1), "the present holder keeps its epoch");
    bed.advance_s(14);
    assert_eq!(store.lead("b", LEASE).unwrap(), None, "renewed");
    store.record(1, LEASE, &mut |_| Ok(())).unwrap();
    bed.advance_s(14);
    assert_eq!(store.lead("b", LEASE).unwrap(), None, "a recording renews, too");
    bed.advance_s(1);
    store.record(1, LEASE, &mut |_| Ok(())).expect("expired, but nobody else took it");
    bed.advance_s(15);
    assert_eq!(store.lead("b", LEASE).unwrap(), Some(2));
    let end_us = bed.clock.load(Ordering::SeqCst) + 15_000_000;
    assert_eq!(store.status().unwrap().leader, Some(("b".into(), end_us)));
    store.resign("a", 1).unwrap();
    store.resign("a", 2).unwrap();
    assert_eq!(store.lead("a", LEASE).unwrap(), None, "only the holder can resign");
    store.resign("b", 2).unwrap();
    assert_eq!(store.status().unwrap().leader, None);
    assert!(matches!(store.record(2, LEASE, &mut |_| Ok(())), Err(StoreError::NotLeader)));
    assert_eq!(store.lead("b", LEASE).unwrap(), Some(3), "after giving up it is a new term");
}

fn a_stale_leader_cannot_record(bed: &Bed) {
    let mut store = bed.store();
    store.lead("a", LEASE).unwrap();
    bed.advance_s(16);
    store.lead("b", LEASE).unwrap();
    let mut ran = false;
    let result = store.record(1, LEASE, &mut |_| {
        ran = true;
        Ok(())
    });
    assert!(matches!(result, Err(StoreError::NotLeader)) && !ran);
    assert!(matches!(store.expire(1, 0, 0, 10), Err(StoreError::NotLeader)));
    store.record(2, LEASE, &mut |_| Ok(())).unwrap();
}

fn a_failed_recording_leaves_no_trace(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    store.flush(&flush_of(vec![advance(&mut taken, 1)]), IDS_MAX).unwrap();
    let before = (store.status().unwrap(), store.partitions().unwrap());
    let recorded = Recorded {
        state: Some(RecorderState { watermark_us: 5, floor_us: 4, now_us: 9, ..state(&mut *store) }),
        folded: unfolded(&mut *store, epoch).iter().map(|f| f.flush_id).collect(),
        folded_event_times: BTreeMap::from([(source(0), 5)]),
        cells: vec![(key(Span::Hourly, 0, "x"), cell(3600, 1))],
        outbox: vec![outbox_row("one", 5, "{}")],
    };
    let failed = store.record(epoch, LEASE, &mut |recording| {
        recording.save(&recorded)?;
        assert_eq!(recording.state()?.watermark_us, 5, "its own writes are seen");
        Err(StoreError::Unavailable("the work failed".into()))
    });
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    assert_eq!((store.status().unwrap(), store.partitions().unwrap()), before);
    assert!(store.cells(&range(Span::Hourly, 10)).unwrap().is_empty());
    save(&mut *store, epoch, &recorded);
    let status = store.status().unwrap();
    assert_eq!((status.backlog, status.outbox, Some(status.recorder)), (0, 1, recorded.state));
}

fn unfolded_flushes_come_in_order_within_limits(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    for n in 0..10u8 {
        let flush = Flush { deltas: vec![n; 10], ..flush_of(vec![advance(&mut taken, 1)]) };
        store.flush(&flush, IDS_MAX).unwrap();
    }
    // (flushes, bytes) and how many come, and whether more wait.
    for (flushes_max, bytes_max, expected, more) in [
        (100, 1000, 10, false),
        (10, 1000, 10, false),
        (3, 1000, 3, true),
        (100, 45, 4, true),
        (100, 1, 1, true),
    ] {
        let check = &mut |recording: &mut dyn Recording| {
            let (flushes, left) = recording.unfolded(flushes_max, bytes_max)?;
            let deltas: Vec<_> = flushes.iter().map(|f| f.deltas.clone()).collect();
            assert_eq!(deltas, (0..expected).map(|n| vec![n; 10]).collect::<Vec<_>>());
            assert_eq!(left, more, "{flushes_max} flushes, {bytes_max} bytes");
            Ok(())
        };
        store.record(epoch, LEASE, check).unwrap();
    }
}

fn a_flush_is_folded_once(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    store.flush(&flush_of(vec![advance(&mut taken, 1)]), IDS_MAX).unwrap();
    let folded: Vec<_> = unfolded(&mut *store, epoch).iter().map(|f| f.flush_id).collect();
    let recorded = Recorded { folded, ..Recorded::default() };
    save(&mut *store, epoch, &recorded);
    let cells = vec![(key(Span::Hourly, 0, "x"), cell(3600, 1))];
    let twice = Recorded { cells, ..recorded };
    assert!(store.record(epoch, LEASE, &mut |recording| recording.save(&twice)).is_err());
    assert!(store.cells(&range(Span::Hourly, 10)).unwrap().is_empty(), "nothing of it was written");
    let one = store.flush(&flush_of(vec![advance(&mut taken, 1)]), IDS_MAX).unwrap();
    assert!(!twice.folded.contains(&one.flush_id), "ids are never drawn again");
}

fn cells_are_found_by_key_and_state(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let dirty = |end_s| StoredCell { dirty: true, enqueued_events: 3, ..cell(end_s, 7) };
    let cells = vec![
        (key(Span::Slice, 0, "x"), dirty(900)),
        (key(Span::Monthly, 0, "x"), dirty(2_678_400)),
        (key(Span::Hourly, 3600, "y"), dirty(7200)),
        (key(Span::Hourly, 3600, "x"), StoredCell { is_final: true, ..dirty(7200) }),
        (key(Span::Hourly, 0, "x"), cell(3600, 1)),
        (key(Span::Hourly, 0, "é"), StoredCell { is_final: true, ..cell(3600, 2) }),
    ];
    save(&mut *store, epoch, &Recorded { cells: cells.clone(), ..Recorded::default() });
    let keys = |found: Vec<(CellKey, StoredCell)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let check = &mut |recording: &mut dyn Recording| {
        let mut asked: Vec<CellKey> = cells.iter().map(|(key, _)| key.clone()).collect();
        asked.insert(2, key(Span::Daily, 0, "x"));
        let mut expected: Vec<_> = cells.iter().map(|(_, cell)| Some(cell.clone())).collect();
        expected.insert(2, None);
        assert_eq!(recording.cells(&asked)?, expected);
        assert_eq!(recording.group_counts(Span::Hourly, 0)?, BTreeMap::from([("model_grouping".into(), 2)]));
        assert_eq!(recording.group_counts(Span::Hourly, 7200)?, BTreeMap::new());
        assert_eq!(keys(recording.unfinished(3600, 10)?), [key(Span::Hourly, 0, "x")]);
        assert_eq!(keys(recording.unfinished(3599, 10)?), []);
        assert_eq!(recording.unfinished(i64::MAX, 10)?.len(), 3);
        assert_eq!(recording.unfinished(i64::MAX, 2)?.len(), 2);
        let first = recording.dirty(None, 2)?;
        assert_eq!(keys(first.clone()), [key(Span::Hourly, 3600, "x"), key(Span::Hourly, 3600, "y")]);
        assert_eq!(keys(recording.dirty(Some(&first[1].0), 2)?), [key(Span::Monthly, 0, "x")]);
        Ok(())
    };
    store.record(epoch, LEASE, check).unwrap();
    // A later state of a cell replaces the earlier one, twice in one save as well.
    let later = vec![(cells[2].0.clone(), cell(7200, 8)), (cells[2].0.clone(), cell(7200, 9))];
    save(&mut *store, epoch, &Recorded { cells: later, ..Recorded::default() });
    let query = RangeQuery { from_s: 3600, group_key: Some("y".into()), ..range(Span::Hourly, 10) };
    assert_eq!(store.cells(&query).unwrap(), [(cells[2].0.clone(), cell(7200, 9))]);
}

fn ranges_continue_after_a_cursor(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut cells = vec![];
    for start_s in [0, 3600, 7200] {
        for group in ["B", "a", "unknown", "ä", "=x"] {
            for aggregation_type in ["model_grouping", "domain_grouping"] {
                let key = CellKey {
                    aggregation_type: aggregation_type.into(),
                    ..key(Span::Hourly, start_s, group)
                };
                cells.push((key, cell(start_s + 3600, 1)));
            }
        }
    }
    save(&mut *store, epoch, &Recorded { cells: cells.clone(), ..Recorded::default() });
    cells.sort_by(|a, b| a.0.cmp(&b.0));
    let read = |store: &mut dyn Store, mut query: RangeQuery| {
        let mut all = vec![];
        loop {
            let page = store.cells(&query).unwrap();
            assert!(page.len() <= query.limit);
            let Some((last, _)) = page.last() else { return all };
            query.after = Some((last.start_s, last.aggregation_type.clone(), last.group_key.clone()));
            all.extend(page);
        }
    };
    assert_eq!(read(&mut *store, range(Span::Hourly, 4)), cells);
    assert_eq!(read(&mut *store, range(Span::Daily, 4)), []);
    let query = RangeQuery {
        aggregation_type: Some("domain_grouping".into()),
        from_s: 3600,
        to_s: 7200,
        ..range(Span::Hourly, 2)
    };
    let expected: Vec<_> = cells
        .iter()
        .filter(|(k, _)| k.start_s == 3600 && k.aggregation_type == "domain_grouping")
        .cloned()
        .collect();
    assert_eq!(expected.len(), 5);
    assert_eq!(read(&mut *store, query), expected);
}

fn a_replaced_outbox_row_survives_the_old_relay(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    enqueue(&mut *store, epoch, vec![outbox_row("one", 5, "1"), outbox_row("two", 5, "1")]);
    let relayed: Vec<_> = store.outbox(10, BYTES_MAX).unwrap().iter().map(|row| row.id).collect();
    enqueue(&mut *store, epoch, vec![outbox_row("one", 5, "2"), outbox_row("one", 5, "3")]);
    store.outbox_sent(&relayed).unwrap();
    let left = store.outbox(10, BYTES_MAX).unwrap();
    assert_eq!(
        left.iter().map(|row| (&*row.aggregation_id, &*row.record)).collect::<Vec<_>>(),
        [("one", "3")]
    );
    assert!(!relayed.contains(&left[0].id) && left[0].created_us == 7);
    store.outbox_sent(&[left[0].id]).unwrap();
    store.outbox_sent(&[left[0].id]).unwrap();
    enqueue(&mut *store, epoch, vec![outbox_row("one", 5, "4")]);
    assert!(store.outbox(10, BYTES_MAX).unwrap()[0].id > left[0].id, "ids are never drawn again");
}

fn the_outbox_is_ordered_by_urgency_and_bounded(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let rows = (0..200).map(|n| outbox_row(&format!("{n}"), if n % 2 == 0 { 7 } else { 3 }, "0123456789"));
    enqueue(&mut *store, epoch, rows.collect());
    let all = store.outbox(1000, BYTES_MAX).unwrap();
    let names: Vec<_> = all.iter().map(|row| row.aggregation_id.parse::<u32>().unwrap()).collect();
    let expected: Vec<_> = (0..200).filter(|n| n % 2 == 1).chain((0..200).filter(|n| n % 2 == 0)).collect();
    assert_eq!(names, expected);
    assert_eq!(store.outbox(7, BYTES_MAX).unwrap(), all[..7]);
    assert_eq!(store.outbox(1000, 35).unwrap(), all[..3]);
    assert_eq!(store.outbox(1000, 1).unwrap(), all[..1]);
}

fn letter(partition: i32, offset: i64) -> DeadLetter {
    DeadLetter {
        source: source(partition),
        topic_id: None,
        offset,
        record_time_us: (offset % 2 == 0).then_some(5),
        cause: Cause::ALL[offset as usize % Cause::ALL.len()],
        detail: "timestamp".into(),
        key: Some(vec![0, 255]),
        value: (offset != 1).then(|| vec![b'x'; 10]),
        value_bytes: 10,
    }
}

fn dead_letters_are_published_once(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = take_one(&mut *store, 0, "a");
    let letters: Vec<_> = (0..20).map(|offset| letter(0, offset)).collect();
    let flush = Flush { dead_letters: letters.clone(), ..flush_of(vec![advance(&mut taken, 20)]) };
    store.flush(&flush, IDS_MAX).unwrap();
    let stored = store.dead_letters_unpublished(100, BYTES_MAX).unwrap();
    assert_eq!(stored.iter().map(|s| s.letter.clone()).collect::<Vec<_>>(), letters);
    assert!(stored.iter().all(|s| s.flushed_us == bed.clock.load(Ordering::SeqCst)));
    assert_eq!(store.dead_letters_unpublished(3, BYTES_MAX).unwrap(), stored[..3]);
    assert_eq!(store.dead_letters_unpublished(100, 26).unwrap(), stored[..3], "12, 2 and 12 bytes");
    store.dead_letters_published(&stored[..5].iter().map(|s| s.id).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.dead_letters_unpublished(100, BYTES_MAX).unwrap(), stored[5..]);
}

fn ids_come_back_in_order_over_many_flushes(bed: &Bed) {
    let mut store = bed.store();
    let mut taken = take_one(&mut *store, 0, "a");
    let mut counted = 0u64;
    for n in 0..200u64 {
        let ids: Vec<_> = (counted..counted + n % 13).map(|id| EventHash(u128::from(id) << 64 | 7)).collect();
        counted += ids.len() as u64;
        let moved = Advance { new_ids: ids, ..advance(&mut taken, 1) };
        store.flush(&flush_of(vec![moved]), IDS_MAX).unwrap();
        taken.ids_counted = counted;
        if n % 10 == 9 {
            taken = take_one(&mut *store, 0, "a");
            let first = counted.saturating_sub(IDS_MAX as u64);
            let expected: Vec<_> = (first..counted).map(|id| EventHash(u128::from(id) << 64 | 7)).collect();
            assert_eq!((taken.ids_counted, &taken.ids), (counted, &expected));
        }
    }
    assert!(counted > 10 * IDS_MAX as u64);
    let all = store.take(&[source(0)], "a", usize::MAX).unwrap().remove(0);
    assert!(all.ids.len() < 2 * IDS_MAX, "older ones were pruned, {} are left", all.ids.len());
    assert_eq!(all.ids_counted, counted);
}

fn analytics_row(rebuild: i64, events_processed: i64, is_final: bool) -> AnalyticsRow {
    AnalyticsRow {
        aggregation_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        window_type: "hourly".into(),
        window_start_s: 1_767_225_600,
        window_end_s: 1_767_229_200,
        timezone: "UTC".into(),
        aggregation_type: "time_window".into(),
        group_key: "all".into(),
        total_generations: events_processed,
        successful_generations: events_processed,
        failed_generations: 0,
        success_rate: (events_processed > 0).then(|| "0.333333333".into()),
        duration_statistics: r#"{"avg_seconds":1.5}"#.into(),
        quality_statistics: "{}".into(),
        cost_statistics: "{}".into(),
        rebuild,
        events_processed,
        is_final,
        record: format!("{rebuild} {events_processed} {is_final}"),
    }
}

/// All orders of `items`.
fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = items.split_first() else { return vec![vec![]] };
    let insert_at =
        |order: &Vec<T>, at: usize| [&order[..at], std::slice::from_ref(first), &order[at..]].concat();
    permutations(rest).iter().flat_map(|order| (0..items.len()).map(move |at| insert_at(order, at))).collect()
}

fn analytics_rows_move_only_forward(bed: &Bed) {
    let mut store = bed.store();
    let revisions = [(0, 9, true), (1, 0, false), (1, 5, false), (1, 5, true)];
    for (n, order) in permutations(&revisions).into_iter().enumerate() {
        let group = format!("group {n}");
        let row = |(rebuild, events, is_final)| AnalyticsRow {
            aggregation_id: format!("00000000-0000-0000-0000-{n:012}"),
            group_key: group.clone(),
            ..analytics_row(rebuild, events, is_final)
        };
        let query = RangeQuery { group_key: Some(group.clone()), ..range(Span::Hourly, 10) };
        let mut highest = (0, 0, false);
        // Singly, and the last two in one call.
        for pieces in [&order[..1], &order[1..2], &order[2..]] {
            store.persist(&pieces.iter().map(|&revision| row(revision)).collect::<Vec<_>>()).unwrap();
            highest = pieces.iter().copied().fold(highest, Ord::max);
            let (rebuild, events, is_final) = highest;
            assert_eq!(
                store.analytics(&query).unwrap(),
                [format!("{rebuild} {events} {is_final}")],
                "{order:?}"
            );
        }
    }
}

fn analytics_ranges_continue_after_a_cursor(bed: &Bed) {
    let mut store = bed.store();
    let mut rows = vec![];
    for hour in 0..5 {
        for group in ["B", "a", "ä"] {
            rows.push(AnalyticsRow {
                aggregation_id: format!("00000000-0000-0000-0000-{:012}", rows.len()),
                window_start_s: hour * 3600,
                window_end_s: hour * 3600 + 3600,
                group_key: group.into(),
                record: format!("{hour} {group}"),
                ..analytics_row(0, 1, false)
            });
        }
    }
    let other_zone = AnalyticsRow {
        aggregation_id: analytics_row(0, 0, false).aggregation_id,
        timezone: "Asia/Tokyo".into(),
        ..rows[0].clone()
    };
    store.persist(&rows).unwrap();
    store.persist(&[other_zone]).unwrap();
    let mut query = RangeQuery { from_s: 3600, to_s: 4 * 3600, ..range(Span::Hourly, 4) };
    let mut all = vec![];
    loop {
        let page = store.analytics(&query).unwrap();
        let Some(last) = page.last() else { break };
        let (hour, group) = last.split_once(' ').unwrap();
        query.after = Some((hour.parse::<i64>().unwrap() * 3600, "time_window".into(), group.into()));
        all.extend(page);
    }
    assert_eq!(all, rows[3..12].iter().map(|row| row.record.clone()).collect::<Vec<_>>());
    assert!(store.analytics(&range(Span::Slice, 4)).unwrap().is_empty());
}

fn another_meaning_is_refused_by_name(bed: &Bed) {
    let mut store = bed.store();
    store.open(&meaning()).unwrap();
    let others = [
        ("timezone", Meaning { timezone: "Europe/Berlin".into(), ..meaning() }),
        ("slice_seconds", Meaning { slice_seconds: 300, ..meaning() }),
        ("groupings", Meaning { groupings: vec![], ..meaning() }),
        ("max_groups", Meaning { max_groups: 1, ..meaning() }),
    ];
    for (name, other) in others {
        let Err(StoreError::OtherGeneration(text)) = store.open(&other) else {
            panic!("{name} was let pass")
        };
        assert!(text.starts_with(name) && !text.contains(';'), "{text}");
    }
    store.open(&meaning()).unwrap();
}

fn expiry_waits_for_folding_and_leadership(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut cells: Vec<_> =
        (0..10).map(|n| (key(Span::Slice, n * 900, "x"), cell(n * 900 + 900, 1))).collect();
    cells.push((key(Span::Hourly, 0, "x"), cell(3600, 1)));
    cells.push((key(Span::Daily, 0, "x"), cell(86_400, 1)));
    save(&mut *store, epoch, &Recorded { cells, ..Recorded::default() });
    let mut taken = take_one(&mut *store, 0, "a");
    let letters = (0..4).map(|offset| letter(0, offset)).collect();
    store.flush(&Flush { dead_letters: letters, ..flush_of(vec![advance(&mut taken, 4)]) }, IDS_MAX).unwrap();
    let now_us = bed.clock.load(Ordering::SeqCst);
    assert_eq!(store.expire(epoch, 3600, now_us + 1, 100).unwrap(), 0, "a flush is unfolded");
    let folded = unfolded(&mut *store, epoch).iter().map(|f| f.flush_id).collect();
    save(&mut *store, epoch, &Recorded { folded, ..Recorded::default() });
    assert!(matches!(store.expire(epoch + 1, 3600, now_us + 1, 100), Err(StoreError::NotLeader)));
    let ids: Vec<_> = store.dead_letters_unpublished(3, BYTES_MAX).unwrap().iter().map(|s| s.id).collect();
    store.dead_letters_published(&ids).unwrap();
    assert_eq!(store.expire(epoch, 3600, now_us, 2).unwrap(), 2, "two slices; no letter is old enough");
    assert_eq!(store.expire(epoch, 3600, now_us + 1, 2).unwrap(), 4, "two slices and two letters");
    assert_eq!(store.expire(epoch, 3600, now_us + 1, 100).unwrap(), 2, "the hour and a letter");
    assert_eq!(store.expire(epoch, 3600, now_us + 1, 100).unwrap(), 0);
    let slices = store.cells(&range(Span::Slice, 100)).unwrap();
    assert_eq!((slices.len(), slices[0].0.start_s), (6, 3600));
    assert!(store.cells(&range(Span::Hourly, 100)).unwrap().is_empty());
    assert_eq!(store.cells(&range(Span::Daily, 100)).unwrap().len(), 1);
    assert_eq!(store.dead_letters_unpublished(10, BYTES_MAX).unwrap().len(), 1);
}

fn a_rebuild_fences_and_forgets(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    let moved = Advance { new_ids: vec![EventHash(1)], max_event_us: Some(3), ..advance(&mut taken, 1) };
    store.flush(&Flush { dead_letters: vec![letter(0, 0)], ..flush_of(vec![moved]) }, IDS_MAX).unwrap();
    let recorded = Recorded {
        state: Some(RecorderState { watermark_us: 9, floor_us: 1, emitted_us: 4, ..state(&mut *store) }),
        cells: vec![(key(Span::Hourly, 0, "x"), cell(3600, 1))],
        outbox: vec![outbox_row("one", 5, "1")],
        folded_event_times: BTreeMap::from([(source(0), 3)]),
        ..Recorded::default()
    };
    save(&mut *store, epoch, &recorded);
    store.persist(&[analytics_row(0, 1, false)]).unwrap();
    let berlin = Meaning { timezone: "Europe/Berlin".into(), ..meaning() };
    assert_eq!(store.rebuild(&berlin).unwrap(), 1);

    store.open(&berlin).unwrap();
    assert!(matches!(store.open(&meaning()), Err(StoreError::OtherGeneration(_))));
    assert!(matches!(store.record(epoch, LEASE, &mut |_| Ok(())), Err(StoreError::NotLeader)));
    let late = store.flush(&flush_of(vec![advance(&mut taken, 1)]), IDS_MAX);
    assert!(matches!(late, Err(StoreError::Fenced(_))));
    let mut afresh = Taken { next_offset: None, ..taken.clone() };
    let guessed = store.flush(&flush_of(vec![advance(&mut afresh, 1)]), IDS_MAX);
    assert!(matches!(guessed, Err(StoreError::Fenced(_))), "the epoch fences, not only the offset");

    let status = store.status().unwrap();
    assert_eq!(
        (status.backlog, status.outbox, status.dead_letters_unpublished, status.leader),
        (0, 0, 0, None)
    );
    let RecorderState { rebuild, watermark_us, final_watermark_us, floor_us, emitted_us, .. } =
        status.recorder;
    assert_eq!((rebuild, emitted_us), (1, 0));
    assert_eq!([watermark_us, final_watermark_us, floor_us], [i64::MIN; 3]);
    assert!(store.cells(&range(Span::Hourly, 10)).unwrap().is_empty());
    let row = store.partitions().unwrap().remove(0);
    assert_eq!((row.epoch, row.owner, row.next_offset, row.max_event_us), (2, None, None, None));
    assert_eq!((row.folded_event_us, row.counters), (None, Counters::default()));
    assert_eq!(take_one(&mut *store, 0, "a").ids_counted, 0);
    assert_eq!(store.lead("r", LEASE).unwrap(), Some(epoch + 2));
    assert_eq!(store.rebuild(&meaning()).unwrap(), 2);
    assert_eq!(store.analytics(&range(Span::Hourly, 10)).unwrap().len(), 1, "analytics rows stay");
}

fn status_counts_what_waits(bed: &Bed) {
    let mut store = bed.store();
    let status = store.status().unwrap();
    assert_eq!(
        (status.backlog, status.outbox, status.dead_letters_unpublished, status.leader),
        (0, 0, 0, None)
    );
    assert_eq!((status.recorder.rebuild, status.recorder.floor_us), (0, i64::MIN));
    assert_eq!(store.now_us().unwrap(), bed.clock.load(Ordering::SeqCst));
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let mut taken = take_one(&mut *store, 0, "a");
    let letters = (0..3).map(|offset| letter(0, offset)).collect();
    store.flush(&Flush { dead_letters: letters, ..flush_of(vec![advance(&mut taken, 3)]) }, IDS_MAX).unwrap();
    enqueue(&mut *store, epoch, vec![outbox_row("one", 5, "1"), outbox_row("two", 5, "1")]);
    let status = store.status().unwrap();
    assert_eq!((status.backlog, status.outbox, status.dead_letters_unpublished), (1, 2, 3));
}

fn a_large_recording_is_whole(bed: &Bed) {
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let keys: Vec<_> = (0..5_000).map(|n| key(Span::Hourly, n % 7 * 3600, &format!("group {n}"))).collect();
    for round in 1..=2 {
        let began = std::time::Instant::now();
        let work = &mut |recording: &mut dyn Recording| {
            let found = recording.cells(&keys)?;
            assert!(found.iter().all(|cell| cell.as_ref().map_or(0, |cell| cell.events) == round - 1));
            let cells = keys.iter().map(|key| {
                let cell = StoredCell {
                    bytes: vec![round as u8; 500],
                    dirty: true,
                    ..cell(key.start_s + 3600, round)
                };
                (key.clone(), cell)
            });
            recording.save(&Recorded { cells: cells.collect(), ..Recorded::default() })
        };
        store.record(epoch, LEASE, work).unwrap();
        println!("5000 cells read and written in {:?}", began.elapsed());
    }
    assert_eq!(store.cells(&range(Span::Hourly, 10_000)).unwrap().len(), 5_000);
}

/// Ends the relay also when the test fails, which would otherwise wait for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

fn concurrent_flushes_and_recordings_lose_nothing(bed: &Bed) {
    const FLUSHES: u64 = 40;
    let mut store = bed.store();
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let cell_key = key(Span::Hourly, 0, "x");
    let reducers: Vec<_> = (0..3).map(|_| bed.store()).collect();
    std::thread::scope(|scope| {
        for (partition, mut reducer) in reducers.into_iter().enumerate() {
            scope.spawn(move || {
                let mut taken = take_one(&mut *reducer, partition as i32, "a");
                for _ in 0..FLUSHES {
                    reducer.flush(&flush_of(vec![advance(&mut taken, 1)]), IDS_MAX).unwrap();
                }
            });
        }
        let mut relay = bed.store();
        let relaying = Arc::new(AtomicBool::new(true));
        let stop = StopOnDrop(relaying.clone());
        let sent = scope.spawn(move || {
            let mut sent = vec![];
            loop {
                let last_round = !relaying.load(Ordering::SeqCst);
                for row in relay.outbox(1, BYTES_MAX).unwrap() {
                    relay.outbox_sent(&[row.id]).unwrap();
                    sent.push(row.record.parse::<u64>().unwrap());
                }
                if last_round {
                    return sent;
                }
            }
        });
        let mut folded = 0;
        while folded < 3 * FLUSHES {
            let fold = &mut |recording: &mut dyn Recording| {
                let (flushes, _) = recording.unfolded(7, BYTES_MAX)?;
                let before =
                    recording.cells(std::slice::from_ref(&cell_key))?.remove(0).map_or(0, |cell| cell.events);
                folded = before + flushes.len() as u64;
                let recorded = Recorded {
                    folded: flushes.iter().map(|f| f.flush_id).collect(),
                    cells: vec![(cell_key.clone(), cell(3600, folded))],
                    outbox: vec![outbox_row("one", 5, &folded.to_string())],
                    ..Recorded::default()
                };
                recording.save(&recorded)
            };
            store.record(epoch, LEASE, fold).unwrap();
        }
        drop(stop);
        let sent = sent.join().unwrap();
        assert!(sent.is_sorted(), "no revision after its successor: {sent:?}");
        assert_eq!(sent.last(), Some(&(3 * FLUSHES)));
    });
    assert_eq!(store.cells(&range(Span::Hourly, 10)).unwrap()[0].1.events, 3 * FLUSHES);
    let status = store.status().unwrap();
    assert_eq!((status.backlog, status.outbox), (0, 0));
}

// --- SQLite only: the file -------------------------------------------------------------------------------------------------------

#[test]
fn a_sqlite_file_is_opened_once_and_keeps_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let open = |create| SqliteDatabase::open(&path, create, Durability::Full, test_clock().1);
    assert!(matches!(open(false), Err(StoreError::Unavailable(_))), "nothing is created unasked");
    let database = open(true).unwrap();
    let mut store = database.connect().unwrap();
    store.open(&meaning()).unwrap();
    let mut taken = take_one(&mut store, 0, "a");
    store.flush(&flush_of(vec![advance(&mut taken, 5)]), IDS_MAX).unwrap();
    let before = (store.status().unwrap(), store.partitions().unwrap());
    assert!(matches!(open(false), Err(StoreError::Refused(text)) if text.contains("another process")));
    drop(database);
    assert!(matches!(open(false), Err(StoreError::Refused(_))), "a store alone keeps the lock");
    drop(store);
    let mut store = open(false).unwrap().connect().unwrap();
    store.open(&meaning()).unwrap();
    assert_eq!((store.status().unwrap(), store.partitions().unwrap()), before);
}

#[test]
fn a_sqlite_file_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let open = || SqliteDatabase::open(&path, true, Durability::Full, test_clock().1);
    drop(open().unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("INSERT INTO schema_version VALUES (1000)", []).unwrap();
    drop(connection);
    assert!(matches!(open(), Err(StoreError::Refused(text)) if text.contains("1000")));
}

#[test]
fn broken_values_in_a_sqlite_file_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let database = SqliteDatabase::open(&path, true, Durability::Full, test_clock().1).unwrap();
    let mut store = database.connect().unwrap();
    let mut taken = take_one(&mut store, 0, "a");
    let moved = Advance { new_ids: vec![EventHash(1)], ..advance(&mut taken, 1) };
    store.flush(&flush_of(vec![moved]), IDS_MAX).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute("UPDATE event_ids SET ids = x'0102'", []).unwrap();
    assert!(matches!(store.take(&[source(0)], "a", IDS_MAX), Err(StoreError::Corrupt(_))));
    assert_eq!(store.partitions().unwrap()[0].epoch, 1, "the failed taking bumped nothing");
    connection.execute("UPDATE partitions SET counters = '?'", []).unwrap();
    assert!(matches!(store.partitions(), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_text_that_is_no_database_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    std::fs::write(&path, "no database, only a text of some length".repeat(100)).unwrap();
    let opened = SqliteDatabase::open(&path, true, Durability::Full, test_clock().1);
    assert!(matches!(opened, Err(StoreError::Corrupt(_))));
}

// --- PostgreSQL only: the connection ---------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs PostgreSQL: DATABASE_URL"]
fn a_postgres_store_reconnects_and_keeps_all() {
    let schema = Schema::new();
    let database = PostgresDatabase::open(schema.options(None)).unwrap();
    let mut store = database.connect().unwrap();
    store.open(&meaning()).unwrap();
    let mut taken = take_one(&mut store, 0, "a");
    store.flush(&flush_of(vec![advance(&mut taken, 5)]), IDS_MAX).unwrap();
    let before = (store.status().unwrap(), store.partitions().unwrap());
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let cut = store.record(epoch, LEASE, &mut |recording| {
        recording.save(&Recorded { outbox: vec![outbox_row("one", 5, "1")], ..Recorded::default() })?;
        let sessions =
            format!("SELECT pid FROM pg_locks WHERE relation = '{}.outbox'::regclass", schema.name);
        schema.run(&format!("SELECT pg_terminate_backend(pid) FROM ({sessions}) AS s"));
        recording.now_us().map(drop)
    });
    assert!(matches!(cut, Err(StoreError::Unavailable(_))), "{cut:?}");
    assert_eq!(store.status().unwrap().outbox, 0);
    store.resign("r", epoch).unwrap();
    assert_eq!((store.status().unwrap(), store.partitions().unwrap()), before);
    let epoch = store.lead("r", LEASE).unwrap().unwrap();
    let swallowed = store.record(epoch, LEASE, &mut |recording| {
        recording.save(&Recorded { outbox: vec![outbox_row("one", 5, "1")], ..Recorded::default() })?;
        // A record with NUL cannot be written; ignoring the refusal must not look like a commit.
        let refused = Recorded { outbox: vec![outbox_row("two", 5, "\0")], ..Recorded::default() };
        assert!(recording.save(&refused).is_err());
        Ok(())
    });
    assert!(swallowed.is_err());
    assert_eq!(store.status().unwrap().outbox, 0);
}

#[test]
#[ignore = "needs PostgreSQL: DATABASE_URL"]
fn a_postgres_store_tells_its_own_time() {
    let schema = Schema::new();
    let mut store = PostgresDatabase::open(schema.options(None)).unwrap().connect().unwrap();
    let (first, second) = (store.now_us().unwrap(), store.now_us().unwrap());
    assert!(first <= second && first > 1_700_000_000_000_000, "{first} µs, {second} µs");
}

#[test]
#[ignore = "needs PostgreSQL: DATABASE_URL"]
fn postgres_tables_of_a_newer_version_are_refused() {
    let schema = Schema::new();
    drop(PostgresDatabase::open(schema.options(None)).unwrap());
    schema.run(&format!("INSERT INTO {}.schema_version VALUES (1000)", schema.name));
    let opened = PostgresDatabase::open(schema.options(None));
    assert!(matches!(opened, Err(StoreError::Refused(text)) if text.contains("1000")));
}

#[test]
fn an_unreachable_postgres_is_unavailable_and_a_bad_url_refused() {
    let open = |url: &str| {
        let timeout = Duration::from_secs(5);
        PostgresDatabase::open(PostgresOptions { url: url.into(), ca_file: None, timeout, clock: None })
            .map(drop)
    };
    assert!(
        matches!(open("postgres://nobody:secret@127.0.0.1:1/none"), Err(StoreError::Unavailable(text)) if !text.contains("secret"))
    );
    assert!(
        matches!(open("postgres://a:secret@host:x/y"), Err(StoreError::Refused(text)) if !text.contains("secret"))
    );
}
