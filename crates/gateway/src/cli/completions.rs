//! `nightgate completions`: a script for the shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Done, EXIT_OK, out};

/// Print a script that completes commands in your shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate completions bash > ~/.local/share/bash-completion/completions/nightgate
  nightgate completions zsh > ~/.zfunc/_nightgate
  nightgate completions fish > ~/.config/fish/completions/nightgate.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "nightgate", &mut script);
        out::say(String::from_utf8_lossy(&script).trim_end())?;
        Ok(EXIT_OK)
    }
}
