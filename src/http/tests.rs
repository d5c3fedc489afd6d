//! The endpoints over a real socket, on a store that holds what a test puts into it.

use super::*;
use crate::aggregator::accumulator::Accumulator;
use crate::aggregator::group::Grouping;
use crate::aggregator::partition::{Cause, Counters, Flush, GapCause, Source, Taken};
use crate::aggregator::record::timestamp;
use crate::clock::wall_us;
use crate::decode::{Context, decode, parse_timestamp};
use crate::store::{
    AnalyticsRow, CellKey, Flushed, Meaning, OutboxRow, PartitionRow, RangeQuery, RecorderState, Recording,
    Result as Stored, StoreStatus, StoredCell, StoredDeadLetter,
};
use crate::telemetry::PartitionLag;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use tokio::sync::oneshot;

/// What the fake store answers with; everything that writes is refused.
struct Fake {
    cells: BTreeMap<CellKey, StoredCell>,
    partitions: Vec<PartitionRow>,
    status: StoreStatus,
    fault: Option<fn() -> StoreError>,
    /// If set, a read waits until the sender is gone.
    gate: Option<mpsc::Receiver<()>>,
}

impl Default for Fake {
    fn default() -> Fake {
        let recorder = RecorderState {
            rebuild: 3,
            watermark_us: i64::MIN,
            final_watermark_us: i64::MIN,
            floor_us: i64::MIN,
            now_us: 0,
            emitted_us: 0,
        };
        let status =
            StoreStatus { recorder, leader: None, backlog: 0, outbox: 0, dead_letters_unpublished: 0 };
        Fake { cells: BTreeMap::new(), partitions: Vec::new(), status, fault: None, gate: None }
    }
}

fn refused<T>() -> Stored<T> {
    Err(StoreError::Refused("not part of this test".to_owned()))
}

impl Fake {
    fn read<T>(&self, value: impl FnOnce(&Fake) -> T) -> Stored<T> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        self.fault.map_or_else(|| Ok(value(self)), |fault| Err(fault()))
    }
}

impl Store for Fake {
    fn cells(&mut self, query: &RangeQuery) -> Stored<Vec<(CellKey, StoredCell)>> {
        let wanted = |key: &CellKey| {
            let place = (key.start_s, key.aggregation_type.clone(), key.group_key.clone());
            key.span == query.span
                && (query.from_s..query.to_s).contains(&key.start_s)
                && query.aggregation_type.as_ref().is_none_or(|name| *name == key.aggregation_type)
                && query.group_key.as_ref().is_none_or(|group| *group == key.group_key)
                && query.after.as_ref().is_none_or(|after| place > *after)
        };
        self.read(|fake| {
            let found = fake.cells.iter().filter(|(key, _)| wanted(key)).take(query.limit);
            found.map(|(key, cell)| (key.clone(), cell.clone())).collect()
        })
    }
    fn partitions(&mut self) -> Stored<Vec<PartitionRow>> {
        self.read(|fake| fake.partitions.clone())
    }
    fn status(&mut self) -> Stored<StoreStatus> {
        self.read(|fake| fake.status.clone())
    }
    fn now_us(&mut self) -> Stored<i64> {
        refused()
    }
    fn open(&mut self, _: &Meaning) -> Stored<()> {
        refused()
    }
    fn add_partitions(&mut self, _: &[Source]) -> Stored<()> {
        refused()
    }
    fn take(&mut self, _: &[Source], _: &str, _: usize) -> Stored<Vec<Taken>> {
        refused()
    }
    fn set_halted(&mut self, _: &Source, _: i64, _: Option<&str>) -> Stored<()> {
        refused()
    }
    fn restart_partition(&mut self, _: &Source, _: i64) -> Stored<()> {
        refused()
    }
    fn flush(&mut self, _: &Flush, _: usize) -> Stored<Flushed> {
        refused()
    }
    fn lead(&mut self, _: &str, _: Duration) -> Stored<Option<i64>> {
        refused()
    }
    fn resign(&mut self, _: &str, _: i64) -> Stored<()> {
        refused()
    }
    fn record(
        &mut self,
        _: i64,
        _: Duration,
        _: &mut dyn FnMut(&mut dyn Recording) -> Stored<()>,
    ) -> Stored<()> {
        refused()
    }
    fn outbox(&mut self, _: usize, _: usize) -> Stored<Vec<OutboxRow>> {
        refused()
    }
    fn outbox_sent(&mut self, _: &[i64]) -> Stored<()> {
        refused()
    }
    fn dead_letters_unpublished(&mut self, _: usize, _: usize) -> Stored<Vec<StoredDeadLetter>> {
        refused()
    }
    fn dead_letters_published(&mut self, _: &[i64]) -> Stored<()> {
        refused()
    }
    fn persist(&mut self, _: &[AnalyticsRow]) -> Stored<()> {
        refused()
    }
    fn analytics(&mut self, _: &RangeQuery) -> Stored<Vec<String>> {
        refused()
    }
    fn expire(&mut self, _: i64, _: i64, _: i64, _: usize) -> Stored<u64> {
        refused()
    }
    fn rebuild(&mut self, _: &Meaning) -> Stored<u64> {
        refused()
    }
}

