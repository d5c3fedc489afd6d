//! Takes a document apart key by key, and keeps every fault met on the way.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::ContractFault;
use crate::config::quantity;
use crate::config::suggest;

/// One mapping of the document. Readers return a placeholder after a fault; the caller drops the result then.
pub(super) struct Section<'a> {
    path: String,
    /// What is not read yet; what is left at the end is unknown.
    entries: Map<String, Value>,
    known_keys: Vec<&'static str>,
    /// The mapping itself is missing or of another type: that was one fault, its keys are none.
    absent: bool,
    faults: &'a mut Vec<ContractFault>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(tree: Value, faults: &'a mut Vec<ContractFault>) -> Section<'a> {
        Section::at("the document".to_owned(), Some(tree), faults, true)
    }

    fn at(path: String, value: Option<Value>, faults: &'a mut Vec<ContractFault>, is_root: bool) -> Self {
        let entries = match value {
            Some(Value::Object(entries)) => Some(entries),
            Some(other) => {
                let expected = "keys and values".to_owned();
                faults.push(ContractFault::Type { path: path.clone(), found: found(&other), expected });
                None
            }
            None => {
                faults.push(ContractFault::Missing { path: path.clone(), expected: "this section".into() });
                None
            }
        };
        let path = if is_root { String::new() } else { path };
        let absent = entries.is_none();
        Section { path, entries: entries.unwrap_or_default(), known_keys: Vec::new(), absent, faults }
    }

    /// The mapping under `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_> {
        let value = self.take(key);
        let path = self.path_of(key);
        if self.absent {
            return Section {
                path,
                entries: Map::new(),
                known_keys: Vec::new(),
                absent: true,
                faults: self.faults,
            };
        }
        Section::at(path, value, self.faults, false)
    }

    /// The mappings listed under `key`.
    pub(super) fn sections(&mut self, key: &'static str, mut read: impl FnMut(Section<'_>)) {
        for (index, item) in self.list(key, "a list").into_iter().enumerate() {
            read(Section::at(self.path_of(&format!("{key}[{index}]")), Some(item), self.faults, false));
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&mut self, key: &'static str, expected: &str) -> String {
        match self.required(key, expected) {
            Some(Value::String(text)) if !text.trim().is_empty() => text,
            Some(other) => self.wrong_type(key, &other, expected),
            None => String::new(),
        }
    }

    /// One of the texts in `choices`.
    pub(super) fn choice(&mut self, key: &'static str, choices: &[&str]) -> String {
        let expected =
            if choices.len() == 1 { choices[0].to_owned() } else { format!("one of {}", choices.join(", ")) };
        let text = self.text(key, &expected);
        if !text.is_empty() && !choices.contains(&text.as_str()) {
            self.refuse(key, &text, &format!("write {expected}"));
        }
        text
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str, expected: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, item) in self.list(key, expected).into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => texts.push(self.wrong_type(&format!("{key}[{index}]"), &other, "a text in quotes")),
            }
        }
        texts
    }

    /// The same, but the key may be left out.
    pub(super) fn texts_if_any(&mut self, key: &'static str, expected: &str) -> Vec<String> {
        if self.entries.contains_key(key) { self.texts(key, expected) } else { self.skip(key) }
    }

    /// A whole number within `range`.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> u32 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        match self.required(key, &expected) {
            Some(Value::Number(number)) => {
                let value = number.as_u64().and_then(|value| u32::try_from(value).ok());
                value.filter(|value| range.contains(value)).unwrap_or_else(|| {
                    self.refuse(key, &number.to_string(), &format!("write {expected}"));
                    *range.start()
                })
            }
            Some(other) => {
                self.wrong_type(key, &other, &expected);
                *range.start()
            }
            None => *range.start(),
        }
    }

    /// A duration with its unit, within `range`.
    pub(super) fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Duration {
        self.quantity(key, range, "a duration", quantity::parse_duration, quantity::format_duration)
    }

    /// A size, within `range`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        self.quantity(key, range, "a size", quantity::parse_size, quantity::format_size)
    }

    fn quantity<T: PartialOrd + Copy, E: Display>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<T>,
        what: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        format: impl Fn(T) -> String,
    ) -> T {
        let limits = format!("{what} from {} to {}", format(*range.start()), format(*range.end()));
        let text = match self.required(key, &limits) {
            Some(Value::String(text)) => text,
            // Bare numbers are numbers to YAML; the parser of the quantity knows whether they will do.
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => self.wrong_type(key, &other, &limits),
            None => return *range.start(),
        };
        if text.is_empty() {
            return *range.start();
        }
        match parse(&text) {
            Ok(value) if range.contains(&value) => return value,
            Ok(_) => self.refuse(key, &text, &format!("write {limits}")),
            Err(error) => self.refuse(key, &text, &format!("{error}; write {limits}")),
        }
        *range.start()
    }

    /// Reports that the value under `key` will not do.
    pub(super) fn refuse(&mut self, key: &str, value: &str, remedy: &str) {
        let (path, value, remedy) = (self.path_of(key), value.to_owned(), remedy.to_owned());
        self.faults.push(ContractFault::Value { path, value, remedy });
    }

    /// Reports that something under `key` is not there.
    pub(super) fn miss(&mut self, key: &str, expected: &str) {
        let path = self.path_of(key);
        // What lies inside something missing or of the wrong type is no fault of its own.
        let within = |fault: &ContractFault| match fault {
            ContractFault::Missing { path: outer, .. } | ContractFault::Type { path: outer, .. } => {
                path.starts_with(outer.as_str())
            }
            _ => false,
        };
        if !self.absent && !self.faults.iter().any(within) {
            self.faults.push(ContractFault::Missing { path, expected: expected.to_owned() });
        }
    }

    /// Ends the section: whatever was not read is unknown.
    pub(super) fn finish(mut self) {
        for key in std::mem::take(&mut self.entries).keys() {
            let hint = match suggest::nearest(key, self.known_keys.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("remove it; known here: {}", self.known_keys.join(", ")),
            };
            self.faults.push(ContractFault::UnknownKey { path: self.path_of(key), hint });
        }
    }

    fn list(&mut self, key: &'static str, expected: &str) -> Vec<Value> {
        match self.required(key, expected) {
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.wrong_type(key, &other, expected);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn required(&mut self, key: &'static str, expected: &str) -> Option<Value> {
        let value = self.take(key);
        if value.is_none() {
            self.miss(key, expected);
        }
        value
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known_keys.push(key);
        self.entries.remove(key)
    }

    fn skip(&mut self, key: &'static str) -> Vec<String> {
        self.known_keys.push(key);
        Vec::new()
    }

    fn wrong_type(&mut self, key: &str, value: &Value, expected: &str) -> String {
        let (path, expected) = (self.path_of(key), expected.to_owned());
        self.faults.push(ContractFault::Type { path, found: found(value), expected });
        String::new()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(value) => format!("the number {value}"),
        Value::String(text) if text.trim().is_empty() => "an empty text".to_owned(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a section".to_owned(),
    }
}
