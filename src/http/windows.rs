//! `/api/v1/windows`: records of aligned windows from their cells, of rolling ones merged from slices.

use super::{Api, ApiError, App, Reader, parameters};
use crate::aggregator::accumulator::Groupings;
use crate::aggregator::cell::Cell;
use crate::aggregator::group::OTHER;
use crate::aggregator::record::{self, Runtime, Subject};
use crate::aggregator::window::{Span, Window};
use crate::clock::wall_us;
use crate::decode::parse_timestamp;
use crate::store::{CellKey, RangeQuery, StoreError};
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Records of a page, at most.
const RECORDS_MAX: usize = 1_000;
/// Records of a page when the query does not say.
const RECORDS_DEFAULT: usize = 100;
/// A page ends after the record that reaches this size, bytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Cells read from the store at once: a cell with all its maps may be large.
const CELLS_READ_MAX: usize = 64;
/// Beyond every window, seconds: the year 10000.
const TIME_S_MAX: i64 = 253_402_300_800;
const US_PER_SECOND: i64 = 1_000_000;

const PARAMETERS: [&str; 7] =
    ["window_type", "aggregation_type", "group_key", "from", "to", "limit", "cursor"];

/// Name and length in seconds; all are whole hours, hence whole slices.
const ROLLING: [(&str, i64); 4] = [
    ("rolling_hourly", 3_600),
    ("rolling_daily", 86_400),
    ("rolling_weekly", 604_800),
    ("rolling_monthly", 2_592_000),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowType {
    Aligned(Span),
    Rolling(&'static str, i64),
}

impl WindowType {
    fn parse(name: &str) -> Result<WindowType, ApiError> {
        let aligned = Span::WINDOWS.into_iter().find(|span| span.name() == name).map(WindowType::Aligned);
        let rolling =
            || ROLLING.into_iter().find(|(n, _)| *n == name).map(|(n, s)| WindowType::Rolling(n, s));
        aligned.or_else(rolling).ok_or_else(|| {
            let known: Vec<&str> =
                Span::WINDOWS.into_iter().map(Span::name).chain(ROLLING.map(|(name, _)| name)).collect();
            ApiError::bad_request(format!("unknown window_type {name:?}: use one of {}", known.join(", ")))
        })
    }

    fn name(self) -> &'static str {
        match self {
            WindowType::Aligned(span) => span.name(),
            WindowType::Rolling(name, _) => name,
        }
    }
}

/// Where the next page begins. Clients hand it back as they got it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    /// The window type it was made for.
    window_type: String,
    /// The last record's window start, seconds.
    start_s: i64,
    /// Its grouping.
    aggregation_type: String,
    /// Its group.
    group_key: String,
}

impl Cursor {
    /// Hex of its JSON: opaque, and safe in an address.
    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a cursor is plain data");
        json.iter().fold(String::with_capacity(json.len() * 2), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn decode(hex: &str) -> Option<Cursor> {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
        let json: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect();
        serde_json::from_slice::<Cursor>(&json?)
            .ok()
            .filter(|cursor| (0..TIME_S_MAX).contains(&cursor.start_s))
    }
}

/// A valid query.
#[derive(Debug)]
struct Query {
    window_type: WindowType,
    aggregation_type: Option<String>,
    group_key: Option<String>,
    from_s: i64,
    to_s: i64,
    limit: usize,
    after: Option<Cursor>,
}

impl Query {
    fn parse(text: Option<&str>, api: &Api) -> Result<Query, ApiError> {
        let mut given = parameters(text, &PARAMETERS)?;
        let window_type = match given.get("window_type") {
            Some(name) => WindowType::parse(name)?,
            None => WindowType::Aligned(api.default_window),
        };
        let aggregation_type = given.remove("aggregation_type");
        if let Some(name) = &aggregation_type {
            let known: Vec<String> = api.groupings.list.iter().map(ToString::to_string).collect();
            if !known.contains(name) {
                let known = known.join(", ");
                return Err(ApiError::bad_request(format!(
                    "unknown aggregation_type {name:?}: use one of {known}"
                )));
            }
        }
        let rolling = matches!(window_type, WindowType::Rolling(..));
        if rolling && (given.contains_key("from") || given.contains_key("to")) {
            return Err(ApiError::bad_request("a rolling window ends now: leave out from and to"));
        }
        let from_s = instant_s(&given, "from")?.unwrap_or(0);
        let to_s = instant_s(&given, "to")?.unwrap_or(TIME_S_MAX);
        if from_s > to_s {
            return Err(ApiError::bad_request("from is after to: swap them"));
        }
        let limit = given.get("limit").map_or(Ok(RECORDS_DEFAULT), |text| limit(text))?;
        let after =
            given.get("cursor").map(|hex| cursor(hex, window_type, api.calendar.slice_s())).transpose()?;
        let group_key = given.remove("group_key");
        Ok(Query { window_type, aggregation_type, group_key, from_s, to_s, limit, after })
    }
}

/// The first whole second at or after an instant: windows begin on whole seconds.
fn instant_s(given: &BTreeMap<&str, String>, name: &str) -> Result<Option<i64>, ApiError> {
    let Some(text) = given.get(name) else { return Ok(None) };
    let us = parse_timestamp(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "{name} cannot be read: use an ISO-8601 time of the years 2000 to 2099 such as 2026-01-01T00:00:00Z, and write + as %2B"
        ))
    })?;
    Ok(Some(us.div_euclid(US_PER_SECOND) + i64::from(us.rem_euclid(US_PER_SECOND) > 0)))
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=RECORDS_MAX).contains(limit));
    limit
        .ok_or_else(|| ApiError::bad_request(format!("limit must be a whole number from 1 to {RECORDS_MAX}")))
}

