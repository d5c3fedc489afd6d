//! The hand-computed text cases of `tests/oracle/cases`: events in, records out, through the one-call face of the core.

use codegen_metrics_reducer::aggregator::MetricsAggregator;
use codegen_metrics_reducer::aggregator::accumulator::Groupings;
use codegen_metrics_reducer::aggregator::record::Runtime;
use codegen_metrics_reducer::aggregator::window::{Calendar, Span};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;

type Object = BTreeMap<String, Box<RawValue>>;

struct Case<'a> {
    options: BTreeMap<&'a str, &'a str>,
    events: Vec<String>,
    expect: Vec<&'a str>,
}

fn parse(text: &str) -> Case<'_> {
    let (head, rest) = text.split_once("\nevents:\n").expect("an events part");
    let (events, expect) = rest.split_once("expect:\n").expect("an expect part");
    let options = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    Case { options, events: events.lines().flat_map(expand).collect(), expect: expect.lines().collect() }
}

fn expand(line: &str) -> Vec<String> {
    let Some(rest) = line.strip_prefix("@repeat ") else { return vec![line.to_owned()] };
    let (range, text) = rest.split_once(' ').expect("a range and a text");
    let (first, last) = range.split_once("..").expect("FIRST..LAST");
    let bound = |text: &str| text.parse::<u64>().expect("a whole number");
    (bound(first)..=bound(last)).map(|i| text.replace("$i", &i.to_string())).collect()
}

fn run(case: &Case<'_>) -> (Vec<Object>, String) {
    let option = |name: &str| case.options.get(name).copied();
    let zone = option("timezone").unwrap_or("UTC").parse().expect("a zone");
    let span = Span::from_name(option("window").expect("a window")).expect("a known window");
    let list = option("group-by").unwrap_or("time_window").split(',');
    let groupings = list.map(|name| name.parse().expect("a grouping")).collect();
    let number = |name: &str, default| option(name).map_or(default, |n| n.parse().expect("a number"));
    let groupings = Groupings::of(groupings, number("max-groups", 1000));
    let ids_max = number("dedup-window", usize::MAX);
    let mut aggregator = MetricsAggregator::new(Calendar::new(zone, 900), span, groupings, 1 << 20, ids_max);
    for line in &case.events {
        aggregator.add_line(line.as_bytes());
    }
    let counters = aggregator.counters().clone();
    let accounting = format!(
        "bad={} duplicates={} counted={}",
        counters.dead_lettered_total(),
        counters.duplicates,
        counters.counted
    );
    assert_eq!(counters.received, counters.counted + counters.duplicates + counters.dead_lettered_total());
    let records = aggregator.finish(&Runtime::default());
    (records.iter().map(|record| serde_json::from_str(record).expect("a JSON object")).collect(), accounting)
}

/// Words parted by single spaces; a word that starts with a quote runs to the quote's end.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            ' ' if !quoted => words.push(String::new()),
            c => {
                quoted ^= c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                words.last_mut().expect("never empty").push(c);
            }
        }
    }
    words
}

fn string(json: &RawValue) -> String {
    serde_json::from_str(json.get()).expect("a JSON string")
}

fn field(record: &Object, path: &str) -> Option<String> {
    let mut object: Object = record.clone();
    let mut keys = path.split('/').peekable();
    while let Some(key) = keys.next() {
        if key == "#" {
            return Some(object.len().to_string());
        }
        let value = object.get(key)?.get().to_owned();
        if keys.peek().is_none() {
            return Some(value);
        }
        object = serde_json::from_str(&value).expect("a map on the way");
    }
    None
}

/// Values are equal as decimals, strings, or objects in any order.
fn same(left: &str, right: &str) -> bool {
    if let (Ok(left), Ok(right)) =
        (serde_json::from_str::<Object>(left), serde_json::from_str::<Object>(right))
    {
        return left.len() == right.len()
            && left
                .iter()
                .all(|(key, value)| right.get(key).is_some_and(|other| same(value.get(), other.get())));
    }
    if left.starts_with('"') && right.starts_with('"') {
        return serde_json::from_str::<String>(left).ok() == serde_json::from_str::<String>(right).ok();
    }
    let plain = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    plain(left) == plain(right)
}

#[test]
fn every_hand_computed_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the cases").map(|e| e.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 36, "cases are missing: {}", paths.len());
    let mut faults = Vec::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("a case");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        check(&name, &parse(&text), &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn check(name: &str, case: &Case<'_>, faults: &mut Vec<String>) {
    let (records, accounting) = run(case);
    if case.expect[0] != accounting {
        faults.push(format!("{name}: {accounting}, expected {}", case.expect[0]));
    }
    if case.expect[1] != format!("records={}", records.len()) {
        faults.push(format!("{name}: {} records, expected {}", records.len(), case.expect[1]));
    }
    for line in &case.expect[2..] {
        let words = words(line);
        let group = match words[2].starts_with('"') {
            true => serde_json::from_str(&words[2]).expect("a JSON string"),
            false => words[2].clone(),
        };
        let identity = [words[0].clone(), words[1].clone(), group];
        let found = records.iter().find(|record| {
            ["window_start", "aggregation_type", "group_key"].map(|key| string(&record[key])) == identity
        });
        let Some(record) = found else {
            faults.push(format!("{name}: no record {identity:?}"));
            continue;
        };
        for (path, expected) in words[3..].iter().map(|word| word.split_once('=').expect("field=value")) {
            let actual = field(record, path).unwrap_or_else(|| "absent".to_owned());
            if !same(&actual, expected) {
                faults.push(format!("{name}: {identity:?} {path} is {actual}, expected {expected}"));
            }
        }
    }
}
