//! Who may ask what: three bearer tokens, and one table of what each route needs.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, Uri};

use super::problem::{Answer, Problem, Sort};
use crate::secret::Secret;

/// The tokens. A role without a token cannot be taken; with no token at all, whoever reaches the
/// loopback interface under its own name may do everything.
#[derive(Clone, Debug, Default)]
pub struct Auth {
    /// Of those who hand messages in and take them back.
    pub producer: Option<Secret>,
    /// Of those who pause, kick and release.
    pub operator: Option<Secret>,
    /// Of those who only look.
    pub reader: Option<Secret>,
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: probes and the description of the interface.
    Nothing,
    /// Leave to hand messages in.
    Produce,
    /// Leave to look.
    Read,
    /// Either of the two.
    ProduceOrRead,
    /// Leave to change how the gateway works.
    Operate,
}

/// Who asks. Of several roles that share one token, all hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    producer: bool,
    operator: bool,
    reader: bool,
}

impl Caller {
    const EVERYTHING: Self = Self {
        producer: true,
        operator: true,
        reader: true,
    };

    /// Whether this caller may do what needs so much.
    #[must_use]
    pub fn may(self, need: Need) -> bool {
        match need {
            Need::Nothing => true,
            Need::Produce => self.producer || self.operator,
            Need::Read => self.reader || self.operator,
            Need::ProduceOrRead => self.producer || self.reader || self.operator,
            Need::Operate => self.operator,
        }
    }

    fn is_known(self) -> bool {
        self.producer || self.operator || self.reader
    }
}

/// What the route `path` (as it is registered) needs for `method`. What stands in no row needs an
/// operator: a route that is forgotten here is shut, not open.
#[must_use]
pub fn need(method: &Method, path: &str) -> Need {
    let looks = method == Method::GET || method == Method::HEAD;
    match path {
        "/healthz" | "/readyz" | "/openapi.json" if looks => Need::Nothing,
        "/v1/messages/{id}" if looks => Need::ProduceOrRead,
        "/v1/explain" => Need::ProduceOrRead,
        "/v1/messages" | "/v1/messages/bulk" | "/v1/recalls" => Need::Produce,
        _ if looks => Need::Read,
        _ => Need::Operate,
    }
}

impl Auth {
    /// Whether any token is set. Without one, the listener must be on loopback.
    #[must_use]
    pub fn has_tokens(&self) -> bool {
        [&self.producer, &self.operator, &self.reader]
            .iter()
            .any(|token| token.as_ref().is_some_and(|token| !token.is_empty()))
    }

    /// Lets a request pass that needs so much, and says who asks.
    ///
    /// # Errors
    /// `NoToken`, `WrongToken`, `NotAllowed` or, where no token is set, `WrongHost`.
    pub fn admit(&self, need: Need, headers: &HeaderMap, uri: &Uri) -> Answer<Caller> {
        if !self.has_tokens() {
            return if is_local(headers, uri) {
                Ok(Caller::EVERYTHING)
            } else {
                let detail = "no token is configured, so only loopback names are served: set \
                              `http.*_token`, or ask 127.0.0.1, [::1] or localhost";
                Err(Problem::new(Sort::WrongHost, detail))
            };
        }
        if need == Need::Nothing {
            return Ok(Caller::default());
        }
        let Some(given) = bearer(headers) else {
            let detail = "send `Authorization: Bearer TOKEN`";
            return Err(Problem::new(Sort::NoToken, detail));
        };
        let caller = self.caller(given);
        if !caller.is_known() {
            let detail = "check the token against `http.*_token` of the gateway";
            return Err(Problem::new(Sort::WrongToken, detail));
        }
        if !caller.may(need) {
            let wanted = match need {
                Need::Nothing | Need::Operate => "the operator's token",
                Need::Produce => "the producer's or the operator's token",
                Need::Read => "the reader's or the operator's token",
                Need::ProduceOrRead => "any of the three tokens",
            };
            return Err(Problem::new(
                Sort::NotAllowed,
                format!("this needs {wanted}"),
            ));
        }
        Ok(caller)
    }

