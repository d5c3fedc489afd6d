#!/usr/bin/env python3
"""The oracle: docs/semantics.md as the plainest program that obeys it.

It keeps every event in memory, lists the events of each window and group, and computes each figure from that list. It
shares no code with the reducer, so that the two agreeing means something. Slow and obvious is the point.
"""

import argparse
import collections
import datetime
import decimal
import gc
import hashlib
import json
import re
import sys
import threading
import uuid
import zoneinfo
from decimal import Decimal

MAX_EVENT_BYTES = 1 << 20
MAX_MAP_ENTRIES = 100
EXACT_PERCENTILES_MAX = 128
OTHER = "__other__"
MICRO = 10**6
PICO = 10**12
SLICE_SECONDS = 900
HOUR_SECONDS = 3600

# Any value within the limits of semantics.md has at most 25 digits once it is rounded; 100 leaves room for the scaling.
decimal.setcontext(decimal.Context(prec=100, rounding=decimal.ROUND_HALF_EVEN, Emin=decimal.MIN_EMIN,
                                   Emax=decimal.MAX_EMAX))

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:codegen-metrics-reducer")


class Bad(Exception):
    """A message that is a dead letter; the text is the reason."""


# ---------------------------------------------------------------------------------------------------------------- JSON

EXPONENT = re.compile(r"(.*)[eE]([+-]?)0*([0-9]*)\Z", re.DOTALL)


def number(text):
    """The exact decimal that is written. Absurd exponents are clamped to one that decides every limit alike."""
    if "e" in text or "E" in text:
        mantissa, sign, digits = EXPONENT.match(text).groups()
        # A mantissa of at most 1 MiB cannot make up for an exponent of 10^12, so clamping there changes no verdict.
        digits = "1" + "0" * 12 if len(digits) > 12 else digits or "0"
        text = f"{mantissa}e{sign}{digits}"
    return Decimal(text)


def constant(text):
    raise Bad(f"{text} is not JSON")


DECODER = json.JSONDecoder(parse_float=number, parse_int=number, parse_constant=constant)


def parse(data):
    if len(data) > MAX_EVENT_BYTES:
        raise Bad("over MAX_EVENT_BYTES")
    try:
        value = DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise Bad("not UTF-8") from None
    except json.JSONDecodeError as fault:
        raise Bad(f"not JSON: {fault}") from None
    if not isinstance(value, dict):
        raise Bad("not an object")
    return value


# -------------------------------------------------------------------------------------------------------------- fields


def string(owner, name, required=False):
    value = owner.get(name)
    if value is None:
        if required:
            raise Bad(f"{name} is missing")
        return None
    if not isinstance(value, str):
        raise Bad(f"{name} is not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Bad(f"{name} holds a lone surrogate") from None
    return sys.intern(value)


def boolean(owner, name):
    value = owner.get(name)
    if value is not None and not isinstance(value, bool):
        raise Bad(f"{name} is not a boolean")
    return value


def decimal_field(owner, name, limit):
    value = owner.get(name)
    if value is None:
        return None
    if not isinstance(value, Decimal):
        raise Bad(f"{name} is not a number")
    if value < 0:
        raise Bad(f"{name} is negative")
    if value > limit:
        raise Bad(f"{name} is out of range")
    return value.copy_abs()  # abs() would round a tiny exponent to zero


def scaled(value, digits):
    """The value in units of 10^-digits, rounded half-even. The limits were checked before."""
    if value is None:
        return None
    return int(value.quantize(Decimal(1).scaleb(-digits)).scaleb(digits))


DURATION_MAX_SECONDS = 30 * 86400


def seconds(owner, name):
    return scaled(decimal_field(owner, name, DURATION_MAX_SECONDS), 6)


def milliseconds(owner, name):
    return scaled(decimal_field(owner, name, DURATION_MAX_SECONDS * 1000), 3)


def money(owner, name):
    return scaled(decimal_field(owner, name, 10**12), 12)


def score(owner, name):
    return scaled(decimal_field(owner, name, 1), 12)


def complexity(owner, name):
    return scaled(decimal_field(owner, name, 10**12), 12)


def tokens(owner, name):
    value = decimal_field(owner, name, 2**53)
    if value is None:
        return None
    if value != value.to_integral_value():
        raise Bad(f"{name} has a fraction")
    return int(value)


TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?\Z"
)
EPOCH = datetime.datetime(1970, 1, 1)


