//! The built binary in a directory of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A working directory, with `nightgate-data` in it once a command made one.
pub(crate) struct Home {
    dir: TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// The one JSON document it answered with.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The NDJSON it answered with.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap();
        self.out.lines().map(line).collect()
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and answers its name.
    pub(crate) fn write<'a>(&self, name: &'a str, text: &str) -> &'a str {
        std::fs::write(self.path(name), text).unwrap();
        name
    }

    /// The command, with nothing of our environment but what is given.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightgate"));
        command
            .env_clear()
            .current_dir(self.dir.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args))
    }

    #[track_caller]
    pub(crate) fn run_with(&self, env: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        finish(command)
    }

    /// Runs with `input` on standard input.
    #[track_caller]
    pub(crate) fn pipe(&self, input: &str, args: &[&str]) -> Ran {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        ran(&child.wait_with_output().unwrap())
    }

    /// A gateway on a free port, until it is dropped.
    pub(crate) fn serve(&self) -> Served {
        let log = "log.format=json";
        let sink = "lane.main.log.path=out.ndjson";
        let args = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--set",
            log,
            "--set",
            sink,
        ];
        let mut child = self.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            line["fields"]["address"].as_str().map(str::to_owned)
        });
        // A pipe that nobody reads would stand still once it is full.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://{}", address.unwrap());
        Served { child, url }
    }
}

fn finish(mut command: Command) -> Ran {
    ran(&command.output().unwrap())
}

fn ran(output: &std::process::Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// A gateway that runs.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