const START: &str = "2026-01-01T10:00:00Z";

fn seconds(text: &str) -> i64 {
    parse_timestamp(text).unwrap() / 1_000_000
}

fn groupings(groups_max: usize) -> Groupings {
    Groupings::of(vec![Grouping::TimeWindow, "model_grouping".parse().unwrap()], groups_max)
}

/// Puts one COMPLETED of each model into the cells of one span.
fn put(fake: &mut Fake, span: Span, start_s: i64, length_s: i64, models: &[&str]) {
    let mut sums = Accumulator::new(groupings(1_000));
    for model in models {
        let line = json!({
            "event_type": "CODEGEN_COMPLETED", "timestamp": timestamp(start_s * 1_000_000), "workflow_id": model,
            "total_duration_seconds": 2.5, "total_cost_usd": 0.12, "primary_model": model
        })
        .to_string();
        let context = Context { bytes_max: usize::MAX, ..Context::default() };
        sums.add(start_s, &decode(line.as_bytes(), &context).unwrap());
    }
    for mut delta in sums.drain() {
        let name = groupings(1).list[usize::from(delta.grouping)].to_string();
        let key = CellKey { span, start_s, aggregation_type: name, group_key: delta.group_key.into() };
        let cell = StoredCell {
            end_s: start_s + length_s,
            bytes: delta.cell.encode(),
            events: delta.cell.events,
            is_final: start_s == seconds(START),
            dirty: false,
            enqueued_events: 0,
        };
        fake.cells.insert(key, cell);
    }
}

fn api(fake: Fake, groups_max: usize) -> Api {
    Api {
        store: Arc::new(Mutex::new(Box::new(fake))),
        telemetry: Telemetry::default(),
        identity: Identity {
            node_id: "node-1".into(),
            version: "1.2.3".into(),
            window_type: "hourly".into(),
            batch_size: 100,
        },
        calendar: Calendar::new(chrono_tz::UTC, 900),
        groupings: Arc::new(groupings(groups_max)),
        live_timeout_us: 60_000_000,
        out_of_orderness_us: 30_000_000,
        default_window: Span::Hourly,
    }
}

