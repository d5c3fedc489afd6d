//! What a contract may say beyond the types of its values.

use std::collections::BTreeSet;

use super::reader::Section;
use super::{
    AGGREGATION_TYPES, COMPOSITE_PARTS, ContractTopics, ENVIRONMENT_CHARS_MAX, ENVIRONMENT_PLACEHOLDER,
    Grouping, WINDOWS,
};

/// Groupings whose values come from events and are few enough to be listed.
const LISTABLE: [&str; 4] = ["model_grouping", "node_type_grouping", "domain_grouping", "stage_grouping"];

/// Values that one grouping may list; they add to the cap on values of a window.
const LISTED_VALUES_MAX: usize = 1000;

/// Decimals behind the point that the core keeps of money and scores.
const SCALE: usize = 12;

const ONE: u128 = 10u128.pow(SCALE as u32);

/// Limits of one kind of bounds, at 10⁻¹².
#[derive(Clone, Copy)]
pub(super) struct BoundLimits {
    max: u128,
    words: &'static str,
}

/// Quality scores lie in 0..1.
pub(super) const QUALITY_LIMITS: BoundLimits = BoundLimits { max: ONE, words: "above 0 and at most 1" };

/// Money is at most 10¹² USD.
pub(super) const COST_LIMITS: BoundLimits =
    BoundLimits { max: ONE * ONE, words: "above 0 and at most 1000000000000" };

pub(super) fn check_version(section: &mut Section<'_>, key: &str, version: &str) {
    let number = |part: &str| !part.is_empty() && part.len() < 10 && part.bytes().all(|b| b.is_ascii_digit());
    let valid = version.split('.').count() == 3 && version.split('.').all(number);
    if !version.is_empty() && !valid {
        section.refuse(key, version, "write three numbers such as 1.0.0");
    }
}

pub(super) fn check_event_types(section: &mut Section<'_>, kind: &str, given: &[String]) {
    let kind = kind.to_uppercase();
    let known = [format!("CODEGEN_{kind}"), format!("NODE_GENERATION_{kind}")];
    let given_set: BTreeSet<&String> = given.iter().collect();
    if !given.is_empty() && given_set != known.iter().collect() {
        section.refuse(
            "event_types",
            &given.join(", "),
            &format!("both names are fixed: [{}]", known.join(", ")),
        );
    }
}

/// Whether `name` may be the name of a Kafka topic.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}

pub(super) fn check_topic(section: &mut Section<'_>, key: &str, template: &str) {
    // With the longest environment the name must still fit, so that no setting can spoil it.
    let longest = "x".repeat(ENVIRONMENT_CHARS_MAX);
    if !template.is_empty() && !is_topic_name(&template.replace(ENVIRONMENT_PLACEHOLDER, &longest)) {
        section.refuse(
            key,
            template,
            "use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and {env} for the environment",
        );
    }
}

pub(super) fn check_distinct(root: &mut Section<'_>, topics: &ContractTopics) {
    let all = topics.all();
    for (index, (path, topic)) in all.iter().enumerate() {
        let earlier = all[..index].iter().find(|(_, other)| other.template == topic.template);
        if let Some((other, _)) = earlier.filter(|_| !topic.template.is_empty()) {
            root.refuse(&format!("{path}.topic"), &topic.template, &format!("{other} has this name already"));
        }
    }
}

pub(super) fn check_windows(section: &mut Section<'_>, windows: &[String]) {
    if windows.is_empty() {
        section.miss("windows[0]", &format!("one or more of {}", WINDOWS.join(", ")));
    }
    for (index, window) in windows.iter().enumerate() {
        let key = format!("windows[{index}]");
        if !window.is_empty() && !WINDOWS.contains(&window.as_str()) {
            section.refuse(&key, window, &format!("write one of {}", WINDOWS.join(", ")));
        } else if windows[..index].contains(window) {
            section.refuse(&key, window, "it is listed already: remove it");
        }
    }
}

pub(super) fn check_slice(section: &mut Section<'_>, minutes: u32) {
    if !60u32.is_multiple_of(minutes) {
        section.refuse(
            "slice_minutes",
            &minutes.to_string(),
            "it must divide an hour: write 15, or 1, 5, 10, 20, 30, 60",
        );
    }
}

