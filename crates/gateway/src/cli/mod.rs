//! The command line: one file a command. Only here (and in the `open` files) are concrete backends
//! named; everything below is handed its parts.

pub(crate) mod beyond;
pub mod completions;
pub mod config;
pub mod consent;
pub mod demo;
pub mod doctor;
pub mod drain;
pub mod explain;
pub mod hold;
pub mod lanes;
pub mod out;
mod process;
pub mod receipts;
pub mod road;
pub mod rules;
pub mod send;
pub mod serve;
mod shown;
mod stores;
pub(crate) mod together;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nightgate_core::Language;

use crate::config::{Config, Loaded, Sources};

/// Everything went as asked.
pub const EXIT_OK: u8 = 0;
/// Something failed; standard error says what and what to do.
pub const EXIT_FAILED: u8 = 1;
/// The command line, the configuration or a rule pack is wrong.
pub const EXIT_USAGE: u8 = 2;
/// The work was done, but parts of the input were turned down; the summary counts them.
pub const EXIT_PARTIAL: u8 = 3;

/// A quiet-hours gateway for bulk notifications: holds what may not leave now, releases it when the
/// window opens, and can prove both.
#[derive(Debug, Parser)]
#[command(name = "nightgate", version, about, long_about = LONG_ABOUT, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
A quiet-hours gateway for bulk notifications: holds what may not leave now, releases it when the
window opens, and can prove both.

In Korea an advertising message may not leave between 21:00 and 08:00 without the recipient's
separate night consent (Network Act Art. 50(3)). Post messages to Nightgate at any hour: it decides
for each whether it may leave now, keeps it durably if not, asks again when the window opens, and
files a receipt for every decision and every outcome.

  nightgate demo                      one night in under a minute, on a simulated clock
  nightgate serve                     the gateway: HTTP in, releaser, sinks
  nightgate send messages.ndjson      post a file of messages to it
  nightgate hold ls                   what is held, why, and when it will be out
  nightgate receipts --message ID     what became of one message, with proof";

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 failed · 2 wrong command line, configuration or rule pack ·
3 done, but parts of the input were turned down";

/// What every command understands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Configuration file [default: nightgate.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "NIGHTGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key, such as house.zone=Asia/Tokyo; may be given many times
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Language of sentences for people [default: that of the house]
    #[arg(long, global = true, value_name = "ko|en", env = "NIGHTGATE_LANGUAGE")]
    language: Option<Tongue>,
}

/// A language, as it is named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Tongue {
    /// Korean.
    Ko,
    /// English.
    En,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway: HTTP in, releaser, sinks; until Ctrl-C or SIGTERM
    Serve(serve::Serve),
    /// One night in under a minute, on a simulated clock
    Demo(demo::Demo),
    /// Release everything that is due, then exit: the batch job, free of any time limit
    Drain(drain::Drain),
    /// Post a file of messages to a running gateway, resuming where it stopped
    Send(send::Send),
    /// Ask what would become of a message now, or at any other time; nothing is stored
    Explain(explain::Explain),
    /// See what is held and why; take it back, or bring back what was buried
    Hold(hold::Hold),
    /// Import, show and record consents
    Consent(consent::ConsentCommand),
    /// See the lanes; pause and resume them
    Lanes(lanes::Lanes),
    /// Read receipts: the record of every decision and every outcome
    Receipts(receipts::Receipts),
    /// Check rule packs and show the rules in force
    Rules(rules::Rules),
    /// Check that this machine and configuration are fit to run, and say what to do if not
    Doctor(doctor::Doctor),
    /// Print every key with its default and comment, or the values in effect
    Config(config::ConfigCommand),
    /// Print a script that completes commands in your shell
    Completions(completions::Completions),
}

impl Common {
    /// The language of sentences for people.
    #[must_use]
    pub fn language(&self) -> Language {
        self.tongue().unwrap_or(Language::Korean)
    }

    /// The language that was asked for, if one was.
    fn tongue(&self) -> Option<Language> {
        self.language.map(|tongue| match tongue {
            Tongue::Ko => Language::Korean,
            Tongue::En => Language::English,
        })
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Failure::usage`] with every fault of every layer.
    pub fn load(&self) -> Result<Loaded, Failure> {
        let sources = Sources::of_process(self.config.clone(), self.set.clone());
        Config::load(&sources).map_err(|faults| Failure::usage(faults.to_string()))
    }
}

/// Why a command did not do what was asked, for standard error.
#[derive(Debug)]
pub struct Failure {
    /// One of the exit codes above.
    pub code: u8,
    /// What went wrong and what to do about it.
    pub text: String,
}

impl Failure {
    /// The command line or the configuration is wrong.
    #[must_use]
    pub fn usage(text: impl Into<String>) -> Self {
        Self {
            code: EXIT_USAGE,
            text: text.into(),
        }
    }

    /// Something failed.
    #[must_use]
    pub fn failed(text: impl Into<String>) -> Self {
        Self {
            code: EXIT_FAILED,
            text: text.into(),
        }
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        Self::failed(format!("failed to {error}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

/// What a command answers with: the exit code.
pub type Done = Result<u8, Failure>;

/// Where a Lambda function reaches its runtime: set by Lambda in its environment, and nowhere else.
pub(crate) const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";

/// Parses the command line and runs the command. Without one, in the environment of a Lambda
/// function, it is the function.
#[must_use]
pub fn main() -> ExitCode {
    let is_function = std::env::var_os(RUNTIME_API).is_some() && std::env::args_os().len() <= 1;
    let run = async move {
        match is_function {
            true => function().await,
            false => run(Cli::parse()).await,
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            out::complain(&format!("failed to start: {error}"));
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let done = runtime.block_on(run);
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            out::complain(&failure.text);
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(feature = "lambda")]
async fn function() -> Done {
    crate::lambda::run().await.map(|()| EXIT_OK)
}

#[cfg(not(feature = "lambda"))]
async fn function() -> Done {
    Err(Failure::usage(
        "this build is no Lambda function: build one with `cargo build --release --features full`, \
         or name a command; see `nightgate --help`",
    ))
}

/// Sends log lines to standard error, for those who build a road beside the command line.
#[cfg(feature = "lambda")]
pub(crate) fn start_log(config: &Config) {
    process::start_log(config);
}

async fn run(cli: Cli) -> Done {
    let common = cli.common;
    match cli.command {
        Command::Serve(command) => command.run(&common).await,
        Command::Demo(command) => command.run(&common).await,
        Command::Drain(command) => command.run(&common).await,
        Command::Send(command) => command.run(&common).await,
        Command::Explain(command) => command.run(&common).await,
        Command::Hold(command) => command.run(&common).await,
        Command::Consent(command) => command.run(&common).await,
        Command::Lanes(command) => command.run(&common).await,
        Command::Receipts(command) => command.run(&common).await,
        Command::Rules(command) => command.run(&common),
        Command::Doctor(command) => command.run(&common).await,
        Command::Config(command) => command.run(&common),
        Command::Completions(command) => command.run(),
    }
}

#[cfg(all(test, not(feature = "lambda")))]
mod tests {
    #[tokio::test]
    async fn a_build_that_is_no_function_says_how_to_make_one() {
        let failure = super::function().await.unwrap_err();
        assert_eq!(failure.code, super::EXIT_USAGE);
        assert!(failure.text.contains("--features full"), "{}", failure.text);
    }
}
