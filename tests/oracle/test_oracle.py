#!/usr/bin/env python3
"""Tests of the oracle itself: the text cases worked out by hand, laws that hold for any input, and the comparer."""

import contextlib
import io
import json
import pathlib
import random
import sys
import tempfile
import unittest
from decimal import Decimal
from fractions import Fraction

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import compare  # noqa: E402
import oracle  # noqa: E402
import streams  # noqa: E402

ALL_GROUPINGS = [*oracle.GROUPINGS, "model_grouping*node_type_grouping", "node_type_grouping*domain_grouping*model_grouping"]
RECORD_KEYS = """event_type event_id correlation_id timestamp aggregation_id window_type window_start window_end timezone
    aggregation_type group_key rebuild is_final overflowed started_generations total_generations successful_generations
    failed_generations success_rate avg_duration_seconds p50_duration_seconds p95_duration_seconds p99_duration_seconds
    min_duration_seconds max_duration_seconds avg_quality_score min_quality_score max_quality_score avg_test_coverage
    avg_complexity_score total_tokens total_cost_usd avg_cost_per_generation avg_tokens_per_generation avg_stage_durations
    stage_metrics model_metrics node_type_metrics failures_by_stage failures_by_error_code wasted_seconds failed_tokens
    failed_cost_usd retryable_failures intelligence_enabled_count avg_patterns_applied workflow_ids_tracked events_processed
    aggregation_duration_ms items_per_second""".split()
START = 1774656000 * 10**6  # 2026-03-28


