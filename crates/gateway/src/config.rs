//! Settings: defaults, a file, the environment, flags; every fault at once.
//!
//! `config/default.toml` is the reference and the defaults. [`Config::load`] stacks the layers,
//! checks them and answers a [`Config`] or all [`Faults`]. Nothing in here ever prints a secret.

mod check;
mod engines;
mod fault;
mod lanes;
mod layers;
mod named;
mod raw;
mod remote;
mod resolve;
mod sections;
#[cfg(test)]
mod tests;
mod webhook;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use self::engines::{MongoConfig, RedisConfig, RedisMode};
pub use self::fault::{Fault, Faults, Origin};
pub use self::raw::{DEFAULT_TOML, Setting};
use self::raw::{Layer, Settings, Shape};
pub use self::remote::{
    AlarmsShared, AwsConfig, ClaimStore, ConsentHttpConfig, ConsentStore, DynamoConfig,
    LambdaConfig, Opening, Recalls, ReceiptStore, ReceiptsConfig, SourceConfig, SqsHoldConfig,
};
pub use self::sections::{
    AlertsConfig, ClockConfig, Config, ConsentConfig, ConsentValidity, DataConfig, HoldConfig,
    HoldKind, HttpConfig, LaneConfig, LogConfig, LogFormat, LogSinkConfig, OnUnknown,
    ReleaseConfig, RulesConfig, SinkConfig, SqsSinkConfig, WebhookConfig,
};

/// The file that is read if it is there and no other is named.
pub const FILE_DEFAULT: &str = "nightgate.toml";

/// Which file to read.
#[derive(Clone, Debug, Default)]
pub enum ConfigFile {
    /// None.
    #[default]
    None,
    /// This one, if it is there.
    IfThere(PathBuf),
    /// This one; that it is missing is a fault.
    Named(PathBuf),
}

/// Where settings come from, beside the defaults. `Sources::default()` is the defaults alone.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: ConfigFile,
    /// Environment variables; those that do not start with `NIGHTGATE_` are passed over.
    pub env: Vec<(String, String)>,
    /// `section.key=value` pairs; later ones win.
    pub flags: Vec<String>,
}

impl Sources {
    /// What a process is told: the file named by `--config` or else [`FILE_DEFAULT`], its
    /// environment (variables that are not Unicode are passed over), and its flags.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<String>) -> Self {
        let file = file.map_or_else(
            || ConfigFile::IfThere(FILE_DEFAULT.into()),
            ConfigFile::Named,
        );
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            file,
            env: std::env::vars_os().filter_map(unicode).collect(),
            flags,
        }
    }

    fn file_layer(&self, shape: &Shape) -> (Layer, Vec<Fault>) {
        let (path, must) = match &self.file {
            ConfigFile::None => return Default::default(),
            ConfigFile::IfThere(path) => (path, false),
            ConfigFile::Named(path) => (path, true),
        };
        match std::fs::read_to_string(path) {
            Ok(text) => layers::from_file(shape, path, &text),
            Err(error) if error.kind() == ErrorKind::NotFound && !must => Default::default(),
            Err(error) => (Layer::default(), vec![unreadable(path, &error)]),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let origin = Origin::File {
        path: path.to_owned(),
        line: 1,
    };
    Fault {
        origin,
        key: String::new(),
        rule: format!("the file cannot be read: {error}"),
    }
}

/// A configuration and what it was made of.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key with its value, secrets hidden, and where it came from.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads and checks all layers.
    ///
    /// # Errors
    /// Every fault of every layer at once.
    pub fn load(sources: &Sources) -> Result<Loaded, Faults> {
        let shape = Shape::new();
        let read = [
            sources.file_layer(&shape),
            layers::from_env(&shape, &sources.env),
            layers::from_flags(&shape, &sources.flags),
        ];
        let (layers, faults): (Vec<_>, Vec<_>) = read.into_iter().unzip();
        let mut faults = faults.concat();
        let (settings, doubled) = Settings::stack(&shape, layers);
        faults.extend(doubled);
        let resolved = resolve::resolve(&settings);
        faults.extend(resolved.as_ref().err().into_iter().flatten().cloned());
        // What the parser makes of a broken line is no second fault.
        let broken: Vec<_> = faults
            .iter()
            .filter(|fault| fault.key.is_empty())
            .cloned()
            .collect();
        faults.retain(|fault| {
            fault.key.is_empty() || broken.iter().all(|other| other.origin != fault.origin)
        });
        match resolved {
            Ok(config) if faults.is_empty() => Ok(Loaded {
                config,
                settings: settings.lines(),
            }),
            _ => Err(Faults(faults)),
        }
    }
}
