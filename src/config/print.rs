//! Settings for people: `config print` and the table of the README.

use std::fmt::Write as _;

use super::sources::Origin;
use super::table::SETTINGS;

/// One setting with its value, masked if secret, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownSetting {
    /// Name of the variable.
    pub name: String,
    /// The value as it may be shown.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings in aligned columns, one a line: name, value, origin.
pub fn settings_text(shown: &[ShownSetting]) -> String {
    let width = |column: fn(&ShownSetting) -> &str| {
        shown.iter().map(|setting| column(setting).chars().count()).max().unwrap_or(0)
    };
    let (names, values) = (width(|setting| &setting.name), width(|setting| &setting.value));
    shown.iter().fold(String::new(), |mut text, ShownSetting { name, value, origin }| {
        let _ = writeln!(text, "{name:names$}  {value:values$}  {origin}");
        text
    })
}

/// All settings as a Markdown table: name, default, what is allowed, what it does.
pub fn settings_markdown() -> String {
    let mut text = String::from("| setting | default | allowed | what it does |\n|---|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            Some(value) => format!("`{value}`"),
            None => setting.default_words.to_owned(),
        };
        let secret =
            if setting.secret { format!(" Secret; also `{}_FILE`.", setting.name) } else { String::new() };
        let (allowed, description) = (setting.kind.allowed(), setting.description);
        let _ = writeln!(text, "| `{}` | {default} | {allowed} | {description}{secret} |", setting.name);
    }
    text.push_str(
        "| `KAFKA_CONF_*` | none | what librdkafka takes | Property of the Kafka client: `KAFKA_CONF_SECURITY_PROTOCOL` is \
         `security.protocol`. Passwords and secrets also as `…_FILE`. |\n",
    );
    text
}
