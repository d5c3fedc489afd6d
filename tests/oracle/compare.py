#!/usr/bin/env python3
"""Compares two files of records field for field: A is the oracle's, B the one under test.

Numbers are compared as exact decimals and must be written without exponent and trailing zeros. Runtime fields must be
there but may differ. Exit code 0: equal; 1: different, or both empty; 2: unreadable.
"""

import argparse
import json
import sys
from decimal import Decimal

IDENTITY = ("window_type", "window_start", "timezone", "aggregation_type", "group_key")
RUNTIME = ("timestamp", "aggregation_duration_ms", "items_per_second")
EXACT_WORKFLOWS_MAX = 128
WORKFLOWS_TOLERANCE = Decimal("0.03")
SHOWN = 20


class Text(str):
    """A number as it is written; plain strings stay `str`."""


def ill_formed(text):
    return "e" in text.lower() or text.startswith("-0") and not text.startswith("-0.") or "." in text and text.endswith("0")


def differences(a, b, path=""):
    """Yields (path, a, b) for each place where the two values differ."""
    if isinstance(a, Text) and isinstance(b, Text):
        if ill_formed(b):
            yield path, a, f"{b} (form of the number)"
        elif Decimal(a) != Decimal(b):
            yield path, a, b
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            here = f"{path}/{key}" if path else key
            if key not in a or key not in b:
                yield here, a.get(key, "(no such key)"), b.get(key, "(no such key)")
            elif path or key not in RUNTIME:
                if not path and key == "workflow_ids_tracked" and close(a[key], b[key]):
                    continue
                yield from differences(a[key], b[key], here)
    elif type(a) is not type(b) or a != b:
        yield path, a, b


def close(a, b):
    """Whether a large number of workflows is estimated well enough."""
    if not (isinstance(a, Text) and isinstance(b, Text)) or ill_formed(b) or "." in b or Decimal(a) <= EXACT_WORKFLOWS_MAX:
        return False
    return abs(Decimal(b) - Decimal(a)) <= Decimal(a) * WORKFLOWS_TOLERANCE


def unique(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object gives a key twice")
    return found


def load(path):
    """Records by identity, from a JSON array or one record a line."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    read = lambda part: json.loads(part, parse_float=Text, parse_int=Text, object_pairs_hook=unique)
    try:
        if text.lstrip().startswith("["):
            records = read(text)
        else:
            records = [read(line) for line in text.split("\n") if line.strip()]
        found = {}
        for record in records:
            key = tuple(record[name] for name in IDENTITY)
            if key in found:
                raise ValueError(f"two records of {' '.join(key)}")
            found[key] = record
        return found
    except (ValueError, KeyError, TypeError) as fault:
        print(f"{path}: {fault!r}", file=sys.stderr)
        raise SystemExit(2) from None


def shown(value):
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, Text) else str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--allow-empty", action="store_true", help="two empty files are equal")
    parser.add_argument("a", help="the oracle's records")
    parser.add_argument("b", help="the records under test")
    options = parser.parse_args()
    a, b = load(options.a), load(options.b)
    if not a and not b and not options.allow_empty:
        print("both are empty")
        return 1
    lines, bad_records = [], 0
    for key in sorted(a.keys() | b.keys()):
        name = " ".join(json.dumps(part, ensure_ascii=False)[1:-1] for part in key)
        if key not in a or key not in b:
            found = [f"{name}: only in {'A' if key in a else 'B'}"]
        else:
            found = [f"{name}: {path}: A {shown(x)}, B {shown(y)}" for path, x, y in differences(a[key], b[key])]
        lines += found
        bad_records += bool(found)
    for line in lines[:SHOWN]:
        print(line)
    if lines:
        print(f"{len(lines)} differences in {bad_records} records (A has {len(a)}, B {len(b)})")
        return 1
    print(f"{len(a)} records equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