pub(super) fn read_groupings(section: &mut Section<'_>) -> Vec<Grouping> {
    let mut groupings: Vec<Grouping> = Vec::new();
    section.sections("groupings", |mut item| {
        let grouping = Grouping {
            aggregation_type: item.text("type", "an aggregation type such as model_grouping"),
            values: item.texts_if_any("values", "a list of values that keep their own record"),
        };
        check_type(&mut item, &grouping);
        // a*b and b*a hold the same events: the order of the parts makes no other grouping.
        let parts: BTreeSet<&str> = grouping.parts().collect();
        if groupings.iter().any(|other| other.parts().collect::<BTreeSet<_>>() == parts) {
            item.refuse("type", &grouping.aggregation_type, "it is listed already: remove one");
        }
        check_values(&mut item, &grouping);
        item.finish();
        groupings.push(grouping);
    });
    if !groupings.iter().any(|grouping| grouping.aggregation_type == "time_window") {
        section.miss("groupings", "{ type: time_window }: every other figure is checked against it");
    }
    groupings
}

/// Says what is wrong with the name of an aggregation type, composites included.
fn check_aggregation_type(given: &str) -> Result<(), String> {
    if AGGREGATION_TYPES.contains(&given) {
        return Ok(());
    }
    if !given.contains('*') {
        return Err(format!("write one of {}, or a composite a*b", AGGREGATION_TYPES.join(", ")));
    }
    let parts: Vec<&str> = given.split('*').collect();
    let distinct: BTreeSet<&str> = parts.iter().copied().collect();
    if distinct.len() == parts.len() && parts.iter().all(|part| COMPOSITE_PARTS.contains(part)) {
        return Ok(());
    }
    Err(format!("a composite joins two or more different ones of {} by *", COMPOSITE_PARTS.join(", ")))
}

fn check_type(item: &mut Section<'_>, grouping: &Grouping) {
    let given = grouping.aggregation_type.as_str();
    if given.is_empty() {
        return;
    }
    if let Err(remedy) = check_aggregation_type(given) {
        item.refuse("type", given, &remedy);
    }
}

fn check_values(item: &mut Section<'_>, grouping: &Grouping) {
    let values = &grouping.values;
    if !values.is_empty() && !LISTABLE.contains(&grouping.aggregation_type.as_str()) {
        let remedy = format!("remove it: values may be listed only under {}", LISTABLE.join(", "));
        return item.refuse("values", &values.join(", "), &remedy);
    }
    if values.len() > LISTED_VALUES_MAX {
        let remedy = format!("list at most {LISTED_VALUES_MAX}");
        item.refuse("values", &format!("{} values", values.len()), &remedy);
    }
    for (index, value) in values.iter().enumerate() {
        let key = format!("values[{index}]");
        if value.is_empty() || value.len() > 255 {
            item.refuse(&key, value, "write 1 to 255 bytes");
        } else if values[..index].contains(value) {
            item.refuse(&key, value, "it is listed already: remove it");
        }
    }
}

/// Reads exactly `N` ascending bounds, in their shortest form.
pub(super) fn read_bounds<const N: usize>(
    section: &mut Section<'_>,
    key: &'static str,
    limits: BoundLimits,
) -> [String; N] {
    let expected = format!("a list of {N} decimals in quotes");
    let texts = section.texts(key, &expected);
    let mut shortest: [String; N] = std::array::from_fn(|_| String::new());
    let mut previous = 0;
    for (index, text) in texts.iter().enumerate() {
        let item_key = format!("{key}[{index}]");
        match parse_decimal(text) {
            _ if text.is_empty() => {}
            Some(bound) if bound == 0 || bound > limits.max => {
                section.refuse(&item_key, text, &format!("write a decimal {}", limits.words));
            }
            Some(bound) if bound <= previous => {
                section.refuse(&item_key, text, "each bound must be above the one before it");
            }
            Some(bound) => {
                previous = bound;
                if let Some(place) = shortest.get_mut(index) {
                    *place = format_decimal(bound);
                }
            }
            None => {
                section.refuse(&item_key, text, "write a plain decimal of at most 12 places, such as 0.05")
            }
        }
    }
    if texts.len() > N {
        section.refuse(key, &texts.join(", "), &format!("list exactly {N}"));
    } else if !texts.is_empty() && texts.len() < N {
        section.refuse(key, &texts.join(", "), &format!("list exactly {N}, the buckets are one more"));
    }
    shortest
}

/// Reads a decimal without sign or exponent at 10⁻¹²; none if it has more places than that, or over 13 digits before.
fn parse_decimal(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, max: usize| {
        (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !digits(whole, 13) || !digits(fraction, SCALE) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = format!("{fraction:0<SCALE$}").parse().ok()?;
    Some(whole * ONE + fraction)
}

fn format_decimal(value: u128) -> String {
    let text = format!("{}.{:0SCALE$}", value / ONE, value % ONE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