    /// Compares with every token, whichever fits: the time tells nothing about which did.
    fn caller(&self, given: &[u8]) -> Caller {
        let fits = |token: &Option<Secret>| {
            let unset = Secret::default();
            let token = token.as_ref().unwrap_or(&unset);
            token.matches(given) & !token.is_empty()
        };
        Caller {
            producer: fits(&self.producer),
            operator: fits(&self.operator),
            reader: fits(&self.reader),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty()).then_some(token)
}

/// Whether the request names this machine, and no page of another made it. A stranger's page whose
/// name was bound to 127.0.0.1 sends the stranger's name as host, one that asks for localhost sends
/// it as origin: DNS rebinding and forged requests stop here.
fn is_local(headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else {
        return false;
    };
    let named = uri.authority().map_or(host, |authority| authority.as_str());
    let own = |origin: &HeaderValue| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, host)| is_loopback_name(host))
    };
    is_loopback_name(host) && is_loopback_name(named) && headers.get_all(ORIGIN).iter().all(own)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if is_port(port) => name,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_digits(port) => name,
            None => host,
            Some(_) => return false,
        },
    };
    if host.starts_with('[') {
        return name
            .parse()
            .is_ok_and(|ip: std::net::Ipv6Addr| ip.is_loopback());
    }
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Auth {
        Auth {
            producer: Some(Secret::new("p")),
            operator: Some(Secret::new("o")),
            reader: Some(Secret::new("r")),
        }
    }

    fn asked(auth: &Auth, need: Need, header: Option<&str>) -> Result<(), Sort> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().unwrap());
        }
        let admitted = auth.admit(need, &headers, &Uri::from_static("/"));
        admitted.map(|_| ()).map_err(|problem| problem.sort)
    }

    #[test]
    fn each_token_opens_its_routes_and_no_others() {
        let auth = tokens();
        for (need, may) in [
            (Need::Nothing, "por"),
            (Need::Produce, "po"),
            (Need::Read, "or"),
            (Need::ProduceOrRead, "por"),
            (Need::Operate, "o"),
        ] {
            for token in ["p", "o", "r"] {
                let admitted = asked(&auth, need, Some(&format!("bearer {token}"))).is_ok();
                assert_eq!(admitted, may.contains(token), "{need:?} {token}");
            }
        }
    }

    #[test]
    fn without_a_right_token_only_probes_pass() {
        let auth = tokens();
        assert_eq!(asked(&auth, Need::Nothing, None), Ok(()));
        assert_eq!(asked(&auth, Need::Read, None), Err(Sort::NoToken));
        for wrong in ["Basic cDpw", "Bearer", "Bearer  ", "p", "Bearér p"] {
            assert_eq!(
                asked(&auth, Need::Read, Some(wrong)),
                Err(Sort::NoToken),
                "{wrong}"
            );
        }
        assert_eq!(
            asked(&auth, Need::Read, Some("Bearer x")),
            Err(Sort::WrongToken)
        );
        assert_eq!(
            asked(&auth, Need::Read, Some("Bearer p")),
            Err(Sort::NotAllowed)
        );
    }

    #[test]
    fn a_role_without_a_token_cannot_be_taken() {
        let auth = Auth {
            producer: Some(Secret::new("p")),
            operator: Some(Secret::new("")),
            reader: None,
        };
        assert_eq!(
            asked(&auth, Need::Operate, Some("Bearer p")),
            Err(Sort::NotAllowed)
        );
        assert_eq!(
            asked(&auth, Need::Operate, Some("Bearer ")),
            Err(Sort::NoToken)
        );
    }

    #[test]
    fn without_any_token_only_loopback_names_are_served() {
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            Auth::default().admit(Need::Operate, &headers, &Uri::from_static("/"))
        };
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8787",
            "127.9.9.9",
            "[::1]",
            "[::1]:1",
        ] {
            assert!(asked(host).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost:",
            "[::1",
            "[::1]x",
            "::1",
            "0.0.0.0",
            "10.0.0.1",
            "",
            "[127.0.0.1]",
            "localhost:80:80",
        ] {
            assert!(asked(host).is_err(), "{host}");
        }
    }

    #[test]
    fn a_route_in_no_row_is_shut() {
        assert_eq!(need(&Method::POST, "/v2/anything"), Need::Operate);
        assert_eq!(need(&Method::POST, "/healthz"), Need::Operate);
        assert_eq!(need(&Method::GET, "/v1/messages/{id}"), Need::ProduceOrRead);
        assert_eq!(need(&Method::GET, "/v1/receipts"), Need::Read);
    }
}