def instant(text):
    """Microseconds since 1970 in UTC."""
    match = TIME.match(text)
    if not match:
        raise Bad("timestamp has no known form")
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    try:
        local = datetime.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
        offset = datetime.timedelta(0)
        if sign:
            if int(off_hours) > 23 or int(off_minutes or 0) > 59:
                raise Bad("offset over 23:59")
            offset = datetime.timedelta(hours=int(off_hours), minutes=int(off_minutes or 0))
        utc = local + offset if sign == "-" else local - offset
    except (ValueError, OverflowError):
        raise Bad("impossible timestamp") from None
    if not 2000 <= utc.year <= 2099:
        raise Bad("year outside 2000..2099")
    micros = int(((fraction or "") + "000000")[:6])
    return (utc - EPOCH) // datetime.timedelta(seconds=1) * MICRO + micros


# -------------------------------------------------------------------------------------------------------------- events

STARTED, STAGE, COMPLETED, FAILED = "STARTED", "STAGE_COMPLETED", "COMPLETED", "FAILED"
KINDS = {prefix + kind: kind for prefix in ("CODEGEN_", "NODE_GENERATION_") for kind in (STARTED, STAGE, COMPLETED, FAILED)}


class Event:
    """An accepted event. Durations in µs; money, scores and complexity in units of 10^-12; None is absent."""

    __slots__ = (
        "kind", "id", "time", "workflow_id", "node_type", "domain", "model", "stage", "success", "duration", "tokens",
        "cost", "quality", "coverage", "complexity", "patterns", "failed_stage", "error_code", "retryable",
    )


def decode(data):
    outer = parse(data)
    envelope, body = {}, outer
    if isinstance(outer.get("payload"), dict) and outer.get("workflow_id") is None:
        envelope, body = outer, outer["payload"]
    event = Event()
    for slot in Event.__slots__:
        setattr(event, slot, None)
    event.kind = read_kind(body, envelope)
    event.id = first_of((body, "event_id"), (envelope, "event_id"), (envelope, "envelope_id"), empty_is_absent=True)
    time = first_of((body, "timestamp"), (envelope, "timestamp"), (envelope, "event_timestamp"),
                    (envelope, "envelope_timestamp"))
    if time is None:
        raise Bad("no timestamp")
    event.time = instant(time)
    event.workflow_id = string(body, "workflow_id", required=True)
    READERS[event.kind](event, body)
    return event


def first_of(*places, empty_is_absent=False):
    """The first present string. Places behind it are not read, so their faults do not matter."""
    for owner, name in places:
        value = string(owner, name)
        if value is not None and not (empty_is_absent and value == ""):
            return value
    return None


def read_kind(body, envelope):
    name = first_of((body, "event_type"), (envelope, "event_type"), (envelope, "operation"))
    if name is None:
        raise Bad("no event_type")
    if name not in KINDS:
        raise Bad("unknown event_type")
    return KINDS[name]


def either(first, second):
    return second if first is None else first


def read_started(event, body):
    event.node_type = either(string(body, "node_type_hint"), string(body, "node_type"))
    event.domain = string(body, "domain")


def read_stage(event, body):
    event.stage = string(body, "stage_name", required=True)
    event.duration = either(seconds(body, "duration_seconds"), milliseconds(body, "duration_ms"))
    if event.duration is None:
        raise Bad("duration_seconds and duration_ms are missing")
    event.success = boolean(body, "success") is not False
    event.tokens = tokens(body, "tokens_consumed")
    event.cost = money(body, "cost_usd")


def read_completed(event, body):
    event.duration = seconds(body, "total_duration_seconds")
    if event.duration is None:
        raise Bad("total_duration_seconds is missing")
    read_labels(event, body)
    event.quality = score(body, "quality_score")
    event.coverage = score(body, "test_coverage")
    event.complexity = complexity(body, "complexity_score")
    patterns = body.get("patterns_applied")
    if patterns is not None and not isinstance(patterns, list):
        raise Bad("patterns_applied is not an array")
    event.patterns = len(patterns or [])


def read_failed(event, body):
    event.failed_stage = string(body, "failed_stage", required=True)
    event.duration = seconds(body, "partial_duration_seconds")
    event.error_code = string(body, "error_code")
    event.retryable = boolean(body, "is_retryable") is True
    read_labels(event, body)


