//! Between the Lambda runtime and the functions.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::{Value as Json, json};

use super::clock::StoppedClock;
use super::functions::{Failed, FunctionParts, Functions, short};
use crate::cli::road::Road;
use crate::cli::together::Watching;
use crate::cli::{self, Failure, RUNTIME_API};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ConfigFile, FILE_DEFAULT, LogFormat, Sources};

/// The variable that names the folder of the binary.
const TASK_ROOT: &str = "LAMBDA_TASK_ROOT";
/// The variable that names another configuration file.
const CONFIG: &str = "NIGHTGATE_CONFIG";
/// Variables without which the runtime library would panic.
const NEEDED: [&str; 3] = [
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];
/// An instance has a disk of its own, which is empty at its start and gone with it: messages held
/// there would be lost, and an empty consent book would have all advertising refused.
const OWN_DISK: &str = "a function has no disk that lasts: set `hold.store` to \"sqs\", \
    `consent.store` to \"dynamodb\" or \"http\", and `receipts.store` to \"lines\" or \"sqs\" (or, \
    to try it out, `hold.store` to \"memory\")";
/// How the failure to start is called.
const INIT_FAILED: &str = "Nightgate.Init";
/// How long telling so may take: the process ends anyway.
const INIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens the road and answers calls until the process is ended.
///
/// # Errors
/// When the road cannot be opened, which Lambda is told, or the runtime cannot be reached.
pub async fn run() -> Result<(), Failure> {
    let opened = match open().await {
        Ok(opened) => opened,
        Err(failure) => {
            tell_init_error(&failure.text).await;
            return Err(failure);
        }
    };
    let (functions, clock, _watching) = opened;
    let functions = Arc::new(functions);
    clock.stops();
    let answer = move |event: LambdaEvent<Json>| {
        let (functions, clock) = (Arc::clone(&functions), Arc::clone(&clock));
        async move {
            clock.goes_on();
            let answer = functions.call(event.payload, event.context.deadline).await;
            clock.stops();
            answer
        }
    };
    lambda_runtime::run(service_fn(answer))
        .await
        .map_err(|error| Failure::failed(format!("the Lambda runtime failed: {error}")))
}

async fn open() -> Result<(Functions, Arc<StoppedClock>, Watching), Failure> {
    for variable in NEEDED {
        if std::env::var_os(variable).is_none() {
            let text = format!("{variable} is not set: {RUNTIME_API} is, and Lambda sets both");
            return Err(Failure::usage(text));
        }
    }
    let loaded = Config::load(&sources()).map_err(|faults| Failure::usage(faults.to_string()))?;
    let mut config = loaded.config;
    if config.uses_disk() {
        return Err(Failure::usage(OWN_DISK));
    }
    // CloudWatch reads lines of JSON.
    config.log.format = LogFormat::Json;
    cli::start_log(&config);
    let clock = Arc::new(StoppedClock::new(Arc::new(SystemClock::default())));
    let as_clock: Arc<dyn Clock> = clock.clone();
    let road = Road::open(&config, as_clock, fastrand::Rng::new()).await?;
    let sources = road.beyond.aws.sources(&config, &road).await?;
    let functions = Functions::new(FunctionParts {
        clock: road.clock,
        hold: road.hold,
        gate: road.gate,
        releaser: road.releaser,
        alerts: road.alerts,
        sources,
        margin: config.lambda.margin,
        release_on_receive: config.lambda.release_on_receive,
        sweep_every: short(config.release.sweep_every),
    });
    Ok((functions, clock, road.watching))
}

/// The environment, and the file beside the binary unless another is named.
fn sources() -> Sources {
    let folder = std::env::var_os(TASK_ROOT).map(PathBuf::from);
    let beside = folder.unwrap_or_default().join(FILE_DEFAULT);
    let named = std::env::var_os(CONFIG).map(PathBuf::from);
    let file = named.map_or(ConfigFile::IfThere(beside), ConfigFile::Named);
    Sources {
        file,
        ..Sources::of_process(None, Vec::new())
    }
}

/// Tells Lambda why the instance cannot start. Tried once: the process ends either way.
async fn tell_init_error(text: &str) {
    let Ok(api) = std::env::var(RUNTIME_API) else {
        return;
    };
    let base = match api.contains("://") {
        true => api,
        false => format!("http://{api}"),
    };
    let client = reqwest::Client::builder().no_proxy().timeout(INIT_TIMEOUT);
    let Ok(client) = client.build() else { return };
    let told = client
        .post(format!("{base}/2018-06-01/runtime/init/error"))
        .header("Lambda-Runtime-Function-Error-Type", INIT_FAILED)
        .json(&json!({"errorType": INIT_FAILED, "errorMessage": text, "stackTrace": []}))
        .send()
        .await;
    if let Err(error) = told {
        cli::out::complain(&format!(
            "Lambda could not be told: {}",
            error.without_url()
        ));
    }
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        Self {
            error_type: failed.kind.to_owned(),
            error_message: failed.to_string(),
        }
    }
}
