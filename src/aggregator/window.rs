//! Slices and calendar windows of a time zone.

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// What a cell covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// A slice (15 minutes by default); rolling windows are merged from these.
    Slice,
    /// A clock hour of the zone.
    Hourly,
    /// A local day.
    Daily,
    /// A local week, from Monday.
    Weekly,
    /// A local calendar month.
    Monthly,
}

impl Span {
    /// The aligned windows, shortest first.
    pub const WINDOWS: [Span; 4] = [Span::Hourly, Span::Daily, Span::Weekly, Span::Monthly];

    /// The name in records, queries and tables.
    pub fn name(self) -> &'static str {
        match self {
            Span::Slice => "slice",
            Span::Hourly => "hourly",
            Span::Daily => "daily",
            Span::Weekly => "weekly",
            Span::Monthly => "monthly",
        }
    }

    /// The span of a name.
    pub fn from_name(name: &str) -> Option<Span> {
        [Span::Slice, Span::Hourly, Span::Daily, Span::Weekly, Span::Monthly]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// A half-open span of time in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First second.
    pub start_s: i64,
    /// First second after it.
    pub end_s: i64,
}

impl Window {
    /// Whether the instant lies in it.
    pub fn contains(&self, time_s: i64) -> bool {
        (self.start_s..self.end_s).contains(&time_s)
    }
}

/// Cuts time into slices and windows. Keeps the last window of each kind, for events come nearly in order.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: Tz,
    slice_s: i64,
    latest: [Option<Window>; 4],
}

impl Calendar {
    /// A calendar of this zone; `slice_s` divides an hour.
    pub fn new(zone: Tz, slice_s: i64) -> Calendar {
        Calendar { zone, slice_s, latest: [None; 4] }
    }

    /// The zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Length of a slice in seconds.
    pub fn slice_s(&self) -> i64 {
        self.slice_s
    }

    /// The slice that contains an instant.
    pub fn slice(&self, time_s: i64) -> Window {
        let start_s = time_s - time_s.rem_euclid(self.slice_s);
        Window { start_s, end_s: start_s + self.slice_s }
    }

    /// The span of this kind that contains an instant.
    pub fn window(&mut self, span: Span, time_s: i64) -> Window {
        let Some(index) = Span::WINDOWS.iter().position(|&s| s == span) else { return self.slice(time_s) };
        if let Some(window) = self.latest[index].filter(|w| w.contains(time_s)) {
            return window;
        }
        let window = match span {
            Span::Slice => self.slice(time_s),
            Span::Hourly => self.hour(time_s),
            Span::Daily | Span::Weekly | Span::Monthly => self.dates(span, time_s),
        };
        self.latest[index] = Some(window);
        window
    }

    fn local(&self, time_s: i64) -> NaiveDateTime {
        self.utc(time_s).with_timezone(&self.zone).naive_local()
    }

    /// Seconds come from accepted event times and wall clocks, both within chrono's range.
    fn utc(&self, time_s: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(time_s, 0).unwrap_or_default()
    }

