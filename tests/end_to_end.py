#!/usr/bin/env python3
"""Real Kafka, `run` with SQLite: lines from a plain Kafka client, the daemon killed with SIGKILL on the way. Once everything is through, the
API and the analytics table must equal `aggregate` over the same lines, and the accounting must close.

usage: end_to_end.py BINARY EVENTS KILLS   (KAFKA_BOOTSTRAP_SERVERS set; needs the confluent-kafka package)
"""
import json, os, re, signal, sqlite3, subprocess, sys, tempfile, threading, time, urllib.request, uuid
from decimal import Decimal

from confluent_kafka import Producer

binary, events, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
work = tempfile.mkdtemp()
environment = f"e2e-{uuid.uuid4().hex[:8]}"
port = 18063
env = dict(os.environ, ENVIRONMENT=environment, KAFKA_GROUP_ID=environment, DATABASE_URL=f"sqlite:{work}/store.db",
           SERVICE_PORT=str(port), FLUSH_INTERVAL="1s", FLUSH_EVENTS="5000", IDLE_TIMEOUT="5s", SESSION_TIMEOUT="6s", DRAIN_TIMEOUT="5s",
           LOG_LEVEL="warn")
env.pop("KAFKA_TOOLS_CLASSPATH", None)  # for Kafka's own tools
RUNTIME = ("timestamp", "aggregation_duration_ms", "items_per_second")
TOPICS = {"STARTED": "started", "STAGE_COMPLETED": "stage_completed", "COMPLETED": "completed", "FAILED": "failed"}


def api(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.loads(answer.read(), parse_float=Decimal)


def wait(what, done, seconds):
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = done()
            if value:
                return value
        except (OSError, ValueError):
            pass
        if time.monotonic() > deadline:
            sys.exit(f"gave up waiting for {what}")
        threading.Event().wait(0.2)


def received():
    return api("/api/v1/accounting")["totals"]["received"]


def start():
    return subprocess.Popen([binary, "run"], env=env)


def produce(lines):
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], "linger.ms": 20, "enable.idempotence": True})
    for line in lines:
        kind = re.search(rb'"event_type":"(?:CODEGEN|NODE_GENERATION)_([A-Z_]+)"', line)
        topic = TOPICS.get(kind.group(1).decode() if kind else "", "started")
        key = re.search(rb'"workflow_id":"([^"]*)"', line)
        while True:
            try:
                producer.produce(f"{environment}.codegen.{topic}.v1", line, key.group(1) if key else line[:16])
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def records(window):
    found, cursor = [], None
    while True:
        page = api(f"/api/v1/windows?window_type={window}&aggregation_type=time_window&limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        found += page["records"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


def analytics(window):
    with sqlite3.connect(f"file:{work}/store.db?mode=ro", uri=True) as store:
        rows = store.execute("SELECT record FROM codegen_metrics_aggregated WHERE window_type = ? AND aggregation_type = 'time_window'", (window,))
        found = [json.loads(record, parse_float=Decimal) for (record,) in rows]
    return sorted(found, key=lambda r: r["window_start"])


def stripped(found):
    return [{k: v for k, v in r.items() if k not in RUNTIME} for r in found]


generated = subprocess.run([binary, "generate", "--events", str(events), "--seed", "11", "--late", "0.02"], capture_output=True, check=True).stdout
lines = generated.split(b"\n")[:-1]
assert len(lines) == events
with open(f"{work}/lines", "wb") as file:
    file.write(generated)
subprocess.run([binary, "topics", "create"], env=env, check=True, stdout=subprocess.DEVNULL)

daemon = start()
producing = threading.Thread(target=produce, args=(lines,))
producing.start()
for kill in range(kills):
    goal = events * (kill + 1) // (kills + 1)
    wait(f"{goal} received", lambda: received() >= goal, 120)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    print(f"killed after {goal} were received", flush=True)
    daemon = start()
producing.join()
wait("all received", lambda: received() == events, 180)
wait("all windows final", lambda: all(r["is_final"] for r in records("hourly") + records("daily")), 180)
accounting = api("/api/v1/accounting")
assert accounting["closes"], accounting
for window in ("hourly", "daily", "weekly", "monthly"):
    expected = subprocess.run([binary, "aggregate", "--window", window, "--format", "json", f"{work}/lines"], capture_output=True, check=True)
    expected = json.loads(expected.stdout, parse_float=Decimal)
    found = records(window)
    if window in ("weekly", "monthly"):
        # Their end may lie in the future: only finality may differ, and the id with it.
        for r in found + expected:
            r.pop("is_final"), r.pop("event_id")
    assert stripped(found) == stripped(expected) != [], f"{window}: API differs from aggregate"
    if window in ("hourly", "daily"):
        wait(f"{window} records in the analytics table", lambda: stripped(analytics(window)) == stripped(expected), 60)
daemon.send_signal(signal.SIGTERM)
code = daemon.wait(30)
assert code == 0, f"SIGTERM ended in {code}"
print(f"end to end: {events} lines, {kills} kills, API and analytics table equal aggregate, accounting closes, SIGTERM exits 0")
