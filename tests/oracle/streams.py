#!/usr/bin/env python3
"""Writes a seeded stream of event lines that is as hostile as docs/semantics.md allows: every vocabulary, envelope, form
of timestamp and number, odd name, duplicate and class of bad line. The same arguments give the same bytes.

It decides only what is written, never what is right: that is the oracle's business.
"""

import argparse
import datetime
import json
import random

MAX_EVENT_BYTES = 1 << 20
MICRO = 10**6
HOUR = 3600 * MICRO

KINDS = ("STARTED", "STAGE_COMPLETED", "COMPLETED", "FAILED")
NODE_TYPES = ["effect", "compute", "reducer", "orchestrator"]
DOMAINS = ["api", "ml", "data", "infrastructure", "testing", "documentation"]
MODELS = ["gemini-2.5-flash", "codestral", "glm-4.5", "llama-3.1", "mistral large", "qwen/coder", "deepseek v3", "phi-4"]
STAGES = ["prompt_parsing", "contract_building", "code_generation", "validation", "file_writing"]
ERRORS = ["FILE_WRITE", "TIMEOUT", "QUOTA", "SYNTAX"]
ODD = [
    "", "all", "unknown", "ALL", "Unknown", "__x", "__other__", "_x", "=x", "=", "=all", "==unknown", " ", " lead", "trail ", "a b",
    "tab\there", "nul\0", "esc\x1b[31m", "del\x7f", "c1\x85\x9f", "nbsp\u00a0", "\u00d7", "a \u00d7 b", "\\u00d7", "quote\"", "back\\slash",
    "new\nline\r", "line\u2028sep", "na\u00efve", "nai\u0308ve", "\U0001f680 rocket", "\U0001f469\u200d\U0001f4bb", "\u4ee3\u7801\u751f\u6210",
    "\ufeffbom", "\uffff", "\U0010ffff", "rtl\u202etxt", "a,b;c|d", "{json}", "null", "true", "0", "1e5", "%s", "${HOME}", "'; --", "<b>&amp;",
    # Lengths around 255 bytes, with the cut at byte 238 inside characters of 1, 2, 3 and 4 bytes, and with escapes that
    # lengthen the text beyond the limit.
    "a" * 238, "a" * 254, "a" * 255, "a" * 256, "a" * 300, "a" * 299 + "b", "a" + "\u00e9" * 127, "a" + "\u00e9" * 128, "\u00e9" * 128,
    "a" * 237 + "\u00e9" * 10, "a" * 236 + "\u20ac" * 7, "a" * 237 + "\u20ac" * 7, "a" * 235 + "\U0001f600" * 6, "a" * 236 + "\U0001f600" * 6,
    "a" * 237 + "\U0001f600" * 6, "\U0001f600" * 64, "\x01" * 42, "\x01" * 43, "\x01" * 300, "a" * 250 + "\u00d7", "a" * 249 + "\u00d7",
    "=" + "a" * 254, "=" + "a" * 255, "__" + "a" * 252, "__" + "a" * 253, "a" * 5000,
]
SCORES = ["0", "1", "1.0", "1e0", "0.6", "0.60", "6e-1", "0.8", "80e-2", "0.5999999999995", "0.59999999999949", "0.599999999999", "0.7999999999995",
          "0.7999999999994999", "0.6000000000005", "0.0000000000005", "0.0000000000015", "0.92", "0.95", "-0", "-0.0", "-0e5", "1e-400",
          "1e-999999999", "0e999999999", "0.333333333333333333333333333333", "100000000000000000000e-20", "0.1e1"]
MONEY = ["0", "-0", "-0.0", "0.01", "0.010", "1e-2", "0.1", "1", "1.0", "0.00999999999999949", "0.0099999999999995", "0.009999999999", "0.0999999999995",
         "0.999999999999", "0.9999999999995", "0.9999999999994", "1e12", "1000000000000", "1000000000000.000", "0.0000000000005",
         "0.0000000000015", "0.0000000000025", "0.00000000000050000000000000000000001", "1e-13", "1e-999999999", "0.021", "12345.678901234567890123"]
