//! Turns texts into typed values by the rules of the table, and keeps every fault met on the way.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::fault::{Cause, ConfigFault};
use super::print::ShownSetting;
use super::quantity::{parse_duration, parse_integer, parse_size};
use super::secret::{Database, MASK, Secret};
use super::sources::{Given, Origin, Sources};
use super::table::{Kind, SETTINGS, Setting, setting};

/// Reads settings one by one. After a fault the default stands in; the caller drops the whole then.
pub(super) struct Reader<R> {
    pub(super) sources: Sources<R>,
    pub(super) faults: Vec<ConfigFault>,
    pub(super) shown: Vec<ShownSetting>,
    /// Settings with a fault: rules between settings pass over them.
    faulted: BTreeSet<&'static str>,
}

impl<R: Fn(&Path) -> io::Result<String>> Reader<R> {
    pub(super) fn new(sources: Sources<R>) -> Self {
        let faults = sources.strangers();
        Reader { sources, faults, shown: Vec::new(), faulted: BTreeSet::new() }
    }

    /// A setting with a default in the table.
    pub(super) fn value<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, Cause>) -> T {
        let default = known(name).default.expect("the table has a default for it");
        self.value_or(name, default.to_owned(), Origin::Default, parse)
    }

    /// A setting whose default comes from elsewhere, and is valid.
    pub(super) fn value_or<T>(
        &mut self,
        name: &'static str,
        default: String,
        origin: Origin,
        parse: impl Fn(&str) -> Result<T, Cause>,
    ) -> T {
        if let Some(value) = self.given(name, &parse) {
            return value;
        }
        self.show(known(name), &default, origin);
        // A test reads every default of the table; the others are valid by the contract's own rules.
        parse(&default).expect("defaults are valid")
    }

    /// A setting that may be unset.
    pub(super) fn value_if_any<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, Cause>,
    ) -> Option<T> {
        let value = self.given(name, parse);
        if value.is_none() {
            self.shown.push(ShownSetting {
                name: name.to_owned(),
                value: known(name).default_words.to_owned(),
                origin: Origin::Default,
            });
        }
        value
    }

    pub(super) fn integer<T: TryFrom<u64>>(&mut self, name: &'static str) -> T {
        let Kind::Integer(min, max) = known(name).kind else { unreachable!("{name} is no integer") };
        self.value(name, |text| parse_limited_integer(text, min, max))
    }

    pub(super) fn integer_or<T: TryFrom<u64>>(
        &mut self,
        name: &'static str,
        default: u64,
        origin: Origin,
    ) -> T {
        let Kind::Integer(min, max) = known(name).kind else { unreachable!("{name} is no integer") };
        self.value_or(name, default.to_string(), origin, |text| parse_limited_integer(text, min, max))
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Duration {
        let Kind::Duration(min, max) = known(name).kind else { unreachable!("{name} is no duration") };
        let limits = Duration::from_millis(min)..=Duration::from_millis(max);
        self.value(name, |text| {
            let duration = parse_duration(text)?;
            if limits.contains(&duration) { Ok(duration) } else { Err("out of range".into()) }
        })
    }

    pub(super) fn size(&mut self, name: &'static str) -> u64 {
        let Kind::Size(min, max) = known(name).kind else { unreachable!("{name} is no size") };
        self.value(name, |text| {
            let bytes = parse_size(text)?;
            if (min..=max).contains(&bytes) { Ok(bytes) } else { Err("out of range".into()) }
        })
    }

    pub(super) fn choice(&mut self, name: &'static str) -> &'static str {
        let Kind::Choice(words) = known(name).kind else { unreachable!("{name} is no choice") };
        self.value(name, |text| {
            let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
            word.copied().ok_or_else(|| "not one of these".into())
        })
    }

    pub(super) fn boolean(&mut self, name: &'static str) -> bool {
        self.value(name, |text| match text.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("neither".into()),
        })
    }

    pub(super) fn address(&mut self, name: &'static str) -> IpAddr {
        self.value(name, |text| text.parse::<IpAddr>().map_err(Cause::from))
    }

    /// A token that goes into an HTTP header.
    pub(super) fn token(&mut self, name: &'static str, min_chars: usize) -> Option<Secret> {
        self.value_if_any(name, |text| {
            if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("it has spaces, control characters or characters beyond ASCII".into());
            }
            if !(min_chars..=512).contains(&text.len()) {
                return Err(format!("it has {} characters", text.len()).into());
            }
            Ok(Secret::new(text))
        })
    }

    /// Reports that `rule` does not hold, unless one of the settings has a fault of its own.
    pub(super) fn require(&mut self, names: &[&'static str], holds: bool, rule: impl Into<String>) {
        if holds || names.iter().any(|name| self.faulted.contains(name)) {
            return;
        }
        let given: Vec<String> =
            names.iter().map(|name| format!("{name}={}", self.shown_value(name))).collect();
        self.faults.push(ConfigFault::Pair { given: given.join(", "), rule: rule.into() });
    }

    /// Marks a setting as faulted for a reason found by the caller.
    pub(super) fn fail(&mut self, name: &'static str, fault: ConfigFault) {
        self.faulted.insert(name);
        self.faults.push(fault);
    }

    fn given<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, Cause>) -> Option<T> {
        let setting = known(name);
        match self.sources.given(setting) {
            Ok(None) => None,
            Ok(Some(Given { value, origin })) => match parse(&value) {
                Ok(parsed) => {
                    self.show(setting, &value, origin);
                    Some(parsed)
                }
                Err(cause) => {
                    let value = masked_faulty(setting, &value);
                    let (name_text, allowed) = (name.to_owned(), setting.kind.allowed());
                    self.fail(name, ConfigFault::NotAllowed { name: name_text, value, allowed, cause });
                    None
                }
            },
            Err(fault) => {
                self.fail(name, fault);
                None
            }
        }
    }

    fn show(&mut self, setting: &Setting, value: &str, origin: Origin) {
        let value = masked(setting, value);
        self.shown.push(ShownSetting { name: setting.name.to_owned(), value, origin });
    }

    fn shown_value(&self, name: &str) -> &str {
        self.shown.iter().find(|shown| shown.name == name).map_or("", |shown| shown.value.as_str())
    }

    /// Puts what is shown into the order of the table.
    pub(super) fn sort_shown(&mut self) {
        let place = |name: &str| SETTINGS.iter().position(|setting| setting.name == name);
        self.shown.sort_by_key(|shown| place(&shown.name).unwrap_or(usize::MAX));
    }
}

