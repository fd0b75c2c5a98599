//! Addresses: one URL, or several hosts with commas between them.

use super::{Mode, PREFIX_MAX};
use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// One URL for each host of `url`, which may name several with commas between them: all share the
/// scheme, the user, the password and the number of the first.
///
/// # Errors
/// `Invalid`, in words that do not hold the URL.
pub fn addresses(url: &Secret, mode: &Mode) -> Result<Vec<String>> {
    let text = url.expose().trim();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        let url = "it must begin with redis:// or rediss://";
        invalid(url)
    })?;
    if !["redis", "rediss", "valkey", "valkeys"].contains(&scheme) {
        return Err(invalid("it must begin with redis:// or rediss://"));
    }
    // A password may hold an @ that nobody escaped; a host never does.
    let (who, hosts) = rest
        .rsplit_once('@')
        .map_or(("", rest), |(who, hosts)| (who, hosts));
    let cut = hosts.find(['/', '?']).unwrap_or(hosts.len());
    let (hosts, path) = hosts.split_at(cut);
    let at = if who.is_empty() { "" } else { "@" };
    let all: Vec<String> = hosts
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(|host| format!("{scheme}://{who}{at}{host}{path}"))
        .collect();
    if all.is_empty() {
        return Err(invalid("it names no host"));
    }
    if all.len() > 1 && *mode == Mode::Single {
        return Err(invalid(
            "it names several hosts: say `sentinel` or `cluster`, or name one",
        ));
    }
    if *mode == Mode::Cluster && !["", "/", "/0"].contains(&path.split('?').next().unwrap_or("")) {
        return Err(invalid("a cluster has database 0 only"));
    }
    Ok(all)
}

/// Whether keys may begin with `prefix`.
///
/// # Errors
/// `Invalid` when they may not.
pub fn prefix(prefix: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if prefix.is_empty() || prefix.len() > PREFIX_MAX || !prefix.chars().all(fits) {
        let op = format!(
            "take the prefix of keys: 1 to {PREFIX_MAX} letters, digits, `-`, `_`, `.` and `:`"
        );
        return Err(Error::new(Kind::Invalid, "redis", op));
    }
    Ok(())
}

fn invalid(why: &str) -> Error {
    Error::new(
        Kind::Invalid,
        "redis",
        format!("read the address of Redis: {why}"),
    )
}
