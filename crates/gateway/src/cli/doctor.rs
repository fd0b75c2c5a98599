//! `nightgate doctor`: is this machine and configuration fit to run, and if not, what to do?

mod together;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::beyond::Beyond;
use super::config::{Line, say_settings};
use super::road;
use super::stores::Stores;
use super::{Common, Done, EXIT_FAILED, EXIT_OK, Failure, out, shown};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, HoldKind, LaneConfig, Loaded, SinkConfig};
use crate::error::{Error, Kind};
use crate::hold::Capability;
use crate::receipt::{ReceiptAsk, ReceiptLog};

/// Least free space in the data directory, in bytes: an hour of a busy night.
const FREE_MIN_BYTES: u64 = 1024 * 1024 * 1024;
/// Longest wait for the gateway that already listens.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Rights of others that the data directory must not grant: it holds recipients in clear.
const MODE_OTHERS: u32 = 0o077;
/// A zone whose clock changes: its rules are in no fixed offset.
const ZONE_PROBE: &str = "Europe/Paris";

/// Check that this machine and configuration are fit to run, and say what to do if not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nightgate doctor
  nightgate doctor --verbose                also every setting and where it comes from
  nightgate doctor --json | jq '.checks[] | select(.ok | not)'
Nothing is sent. Exit code 1: something must be done.")]
pub struct Doctor {
    /// Also show every setting and where it comes from; secrets are hidden
    #[arg(long, short)]
    verbose: bool,
}

/// One thing looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What was found.
    found: String,
    /// What to do, if it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

fn well(name: &'static str, found: impl Into<String>) -> Check {
    Check {
        name,
        ok: true,
        found: found.into(),
        remedy: None,
    }
}

fn ill(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check {
        name,
        ok: false,
        found: found.into(),
        remedy: Some(remedy.into()),
    }
}

impl Doctor {
    pub(super) async fn run(self, common: &Common) -> Done {
        let mut checks = Vec::new();
        let loaded = match common.load() {
            Ok(loaded) => Some(loaded),
            Err(fault) => {
                let remedy = "correct it; `nightgate config` prints every key with its comment";
                checks.push(ill("configuration", fault.text, remedy));
                None
            }
        };
        if let Some(loaded) = &loaded {
            look(loaded, &mut checks).await;
        }
        let fit = checks.iter().all(|check| check.ok);
        let settings = loaded
            .as_ref()
            .filter(|_| self.verbose)
            .map(|loaded| &loaded.settings);
        let settings: Option<Vec<_>> =
            settings.map(|settings| settings.iter().map(Line::from).collect());
        if common.json {
            let mut all = serde_json::json!({ "fit": fit, "checks": checks });
            if let Some(settings) = &settings {
                all["settings"] = serde_json::json!(settings);
            }
            out::say_json(&all)?;
        } else {
            if let Some(settings) = &settings {
                say_settings(settings)?;
                out::say("")?;
            }
            checks.iter().try_for_each(say)?;
        }
        Ok(if fit { EXIT_OK } else { EXIT_FAILED })
    }
}

fn say(check: &Check) -> Result<(), Failure> {
    let sign = if check.ok { "✓" } else { "✗" };
    let found = check.found.replace('\n', "\n    ");
    out::say(&format!("{sign} {}: {found}", check.name))?;
    match &check.remedy {
        Some(remedy) => out::say(&format!("    → {remedy}")),
        None => Ok(()),
    }
}

