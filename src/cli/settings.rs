//! The flags of settings, made from the table of `config`.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::config::Flags;
use crate::config::table::{Kind, SETTINGS, Setting, flag_of};

const HEADING: &str = "Settings";
const KAFKA_CONF: &str = "KAFKA_CONF";

/// Names of variables with their flags, kept because clap borrows names for the life of the program.
static NAMES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let names = SETTINGS.iter().flat_map(|setting| [Some(setting.name.to_owned()), setting.file_name()]);
    names.flatten().chain([KAFKA_CONF.to_owned()]).map(|name| (name.clone(), flag_of(&name))).collect()
});

/// Adds a flag for each setting, for the file of each secret, and for properties of the Kafka client.
pub(super) fn with_settings(command: Command) -> Command {
    let command = SETTINGS.iter().fold(command, |command, setting| {
        let command = command.arg(setting_arg(setting));
        match setting.file_name() {
            Some(name) => command.arg(flag(&name, "FILE", format!("File with {}.", setting.name))),
            None => command,
        }
    });
    let help = "Property of the Kafka client, such as security.protocol=SSL; may be repeated. Give passwords as \
                KAFKA_CONF_…_FILE in the environment.";
    let properties = flag(KAFKA_CONF, "PROPERTY=VALUE", help.to_owned());
    command.arg(properties.action(ArgAction::Append).value_parser(property))
}

/// Adds the settings that were given to `matches`, or to a command below it, to `flags`.
pub(super) fn collect(matches: &ArgMatches, flags: &mut Flags) {
    for (name, _) in NAMES.iter().filter(|(name, _)| name != KAFKA_CONF) {
        if let Ok(Some(value)) = matches.try_get_one::<String>(name) {
            flags.set(name, value);
        }
    }
    let properties = matches.try_get_many::<(String, String)>(KAFKA_CONF);
    for (property, value) in properties.into_iter().flatten().flatten() {
        flags.set_kafka_property(property, value);
    }
    if let Some((_, below)) = matches.subcommand() {
        collect(below, flags);
    }
}

fn setting_arg(setting: &Setting) -> Arg {
    let value_name = match setting.kind {
        Kind::Text(_) => "TEXT",
        Kind::Integer(..) => "N",
        Kind::Duration(..) => "DURATION",
        Kind::Size(..) => "SIZE",
        Kind::Choice(_) => "WORD",
        Kind::Boolean => "BOOL",
    };
    let default = setting.default.unwrap_or(setting.default_words);
    let warning = if setting.secret { " Other users can see flags: rather give a file." } else { "" };
    let help = format!("{}{warning} [{}] [default: {default}]", setting.description, setting.kind.allowed());
    flag(setting.name, value_name, help)
}

/// Hidden in the short help: there are many, and most runs set none by flag. Global, so that they may follow `create` in
/// `topics create`.
fn flag(name: &str, value_name: &'static str, help: String) -> Arg {
    let (name, long) = NAMES.iter().find(|(known, _)| known == name).expect("NAMES has every flag");
    Arg::new(name.as_str())
        .long(long.as_str())
        .value_name(value_name)
        .help(help)
        .help_heading(HEADING)
        .hide_short_help(true)
        .global(true)
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((property, value)) if !property.trim().is_empty() => {
            Ok((property.trim().to_lowercase(), value.to_owned()))
        }
        _ => Err("write it as PROPERTY=VALUE".to_owned()),
    }
}
