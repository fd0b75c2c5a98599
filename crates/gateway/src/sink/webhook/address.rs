//! The address a webhook posts to, in a form that can be printed.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use crate::error::{Error, Kind, Result};
use crate::secret::Secret;

/// A webhook's URL. Prints without its password and its query.
#[derive(Clone)]
pub struct Address(Url);

impl Address {
    /// Reads `text`. Plain http is let through to this machine alone, unless `allow_plain_http`:
    /// recipients and bodies would cross the network in clear.
    ///
    /// # Errors
    /// `Invalid`, with what to set instead.
    pub fn parse(text: &Secret, allow_plain_http: bool) -> Result<Self> {
        let invalid = |what: String| Err(Error::new(Kind::Invalid, "sink", what));
        // The parser's own words never hold the text it was given.
        let url = match Url::parse(text.expose()) {
            Ok(url) => url,
            Err(fault) => {
                return invalid(format!(
                    "read the webhook's `url`: {fault}; set it to a whole address such as \
                     https://example.com/hook"
                ));
            }
        };
        let address = Self(url);
        match address.0.scheme() {
            "https" => Ok(address),
            "http" if allow_plain_http || address.is_loopback() => Ok(address),
            "http" => invalid(format!(
                "use {address}: it would carry recipients and bodies in clear over the network; \
                 set `url` to an https:// address, or `allow_plain_http = true` if this network \
                 is yours alone"
            )),
            _ => invalid(format!("use {address}: set `url` to an https:// address")),
        }
    }

    /// Whether it points at this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let Some(host) = self.0.host_str() else {
            return false;
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The whole URL, for the request alone.
    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.0.scheme())?;
        if !self.0.username().is_empty() || self.0.password().is_some() {
            f.write_str("<hidden>@")?;
        }
        f.write_str(self.0.host_str().unwrap_or("<no host>"))?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())?;
        if self.0.query().is_some() || self.0.fragment().is_some() {
            f.write_str("?<hidden>")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, plain: bool) -> Result<Address> {
        Address::parse(&Secret::new(text), plain)
    }

    #[test]
    fn password_and_query_never_print() {
        let text = "https://ana:swordfish@example.com:8443/hook?token=tuna#part";
        let address = parse(text, false).unwrap();
        assert_eq!(
            address.to_string(),
            "https://<hidden>@example.com:8443/hook?<hidden>"
        );
        assert_eq!(format!("{address:?}"), format!("Address({address})"));
        assert_eq!(address.url().as_str(), text);
    }

    #[test]
    fn plain_http_is_refused_beyond_this_machine_and_says_what_to_set() {
        let fault = parse("http://ana:swordfish@example.com/hook?k=tuna", false).unwrap_err();
        assert_eq!(fault.kind, Kind::Invalid);
        let text = format!("{fault} {fault:?}");
        assert!(text.contains("allow_plain_http = true"), "{text}");
        assert!(
            !text.contains("swordfish") && !text.contains("tuna"),
            "{text}"
        );
        for here in [
            "http://127.0.0.1:9/x",
            "http://localhost/x",
            "http://[::1]:8080/",
        ] {
            assert!(parse(here, false).is_ok(), "{here}");
        }
        assert!(parse("http://127.example.com/", false).is_err());
        assert!(parse("http://example.com/hook", true).is_ok());
        assert!(parse("ftp://example.com/hook", true).is_err());
    }

    #[test]
    fn a_text_that_is_no_address_is_refused_without_being_shown() {
        let fault = parse("swordfish", false).unwrap_err();
        let text = format!("{fault} {fault:?}");
        assert!(text.contains("https://example.com/hook"), "{text}");
        assert!(!text.contains("swordfish"), "{text}");
    }
}