def read_labels(event, body):
    event.node_type = string(body, "node_type")
    event.domain = string(body, "domain")
    event.model = string(body, "primary_model")
    event.tokens = tokens(body, "total_tokens")
    event.cost = money(body, "total_cost_usd")


READERS = {STARTED: read_started, STAGE: read_stage, COMPLETED: read_completed, FAILED: read_failed}


# ------------------------------------------------------------------------------------------------------------- windows


class Windows:
    """Aligned windows of one type and zone, found by looking at the local clock of every quarter hour."""

    def __init__(self, window_type, timezone):
        self.find = {"hourly": self.hourly, "daily": self.daily, "weekly": self.weekly, "monthly": self.monthly}[window_type]
        self.zone = zoneinfo.ZoneInfo(timezone)
        self.midnights = {}
        self.found = {}

    def of(self, micros):
        """(start, end) in seconds since 1970. All instants of a quarter hour share their windows."""
        quarter = micros // MICRO // SLICE_SECONDS * SLICE_SECONDS
        if quarter not in self.found:
            self.found[quarter] = self.find(quarter)
        return self.found[quarter]

    def local(self, at):
        return datetime.datetime.fromtimestamp(at, self.zone)

    def clock_hour(self, at):
        local = self.local(at)
        return local.utcoffset(), local.replace(minute=0, second=0, microsecond=0, tzinfo=None)

    def hourly(self, at):
        """The run of quarter hours around `at` that show the same hour under the same offset."""
        hour, start, end = self.clock_hour(at), at, at + SLICE_SECONDS
        while self.clock_hour(start - SLICE_SECONDS) == hour:
            start -= SLICE_SECONDS
        while self.clock_hour(end) == hour:
            end += SLICE_SECONDS
        return start, end

    def midnight(self, date):
        """The first quarter hour at which the local clock shows this date or a later one. It is the first of two
        midnights, and the end of the gap where there is none."""
        if date not in self.midnights:
            at = (date - EPOCH.date()).days * 86400 - 15 * HOUR_SECONDS  # before midnight in every zone
            while self.local(at).date() < date:
                at += SLICE_SECONDS
            self.midnights[date] = at
        return self.midnights[date]

    def date(self, at):
        """The date whose day contains `at`: not always the local date, where a midnight exists twice."""
        date = self.local(at).date() - datetime.timedelta(days=2)
        while self.midnight(date + datetime.timedelta(days=1)) <= at:
            date += datetime.timedelta(days=1)
        return date

    def daily(self, at):
        date = self.date(at)
        return self.midnight(date), self.midnight(date + datetime.timedelta(days=1))

    def weekly(self, at):
        date = self.date(at)
        monday = date - datetime.timedelta(days=date.weekday())
        return self.midnight(monday), self.midnight(monday + datetime.timedelta(days=7))

    def monthly(self, at):
        first = self.date(at).replace(day=1)
        return self.midnight(first), self.midnight((first + datetime.timedelta(days=31)).replace(day=1))


def written(at):
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# -------------------------------------------------------------------------------------------------------------- groups

VALUES = {}


def group_value(raw):
    """A group's name from the text of an event."""
    if raw not in VALUES:
        VALUES[raw] = escaped(raw)
    return VALUES[raw]


def escaped(raw):
    if not raw:
        return "unknown"
    text = "".join(
        "\\u%04x" % ord(c) if ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or c == "\u00d7" else c for c in raw
    )
    if text in ("all", "unknown") or text.startswith("__") or text.startswith("="):
        text = "=" + text
    if len(text.encode()) > 255:
        prefix = text.encode()[:238].decode("utf-8", "ignore")
        text = prefix + "~" + hashlib.sha256(raw.encode()).hexdigest()[:16]
    return text


def quality_bucket(event):
    if event.quality * 10 < 6 * PICO:
        return "low"
    return "medium" if event.quality * 10 < 8 * PICO else "high"


def cost_bucket(event):
    if event.cost * 100 < PICO:
        return "lt_0.01"
    if event.cost * 10 < PICO:
        return "0.01_to_0.1"
    return "0.1_to_1" if event.cost < PICO else "ge_1"