fn cursor(hex: &str, window_type: WindowType, slice_s: i64) -> Result<Cursor, ApiError> {
    let cursor = Cursor::decode(hex).filter(|cursor| cursor.window_type == window_type.name());
    // A rolling window begins on a slice.
    let fits = |cursor: &Cursor| match window_type {
        WindowType::Rolling(..) => cursor.start_s % slice_s == 0,
        WindowType::Aligned(_) => true,
    };
    cursor.filter(fits).ok_or_else(|| {
        ApiError::bad_request(
            "cursor is not one of this query: hand back next_cursor unchanged, with the same window_type, or leave it out",
        )
    })
}

/// Records and where the next page begins.
#[derive(Debug, Default)]
pub(super) struct Page {
    records: Vec<String>,
    next: Option<Cursor>,
}

impl Page {
    /// The body; records are copied as they are, so that no number changes its text.
    fn body(&self) -> String {
        let next = self.next.as_ref().map_or("null".to_owned(), |cursor| format!("\"{}\"", cursor.encode()));
        format!("{{\"records\":[{}],\"next_cursor\":{next}}}", self.records.join(","))
    }
}

/// `GET /api/v1/windows`
pub(super) async fn windows(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let query = Query::parse(query.as_deref(), &app.api)?;
    let api = app.api.clone();
    let page = app.read(move |reader| page(reader, &api, query, wall_us())).await?;
    Ok(([(CONTENT_TYPE, "application/json")], page.body()).into_response())
}

fn page(reader: &Reader, api: &Api, query: Query, now_us: i64) -> Result<Page, StoreError> {
    let rebuild = reader.call(|store| store.status())?.recorder.rebuild;
    let printer = Printer { api, window_type: query.window_type.name(), rebuild, now_us };
    match query.window_type {
        WindowType::Aligned(span) => aligned(reader, &printer, &query, span),
        WindowType::Rolling(_, length_s) => {
            // Later pages stay with the window of the first one.
            let start_s = query.after.as_ref().map_or_else(
                || api.calendar.slice(now_us.div_euclid(US_PER_SECOND)).start_s - length_s,
                |cursor| cursor.start_s,
            );
            let window = Window { start_s, end_s: start_s + length_s };
            rolling(reader, &printer, &query, window)
        }
    }
}

/// What all records of a page have in common.
struct Printer<'a> {
    api: &'a Api,
    window_type: &'static str,
    rebuild: u64,
    now_us: i64,
}

impl Printer<'_> {
    fn print(
        &self,
        window: Window,
        aggregation_type: &str,
        group_key: &str,
        is_final: bool,
        cell: &Cell,
    ) -> String {
        let subject = Subject {
            window_type: self.window_type,
            start_s: window.start_s,
            end_s: window.end_s,
            timezone: self.api.calendar.zone().name(),
            aggregation_type,
            group_key,
            rebuild: self.rebuild,
            is_final,
        };
        record::render(&subject, cell, &Runtime { timestamp_us: self.now_us, ..Runtime::default() })
    }

    fn cursor(&self, start_s: i64, aggregation_type: String, group_key: String) -> Cursor {
        Cursor { window_type: self.window_type.to_owned(), start_s, aggregation_type, group_key }
    }
}