/// A server on loopback; stops when dropped.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(api: Api) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                serve(listener, api, async { drop(stopped.await) }).await.unwrap();
            });
        });
        Server { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Status, head in lower case, and body as text.
    fn send(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.ask("GET", path);
        assert!(head.contains("content-type: application/json"), "{path}: {head}");
        (status, serde_json::from_str(&body).unwrap())
    }

    fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        self.send(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }

    /// All records of a query, page by page, and how many pages it took.
    fn all(&self, query: &str) -> (Vec<Value>, usize) {
        let (mut records, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let (status, body) = self.get(&format!("/api/v1/windows?{query}&cursor={cursor}"));
            assert_eq!(status, 200, "{body}");
            records.extend(body["records"].as_array().unwrap().iter().cloned());
            pages += 1;
            assert!(pages <= 1_000, "the cursor goes in circles");
            match body["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return (records, pages),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the server stops when told to");
    }
}

/// (window_start, aggregation_type, group_key) of each record.
fn places(records: &[Value]) -> Vec<(String, String, String)> {
    let text = |record: &Value, key| record[key].as_str().unwrap().to_owned();
    let place = |r| (text(r, "window_start"), text(r, "aggregation_type"), text(r, "group_key"));
    records.iter().map(place).collect()
}

fn check(status: Health) -> Check {
    Check { status, detail: "as set by the test".to_owned() }
}

#[test]
fn health_tells_who_answers_and_every_check() {
    let api = api(Fake::default(), 10);
    let telemetry = api.telemetry.clone();
    let server = Server::start(api);
    telemetry.check("store", Health::Healthy, "open");
    telemetry.check("kafka", Health::Degraded, "one broker away");
    let (status, body) = server.get("/health");
    assert_eq!(status, 200);
    let expected = json!({
        "status": "degraded", "node_id": "node-1", "node_type": "REDUCER", "version": "1.2.3",
        "window_type": "hourly", "batch_size": 100,
        "checks": {
            "store": {"status": "healthy", "detail": "open"},
            "kafka": {"status": "degraded", "detail": "one broker away"}
        }
    });
    assert_eq!(body, expected);
    telemetry.check("store", Health::Unhealthy, "disk full");
    let (status, body) = server.get("/health");
    assert_eq!((status, &body["status"]), (503, &json!("unhealthy")));
}

#[test]
fn the_worst_check_counts_but_consul_only_degrades() {
    use Health::{Degraded, Healthy, Unhealthy};
    for (store, consul, expected) in [
        (Healthy, Healthy, Healthy),
        (Healthy, Degraded, Degraded),
        (Healthy, Unhealthy, Degraded),
        (Degraded, Unhealthy, Degraded),
        (Unhealthy, Unhealthy, Unhealthy),
        (Unhealthy, Healthy, Unhealthy),
    ] {
        let checks = BTreeMap::from([("store", check(store)), ("consul", check(consul))]);
        assert_eq!(overall(&checks), expected, "store {store:?}, consul {consul:?}");
    }
}

#[test]
fn live_means_progress_or_nothing_to_do() {
    let with = |lag_records, flushed_us, rebalancing| Snapshot {
        flushed_us,
        rebalancing,
        partitions: BTreeMap::from([("t[0]".to_owned(), PartitionLag { next_offset: 5, lag_records })]),
        ..Snapshot::default()
    };
    assert!(is_live(&with(1, Some(90), false), 100, 10));
    assert!(!is_live(&with(1, Some(89), false), 100, 10));
    assert!(is_live(&with(0, Some(0), false), 100, 10));
    assert!(is_live(&with(1, Some(0), true), 100, 10));
    assert!(is_live(&with(1, None, false), 10, 10));
    assert!(!is_live(&with(1, None, false), 11, 10));
    assert!(is_live(&Snapshot::default(), 100, 10));
}

#[test]
fn probes_answer_with_their_status() {
    let api = api(Fake::default(), 10);
    let telemetry = api.telemetry.clone();
    let server = Server::start(api);
    assert_eq!(server.get("/live"), (200, json!({"live": true})));
    assert_eq!(server.get("/ready"), (503, json!({"ready": false})));
    telemetry.update(|snapshot| {
        snapshot.ready = true;
        snapshot.flushed_us = Some(i64::MIN);
        snapshot.partitions.insert("t[0]".to_owned(), PartitionLag { next_offset: 5, lag_records: 1 });
    });
    assert_eq!(server.get("/live"), (503, json!({"live": false})));
    assert_eq!(server.get("/ready"), (200, json!({"ready": true})));
    telemetry.update(|snapshot| snapshot.rebalancing = true);
    assert_eq!(server.get("/live"), (200, json!({"live": true})));
}

#[test]
fn a_record_is_rendered_from_its_cell() {
    let mut fake = Fake::default();
    put(&mut fake, Span::Hourly, seconds(START), 3_600, &["a", "b"]);
    let server = Server::start(api(fake, 10));
    let (status, body) = server.get("/api/v1/windows?aggregation_type=model_grouping&group_key=b");
    assert_eq!((status, &body["next_cursor"]), (200, &Value::Null));
    let [record] = body["records"].as_array().unwrap().as_slice() else { panic!("one record: {body}") };
    for (key, expected) in [
        ("window_type", json!("hourly")),
        ("window_start", json!(START)),
        ("window_end", json!("2026-01-01T11:00:00Z")),
        ("timezone", json!("UTC")),
        ("group_key", json!("b")),
        ("rebuild", json!(3)),
        ("is_final", json!(true)),
        ("successful_generations", json!(1)),
        ("avg_duration_seconds", json!(2.5)),
        ("total_cost_usd", json!(0.12)),
    ] {
        assert_eq!(record[key], expected, "{key}");
    }
    assert!(parse_timestamp(record["timestamp"].as_str().unwrap()).unwrap() > seconds(START) * 1_000_000);
}

#[test]
fn pages_neither_lose_nor_double_a_record() {
    let mut fake = Fake::default();
    let models: Vec<String> = (0..45).map(|n| format!("model {n:02}, \"×\"")).collect();
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    for hour in 0..3 {
        put(&mut fake, Span::Hourly, seconds(START) + hour * 3_600, 3_600, &models);
    }
    put(&mut fake, Span::Daily, seconds("2026-01-01T00:00:00Z"), 86_400, &["a"]);
    let server = Server::start(api(fake, 100));
    let (whole, pages) = server.all("limit=1000");
    assert_eq!((whole.len(), pages), (3 * 46, 1));
    let expected = places(&whole);
    assert!(expected.is_sorted());
    for (limit, pages) in [(1, 138), (7, 20), (46, 3), (64, 3), (65, 3), (137, 2), (138, 1)] {
        let (paged, count) = server.all(&format!("window_type=hourly&limit={limit}"));
        assert_eq!(places(&paged), expected, "limit {limit}");
        assert_eq!(count, pages, "limit {limit}");
    }
    let (default, pages) = server.all("");
    assert_eq!((places(&default), pages), (expected, 2));
    assert_eq!(server.all("window_type=daily").0.len(), 2);
}

#[test]
fn from_and_to_choose_by_window_start() {
    let mut fake = Fake::default();
    for hour in 0..4 {
        put(&mut fake, Span::Hourly, seconds(START) + hour * 3_600, 3_600, &["a"]);
    }
    let server = Server::start(api(fake, 10));
    let starts = |range: &str| {
        let (records, _) = server.all(&format!("aggregation_type=time_window&{range}"));
        places(&records).into_iter().map(|(start, ..)| start[11..13].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(starts("from=2026-01-01T11:00:00Z&to=2026-01-01T13:00:00Z"), ["11", "12"]);
    assert_eq!(starts("from=2026-01-01T11:00:00.000001Z"), ["12", "13"]);
    assert_eq!(starts("to=2026-01-01%2011:00:00.5"), ["10", "11"]);
    assert_eq!(starts("from=2026-01-01T14:00:00%2B02:00"), ["12", "13"]);
    assert!(starts("from=2026-01-01T11:00:00Z&to=2026-01-01T11:00:00Z").is_empty());
}

/// Slices around now: enough before and after that the answer is the same on both sides of a slice's edge but for the window.
fn slices_around_now() -> Fake {
    let mut fake = Fake::default();
    let slice = Calendar::new(chrono_tz::UTC, 900).slice(wall_us() / 1_000_000);
    for number in -8..8 {
        put(&mut fake, Span::Slice, slice.start_s + number * 900, 900, &["a", "b", "c", "d"]);
    }
    fake
}

#[test]
fn a_rolling_window_merges_the_slices_of_its_length_before_now() {
    let server = Server::start(api(slices_around_now(), 10));
    let before_s = wall_us() / 1_000_000;
    let (records, _) = server.all("window_type=rolling_hourly&aggregation_type=time_window");
    let after_s = wall_us() / 1_000_000;
    let [record] = records.as_slice() else { panic!("one record: {records:?}") };
    let instant = |key| seconds(record[key].as_str().unwrap());
    let (start_s, end_s) = (instant("window_start"), instant("window_end"));
    assert_eq!((end_s - start_s, end_s % 900), (3_600, 0));
    assert!((before_s - 899..=after_s).contains(&end_s), "the last slice that has ended by now");
    assert_eq!(record["events_processed"], 16);
    assert_eq!(record["workflow_ids_tracked"], 4);
    assert_eq!((&record["is_final"], &record["window_type"]), (&json!(false), &json!("rolling_hourly")));
    let (daily, _) = server.all("window_type=rolling_daily&aggregation_type=model_grouping&group_key=c");
    // Eight whole slices lie before the present one; one more if it ended since.
    assert!([8, 9].contains(&daily[0]["events_processed"].as_u64().unwrap()), "{daily:?}");
}

#[test]
fn pages_of_a_rolling_window_stay_with_one_window() {
    let server = Server::start(api(slices_around_now(), 10));
    for limit in [1, 2, 4, 5] {
        let (records, pages) = server.all(&format!("window_type=rolling_hourly&limit={limit}"));
        assert_eq!(pages, 5_usize.div_ceil(limit));
        let places = places(&records);
        assert!(places.iter().all(|(start, ..)| *start == places[0].0));
        let groups: Vec<&str> = places.iter().map(|(_, _, group)| group.as_str()).collect();
        assert_eq!(groups, ["a", "b", "c", "d", "all"], "limit {limit}");
        assert!(records.iter().take(4).all(|record| record["events_processed"] == 4));
    }
}

#[test]
fn a_rolling_window_keeps_the_cap_on_groups_whatever_is_asked_for() {
    let server = Server::start(api(slices_around_now(), 2));
    let (records, _) = server.all("window_type=rolling_hourly&aggregation_type=model_grouping&limit=1");
    let found: Vec<_> =
        records.iter().map(|r| (r["group_key"].clone(), r["events_processed"].clone())).collect();
    let expected = [(json!("__other__"), json!(8)), (json!("a"), json!(4)), (json!("b"), json!(4))];
    assert_eq!(found, expected);
    assert_eq!(records[0]["overflowed"], true);
    assert_eq!(server.all("window_type=rolling_hourly&group_key=__other__").0[0]["events_processed"], 8);
    assert!(server.all("window_type=rolling_hourly&group_key=c").0.is_empty());
}

#[test]
fn bad_queries_say_what_to_do() {
    let server = Server::start(api(Fake::default(), 10));
    for (query, hint) in [
        ("window=hourly", "use window_type, aggregation_type"),
        ("window_type=yearly", "rolling_monthly"),
        ("window_type=slice", "use one of hourly"),
        ("aggregation_type=colour", "use one of time_window, model_grouping"),
        ("limit=0", "from 1 to 1000"),
        ("limit=1001", "from 1 to 1000"),
        ("limit=ten", "from 1 to 1000"),
        ("limit=1&limit=2", "given twice"),
        ("from=yesterday", "from cannot be read"),
        ("to=2026-01-01T13:00:00+01:00", "write + as %2B"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from is after to"),
        ("window_type=rolling_daily&from=2026-01-01T00:00:00Z", "leave out from and to"),
        ("cursor=zz", "hand back next_cursor"),
        ("cursor=7b7", "hand back next_cursor"),
        ("cursor=7b7d", "hand back next_cursor"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/windows?{query}"));
        assert_eq!(status, 400, "{query}");
        let message = body["error"].as_str().unwrap();
        assert!(message.contains(hint), "{query}: {message}");
    }
    for path in ["/api/v1/accounting?x=1", "/api/v1/status?limit=1"] {
        let (status, body) = server.get(path);
        assert_eq!(status, 400);
        assert!(body["error"].as_str().unwrap().contains("takes none"), "{body}");
    }
    assert_eq!(server.get("/api/v1/windows?window_type=&group_key=&limit=").0, 200, "empty is not given");
}

#[test]
fn a_cursor_belongs_to_its_window_type() {
    let mut fake = slices_around_now();
    put(&mut fake, Span::Hourly, seconds(START), 3_600, &["a", "b"]);
    let server = Server::start(api(fake, 10));
    let (_, body) = server.get("/api/v1/windows?limit=1");
    let cursor = body["next_cursor"].as_str().unwrap();
    assert_eq!(server.get(&format!("/api/v1/windows?window_type=hourly&cursor={cursor}")).0, 200);
    assert_eq!(server.get(&format!("/api/v1/windows?window_type=daily&cursor={cursor}")).0, 400);
    let hex = |start_s: i64| {
        let json = json!({"window_type": "rolling_hourly", "start_s": start_s, "aggregation_type": "", "group_key": ""});
        json.to_string().bytes().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for (start_s, status) in [(900, 200), (901, 400), (-900, 400), (i64::MAX - i64::MAX % 900, 400)] {
        let path = format!("/api/v1/windows?window_type=rolling_hourly&cursor={}", hex(start_s));
        assert_eq!(server.get(&path).0, status, "{start_s}");
    }
}

fn partition(number: i32, offsets: Option<(i64, i64)>, counters: Counters) -> PartitionRow {
    PartitionRow {
        source: Source { topic: "t".into(), partition: number },
        epoch: 4,
        owner: Some("node-1".to_owned()),
        topic_id: None,
        first_offset: offsets.map(|(first, _)| first),
        next_offset: offsets.map(|(_, next)| next),
        max_event_us: None,
        folded_event_us: None,
        at_end_since_us: None,
        at_end_reported_us: None,
        halted: None,
        counters,
    }
}

fn counted() -> Counters {
    Counters {
        received: 9,
        counted: 5,
        duplicates: 1,
        dead_lettered: BTreeMap::from([(Cause::InvalidJson, 2), (Cause::TooLate, 1)]),
        gaps: BTreeMap::from([(GapCause::NotInLog, 1)]),
    }
}

#[test]
fn accounting_adds_up_and_tells_when_it_does_not() {
    let partitions = vec![
        partition(0, Some((100, 110)), counted()),
        partition(1, Some((0, 10)), counted()),
        partition(2, None, Counters::default()),
    ];
    let server = Server::start(api(Fake { partitions: partitions.clone(), ..Fake::default() }, 10));
    let (status, body) = server.get("/api/v1/accounting");
    let totals = json!({
        "received": 18, "counted": 10, "duplicates": 2,
        "dead_lettered": 6, "dead_lettered_by_cause": {"invalid_json": 4, "too_late": 2},
        "gaps": 2, "gaps_by_cause": {"not_in_log": 2}
    });
    assert_eq!((status, &body["totals"], &body["closes"]), (200, &totals, &json!(true)));
    let first = json!({
        "topic": "t", "partition": 0, "first_offset": 100, "next_offset": 110, "received": 9, "counted": 5,
        "duplicates": 1, "dead_lettered": 3, "dead_lettered_by_cause": {"invalid_json": 2, "too_late": 1},
        "gaps": 1, "gaps_by_cause": {"not_in_log": 1}, "closes": true
    });
    assert_eq!(body["partitions"][0], first);
    assert_eq!(body["partitions"][2]["next_offset"], Value::Null);

    let mut open = partitions;
    open[1].next_offset = Some(11);
    let server = Server::start(api(Fake { partitions: open, ..Fake::default() }, 10));
    let (_, body) = server.get("/api/v1/accounting");
    let closes: Vec<_> = (0..3).map(|n| body["partitions"][n]["closes"].clone()).collect();
    assert_eq!(
        (body["closes"].clone(), closes),
        (json!(false), vec![json!(true), json!(false), json!(true)])
    );
}

#[test]
fn status_tells_how_far_everything_is() {
    let event_us = seconds(START) * 1_000_000;
    let mut partitions: Vec<_> = (0..3).map(|n| partition(n, Some((0, 10)), Counters::default())).collect();
    partitions[0].max_event_us = Some(event_us);
    partitions[0].folded_event_us = Some(event_us - 1_000_000);
    partitions[1].max_event_us = Some(event_us);
    partitions[2].halted = Some("topic was made anew".to_owned());
    let mut fake = Fake { partitions, ..Fake::default() };
    fake.status.recorder.watermark_us = event_us;
    fake.status.leader = Some(("node-2".to_owned(), event_us + 500_000));
    (fake.status.backlog, fake.status.outbox, fake.status.dead_letters_unpublished) = (7, 8, 9);
    let api = api(fake, 10);
    api.telemetry.update(|snapshot| {
        for (name, lag_records) in [("t[0]", 12), ("t[1]", 0)] {
            snapshot.partitions.insert(name.to_owned(), PartitionLag { next_offset: 10, lag_records });
        }
    });
    let server = Server::start(api);
    let behind_s = || wall_us() / 1_000_000 - seconds(START);
    let before_s = behind_s();
    let (status, body) = server.get("/api/v1/status");
    assert_eq!(status, 200);
    let lag_s = body["partitions"][0]["lag_seconds"].as_i64().unwrap();
    assert!((before_s..=behind_s()).contains(&lag_s), "{lag_s}");
    let mut first = body["partitions"][0].clone();
    first["lag_seconds"] = Value::Null;
    let expected = json!({
        "topic": "t", "partition": 0, "epoch": 4, "owner": "node-1", "owned_here": true, "next_offset": 10,
        "max_event_time": START, "watermark": "2026-01-01T09:59:29Z", "lag_records": 12, "lag_seconds": null,
        "halted": null
    });
    assert_eq!(first, expected);
    assert_eq!(body["partitions"][1]["lag_seconds"], 0);
    assert_eq!(body["partitions"][2]["lag_records"], Value::Null);
    assert_eq!(body["partitions"][2]["halted"], "topic was made anew");
    let recorder = json!({"rebuild": 3, "watermark": START, "final_watermark": null, "floor": null});
    assert_eq!(body["recorder"], recorder);
    assert_eq!(body["leader"], json!({"node_id": "node-2", "lease_until": "2026-01-01T10:00:00.5Z"}));
    let depths = [&body["backlog"], &body["outbox"], &body["dead_letters_unpublished"]];
    assert_eq!(depths, [&json!(7), &json!(8), &json!(9)]);
}

#[test]
fn a_store_away_is_503_and_unreadable_data_500() {
    let away = || StoreError::Unavailable("host=secret".to_owned());
    let server = Server::start(api(Fake { fault: Some(away), ..Fake::default() }, 10));
    for path in ["/api/v1/windows", "/api/v1/accounting", "/api/v1/status"] {
        let (status, head, body) = server.ask("GET", path);
        assert_eq!(status, 503, "{path}");
        assert!(head.contains("retry-after: 5") && body.contains("retry later"), "{head} {body}");
        assert!(!body.contains("secret"));
    }
    let mut fake = Fake::default();
    put(&mut fake, Span::Hourly, seconds(START), 3_600, &["a"]);
    fake.cells.values_mut().for_each(|cell| cell.bytes = vec![99]);
    assert_eq!(Server::start(api(fake, 10)).get("/api/v1/windows").0, 500);
}

#[test]
fn only_get_within_limits_and_always_json() {
    let server = Server::start(api(Fake::default(), 10));
    assert_eq!(server.get("/nowhere").0, 404);
    let (status, head, body) = server.ask("POST", "/api/v1/windows");
    assert_eq!(status, 405);
    assert!(head.contains("allow: get,head") && head.contains("application/json"), "{head}");
    assert!(body.contains("use GET"));
    assert_eq!(server.ask("HEAD", "/health").0, 200);
    let long = |bytes: usize| format!("/health?{}", "x".repeat(bytes - "/health?".len()));
    assert_eq!(server.get(&long(8 << 10)).0, 200);
    assert_eq!(server.get(&long((8 << 10) + 1)).0, 414);
    let body = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 65537\r\n\r\n";
    let (status, head, _) = server.send(body);
    assert_eq!(status, 413);
    assert!(head.contains("application/json"));
    for path in ["/health", "/nowhere", "/api/v1/windows"] {
        let (_, head, _) = server.ask("GET", path);
        for header in [
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        ] {
            assert!(head.contains(header), "{path}: {head}");
        }
    }
}

#[test]
fn a_query_that_takes_too_long_is_given_up() {
    let (open, gate) = mpsc::channel::<()>();
    let api = api(Fake { gate: Some(gate), ..Fake::default() }, 10);
    let store = Arc::clone(&api.store);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let router = router_within(api, Duration::from_millis(1));
    // The store answers only after the gate opens, so the time-out always comes first.
    let response = runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let answer = tokio::task::spawn_blocking(move || {
            Server { address, stop: None, thread: Some(std::thread::spawn(|| ())) }
                .ask("GET", "/api/v1/accounting")
        });
        let answer = answer.await.unwrap();
        serving.abort();
        answer
    });
    drop(open);
    drop(runtime);
    assert_eq!(response.0, 503);
    assert!(response.1.contains("retry-after: 5") && response.2.contains("took too long"), "{response:?}");
    assert!(store.lock().is_ok());
}

#[test]
fn work_of_a_request_that_is_gone_stops_at_the_next_store_call() {
    let reader = Reader { store: api(Fake::default(), 10).store, abandoned: Abandoned::default() };
    assert!(reader.call(|store| store.status()).is_ok());
    drop(AbandonOnDrop(reader.abandoned.clone()));
    assert!(matches!(reader.call(|store| store.status()), Err(StoreError::Unavailable(_))));
}