TOKENS = ["0", "-0", "1", "4200.0", "42e2", "4.2E+3", "42000e-1", "9007199254740992", "9007199254740992.0", "9007199254740991", "0.0", "1E0"]
DURATIONS = ["0", "-0.0", "2592000", "2.592e6", "2592000.000000", "0.000001", "0.0000005", "0.0000015", "0.0000025", "0.00000050001", "0.000255",
             "0.000256", "0.000257", "0.000511", "0.000512", "0.0005125", "49.5", "1e1", "1E-6", "1e-400", "2591999.9999995", "0e999999999",
             "33.554431", "33.554432", "67.108863", "67.108864"]
COMPLEXITIES = ["0", "6.0", "12.5", "1e12", "0.0000000000005", "7.1234567890125", "3.3333333333333333"]
TOO_LARGE = {
    "duration_seconds": ["2592000.0000001", "2592001", "1e400", "1e999999999", "1" + "0" * 400],
    "duration_ms": ["2592000000.0001", "2592000001", "1e999999999"],
    "score": ["1.0000000000000000001", "1.1", "2", "1e999999999"],
    "money": ["1000000000000.0000000000001", "1e13", "1e999999999"],
    "tokens": ["9007199254740993", "9007199254740992.5", "1e16", "1.5", "0.1", "1e-999999999", "1e999999999"],
}
BAD_TIMES = [
    "", "now", "2026-03-28", "2026-03-28T10:00", "2026-03-28T10:00:00.", "2026-03-28T10:00:00.Z", "2026-03-28T24:00:00Z", "2026-03-28T23:59:60Z",
    "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-10T00:00:00Z", "2026-03-00T00:00:00Z", "2026-04-31T00:00:00", "2026-03-28  10:00:00",
    "2026-03-28_10:00:00", " 2026-03-28T10:00:00Z", "2026-03-28T10:00:00Z ", "2026-03-28T10:00:00 Z", "2026-03-28T10:00:00+24:00",
    "2026-03-28T10:00:00+10:60", "2026-03-28T10:00:00+1", "2026-03-28T10:00:00+100", "2026-03-28T10:00:00+1:00", "2026-03-28T10:00:00-",
    "2026-03-28T10:00:00+01:00:00", "2026-03-28T10:00:00ZZ", "2026-3-28T10:00:00Z", "26-03-28T10:00:00Z", "1999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z", "2000-01-01T00:59:59+01:00", "2099-12-31T23:30:00-01:00", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59",
    "2026-03-28T10:00:00,5Z", "20260328T100000Z", "2026-03-28T10:00:00\u22121:00", "\u0662026-03-28T10:00:00Z", "1774692000",
    "2026-03-28T10:00:00Z\n", "2026-03-28T1\u0660:00:00Z", "+2026-03-28T10:00:00Z",
]
NUMERIC = {
    "STARTED": {},
    "STAGE_COMPLETED": {"duration_seconds": "duration_seconds", "duration_ms": "duration_ms", "tokens_consumed": "tokens", "cost_usd": "money"},
    "COMPLETED": {"total_duration_seconds": "duration_seconds", "quality_score": "score", "test_coverage": "score", "complexity_score": "money",
                  "total_tokens": "tokens", "total_cost_usd": "money"},
    "FAILED": {"partial_duration_seconds": "duration_seconds", "total_tokens": "tokens", "total_cost_usd": "money"},
}
STRINGS = {
    "STARTED": ["node_type_hint", "node_type", "domain"],
    "STAGE_COMPLETED": ["stage_name"],
    "COMPLETED": ["node_type", "domain", "primary_model"],
    "FAILED": ["failed_stage", "error_code", "node_type", "domain", "primary_model"],
}
REQUIRED = {"STARTED": [], "STAGE_COMPLETED": ["stage_name", "duration_seconds"], "COMPLETED": ["total_duration_seconds"],
            "FAILED": ["failed_stage"]}
BOOLEANS = {"STARTED": [], "STAGE_COMPLETED": ["success"], "COMPLETED": [], "FAILED": ["is_retryable"]}


