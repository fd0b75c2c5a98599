//! What a command owes the process it runs in: log lines, signals, memory.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Sends log lines to standard error, so that standard output is free for answers.
pub(super) fn start_log(config: &Config) {
    let filter = EnvFilter::new(format!("nightgate={}", config.log.level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber is refused; the first one does as well.
    let _ = match config.log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Begins the process anew with two of glibc's arenas, unless its environment says how many: with
/// the usual eight a processor, those of threads that come and go keep tens of megabytes that
/// nobody uses. glibc reads this once, when a process begins. Where it cannot be done, or another
/// libc would not know it, the process goes on as it is.
pub(super) fn with_few_arenas() {
    const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");
    let told = ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"];
    if !cfg!(target_env = "gnu") || told.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut anew = std::process::Command::new(program);
    anew.args(std::env::args_os().skip(1))
        .env(ARENAS.0, ARENAS.1);
    let error = anew.exec();
    tracing::debug!(%error, "the process could not begin anew with fewer arenas");
}

/// Returns on Ctrl-C or SIGTERM.
pub(super) async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