async fn look(loaded: &Loaded, checks: &mut Vec<Check>) {
    let config = &loaded.config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let beyond = Beyond::new(config);
    let set = loaded.settings.iter();
    let set = set
        .filter(|setting| setting.origin != crate::config::Origin::Default)
        .count();
    checks.push(well(
        "configuration",
        format!("no faults, {set} keys differ from the defaults"),
    ));
    checks.push(rules(config));
    checks.push(zones(config));
    if config.hold.store == HoldKind::Memory {
        let remedy = format!(
            "set `hold.store` to \"{}\" for anything but trying out",
            HoldKind::DEFAULT.as_str()
        );
        checks.push(ill(
            "data",
            "`hold.store` is \"memory\": all is gone at exit",
            remedy,
        ));
    } else if !config.uses_disk() {
        stores(config, &clock, &beyond, checks).await;
    } else {
        let dir = directory(&config.data.dir);
        let usable = dir.ok;
        checks.push(dir);
        if usable {
            checks.push(rights(&config.data.dir));
            checks.push(space(&config.data.dir));
            stores(config, &clock, &beyond, checks).await;
        }
    }
    checks.extend(together::look(config, &clock, &beyond).await);
    checks.push(sinks(config, &clock, &beyond).await);
    checks.push(tokens(config));
    checks.push(listener(config).await);
}

fn rules(config: &Config) -> Check {
    match road::rules(config) {
        Ok(rules) => {
            let ids: Vec<_> = rules.packs().map(|pack| pack.id.to_owned()).collect();
            let (ids, count) = (ids.join(", "), rules.rules().count());
            let count = shown::counted(count as u64, "rule");
            let found = format!("{count} of {ids}, version {}", rules.version());
            if rules.covers(config.house.jurisdiction) {
                return well("rules", found);
            }
            let home = config.house.jurisdiction;
            let remedy = format!("load a pack of {home}: until then its advertising is held");
            ill("rules", format!("{found}; none of {home}"), remedy)
        }
        Err(fault) => ill(
            "rules",
            fault.text,
            "correct the pack; see `nightgate rules check`",
        ),
    }
}

fn zones(config: &Config) -> Check {
    let house = &config.house.zone;
    let changes = TimeZone::get(ZONE_PROBE).is_ok_and(|zone| zone.to_fixed_offset().is_err());
    if changes {
        let name = house.iana_name().unwrap_or("unnamed");
        return well(
            "time zones",
            format!("at hand; the house is on the clock of {name}"),
        );
    }
    let remedy = "install the tzdata package, or unset ZONEINFO / TZDIR";
    ill(
        "time zones",
        format!("{ZONE_PROBE} is not known, or has no rules"),
        remedy,
    )
}

/// Makes the directory if it is missing, and writes and removes a file in it.
fn directory(dir: &Path) -> Check {
    use std::os::unix::fs::DirBuilderExt;
    const NAME: &str = "data directory";
    let shown = dir.display();
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    let made = made.and_then(|()| {
        let file = tempfile::Builder::new()
            .prefix(".doctor")
            .tempfile_in(dir)?;
        file.close()
    });
    match made {
        Ok(()) => well(NAME, format!("{shown} can be written")),
        Err(error) => {
            let remedy = "give this user the right to write it, or name another in `data.dir`";
            ill(NAME, format!("{shown} cannot be written: {error}"), remedy)
        }
    }
}

fn rights(dir: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    const NAME: &str = "permissions";
    let shown = dir.display();
    match std::fs::metadata(dir).map(|data| data.permissions().mode()) {
        Ok(mode) if mode & MODE_OTHERS == 0 => well(NAME, "nobody else can read the data"),
        Ok(mode) => {
            let found = format!("others may enter {shown} (mode {:o})", mode & 0o777);
            ill(
                NAME,
                found,
                format!("it holds recipients in clear: chmod 700 {shown}"),
            )
        }
        Err(error) => ill(
            NAME,
            format!("{shown} cannot be looked at: {error}"),
            "look at it",
        ),
    }
}

fn space(dir: &Path) -> Check {
    const NAME: &str = "free space";
    match rustix::fs::statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let found = format!("{} free", indicatif::HumanBytes(free));
            if free >= FREE_MIN_BYTES {
                return well(NAME, found);
            }
            let least = indicatif::HumanBytes(FREE_MIN_BYTES);
            ill(
                NAME,
                found,
                format!("make room: {least} at least; a full disk takes nothing in"),
            )
        }
        Err(error) => ill(
            NAME,
            format!("cannot be asked: {error}"),
            "look at the disk",
        ),
    }
}

