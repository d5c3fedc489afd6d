use super::*;
use crate::config::table::SETTINGS;
use crate::config::{Config, Origin};

fn run(line: &str) -> Result<(Command, Flags), clap::Error> {
    let words = std::iter::once("codegen-metrics-reducer").chain(line.split_whitespace());
    parse(words).map(|(cli, flags)| (cli.command, flags))
}

fn command(line: &str) -> Command {
    run(line).unwrap_or_else(|error| panic!("{error}")).0
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn aggregate_has_the_defaults_of_the_documentation() {
    let Command::Aggregate(args) = command("aggregate -") else { panic!("another command") };
    assert_eq!((args.records.window, args.timezone, args.format), (Span::Hourly, Tz::UTC, Format::Table));
    assert_eq!(args.records.group_by.iter().map(ToString::to_string).collect::<Vec<_>>(), ["time_window"]);
    assert_eq!((args.strict, args.max_groups, args.files), (false, 1000, vec!["-".to_owned()]));
}

#[test]
fn generate_and_demo_take_the_flags_of_the_documentation() {
    let Command::Generate(args) = command("generate --events 200_000 --seed 7") else {
        panic!("another command")
    };
    let day = Options { events: 200_000, seed: 7, ..Options::default() };
    assert_eq!(args.options(), day, "the defaults are the generator's");
    let line = "generate --events 1 --start 2026-03-01T00:00:00Z --span 90m --scenario many-groups --late 0";
    let Command::Generate(args) = command(line) else { panic!("another command") };
    assert_eq!((args.start, args.span, args.late), (1_772_323_200_000_000, 5_400_000_000, 0.0));
    assert_eq!(args.scenario, Scenario::ManyGroups);
    let line = "demo --events 200000 --seed 7 --exit-when-done --format json --window daily --group-by domain_grouping";
    let Command::Demo(args) = command(line) else { panic!("another command") };
    assert_eq!((args.events, args.exit_when_done, args.format), (Some(200_000), true, Format::Json));
}

#[test]
fn bad_usage_is_told_on_stderr_with_what_is_allowed() {
    for (line, part) in [
        ("fly", "unrecognized subcommand"),
        ("aggregate", "FILE"),
        ("aggregate --window yearly -", "hourly, daily, weekly"),
        ("aggregate --group-by models -", "models"),
        ("aggregate --timezone Mars -", "Europe/Berlin"),
        ("aggregate --kafka-group-id x -", "unexpected argument"),
        ("generate", "--events"),
        ("generate --events many", "not a whole number"),
        ("generate --events 1 --span 24", "write 24s"),
        ("generate --events 1 --start soon", "2026-01-01T00:00:00Z"),
        ("demo --exit-when-done", "--events"),
        ("run --kafka-grup-id x", "--kafka-group-id"),
        ("run --max-groups 1 --max-groups 2", "cannot be used multiple times"),
        ("run --kafka-conf debug", "PROPERTY=VALUE"),
    ] {
        let error = run(line).expect_err(line);
        assert!(error.use_stderr() && error.to_string().contains(part), "{line}: {error}");
    }
}

#[test]
fn the_long_help_lists_the_exit_codes_and_is_no_failure() {
    for line in ["--help", "-h", "--version", "topics create --help"] {
        assert!(!run(line).expect_err(line).use_stderr(), "{line}");
    }
    let help = run("--help").expect_err("help").to_string();
    for code in ["0", "1", "64", "65", "69", "70", "130"] {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}: {help}"
        );
    }
}

#[test]
fn each_setting_is_a_flag_of_each_command_that_takes_settings() {
    for line in ["run", "topics create", "config check", "config print"] {
        for setting in SETTINGS {
            let flags =
                run(&format!("{line} --{} x", setting.flag())).unwrap_or_else(|error| panic!("{error}")).1;
            assert!(!flags.is_empty(), "{line} --{}", setting.flag());
        }
        assert!(!run(&format!("{line} --api-token-file /t")).expect("valid").1.is_empty(), "{line}");
    }
    assert!(!run("topics --kafka-group-id x create").expect("valid").1.is_empty());
    let short = run("run -h").expect_err("help").to_string();
    assert!(!short.contains("--max-groups"), "{short}");
    let long = run("run --help").expect_err("help").to_string();
    assert!(long.contains("--max-groups <N>"), "{long}");
}

#[test]
fn flags_reach_the_settings() {
    let line =
        "config check --max-groups 7 --kafka-conf Security.Protocol=SSL --kafka-conf debug=broker,topic=a";
    let flags = run(line).expect("valid").1;
    let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    let config = Config::from_sources(std::iter::empty(), flags, no_file).expect("valid");
    assert_eq!(config.max_groups, 7);
    let properties: Vec<_> = config.kafka_properties.iter().collect();
    assert_eq!(properties, [("debug", "broker,topic=a"), ("security.protocol", "SSL")]);
    assert_eq!(config.shown().iter().filter(|shown| shown.origin == Origin::Flag).count(), 3);
}