# Each grouping: whether an event contributes, and under which value.
GROUPINGS = {
    "time_window": (lambda e: True, lambda e: "all"),
    "model_grouping": (lambda e: e.kind in (COMPLETED, FAILED), lambda e: group_value(e.model)),
    "node_type_grouping": (lambda e: e.kind in (STARTED, COMPLETED, FAILED), lambda e: group_value(e.node_type)),
    "domain_grouping": (lambda e: e.kind in (STARTED, COMPLETED, FAILED), lambda e: group_value(e.domain)),
    "quality_score_buckets": (lambda e: e.kind == COMPLETED and e.quality is not None, quality_bucket),
    "cost_buckets": (lambda e: e.kind == COMPLETED and e.cost is not None, cost_bucket),
    "stage_grouping": (lambda e: e.kind == STAGE, lambda e: group_value(e.stage)),
    "workflow_grouping": (lambda e: True, lambda e: group_value(e.workflow_id)),
}
COMPOSABLE = ("model_grouping", "node_type_grouping", "domain_grouping", "quality_score_buckets", "cost_buckets")


def grouping(name):
    if name in GROUPINGS:
        return GROUPINGS[name]
    parts = name.split("*")
    if len(parts) < 2 or len(set(parts)) < len(parts) or not set(parts) <= set(COMPOSABLE):
        raise SystemExit(f"unknown grouping: {name}")
    rules = [GROUPINGS[part] for part in parts]
    return (
        lambda e: all(contributes(e) for contributes, _ in rules),
        lambda e: " \u00d7 ".join(value(e) for _, value in rules),
    )


def put(groups, value, event, max_groups):
    """Into its own group if that exists or there is room, else into the one for the rest."""
    if value not in groups and len(groups) - (OTHER in groups) >= max_groups:
        value = OTHER
    groups.setdefault(value, []).append(event)


# ------------------------------------------------------------------------------------------------------------- figures


class Number:
    """An exact decimal in units of 10^-digits, written without exponent and trailing zeros."""

    __slots__ = ("text",)

    def __init__(self, units, digits):
        whole, fraction = divmod(units, 10**digits)
        fraction = str(fraction).rjust(digits, "0").rstrip("0") if digits else ""
        self.text = f"{whole}.{fraction}" if fraction else str(whole)


def half_even(numerator, denominator):
    whole, rest = divmod(numerator, denominator)
    if rest * 2 > denominator or (rest * 2 == denominator and whole % 2 == 1):
        whole += 1
    return whole


def mean(total, count, unit):
    """total/count in units of 1/unit, rounded half-even to 9 decimals."""
    return Number(half_even(total * 10**9, count * unit), 9) if count else None


def mean_of(values, unit):
    return mean(sum(values), len(values), unit)