async fn stores(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond, checks: &mut Vec<Check>) {
    const NAME: &str = "stores";
    let remedy = match config.uses_disk() {
        true => "stop the gateway, keep a copy of the data directory, and look at the disk",
        false => {
            "look at `redis`, `mongodb`, `aws`, `hold`, `consent` and `receipts` in the settings"
        }
    };
    let opened = match Stores::open(config, clock, beyond).await {
        Ok(opened) => opened,
        Err(fault) => {
            checks.push(ill(NAME, fault.text, remedy));
            return;
        }
    };
    let hold = opened.hold.check().await;
    // Stores elsewhere cannot tell everything; that they were reached is enough.
    let (book, receipts) = (
        told(opened.consent.count().await),
        told(opened.receipts.query(&one()).await),
    );
    let (count, readable) = match (hold, book, receipts) {
        (Ok(()), Ok(count), Ok(filed)) => (count, filed.is_some()),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            checks.push(ill(NAME, format!("failed to {error}"), remedy));
            return;
        }
    };
    checks.push(well(
        NAME,
        match count.map(shown::grouped) {
            Some(count) => format!("open; the consent book knows {count} recipients"),
            None => "open; consents are kept elsewhere".to_owned(),
        },
    ));
    let claims = opened.attempts.claims();
    checks.extend(promises(
        opened.hold.capability(),
        claims,
        &in_order(config),
    ));
    if readable {
        checks.push(plausible(config, &*opened.receipts, clock.now()).await);
    }
}

/// Lanes whose sinks keep the order of what they are given.
fn in_order(config: &Config) -> Vec<&str> {
    let keeps = |lane: &&LaneConfig| match &lane.sink {
        SinkConfig::Sqs(sqs) => sqs.queue.ends_with(".fifo"),
        SinkConfig::Log(_) | SinkConfig::Webhook(_) => false,
    };
    let lanes = config.lanes.iter().filter(keeps);
    lanes.map(|lane| lane.name.as_str()).collect()
}

/// What the hold cannot promise and somebody may count on. No fault: a choice.
fn promises(hold: Capability, claims: bool, in_order: &[&str]) -> Vec<Check> {
    let mut checks = Vec::new();
    if !hold.durable {
        let found = "an answer does not wait for a disk: what was accepted in the last second may \
                     be lost when the server dies";
        let remedy = "set `appendfsync always` on the server, or `redis.replicas_on_disk`";
        checks.push(Check {
            remedy: Some(remedy.to_owned()),
            ..well("durability", found)
        });
    }
    if !hold.dedupe {
        const NAME: &str = "copies";
        checks.push(match claims {
            true => well(NAME, "a message that is held twice leaves once"),
            false => Check {
                remedy: Some("set `hold.sqs.attempts` to \"dynamodb\"".to_owned()),
                ..well(NAME, "a message that is held twice leaves twice")
            },
        });
    }
    if !hold.order && !in_order.is_empty() {
        let found = format!(
            "the hold keeps no order, so what leaves by {} comes in any order to a queue that \
             keeps it",
            in_order.join(", ")
        );
        let remedy = "where order matters, hold in the embedded store";
        checks.push(Check {
            remedy: Some(remedy.to_owned()),
            ..well("order", found)
        });
    }
    checks
}

/// What a store told; `None` where it cannot tell such things.
fn told<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(error) if error.kind == Kind::Unsupported => Ok(None),
        answer => answer.map(Some),
    }
}

fn one() -> ReceiptAsk {
    ReceiptAsk {
        max: 1,
        ..ReceiptAsk::default()
    }
}

