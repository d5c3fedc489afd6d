//! Command line in, exit code out.

use codegen_metrics_reducer::cli::{self, Cli, Command, ConfigCommand, TopicsCommand};
use codegen_metrics_reducer::commands::{self, AggregateOptions, exit};
use codegen_metrics_reducer::config::{self, Config, Flags, LogFormat};
use codegen_metrics_reducer::contract::Contract;
use codegen_metrics_reducer::daemon::DaemonError;
use codegen_metrics_reducer::demo;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let (cli, flags) = match cli::parse(std::env::args()) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    ExitCode::from(match dispatch(cli, flags) {
        Ok(code) => code,
        Err((code, text)) => {
            eprintln!("{text}");
            code
        }
    })
}

type Failure = (u8, String);

fn dispatch(cli: Cli, flags: Flags) -> Result<u8, Failure> {
    let failure = |error: &dyn std::fmt::Display| (exit::FAILURE, format!("error: {error}"));
    match cli.command {
        Command::Run => {
            let config = configure(flags)?;
            log_to_stderr(config.log_level, config.log_format);
            commands::run(&config).map_err(told)
        }
        Command::Topics(TopicsCommand::Create) => {
            let config = configure(flags)?;
            log_to_stderr(config.log_level, config.log_format);
            commands::create_topics(&config).map_err(told)
        }
        Command::Config(ConfigCommand::Check) => configure(flags).map(|_| {
            println!("settings and contract are valid");
            exit::OK
        }),
        Command::Config(ConfigCommand::Print) => {
            print!("{}", config::settings_text(configure(flags)?.shown()));
            Ok(exit::OK)
        }
        Command::Aggregate(args) => {
            let options = AggregateOptions {
                window: args.records.window,
                group_by: args.records.group_by,
                timezone: args.timezone,
                format: args.format,
                strict: args.strict,
                max_groups: args.max_groups as usize,
                files: args.files,
            };
            commands::aggregate(&options, &Contract::embedded()).map_err(|error| failure(&error))
        }
        Command::Generate(args) => commands::generate(args.options()).map_err(|text| (exit::USAGE, text)),
        Command::Demo(args) => {
            log_to_stderr("warn", LogFormat::Text);
            demo::run(&args).map_err(told)
        }
    }
}

fn told(error: DaemonError) -> Failure {
    let code = match &error {
        DaemonError::Log(_) => exit::UNAVAILABLE,
        DaemonError::Unsupported(_) => exit::USAGE,
        _ => exit::FAILURE,
    };
    (code, format!("error: {error}"))
}

fn configure(flags: Flags) -> Result<Config, Failure> {
    Config::from_sources(config::environment(), flags, |path| std::fs::read_to_string(path))
        .map_err(|faults| (exit::USAGE, faults.to_string()))
}

fn log_to_stderr(level: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(level).unwrap_or_default();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.init(),
    }
}
