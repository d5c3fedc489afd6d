//! Groupings: which group of each an event belongs to, and how a value is made safe to be a key.

use super::money::Fixed;
use crate::event::{Event, Kind};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// The group of values that found no place of their own.
pub const OTHER: &str = "__other__";
/// The group of events that lack the value.
pub const UNKNOWN: &str = "unknown";
/// The only group of `time_window`.
pub const ALL: &str = "all";
/// Greatest length of a group value in bytes.
const VALUE_BYTES_MAX: usize = 255;
/// Bytes kept of a longer one, before `~` and 16 hex digits.
const VALUE_BYTES_KEPT: usize = 238;

/// A part of a composite grouping; alone, a grouping by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// `primary_model`
    Model,
    /// `node_type`
    NodeType,
    /// `domain`
    Domain,
    /// Bucket of `quality_score`
    Quality,
    /// Bucket of `total_cost_usd`
    Cost,
}

const DIMENSIONS: [(Dimension, &str); 5] = [
    (Dimension::Model, "model_grouping"),
    (Dimension::NodeType, "node_type_grouping"),
    (Dimension::Domain, "domain_grouping"),
    (Dimension::Quality, "quality_score_buckets"),
    (Dimension::Cost, "cost_buckets"),
];

/// A way to divide the events of a window; its name is the record's `aggregation_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grouping {
    /// Everything in one group, with the maps.
    TimeWindow,
    /// STAGE events by `stage_name`.
    Stage,
    /// Every event by `workflow_id`.
    Workflow,
    /// By one or more dimensions.
    By(Vec<Dimension>),
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grouping::TimeWindow => f.write_str("time_window"),
            Grouping::Stage => f.write_str("stage_grouping"),
            Grouping::Workflow => f.write_str("workflow_grouping"),
            Grouping::By(dimensions) => {
                for (index, dimension) in dimensions.iter().enumerate() {
                    let name = DIMENSIONS.iter().find(|(d, _)| d == dimension).map_or("", |(_, name)| name);
                    write!(f, "{}{name}", if index > 0 { "*" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// A grouping name that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown grouping {0:?}: use time_window, model_grouping, node_type_grouping, domain_grouping, quality_score_buckets, \
     cost_buckets, stage_grouping, workflow_grouping, or two or more of model, node type, domain, quality and cost joined by *"
)]
pub struct UnknownGrouping(pub String);

impl FromStr for Grouping {
    type Err = UnknownGrouping;

    fn from_str(name: &str) -> Result<Grouping, UnknownGrouping> {
        match name {
            "time_window" => return Ok(Grouping::TimeWindow),
            "stage_grouping" => return Ok(Grouping::Stage),
            "workflow_grouping" => return Ok(Grouping::Workflow),
            _ => {}
        }
        let find =
            |part: &str| DIMENSIONS.iter().find(|(_, name)| *name == part).map(|(dimension, _)| *dimension);
        let dimensions: Option<Vec<Dimension>> = name.split('*').map(find).collect();
        match dimensions {
            Some(parts) if parts.iter().collect::<BTreeSet<_>>().len() == parts.len() => {
                Ok(Grouping::By(parts))
            }
            _ => Err(UnknownGrouping(name.to_owned())),
        }
    }
}

/// Bounds and names of the quality and cost buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    quality: Vec<(Fixed, String)>,
    quality_last: String,
    cost: Vec<(Fixed, String)>,
    cost_last: String,
}

impl Buckets {
    /// Buckets from two ascending quality bounds and any ascending cost bounds, as decimal text; `None` if one is no number.
    pub fn new(quality_bounds: &[String], cost_bounds: &[String]) -> Option<Buckets> {
        let bound = |text: &String| Fixed::parse(text, 1_000_000_000_000).ok();
        let names = ["low", "medium", "high"];
        let quality = quality_bounds.iter().zip(names).map(|(b, name)| Some((bound(b)?, name.to_owned())));
        let mut below = String::new();
        let cost = cost_bounds.iter().map(|b| {
            let name = if below.is_empty() { format!("lt_{b}") } else { format!("{below}_to_{b}") };
            below.clone_from(b);
            Some((bound(b)?, name))
        });
        let cost = cost.collect::<Option<Vec<_>>>()?;
        let quality: Vec<_> = quality.collect::<Option<_>>()?;
        let quality_last = names.get(quality.len())?.to_string();
        Some(Buckets { quality, quality_last, cost, cost_last: format!("ge_{below}") })
    }

    fn name<'b>(bounds: &'b [(Fixed, String)], last: &'b str, value: Fixed) -> &'b str {
        bounds.iter().find(|(bound, _)| value < *bound).map_or(last, |(_, name)| name)
    }
}

impl Default for Buckets {
    fn default() -> Self {
        let texts = |bounds: &[&str]| bounds.iter().map(|b| b.to_string()).collect::<Vec<_>>();
        Buckets::new(&texts(&["0.6", "0.8"]), &texts(&["0.01", "0.1", "1"]))
            .expect("the default bounds are numbers")
    }
}

impl Grouping {
    /// The event's group, or `None` if the event does not contribute to this grouping.
    pub fn value<'e>(&self, event: &'e Event<'_>, buckets: &'e Buckets) -> Option<Cow<'e, str>> {
        match self {
            Grouping::TimeWindow => Some(Cow::Borrowed(ALL)),
            Grouping::Stage => {
                (event.kind == Kind::StageCompleted).then(|| safe_value(event.stage.as_deref()))
            }
            Grouping::Workflow => Some(safe_value(Some(&event.workflow_id))),
            Grouping::By(dimensions) => match dimensions.as_slice() {
                [dimension] => dimension.value(event, buckets),
                dimensions => {
                    let mut joined = String::new();
                    for dimension in dimensions {
                        let separator = if joined.is_empty() { "" } else { " × " };
                        let _ = write!(joined, "{separator}{}", dimension.value(event, buckets)?);
                    }
                    Some(Cow::Owned(joined))
                }
            },
        }
    }
}