fn decode(bytes: &[u8]) -> Result<Cell, StoreError> {
    Cell::decode(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn aligned(reader: &Reader, printer: &Printer<'_>, query: &Query, span: Span) -> Result<Page, StoreError> {
    let mut range = RangeQuery {
        span,
        aggregation_type: query.aggregation_type.clone(),
        group_key: query.group_key.clone(),
        from_s: query.from_s,
        to_s: query.to_s,
        after: query.after.clone().map(|c| (c.start_s, c.aggregation_type, c.group_key)),
        limit: 0,
    };
    let (mut page, mut bytes) = (Page::default(), 0);
    loop {
        // One more than the page takes tells whether another follows.
        range.limit = CELLS_READ_MAX.min(query.limit - page.records.len() + 1);
        let cells = reader.call(|store| store.cells(&range))?;
        let ended = cells.len() < range.limit;
        for (key, stored) in cells {
            if page.records.len() == query.limit || bytes >= PAGE_BYTES_MAX {
                page.next = range.after.map(|(start_s, a, g)| printer.cursor(start_s, a, g));
                return Ok(page);
            }
            let window = Window { start_s: key.start_s, end_s: stored.end_s };
            let cell = decode(&stored.bytes)?;
            let text = printer.print(window, &key.aggregation_type, &key.group_key, stored.is_final, &cell);
            bytes += text.len();
            page.records.push(text);
            range.after = Some((key.start_s, key.aggregation_type, key.group_key));
        }
        if ended {
            return Ok(page);
        }
    }
}

/// Merges the slices of a window, keeping the groups of one page only: the keys are added in any order, but the lowest `limit + 1` only
/// ever go down, so what falls out of them never comes back.
struct Merge<'a> {
    groupings: &'a Groupings,
    names: Vec<String>,
    /// By grouping: groups that have their own record. Kept whole, for the cap must not depend on page or filter.
    present: Vec<BTreeSet<String>>,
    cells: BTreeMap<(String, String), Cell>,
}

impl<'a> Merge<'a> {
    fn new(groupings: &'a Groupings) -> Merge<'a> {
        let names: Vec<String> = groupings.list.iter().map(ToString::to_string).collect();
        let present = vec![BTreeSet::new(); names.len()];
        Merge { groupings, names, present, cells: BTreeMap::new() }
    }

    /// The group under which a slice's group appears: the first `MAX_GROUPS` of a window have their own record.
    fn admit(&mut self, key: &CellKey) -> String {
        let Some(index) = self.names.iter().position(|name| *name == key.aggregation_type) else {
            return key.group_key.clone();
        };
        let present = &mut self.present[index];
        let own =
            present.contains(&key.group_key) || self.groupings.admits(index, &key.group_key, present.len());
        let group = if own { key.group_key.as_str() } else { OTHER };
        if !present.contains(group) {
            present.insert(group.to_owned());
        }
        group.to_owned()
    }

    fn add(&mut self, key: CellKey, bytes: &[u8], query: &Query) -> Result<(), StoreError> {
        let group = self.admit(&key);
        if query.group_key.as_ref().is_some_and(|wanted| *wanted != group) {
            return Ok(());
        }
        let key = (key.aggregation_type, group);
        let seen = |cursor: &Cursor| (&key.0, &key.1) <= (&cursor.aggregation_type, &cursor.group_key);
        let full = self.cells.len() > query.limit;
        let beyond = full && self.cells.last_key_value().is_some_and(|(last, _)| key > *last);
        if query.after.as_ref().is_some_and(seen) || beyond {
            return Ok(());
        }
        self.cells.entry(key).or_default().merge(&decode(bytes)?, self.groupings.groups_max);
        if self.cells.len() > query.limit + 1 {
            self.cells.pop_last();
        }
        Ok(())
    }
}

fn rolling(
    reader: &Reader,
    printer: &Printer<'_>,
    query: &Query,
    window: Window,
) -> Result<Page, StoreError> {
    let mut range = RangeQuery {
        span: Span::Slice,
        aggregation_type: query.aggregation_type.clone(),
        group_key: None,
        from_s: window.start_s,
        to_s: window.end_s,
        after: None,
        limit: CELLS_READ_MAX,
    };
    let mut merge = Merge::new(&printer.api.groupings);
    loop {
        let cells = reader.call(|store| store.cells(&range))?;
        let ended = cells.len() < range.limit;
        for (key, stored) in cells {
            range.after = Some((key.start_s, key.aggregation_type.clone(), key.group_key.clone()));
            merge.add(key, &stored.bytes, query)?;
        }
        if ended {
            break;
        }
    }
    let mut page = Page::default();
    let more = merge.cells.len() > query.limit;
    let mut last = None;
    for ((aggregation_type, group_key), mut cell) in merge.cells.into_iter().take(query.limit) {
        cell.settle();
        page.records.push(printer.print(window, &aggregation_type, &group_key, false, &cell));
        last = Some((aggregation_type, group_key));
    }
    page.next = last.filter(|_| more).map(|(a, g)| printer.cursor(window.start_s, a, g));
    Ok(page)
}