class Stream:
    """Objects are lists of (key, JSON text), so that keys can be repeated and numbers written in any form."""

    def __init__(self, seed, events, start, span_hours, many_groups, kafka):
        self.random = random.Random(seed)
        self.events, self.start, self.span, self.many, self.kafka = events, start, span_hours * HOUR, many_groups, kafka
        self.busy = start + self.span * 2 // 3 // HOUR * HOUR  # an hour that gets a fifth of all events
        self.workflows = [self.uuid() for _ in range(max(300, events // 5) if many_groups else 250)]
        self.recent = []  # (kind, id, body) to repeat
        self.bad_classes = self.list_bad_classes()
        self.random.shuffle(self.bad_classes)
        self.bad_count = 0

    # ------------------------------------------------------------------------------------------------------------ text

    def chance(self, percent):
        return self.random.random() * 100 < percent

    def pick(self, choices):
        return choices[self.random.randrange(len(choices))]

    def uuid(self):
        digits = "%032x" % self.random.getrandbits(128)
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def text(self, value):
        """A JSON string in one of its spellings."""
        if self.chance(85):
            return json.dumps(value, ensure_ascii=self.chance(30))
        if self.chance(50):
            return json.dumps(value).replace("/", "\\/")
        units = value.encode("utf-16-be")
        return '"' + "".join("\\u%02x%02X" % (units[i], units[i + 1]) for i in range(0, len(units), 2)) + '"'

    def object(self, pairs):
        comma, colon = self.pick([(",", ":"), (", ", ": "), (" ,\t", " : ")])
        return "{" + comma.join((self.text(k) if k.isascii() and self.chance(2) else json.dumps(k)) + colon + v for k, v in pairs) + "}"

    def name(self, common, prefix, many, odd_percent=4):
        if self.chance(odd_percent):
            return self.pick(ODD)
        if self.many and many:
            return f"{prefix}-{self.random.randrange(1500):04}"
        return self.pick(common)

    def number(self, digits, places):
        """A decimal of `digits` random digits with `places` decimals, in one of many spellings."""
        value = str(self.random.randrange(10**digits)).rjust(places + 1, "0")
        text = value[:-places] + "." + value[-places:] if places else value
        if self.chance(10) and places:
            text += self.pick(["0", "5", "50", "4999999999", "5000000000001", "9" * 30])
        return self.exponent(text) if self.chance(8) else text

    def exponent(self, text):
        """The same value with its point moved and an exponent that moves it back."""
        shift = self.random.randrange(-9, 10)
        whole, _, fraction = text.partition(".")
        if shift >= 0:
            fraction = fraction.ljust(shift, "0")
            whole, fraction = whole + fraction[:shift], fraction[shift:]
        else:
            whole = whole.rjust(-shift + 1, "0")
            whole, fraction = whole[:shift], whole[shift:] + fraction
        exponent = str(abs(shift)).rjust(self.pick([1, 2, 4]), "0")
        sign = "-" if shift > 0 else self.pick(["", "+"])
        return (whole.lstrip("0") or "0") + ("." + fraction if fraction else "") + self.pick("eE") + sign + exponent

    def duration(self):
        if self.chance(4):
            return self.pick(DURATIONS)
        return self.number(*self.pick([(8, 6), (8, 6), (9, 6), (4, 2), (2, 0), (6, 3), (5, 6), (3, 6), (11, 9)]))

    def milliseconds(self):
        return self.pick(["0", "180", "0.5", "0.0005", "0.0015", "2592000000", "1e3", "255e-3"]) if self.chance(10) else self.number(
            *self.pick([(4, 0), (5, 0), (7, 3), (8, 4)]))

    def score(self):
        return self.pick(SCORES) if self.chance(15) else "0." + "%02d" % self.random.randrange(100) + self.pick(["", "", "5", "00", "123456789"])

    def money(self):
        return self.pick(MONEY) if self.chance(8) else self.number(*self.pick([(4, 3), (5, 6), (3, 2), (14, 12), (16, 14), (2, 0)]))

    def tokens(self):
        return self.pick(TOKENS) if self.chance(2) else str(self.random.randrange(20000))

    # ------------------------------------------------------------------------------------------------------------ time

    def instant(self, at):
        """Event time in µs of line `at`: roughly in order, some hours late, some on a boundary."""
        if self.chance(20):
            return self.busy + self.random.randrange(HOUR)
        micros = self.start + self.span * at // self.events
        if self.chance(2):
            micros -= self.random.randrange(20 * HOUR)
        elif self.chance(20):
            micros += self.random.randrange(-120 * MICRO, 120 * MICRO)
        if self.chance(6):
            unit = self.pick([HOUR, HOUR, 24 * HOUR, HOUR // 4])
            micros = micros // unit * unit + self.pick([0, 0, -1, 1, -MICRO, MICRO - 1])
        if self.chance(40):
            micros = micros // MICRO * MICRO
        return min(max(micros, self.start), self.start + self.span - 1)

    def timestamp(self, micros):
        offset, suffix = self.pick([
            (0, "Z"), (0, "Z"), (0, "Z"), (0, "z"), (0, ""), (0, "+00:00"), (0, "-00:00"), (0, "+0000"), (0, "-00"), (60, "+01:00"),
            (120, "+0200"), (-480, "-08"), (345, "+05:45"), (-210, "-0330"), (1439, "+23:59"), (-1439, "-2359"), (840, "+14"),
        ])
        local = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=micros // MICRO + offset * 60)
        fraction, part = "", "%06d" % (micros % MICRO)
        if part != "000000" or self.chance(20):
            digits = self.random.randrange(max(1, len(part.rstrip("0"))), 10)
            fraction = "." + (part + "%03d" % self.random.randrange(1000))[:digits]
        return local.strftime("%Y-%m-%d") + self.pick("TTTTt  ") + local.strftime("%H:%M:%S") + fraction + suffix

    # ---------------------------------------------------------------------------------------------------------- events

    def fields(self, kind):
        """The fields of one kind, the required ones and a random choice of the others."""
        pairs = {
            "STARTED": self.started, "STAGE_COMPLETED": self.stage, "COMPLETED": self.completed, "FAILED": self.failed,
        }[kind]()
        required = REQUIRED[kind] + ["duration_ms"]
        kept = []
        for key, value in pairs:
            if key in required or not self.chance(12):
                kept.append((key, value))
            elif self.chance(40):
                kept.append((key, "null"))
        return kept

    def labels(self):
        return [
            ("node_type", self.text(self.name(NODE_TYPES, "node", False))),
            ("domain", self.text(self.name(DOMAINS, "domain", True))),
            ("primary_model", self.text(self.name(MODELS, "model", True))),
        ]

    def started(self):
        hint, plain, domain = (self.text(self.name(NODE_TYPES, "node", False)), self.text(self.name(NODE_TYPES, "node", False)),
                               self.text(self.name(DOMAINS, "domain", True)))
        return self.pick([[("node_type_hint", hint)], [("node_type", plain)], [("node_type", plain), ("node_type_hint", hint)]]) + [
            ("domain", domain)] + ([("prompt", '"Make a \\ud800 thing"')] if self.chance(5) else [])

    def stage_name(self):
        if self.many or self.chance(50):
            return f"stage-{self.random.randrange(1500 if self.many else 130):04}"
        return self.name(STAGES, "stage", True)

    def stage(self):
        duration = self.pick([[("duration_seconds", self.duration())], [("duration_ms", self.milliseconds())],
                              [("duration_ms", self.milliseconds()), ("duration_seconds", self.duration())],
                              [("duration_seconds", "null"), ("duration_ms", self.milliseconds())]])
        return [("stage_name", self.text(self.stage_name())), ("stage_number", "3"), *duration,
                ("success", self.pick(["true", "true", "false"])), ("tokens_consumed", self.tokens()), ("cost_usd", self.money())]

    def completed(self):
        patterns = self.pick(["[]", '["retry"]', '["a","b","c"]', '[1,null,{"x":[]},"\\udfff"]'])
        return [("total_duration_seconds", self.duration()), *self.labels(), ("quality_score", self.score()), ("test_coverage", self.score()),
                ("complexity_score", self.pick(COMPLEXITIES)), ("total_tokens", self.tokens()), ("total_cost_usd", self.money()),
                ("patterns_applied", patterns)]

    def failed(self):
        return [("failed_stage", self.text(self.stage_name())), ("partial_duration_seconds", self.duration()),
                ("error_code", self.text(self.name(ERRORS, "error", True))), ("is_retryable", self.pick(["true", "false"])), *self.labels(),
                ("total_tokens", self.tokens()), ("total_cost_usd", self.money())]

    def noise(self, kind):
        """Fields that must not matter."""
        others = [name for other in KINDS if other != kind for name in [*NUMERIC[other], *STRINGS[other], *BOOLEANS[other]]
                  if name not in NUMERIC[kind] and name not in STRINGS[kind] and name not in BOOLEANS[kind]]
        return self.pick([
            [("correlation_id", json.dumps(self.uuid()))],
            [("error_message", '"lone \\ud83d"'), ("stack_trace", "null")],
            [("\udc00key", "[]"), ("huge", "1e999999999999999999999"), ("digits", "7" * 500)],
            [("deep", "[" * 300 + "]" * 300)],
            [("warnings", '[{"workflow_id":5,"event_type":{}},[[]],-0.0,true]')],
            [(self.pick(others), self.pick(["5", '"x"', "[]", "-1", "true", '"\\ud800"']))],
            [("Workflow_Id", "7"), ("workflow_id ", "8"), ("payload", self.pick(["null", "[]", '"x"', '{"workflow_id":"inner"}', "5"]))],
            [("operation", "5"), ("envelope_id", "[]"), ("event_timestamp", "{}")],
        ])

    def body(self, kind, at, micros):
        """An event without type, id and time, and its workflow."""
        workflow = self.pick(ODD) if self.chance(2) else self.pick(self.workflows)
        pairs = [("workflow_id", self.text(workflow)), *self.fields(kind)]
        if self.chance(20):
            pairs += self.noise(kind)
        if self.chance(5):  # an earlier value, right or wrong, that the last one replaces
            key, value = self.pick(pairs)
            pairs.insert(0, (key, self.pick(["5", '"x"', "null", "{}", value])))
        if self.chance(30):
            pairs = self.shuffled(pairs)
        return pairs

    def shuffled(self, pairs):
        """Another order of the keys; repeated keys keep theirs, since the last one counts."""
        keys = [k for k, _ in pairs]
        if len(set(keys)) == len(keys):
            self.random.shuffle(pairs)
        return pairs

    def line(self, kind, at, micros, pairs, identifier, event_type=None):
        """Type, id and time go into the event or into one of the four envelopes."""
        name = event_type or self.pick(["CODEGEN_", "NODE_GENERATION_"]) + kind
        type_text, time_text = self.text(name), self.text(self.timestamp(micros))
        id_text = self.text(identifier) if identifier is not None else self.pick([None, None, '""', "null"])
        if self.chance(60):
            head = [("event_type", type_text), ("timestamp", time_text)] + ([("event_id", id_text)] if id_text else [])
            return self.object(head + pairs if self.chance(50) else pairs + head)
        return self.object(self.enveloped(type_text, id_text, time_text, pairs))

    def enveloped(self, type_text, id_text, time_text, pairs):
        shape = self.random.randrange(4)
        type_key, id_key, time_key = [
            ("event_type", "envelope_id", "envelope_timestamp"), ("event_type", "event_id", "event_timestamp"),
            ("event_type", "event_id", "timestamp"), ("operation", "envelope_id", "timestamp"),
        ][shape]
        other = json.dumps(self.uuid())
        wrong = self.pick(["5", "[]", '"\\ud800"', "false", "{}"])
        inside, outside = [], []
        # In the event itself: then whatever the envelope says does not matter, not even of the wrong type.
        for key, outer_key, value, decoy in (("event_type", type_key, type_text, '"SOMETHING_ELSE"'),
                                             ("timestamp", time_key, time_text, '"2001-01-01T00:00:00Z"')):
            if self.chance(40):
                inside.append((key, value))
                outside.append((outer_key, self.pick([value, decoy, wrong])))
            else:
                outside.append((outer_key, value))
                if self.chance(20):
                    inside.append((key, "null"))
        if id_text in (None, '""', "null"):
            inside += [("event_id", id_text)] if id_text and self.chance(50) else []
            outside += [(id_key, id_text)] if id_text else []
        elif self.chance(40):
            inside.append(("event_id", id_text))
            outside.append((id_key, self.pick([other, wrong, id_text])))
        else:
            inside += [("event_id", '""')] if self.chance(20) else []
            outside.append((id_key, id_text))
            if id_key == "envelope_id" and self.chance(30):
                outside.append(("event_id", self.pick(['""', "null"])))
        if shape == 0:
            outside = [("envelope_version", '"v1"'), *outside, ("event_version", '"v1"'), ("source_service", '"orch"'), ("provenance", "{}")]
        elif shape == 1:
            outside = [("envelope_version", '"1.0"'), *outside, ("source_node_id", '"orch-7"'), ("metadata", '{"workflow_id":"m"}')]
        elif shape == 2:
            outside = [*outside, ("envelope_version", '{"major":1,"minor":0,"patch":0}')]
        else:
            outside = [("causation_id", "null"), *outside, ("is_response", "false"), ("success", "null")]
        if self.chance(10):
            outside.append(("workflow_id", "null"))
        payload = ("payload", self.object(self.shuffled(inside + pairs) if self.chance(30) else inside + pairs))
        if self.chance(5):
            outside.insert(0, ("payload", self.pick(["null", '{"workflow_id":5}', "[]"])))
            return [*outside, payload]
        return [payload, *outside] if self.chance(50) else [*outside, payload]

    def good(self, at, kind=None, micros=None, pairs=None):
        kind = kind or self.pick(["STARTED", "STAGE_COMPLETED", "STAGE_COMPLETED", "COMPLETED", "COMPLETED", "FAILED"])
        micros = self.instant(at) if micros is None else micros
        pairs = self.body(kind, at, micros) if pairs is None else pairs
        identifier = None if self.chance(12) else self.pick(ODD) + "#%d" % at if self.chance(2) else self.uuid()
        if identifier is not None and (len(self.recent) < 500 or self.chance(20)):
            keep = self.random.randrange(500)
            self.recent[keep:keep + 1] = [(kind, identifier, micros, pairs)]
        return self.line(kind, at, micros, pairs, identifier)

    def duplicate(self, at):
        """An id again: the same event, another body under it, or (no duplicate then) another kind."""
        kind, identifier, micros, pairs = self.pick(self.recent)
        how = self.random.randrange(4)
        if how == 1:
            micros = self.instant(at)
            pairs = self.body(kind, at, micros)
        elif how == 2:
            kind = self.pick(KINDS)
            pairs = self.body(kind, at, micros)
        return self.line(kind, at, micros, pairs, identifier)

    # -------------------------------------------------------------------------------------------------------- bad lines

    def list_bad_classes(self):
        """One entry for each fault: a function of the line number that gives the line."""
        faults = [(self.bad_text, n) for n in range(34)] + [(self.bad_time, t) for t in BAD_TIMES]
        faults += [(self.bad_type, t) for t in ['"codegen_started"', '"STARTED"', '"CODEGEN_STARTED "', '"CODEGEN_DONE"', '""', "5", "{}", "true",
                                                '"NODE_GENERATION_"', '"EVENT_PUBLISH_INTENT"', '"\\ud800"']]
        faults += [(self.bad_envelope, n) for n in range(11)]
        wrong_text, wrong_number = ["5", "true", "[]", "{}", '"\\ud800"', '"a\\udfffb"'], ['"5"', "true", "[]", "{}"]
        for kind in KINDS:
            for field in STRINGS[kind] + ["workflow_id", "event_id", "timestamp"]:
                faults += [(self.bad_field, (kind, field, w)) for w in wrong_text]
            for field, unit in NUMERIC[kind].items():
                limit = TOO_LARGE["money" if unit == "money" else unit]
                faults += [(self.bad_field, (kind, field, w)) for w in [*wrong_number, "-1", "-0.0000000000001", "-1e-400", "NaN", "-Infinity", *limit]]
            for field in BOOLEANS[kind]:
                faults += [(self.bad_field, (kind, field, w)) for w in ["0", "1", '"true"', "[]"]]
            for field in REQUIRED[kind] + ["workflow_id"]:
                faults += [(self.bad_field, (kind, field, w)) for w in ("null", None)]
        faults += [(self.bad_field, ("COMPLETED", "patterns_applied", w)) for w in ['"retry"', "3", "{}", "true"]]
        if not self.kafka:  # these are bad only where neither topic nor record time tells
            faults += [(self.bad_field, (kind, field, w)) for kind in KINDS for field in ("event_type", "timestamp") for w in ("null", None)]
        return faults

    def bad(self, at):
        make, argument = self.bad_classes[self.bad_count % len(self.bad_classes)]
        self.bad_count += 1
        return make(at, argument)

    def plain(self, kind, at):
        """A plain good event with all fields of its kind, to be spoilt."""
        pairs = {"STARTED": self.started, "STAGE_COMPLETED": self.stage, "COMPLETED": self.completed, "FAILED": self.failed}[kind]()
        return [("event_type", json.dumps("CODEGEN_" + kind)), ("event_id", json.dumps(self.uuid())),
                ("timestamp", json.dumps(self.timestamp(self.instant(at)))), ("workflow_id", json.dumps(self.pick(self.workflows))), *pairs]

    def bad_field(self, at, argument):
        kind, field, value = argument
        pairs = [(k, v) for k, v in self.plain(kind, at) if k != field]
        if field == "duration_seconds" and value in (None, "null"):
            pairs = [(k, v) for k, v in pairs if k != "duration_ms"]
        if value is not None:
            if self.chance(30):  # a right value before the wrong one does not help
                pairs.append((field, '"2026-03-28T10:00:00Z"'))
            pairs.append((field, value))
        return self.object(pairs)

    def bad_time(self, at, text):
        pairs = self.plain(self.pick(KINDS), at)
        return self.object([(k, json.dumps(text) if k == "timestamp" else v) for k, v in pairs])

    def bad_type(self, at, text):
        pairs = self.plain("STARTED", at)
        return self.object([(k, text if k == "event_type" else v) for k, v in pairs])

    def bad_envelope(self, at, which):
        body = [(k, v) for k, v in self.plain("COMPLETED", at) if k not in ("event_type", "timestamp", "event_id")]
        kind, time = ("event_type", '"CODEGEN_COMPLETED"'), ("timestamp", '"2026-03-28T10:00:00Z"')
        payload = self.object(body)
        return self.object([
            [("event_type", "5"), ("operation", '"CODEGEN_COMPLETED"'), time, ("payload", payload)],
            [kind, ("timestamp", "5"), ("event_timestamp", time[1]), ("payload", payload)],
            [kind, time, ("event_id", "5"), ("envelope_id", '"x"'), ("payload", payload)],
            [kind, time, ("event_id", '""'), ("envelope_id", "[]"), ("payload", payload)],
            [kind, time, ("payload", self.object([("payload", payload)]))],
            [kind, time, ("workflow_id", "5"), ("payload", payload)],
            [kind, time, ("workflow_id", '""'), ("payload", payload)],
            [kind, time, ("payload", "[" + payload + "]")],
            [kind, time, ("payload", json.dumps(payload))],
            [("operation", '"EVENT_PUBLISH_INTENT"'), time, ("payload", payload)],
            [kind, time, ("payload", payload), ("payload", "null")],
        ][which])

    def bad_text(self, at, which):
        """Lines that are not one JSON object in UTF-8. Bytes where text cannot express them."""
        good = self.object(self.plain("STARTED", at))
        spoilt = lambda value: self.object([*self.plain("STARTED", at), ("x", value)])
        raw = lambda value: spoilt('"@"').encode("utf-8").replace(b'"@"', b'"' + value + b'"')
        return [
            lambda: raw(b"\xff"), lambda: raw(b"\xc0\x80"), lambda: raw(b"\xed\xa0\x80"), lambda: raw(b"\xf4\x90\x80\x80"), lambda: raw(b"\xe2\x82"),
            lambda: good[:-1], lambda: good[:len(good) // 2], lambda: good[:-1] + ",}", lambda: good + "}", lambda: good + good,
            lambda: good + " x", lambda: "\ufeff" + good, lambda: "// x", lambda: good.replace('"', "'"), lambda: "[" + good + "]",
            lambda: "[]", lambda: "null", lambda: "5", lambda: json.dumps(good), lambda: "\x0c" + good, lambda: "{}", lambda: "x",
            lambda: spoilt("01"), lambda: spoilt("1."), lambda: spoilt(".5"), lambda: spoilt("+1"), lambda: spoilt("0x1F"), lambda: spoilt("1e"),
            lambda: spoilt("NaN"), lambda: spoilt("Infinity"), lambda: spoilt('"tab\there"'), lambda: spoilt('"\\x41"'), lambda: spoilt('"\\u12"'),
            lambda: spoilt("True"),
        ][which]()

    # ----------------------------------------------------------------------------------------------------------- stream

    def planned(self):
        """Groups whose number of durations is exactly on and just over the switch from exact percentiles."""
        plan = []
        for count in (127, 128, 129):
            for n in range(count):
                micros = self.busy + n * 20 * MICRO
                head = [("workflow_id", self.text(self.pick(self.workflows)))]
                plan.append(lambda at, micros=micros, head=head, count=count: self.good(at, "COMPLETED", micros, [
                    *head, ("total_duration_seconds", self.number(8, 6)), ("primary_model", f'"exactly-{count}"'), ("quality_score", "0.7")]))
                plan.append(lambda at, micros=micros, head=head, count=count: self.good(at, "STAGE_COMPLETED", micros, [
                    *head, ("stage_name", f'"exactly-{count}"'), ("duration_ms", self.number(4, 0))]))
        pad = lambda at, size: self.sized(at, size)
        plan += [lambda at: pad(at, MAX_EVENT_BYTES), lambda at: pad(at, MAX_EVENT_BYTES + 1)]
        return plan

    def sized(self, at, size):
        line = self.object([*self.plain("COMPLETED", at), ("pad", '"@"')])
        return line.replace('"@"', '"' + "x" * (size - len(line.encode("utf-8")) + 1) + '"')

    def lines(self):
        plan = dict(zip(self.random.sample(range(self.events), 770), self.planned())) if self.events >= 2000 else {}
        for at in range(self.events):
            if at in plan:
                yield plan[at](at)
            elif self.chance(5):
                yield self.bad(at)
            elif self.chance(4) and self.recent:
                yield self.duplicate(at)
            else:
                yield self.good(at)


def write(stream, path):
    with open(path, "wb") as out:
        for line in stream.lines():
            data = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
            if len(data) < 100000:
                data = stream.pick([b""] * 30 + [b" ", b"\t "]) + data + stream.pick([b""] * 30 + [b" ", b"\r"])
            out.write(data + b"\n")
            if not stream.kafka and stream.chance(0.5):
                out.write(stream.pick([b"\n", b"\r\n", b"  \n", b"\t\n"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--events", type=int, required=True, help="lines besides blank ones")
    parser.add_argument("--out", required=True)
    parser.add_argument("--start", default="2026-03-28T00:00:00Z", help="UTC")
    parser.add_argument("--span-hours", type=int, default=48)
    parser.add_argument("--many-groups", action="store_true", help="over 1,000 workflows, models, domains, stages and error codes a window")
    parser.add_argument("--kafka", action="store_true", help="leave out blank lines and lines whose fate hangs on topic or record time")
    options = parser.parse_args()
    start = datetime.datetime.fromisoformat(options.start.replace("Z", "")) - datetime.datetime(1970, 1, 1)
    micros = start // datetime.timedelta(microseconds=1)
    write(Stream(options.seed, options.events, micros, options.span_hours, options.many_groups, options.kafka), options.out)


if __name__ == "__main__":
    main()