/// Whether the clock stands behind the receipts, further than the tolerance: then it was set back,
/// or was wrong when they were filed.
async fn plausible(config: &Config, receipts: &dyn ReceiptLog, now: Timestamp) -> Check {
    const NAME: &str = "clock";
    let zone = &config.house.zone;
    let ahead = now
        .checked_add(config.clock.jump_tolerance)
        .unwrap_or(Timestamp::MAX);
    let ask = ReceiptAsk {
        from: Some(ahead),
        ..one()
    };
    match receipts
        .query(&ask)
        .await
        .map(|filed| filed.into_iter().next())
    {
        Ok(None) => well(NAME, shown::instant(now, zone)),
        Ok(Some(filed)) => {
            let then = shown::instant(filed.receipt.at, zone);
            let found = format!(
                "{} is behind a receipt of {then}",
                shown::instant(now, zone)
            );
            ill(
                NAME,
                found,
                "set the clock (timedatectl, chrony); what is early is unlawful",
            )
        }
        Err(error) => ill(NAME, format!("failed to {error}"), "see the stores"),
    }
}

async fn sinks(config: &Config, clock: &Arc<dyn Clock>, beyond: &Beyond) -> Check {
    let remedy = "correct the lane's section; `nightgate config` explains its keys";
    let sinks = road::sinks(config, clock, beyond).await;
    match (sinks, road::ports(config, clock, beyond).await) {
        (Ok(sinks), Ok(_)) => {
            let lanes = shown::counted(sinks.len() as u64, "lane");
            well("sinks", format!("{lanes} can be served"))
        }
        (Err(fault), _) => ill("sinks", fault.text, remedy),
        (_, Err(fault)) => ill("alerts", fault.text, "correct `alerts.slack_url`"),
    }
}

fn tokens(config: &Config) -> Check {
    let http = &config.http;
    let tokens = [
        ("http.producer_token", &http.producer_token),
        ("http.operator_token", &http.operator_token),
        ("http.reader_token", &http.reader_token),
    ];
    let missing = tokens
        .iter()
        .filter(|(_, token)| token.is_none())
        .map(|(key, _)| *key);
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return well("tokens", "all three are set");
    }
    let missing = missing.join(", ");
    if http.listen.ip().is_loopback() {
        return well(
            "tokens",
            format!("{missing} not set; only this machine can reach it"),
        );
    }
    let remedy = "set them: openssl rand -base64 32 > FILE, then KEY_file = \"FILE\"";
    ill(
        "tokens",
        format!("{missing} not set, and {} is no loopback", http.listen),
        remedy,
    )
}

async fn listener(config: &Config) -> Check {
    const NAME: &str = "address";
    let listen = config.http.listen;
    match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => well(NAME, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && alive(config).await => {
            well(NAME, format!("a gateway answers at {listen}"))
        }
        Err(error) => {
            let remedy = "stop what holds it, or name another in `http.listen`";
            ill(NAME, format!("cannot listen on {listen}: {error}"), remedy)
        }
    }
}

/// Whether what listens answers as a gateway does.
async fn alive(config: &Config) -> bool {
    let url = format!("{}/healthz", super::send::url_of(config));
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ASK_TIMEOUT)
        .build();
    let Ok(client) = client else { return false };
    client
        .get(url)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: Capability = Capability {
        durable: true,
        dedupe: true,
        order: true,
        pick: true,
        exact_depth: true,
        find: true,
        ended: true,
        files: true,
        prompt: true,
        recall: true,
        redate: true,
    };

    #[test]
    fn what_a_weak_hold_cannot_promise_is_told_with_what_to_do_and_is_no_fault() {
        let weak = Capability {
            durable: false,
            dedupe: false,
            order: false,
            ..STRONG
        };
        assert!(promises(STRONG, false, &["main"]).is_empty());
        let told = promises(weak, false, &["main", "night"]);
        assert!(told.iter().all(|check| check.ok && check.remedy.is_some()));
        assert!(told[0].found.contains("may be lost"));
        assert!(told[1].found.contains("leaves twice"));
        assert!(told[2].found.contains("main, night"), "{}", told[2].found);
        let told = promises(weak, true, &[]);
        assert_eq!(told.len(), 2);
        assert!(told[1].remedy.is_none() && told[1].found.contains("leaves once"));
    }
}