def percentile(ordered, percent):
    if not ordered:
        return None
    n = len(ordered)
    value = ordered[-(-percent * n // 100) - 1]
    if n > EXACT_PERCENTILES_MAX and value >= 256:
        width = 2 ** (value.bit_length() - 1 - 7)
        value = min(value // width * width + width - 1, ordered[-1])
    return Number(value, 6)


def present(events, field):
    values = [getattr(e, field) for e in events]
    return [v for v in values if v is not None]


def duration_figures(durations):
    ordered = sorted(durations)
    return {
        "avg_duration_seconds": mean_of(ordered, MICRO),
        "p50_duration_seconds": percentile(ordered, 50),
        "p95_duration_seconds": percentile(ordered, 95),
        "p99_duration_seconds": percentile(ordered, 99),
    }


def entries(events, value, max_groups):
    """The events of a map inside a record: by key, at most 100 of the most frequent keys, the rest in OTHER."""
    groups = {}
    for event in events:
        put(groups, value(event), event, max_groups)
    rest = groups.pop(OTHER, [])
    ranked = sorted(groups, key=lambda key: (-len(groups[key]), key.encode()))
    for key in ranked[MAX_MAP_ENTRIES:]:
        rest += groups.pop(key)
    if rest:
        groups[OTHER] = rest
    return dict(sorted(groups.items()))


def stage_entry(events):
    return {
        "count": len(events),
        "failed": sum(not e.success for e in events),
        **duration_figures([e.duration for e in events]),
        "total_tokens": sum(present(events, "tokens")),
        "total_cost_usd": Number(sum(present(events, "cost")), 12),
    }


def generation_entry(events):
    completed = [e for e in events if e.kind == COMPLETED]
    costs = present(completed, "cost")
    return {
        "total_generations": len(events),
        "failed_generations": len(events) - len(completed),
        "avg_duration_seconds": mean_of([e.duration for e in completed], MICRO),
        "avg_quality_score": mean_of(present(completed, "quality"), PICO),
        "total_tokens": sum(present(completed, "tokens")),
        "total_cost_usd": Number(sum(costs), 12),
        "avg_cost_per_generation": mean_of(costs, PICO),
    }


MAPS = ("avg_stage_durations", "stage_metrics", "model_metrics", "node_type_metrics", "failures_by_stage",
        "failures_by_error_code")


def map_figures(events, stages, completed_and_failed, failed, max_groups):
    def of(members, value, entry):
        return {key: entry(list_) for key, list_ in entries(members, value, max_groups).items()}

    stage = lambda e: group_value(e.stage)
    return {
        "avg_stage_durations": of(stages, stage, lambda es: mean_of([e.duration for e in es], MICRO)),
        "stage_metrics": of(stages, stage, stage_entry),
        "model_metrics": of(completed_and_failed, lambda e: group_value(e.model), generation_entry),
        "node_type_metrics": of(completed_and_failed, lambda e: group_value(e.node_type), generation_entry),
        "failures_by_stage": of(failed, lambda e: group_value(e.failed_stage), len),
        "failures_by_error_code": of(failed, lambda e: group_value(e.error_code), len),
    }


def figures(aggregation_type, events, max_groups):
    by_kind = {kind: [e for e in events if e.kind == kind] for kind in READERS}
    stages, completed, failed = by_kind[STAGE], by_kind[COMPLETED], by_kind[FAILED]
    of_stages, of_window = aggregation_type == "stage_grouping", aggregation_type == "time_window"
    # The events that duration, token and cost figures come from, and the outcomes that count as generations.
    units = stages if of_stages else completed
    successful = sum(e.success for e in stages) if of_stages else len(completed)
    unsuccessful = sum(not e.success for e in stages) if of_stages else len(failed)
    total = successful + unsuccessful
    durations = [e.duration for e in units]
    qualities, costs, token_counts = present(completed, "quality"), present(units, "cost"), present(units, "tokens")
    patterns = [e.patterns for e in completed if e.patterns]
    if of_window:
        terminal = [e for e in events if e.kind in (COMPLETED, FAILED)]
        maps = map_figures(events, stages, terminal, failed, max_groups)
    else:
        maps = {name: {} for name in MAPS}
    return {
        "started_generations": len(by_kind[STARTED]),
        "total_generations": total,
        "successful_generations": successful,
        "failed_generations": unsuccessful,
        "success_rate": mean(successful, total, 1),
        **duration_figures(durations),
        "min_duration_seconds": Number(min(durations), 6) if durations else None,
        "max_duration_seconds": Number(max(durations), 6) if durations else None,
        "avg_quality_score": mean_of(qualities, PICO),
        "min_quality_score": Number(min(qualities), 12) if qualities else None,
        "max_quality_score": Number(max(qualities), 12) if qualities else None,
        "avg_test_coverage": mean_of(present(completed, "coverage"), PICO),
        "avg_complexity_score": mean_of(present(completed, "complexity"), PICO),
        "total_tokens": sum(token_counts),
        "total_cost_usd": Number(sum(costs), 12),
        "avg_cost_per_generation": mean_of(costs, PICO),
        "avg_tokens_per_generation": mean_of(token_counts, 1),
        **maps,
        "wasted_seconds": Number(sum(present(failed, "duration")), 6),
        "failed_tokens": sum(present(failed, "tokens")),
        "failed_cost_usd": Number(sum(present(failed, "cost")), 12),
        "retryable_failures": sum(e.retryable for e in failed),
        "intelligence_enabled_count": len(patterns),
        "avg_patterns_applied": mean_of(patterns, 1),
        "workflow_ids_tracked": len({e.workflow_id for e in events}) if of_window else None,
        "events_processed": len(events),
    }


def identity(*parts):
    return str(uuid.uuid5(NAMESPACE, json.dumps(parts, ensure_ascii=False, separators=(",", ":"))))


def record(window_type, window, timezone, aggregation_type, group_key, events, max_groups):
    start, end = written(window[0]), written(window[1])
    aggregation_id = identity(window_type, start, timezone, aggregation_type, group_key)
    return {
        "event_type": "GENERATION_METRICS_RECORDED",
        "event_id": identity(aggregation_id, "0", str(len(events)), "true"),
        "correlation_id": aggregation_id,
        "timestamp": "1970-01-01T00:00:00Z",
        "aggregation_id": aggregation_id,
        "window_type": window_type,
        "window_start": start,
        "window_end": end,
        "timezone": timezone,
        "aggregation_type": aggregation_type,
        "group_key": group_key,
        "rebuild": 0,
        "is_final": True,
        "overflowed": group_key == OTHER,
        **figures(aggregation_type, events, max_groups),
        "aggregation_duration_ms": None,
        "items_per_second": None,
    }


# ----------------------------------------------------------------------------------------------------------------- run


class Oracle:
    """Reads the lines of one source partition, then yields its records."""

    def __init__(self, window_type, group_by=("time_window",), timezone="UTC", max_groups=1000, dedup_window=None):
        self.window_type, self.timezone, self.max_groups = window_type, timezone, max_groups
        self.windows = Windows(window_type, timezone)
        self.groupings = [(name, *grouping(name)) for name in dict.fromkeys(group_by)]
        self.groups = {}
        self.seen, self.order, self.dedup_window = set(), collections.deque(), dedup_window
        self.accounting = {"received": 0, "counted": 0, "duplicates": 0, "dead_lettered": 0}

    def line(self, data):
        """Counts one line (bytes). Returns why it is bad, or None."""
        data = data[:-1] if data.endswith(b"\n") else data
        if not data.strip(b" \t\r"):
            return None
        self.accounting["received"] += 1
        try:
            event = decode(data)
        except Bad as fault:
            self.accounting["dead_lettered"] += 1
            return str(fault)
        if self.is_duplicate(event):
            self.accounting["duplicates"] += 1
            return None
        self.accounting["counted"] += 1
        window = self.windows.of(event.time)
        for name, contributes, value in self.groupings:
            if contributes(event):
                put(self.groups.setdefault((window, name), {}), value(event), event, self.max_groups)
        return None

    def is_duplicate(self, event):
        if event.id is None:
            return False
        key = (event.kind, event.id)
        if key in self.seen:
            return True
        self.seen.add(key)
        if self.dedup_window is not None:
            self.order.append(key)
            if len(self.order) > self.dedup_window:
                self.seen.discard(self.order.popleft())
        return False

    def records(self):
        keys = sorted((window, name, value) for (window, name), groups in self.groups.items() for value in groups)
        for window, name, value in keys:
            yield record(self.window_type, window, self.timezone, name, value, self.groups[window, name][value],
                         self.max_groups)


def written_json(value):
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{written_json(v)}" for k, v in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--window", required=True, choices=["hourly", "daily", "weekly", "monthly"])
    parser.add_argument("--group-by", default="time_window", help="comma-separated; composite ones as a*b")
    parser.add_argument("--timezone", default="UTC")
    parser.add_argument("--max-groups", type=int, default=1000)
    parser.add_argument("--dedup-window", type=int, help="ids remembered; default: all")
    parser.add_argument("--accounting", action="store_true", help="print the counts on stderr")
    parser.add_argument("--bad", action="store_true", help="print line number and reason of each bad line on stderr")
    parser.add_argument("file", help="event lines, or - for standard input")
    return parser.parse_args()


def main():
    options = arguments()
    oracle = Oracle(options.window, options.group_by.split(","), options.timezone, options.max_groups,
                    options.dedup_window)
    with sys.stdin.buffer if options.file == "-" else open(options.file, "rb") as lines:
        for at, data in enumerate(lines, 1):
            reason = oracle.line(data)
            if reason and options.bad:
                print(f"line {at}: {reason}", file=sys.stderr)
    sys.stdout.reconfigure(encoding="utf-8")
    separator = "[\n"
    for each in oracle.records():
        sys.stdout.write(separator + written_json(each))
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")
    if options.accounting:
        print(json.dumps(oracle.accounting), file=sys.stderr)


def with_deep_stack(work):
    """An ignored field may nest as deep as MAX_EVENT_BYTES allows; the JSON reader recurses once a level."""
    sys.setrecursionlimit(MAX_EVENT_BYTES * 2)
    threading.stack_size(1 << 30)
    faults = []

    def guarded():
        try:
            work()
        except BaseException as fault:  # handed on to the main thread below
            faults.append(fault)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]


if __name__ == "__main__":
    gc.disable()  # nothing here is cyclic, and millions of live objects make collections slow
    with_deep_stack(main)