impl Dimension {
    fn value<'e>(self, event: &'e Event<'_>, buckets: &'e Buckets) -> Option<Cow<'e, str>> {
        let outcome = matches!(event.kind, Kind::Completed | Kind::Failed);
        let completed = event.kind == Kind::Completed;
        match self {
            Dimension::Model => outcome.then(|| safe_value(event.primary_model.as_deref())),
            Dimension::NodeType => {
                (outcome || event.kind == Kind::Started).then(|| safe_value(event.node_type.as_deref()))
            }
            Dimension::Domain => {
                (outcome || event.kind == Kind::Started).then(|| safe_value(event.domain.as_deref()))
            }
            Dimension::Quality => event
                .quality
                .filter(|_| completed)
                .map(|score| Cow::Borrowed(Buckets::name(&buckets.quality, &buckets.quality_last, score))),
            Dimension::Cost => event
                .cost
                .filter(|_| completed)
                .map(|cost| Cow::Borrowed(Buckets::name(&buckets.cost, &buckets.cost_last, cost))),
        }
    }
}

/// Makes a value fit to be a key: bounded, printable, and never one of our own words. The rules stand in `docs/semantics.md`.
pub fn safe_value(raw: Option<&str>) -> Cow<'_, str> {
    let raw = match raw {
        None | Some("") => return Cow::Borrowed(UNKNOWN),
        Some(raw) => raw,
    };
    let plain = raw.len() <= VALUE_BYTES_MAX
        && raw.bytes().all(|b| (0x20..0x7f).contains(&b))
        && !raw.starts_with("__")
        && !raw.starts_with('=')
        && raw != ALL
        && raw != UNKNOWN;
    if plain { Cow::Borrowed(raw) } else { Cow::Owned(escape(raw)) }
}

fn escape(raw: &str) -> String {
    let mut value = String::with_capacity(raw.len() + 1);
    for c in raw.chars() {
        match c {
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '×' => {
                let _ = write!(value, "\\u{:04x}", u32::from(c));
            }
            c => value.push(c),
        }
    }
    if value == ALL || value == UNKNOWN || value.starts_with("__") || value.starts_with('=') {
        value.insert(0, '=');
    }
    if value.len() > VALUE_BYTES_MAX {
        value.truncate(value.floor_char_boundary(VALUE_BYTES_KEPT));
        let digest = Sha256::digest(raw.as_bytes());
        value.push('~');
        digest.iter().take(8).for_each(|byte| {
            let _ = write!(value, "{byte:02x}");
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bounded_printable_and_never_our_words() {
        for (raw, safe) in [
            ("", "unknown"),
            ("gpt", "gpt"),
            ("all", "=all"),
            ("unknown", "=unknown"),
            ("__x", "=__x"),
            ("=x", "==x"),
            ("_x", "_x"),
            ("a\nb", "a\\u000ab"),
            ("a × b", "a \\u00d7 b"),
            ("\u{85}", "\\u0085"),
            ("é", "é"),
        ] {
            assert_eq!(safe_value(Some(raw)), safe, "{raw:?}");
        }
        let long = safe_value(Some(&"é".repeat(200))).into_owned();
        assert_eq!(long.len(), 238 + 17);
        assert_ne!(long, safe_value(Some(&"é".repeat(201))));
        assert_eq!(safe_value(Some(&"x".repeat(255))).len(), 255);
    }

    #[test]
    fn names_read_back() {
        for name in [
            "time_window",
            "stage_grouping",
            "workflow_grouping",
            "cost_buckets",
            "model_grouping*node_type_grouping",
        ] {
            assert_eq!(name.parse::<Grouping>().unwrap().to_string(), name);
        }
        for name in
            ["", "model", "model_grouping*", "model_grouping*model_grouping", "stage_grouping*model_grouping"]
        {
            assert!(name.parse::<Grouping>().is_err(), "{name}");
        }
    }

    #[test]
    fn bucket_bounds_belong_to_the_bucket_above() {
        let buckets = Buckets::default();
        let quality =
            |text| Buckets::name(&buckets.quality, &buckets.quality_last, Fixed::parse(text, 1).unwrap());
        assert_eq!([quality("0.599999999999"), quality("0.6"), quality("0.8")], ["low", "medium", "high"]);
        let cost = |text| Buckets::name(&buckets.cost, &buckets.cost_last, Fixed::parse(text, 9).unwrap());
        assert_eq!(
            [cost("0"), cost("0.01"), cost("0.1"), cost("1")],
            ["lt_0.01", "0.01_to_0.1", "0.1_to_1", "ge_1"]
        );
    }
}