def run(lines, window="hourly", **options):
    """The records of some lines as they would be read back from JSON, and the oracle."""
    subject = oracle.Oracle(window, **options)
    for line in lines:
        subject.line(line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass"))
    text = "[" + ",".join(oracle.written_json(each) for each in subject.records()) + "]"
    return json.loads(text, parse_float=compare.Text, parse_int=compare.Text), subject


def stream(seed, events, many_groups=False):
    return streams.Stream(seed, events, START, 48, many_groups, False)


def completed(**fields):
    body = {"event_type": "CODEGEN_COMPLETED", "workflow_id": "w", "timestamp": "2026-01-15T10:00:00Z", "total_duration_seconds": 1}
    return json.dumps(body | fields)


class Case:
    """One file of cases/; the format is in cases/README.md."""

    def __init__(self, path):
        lines = path.read_text(encoding="utf-8").split("\n")
        start, end = lines.index("events:"), lines.index("expect:")
        self.options = dict(line.split(": ", 1) for line in lines[1:start])
        self.events = [line for written in lines[start + 1:end] for line in self.repeated(written)]
        self.accounting = {k: int(v) for k, v in (word.split("=") for word in lines[end + 1].split(" "))}
        self.records = int(lines[end + 2].removeprefix("records="))
        self.expected = [self.record(line) for line in lines[end + 3:] if line]

    @staticmethod
    def repeated(line):
        if not line.startswith("@repeat "):
            return [line]
        _, numbers, text = line.split(" ", 2)
        first, last = map(int, numbers.split(".."))
        return [text.replace("$i", str(i)) for i in range(first, last + 1)]

    @staticmethod
    def record(line):
        window_start, aggregation_type, group, *fields = line.split(" ")
        group = json.loads(group) if group.startswith('"') else group
        return (window_start, aggregation_type, group), [field.split("=", 1) for field in fields]

    def run(self):
        return run(self.events, self.options["window"], group_by=self.options["group-by"].split(","), timezone=self.options["timezone"],
                   max_groups=int(self.options.get("max-groups", 1000)),
                   dedup_window=int(self.options["dedup-window"]) if "dedup-window" in self.options else None)


class Cases(unittest.TestCase):
    def test_cases(self):
        paths = sorted((HERE / "cases").glob("*.txt"))
        self.assertGreaterEqual(len(paths), 20)
        for path in paths:
            with self.subTest(path.name):
                self.check(Case(path))

    def check(self, case):
        records, subject = case.run()
        counts = subject.accounting
        found = {"bad": counts["dead_lettered"], "duplicates": counts["duplicates"], "counted": counts["counted"]}
        self.assertEqual(found, case.accounting)
        self.assertEqual(len(records), case.records)
        by_key = {(r["window_start"], r["aggregation_type"], r["group_key"]): r for r in records}
        self.assertTrue(case.expected)
        for key, fields in case.expected:
            self.assertIn(key, by_key)
            self.assertTrue(fields, key)
            for path, value in fields:
                self.check_field(by_key[key], path, value)

    def check_field(self, record, path, value):
        *parents, name = path.split("/")
        for parent in parents:
            record = record[parent]
        if value == "absent":
            self.assertNotIn(name, record, path)
            return
        found = compare.Text(len(record)) if name == "#" else record[name]
        expected = json.loads(value, parse_float=compare.Text, parse_int=compare.Text)
        self.assertEqual(list(compare.differences(expected, found, path)), [])


class Laws(unittest.TestCase):
    def test_keys_and_their_order(self):
        records, _ = run(stream(5, 3000).lines(), group_by=ALL_GROUPINGS)
        self.assertEqual({r["aggregation_type"] for r in records}, set(ALL_GROUPINGS))
        for record in records:
            self.assertEqual(list(record), RECORD_KEYS)
        keys = [(r["window_start"], r["aggregation_type"], r["group_key"]) for r in records]
        self.assertEqual(keys, sorted(set(keys)))

    def test_numbers_are_exact_and_plainly_written(self):
        rng = random.Random(1)
        for _ in range(2000):
            units, digits = rng.randrange(10**rng.randrange(1, 30)), rng.choice([6, 9, 12])
            text = oracle.Number(units, digits).text
            self.assertEqual(Fraction(text), Fraction(units, 10**digits))
            self.assertFalse(compare.ill_formed(text), text)
            top, bottom = rng.randrange(10**6), rng.randrange(1, 50)
            self.assertEqual(oracle.half_even(top, bottom), round(Fraction(top, bottom)))

    def test_spelling_of_a_number_does_not_matter(self):
        source = stream(2, 10)
        for _ in range(2000):
            text = source.number(source.random.randrange(1, 15), 6)
            self.assertEqual(oracle.number(source.exponent(text) if "e" not in text.lower() else text), Decimal(text))

    def test_windows_tile_the_time(self):
        begin = 1774656000 - 3 * 86400  # two weeks over the changes of March and April; 210 days on, those of October
        for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Atlantic/Azores", "Africa/Cairo",
                     "Asia/Beirut", "Pacific/Chatham"):
            for window_type in ("hourly", "daily", "weekly", "monthly"):
                windows = oracle.Windows(window_type, zone)
                for first in (begin, begin + 210 * 86400):
                    start, end = windows.of(first * 10**6)
                    while start < first + 14 * 86400:
                        self.assertEqual((start % 900, end % 900), (0, 0))
                        self.assertEqual(windows.of(start * 10**6), (start, end))
                        self.assertEqual(windows.of(end * 10**6 - 1), (start, end))
                        self.assertEqual(windows.of(end * 10**6)[0], end)
                        start, end = windows.of(end * 10**6)
                    self.assertLessEqual(windows.of(first * 10**6)[0], first)

    def test_a_skipped_day_has_no_window(self):
        windows = oracle.Windows("daily", "Pacific/Apia")  # 2011-12-30 did not exist there
        start, end = windows.of(1325239200 * 10**6 - 1)
        self.assertEqual((oracle.written(start), oracle.written(end)), ("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"))
        self.assertEqual(oracle.written(windows.of(end * 10**6)[1]), "2011-12-31T10:00:00Z")

    def test_percentiles_err_by_less_than_eight_thousandths(self):
        rng = random.Random(3)
        for _ in range(200):
            ordered = sorted(rng.randrange(10**rng.randrange(1, 13)) for _ in range(rng.randrange(129, 400)))
            for percent in (50, 95, 99):
                exact = ordered[-(-percent * len(ordered) // 100) - 1]
                shown = Fraction(oracle.percentile(ordered, percent).text) * 10**6
                self.assertLessEqual(exact, shown)
                self.assertLessEqual(shown - exact, Fraction(8, 1000) * exact)
                self.assertLessEqual(shown, ordered[-1])

    def test_order_of_arrival_does_not_matter(self):
        lines = list(stream(9, 2500).lines())
        one, _ = run(lines, "daily", group_by=ALL_GROUPINGS, timezone="Europe/Berlin")
        # Of two events with one id the first counts, so only what is left without duplicates can be shuffled.
        subject = oracle.Oracle("daily")
        kept = []
        for line in lines:
            before = subject.accounting["counted"]
            subject.line(line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass"))
            kept += [line] * (subject.accounting["counted"] - before)
        random.Random(1).shuffle(kept)
        two, _ = run(kept, "daily", group_by=ALL_GROUPINGS, timezone="Europe/Berlin")
        self.assertEqual(one, two)
        self.assertGreater(len(one), 500)

    def test_group_values_are_bounded_and_printable(self):
        for raw in streams.ODD:
            value = oracle.group_value(raw)
            self.assertTrue(0 < len(value.encode()) <= 255)
            self.assertFalse(any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or c == "\u00d7" for c in value), value)
            self.assertNotEqual(value, "all")
            self.assertFalse(value.startswith("__"))
            self.assertEqual(value == "unknown", raw == "")


class Decoding(unittest.TestCase):
    def reason(self, data):
        try:
            oracle.decode(data)
        except oracle.Bad as fault:
            return str(fault)
        return None

    def test_size_limit(self):
        for size, reason in ((1 << 20, None), ((1 << 20) + 1, "over MAX_EVENT_BYTES")):
            line = stream(1, 10).sized(0, size).encode()
            self.assertEqual((len(line), self.reason(line)), (size, reason))

    def test_text_that_cases_cannot_hold(self):
        good = completed().encode()
        self.assertIsNone(self.reason(good))
        for bad in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x00", b"\x1f"):
            self.assertIsNotNone(self.reason(good[:-1] + b',"x":"' + bad + b'"}'), bad)
        self.assertIsNotNone(self.reason(b"\xef\xbb\xbf" + good))
        self.assertIsNone(self.reason(b" \t\r" + good + b" \r"))

    def test_lone_surrogates_matter_only_where_they_are_read(self):
        good = completed()[:-1]
        self.assertIsNone(self.reason((good + ',"\\ud800":"\\udc00","stage_name":"\\ud800","patterns_applied":["\\ud800"]}').encode()))
        for field in ("event_id", "primary_model", "domain", "node_type", "workflow_id"):
            self.assertIn("lone surrogate", self.reason((good + f',"{field}":"\\ud800"}}').encode()))
        self.assertIsNone(self.reason((good + ',"domain":"\\ud83d\\ude80"}').encode()))

    def test_good_lines_are_good_and_bad_ones_bad(self):
        # The generator knows which lines it spoilt, each class of faults at least once.
        source, spoilt, seen = stream(11, 12000), [], set()
        make = source.bad
        source.bad = lambda at: spoilt.append(at) or make(at)
        for at, line in enumerate(source.lines()):
            data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
            reason = self.reason(data)
            is_bad = bool(spoilt and spoilt[-1] == at) or len(data) > oracle.MAX_EVENT_BYTES
            self.assertEqual(reason is not None, is_bad, f"{at} {reason} {data[:500]}")
            seen.add(reason)
        self.assertGreaterEqual(source.bad_count, len(source.bad_classes))
        self.assertGreater(len(seen), 60)


class Streams(unittest.TestCase):
    def test_same_seed_same_bytes(self):
        one, two, other = (list(stream(seed, 500).lines()) for seed in (4, 4, 5))
        self.assertEqual(one, two)
        self.assertNotEqual(one, other)

    def test_streams_reach_the_switches(self):
        records, _ = run(stream(6, 20000).lines(), group_by=ALL_GROUPINGS[:8])
        exactly = {r["group_key"]: r["successful_generations"] for r in records
                   if r["group_key"].startswith("exactly-") and r["aggregation_type"] == "model_grouping"}
        self.assertEqual(exactly, {"exactly-127": "127", "exactly-128": "128", "exactly-129": "129"})
        self.assertGreater(max(int(r["workflow_ids_tracked"] or 0) for r in records), 128)
        self.assertTrue(any("__other__" in r["stage_metrics"] for r in records))
        self.assertFalse(any(r["overflowed"] for r in records))

    def test_many_groups_overflow(self):
        records, _ = run(stream(6, 20000, many_groups=True).lines(), "monthly", group_by=["model_grouping", "workflow_grouping", "stage_grouping"])
        self.assertEqual({r["aggregation_type"] for r in records if r["overflowed"]}, {"model_grouping", "workflow_grouping", "stage_grouping"})


class Comparing(unittest.TestCase):
    def compare(self, a, b, *options):
        """Exit code and output of compare.py on two texts."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [pathlib.Path(folder, name) for name in "ab"]
            for path, text in zip(paths, (a, b)):
                path.write_text(text, encoding="utf-8")
            arguments, sys.argv = sys.argv, ["compare.py", *options, *map(str, paths)]
            try:
                with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
                    try:
                        code = compare.main()
                    except SystemExit as stop:
                        code = stop.code
            finally:
                sys.argv = arguments
        return code, out.getvalue()

    def text(self, count=1, **options):
        subject = oracle.Oracle("hourly")
        for i in range(count):
            subject.line(completed(workflow_id=str(i), total_duration_seconds=1.5, primary_model="m").encode())
        return "[" + ",".join(map(oracle.written_json, subject.records())) + "]"

    def test_equal(self):
        text = self.text()
        runtime = text.replace("1970-", "2026-").replace('"items_per_second":null', '"items_per_second":5.5')
        self.assertEqual(self.compare(text, text), (0, "1 records equal\n"))
        self.assertEqual(self.compare(text, runtime)[0], 0)
        self.assertEqual(self.compare(text, text[1:-1] + "\n")[0], 0)

    def test_every_change_is_found(self):
        text = self.text()
        record = json.loads(text)[0]
        for name in record:
            without = json.dumps([{k: v for k, v in record.items() if k != name}])
            self.assertNotEqual(self.compare(text, without)[0], 0, name)
            if name not in compare.RUNTIME:
                changed = json.dumps([record | {name: "changed"}])
                self.assertNotEqual(self.compare(text, changed)[0], 0, name)
        self.assertEqual(self.compare(text, json.dumps([record | {"extra": None}]))[0], 1)
        for old, new in (('"is_final":true', '"is_final":1'), ('"rebuild":0', '"rebuild":false'), ("1.5", "1.50"), ("1.5", "15e-1"), ("1.5", '"1.5"'),
                         ("1.5", "1.500000000000000000000000000000001"), ('"rebuild":0', '"rebuild":0.0'), ('"m":{', '"n":{')):
            self.assertIn(old, text)
            self.assertEqual(self.compare(text, text.replace(old, new))[0], 1, new)

    def test_missing_and_empty(self):
        text = self.text()
        self.assertEqual(self.compare(text, "[]")[0], 1)
        self.assertEqual(self.compare("[]", text)[0], 1)
        self.assertEqual(self.compare("[]", "[]")[0], 1)
        self.assertEqual(self.compare("[]", "[]", "--allow-empty")[0], 0)
        self.assertEqual(self.compare(text, text[:-1] + "," + text[1:])[0], 2)
        self.assertEqual(self.compare(text, "nonsense")[0], 2)

    def test_workflows_are_exact_up_to_128_and_close_beyond(self):
        for count, estimate, code in ((128, 128, 0), (128, 129, 1), (200, 206, 0), (200, 207, 1), (200, 194, 0), (200, 193, 1)):
            text = self.text(count)
            other = text.replace(f'"workflow_ids_tracked":{count}', f'"workflow_ids_tracked":{estimate}')
            self.assertEqual(self.compare(text, other)[0], code, (count, estimate))


if __name__ == "__main__":
    unittest.main()