fn known(name: &'static str) -> &'static Setting {
    // Names are literals in this module's callers, and every one of them is read in each test.
    setting(name).expect("the table has the setting")
}

fn parse_limited_integer<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<T, Cause> {
    if text.starts_with("tcp://") {
        // Kubernetes sets CONSUL_PORT so, when a service is called consul.
        return Err("this is a Kubernetes service link: set enableServiceLinks: false in the pod".into());
    }
    let value = parse_integer(text)?;
    if !(min..=max).contains(&value) {
        return Err("out of range".into());
    }
    T::try_from(value).map_err(|_| "out of range".into())
}

/// A valid value as it may be shown.
fn masked(setting: &Setting, value: &str) -> String {
    match (setting.secret, Database::parse(value)) {
        (false, _) => value.to_owned(),
        (true, Ok(database)) if setting.name == "DATABASE_URL" => database.to_string(),
        (true, _) => MASK.to_owned(),
    }
}

/// A faulty value: of a URL that could not be read, only the scheme is surely no secret.
fn masked_faulty(setting: &Setting, value: &str) -> String {
    if !setting.secret {
        return format!("{value:?}");
    }
    let scheme = value.split_once(':').map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| ["sqlite", "postgres", "postgresql"].contains(scheme)) {
        Some("sqlite") if setting.name == "DATABASE_URL" => format!("{value:?}"),
        Some(scheme) if setting.name == "DATABASE_URL" => format!("{scheme}:{MASK}"),
        _ => MASK.to_owned(),
    }
}