    fn offset_s(&self, time_s: i64) -> i64 {
        let utc = self.utc(time_s).naive_utc();
        i64::from(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    }

    /// The clock hour, cut at an offset change inside it (at the next slice). Judged by the slice, so that a slice never falls into two hours.
    fn hour(&self, time_s: i64) -> Window {
        let slice = self.slice(time_s);
        let offset_s = self.offset_s(slice.start_s);
        let hour = slice.start_s - (slice.start_s + offset_s).rem_euclid(3_600);
        let (mut start_s, mut end_s) = (slice.start_s, slice.end_s);
        while start_s > hour && self.offset_s(start_s - self.slice_s) == offset_s {
            start_s -= self.slice_s;
        }
        while end_s < hour + 3_600 && self.offset_s(end_s) == offset_s {
            end_s += self.slice_s;
        }
        Window { start_s, end_s }
    }

    fn dates(&self, span: Span, time_s: i64) -> Window {
        let first = |date: NaiveDate| match span {
            Span::Weekly => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
            Span::Monthly => date.with_day(1).unwrap_or(date),
            _ => date,
        };
        let next = |date: NaiveDate| match span {
            Span::Weekly => date + Days::new(7),
            Span::Monthly => date + Months::new(1),
            _ => date + Days::new(1),
        };
        // Around a midnight that exists twice or not at all the local date may be one off: step to the window that contains the instant.
        let mut start = first(self.local(time_s).date());
        while self.midnight_s(start) > time_s {
            start = first(start - Days::new(1));
        }
        while self.midnight_s(next(start)) <= time_s {
            start = next(start);
        }
        Window { start_s: self.midnight_s(start), end_s: self.midnight_s(next(start)) }
    }

    /// The instant of a local midnight: the first of two, or the first instant after a gap.
    fn midnight_s(&self, date: NaiveDate) -> i64 {
        let midnight = date.and_time(chrono::NaiveTime::MIN);
        if let Some(instant) = self.zone.from_local_datetime(&midnight).earliest() {
            return instant.timestamp();
        }
        // In a gap: the change lies within a day and a half around the same reading in UTC; find it by bisection.
        let guess = midnight.and_utc().timestamp();
        let (mut before, mut after) = (guess - 36 * 3_600, guess + 36 * 3_600);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            if self.local(middle) < midnight {
                before = middle;
            } else {
                after = middle;
            }
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        crate::decode::parse_timestamp(text).unwrap() / 1_000_000
    }

    fn window(zone: &str, span: Span, at: &str) -> (String, i64) {
        let mut calendar = Calendar::new(zone.parse().unwrap(), 900);
        let window = calendar.window(span, seconds(at));
        let start = DateTime::from_timestamp(window.start_s, 0).unwrap();
        (start.format("%Y-%m-%dT%H:%M:%SZ").to_string(), window.end_s - window.start_s)
    }

    #[test]
    fn days_follow_the_zone() {
        assert_eq!(
            window("Europe/Berlin", Span::Daily, "2026-03-29T12:00:00Z"),
            ("2026-03-28T23:00:00Z".into(), 23 * 3600)
        );
        assert_eq!(
            window("Europe/Berlin", Span::Daily, "2026-10-25T12:00:00Z"),
            ("2026-10-24T22:00:00Z".into(), 25 * 3600)
        );
        assert_eq!(
            window("Asia/Kathmandu", Span::Hourly, "2026-01-01T00:00:00Z"),
            ("2025-12-31T23:15:00Z".into(), 3600)
        );
        assert_eq!(
            window("UTC", Span::Weekly, "2026-01-01T00:00:00Z"),
            ("2025-12-29T00:00:00Z".into(), 7 * 86400)
        );
        assert_eq!(
            window("UTC", Span::Monthly, "2024-02-29T23:59:59Z"),
            ("2024-02-01T00:00:00Z".into(), 29 * 86400)
        );
        assert_eq!(
            window("America/Santiago", Span::Daily, "2026-09-06T12:00:00Z"),
            ("2026-09-06T04:00:00Z".into(), 23 * 3600)
        );
    }

    #[test]
    fn an_hour_is_cut_at_an_offset_change_inside_it() {
        assert_eq!(
            window("Australia/Lord_Howe", Span::Hourly, "2026-10-03T15:20:00Z"),
            ("2026-10-03T14:30:00Z".into(), 3600)
        );
        assert_eq!(
            window("Australia/Lord_Howe", Span::Hourly, "2026-10-03T15:40:00Z"),
            ("2026-10-03T15:30:00Z".into(), 1800)
        );
    }

    #[test]
    fn windows_tile_time_in_every_zone() {
        for zone in chrono_tz::TZ_VARIANTS {
            for span in [Span::Daily, Span::Weekly, Span::Monthly] {
                let mut calendar = Calendar::new(zone, 900);
                let (mut at, end) = (seconds("2024-12-30T12:00:00Z"), seconds("2027-01-02T00:00:00Z"));
                let mut previous = calendar.window(span, at);
                while at < end {
                    at = previous.end_s;
                    let next = calendar.window(span, at);
                    assert_eq!(next.start_s, previous.end_s, "{zone} {span:?}");
                    assert_eq!(next.start_s % 900, 0, "{zone} {span:?} does not begin on a slice");
                    assert_eq!(calendar.window(span, next.end_s - 1), next, "{zone} {span:?}");
                    previous = next;
                }
            }
        }
    }
}
