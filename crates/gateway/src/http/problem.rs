//! What goes wrong, from one table: RFC 9457 problems with a stable type, a title and a status.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nightgate_core::FieldFault;
use serde::Serialize;

use crate::error::{Error, Kind};

/// Media type of a problem.
pub const CONTENT: &str = "application/problem+json";
/// What every type begins with.
pub const TYPE_PREFIX: &str = "urn:nightgate:problem:";
/// After how many seconds a client should try again when a part cannot be reached: long enough for
/// a disk or a network to come back, short enough that a producer's buffer lasts.
pub const RETRY_AFTER_S: u16 = 5;
/// The same when the hold is full: room comes with releases, which take their time.
pub const RETRY_AFTER_NO_ROOM_S: u16 = 30;

/// Declares the table: one row a problem.
macro_rules! table {
    ($($(#[$doc:meta])* $sort:ident $status:literal $slug:literal $title:literal)+) => {
        /// Everything that can go wrong, as a client sees it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Sort { $($(#[$doc])* $sort),+ }

        impl Sort {
            /// Every sort, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$sort),+];

            /// Its status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$sort => $status),+ }
            }

            /// The end of its type. Stable: clients switch on it.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$sort => $slug),+ }
            }

            /// Its title, the same every time.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$sort => $title),+ }
            }
        }
    };
}

table! {
    /// The body does not parse.
    BadJson 400 "bad-json" "The body is no JSON"
    /// A parameter behind the `?` is wrong.
    BadQuery 400 "bad-query" "A query parameter is wrong"
    /// A part of the path cannot be decoded.
    BadPath 400 "bad-path" "The path cannot be decoded"
    /// The body ended before its time.
    CutOff 400 "cut-off" "The body ended too early"
    /// No token came along.
    NoToken 401 "no-token" "A bearer token is needed"
    /// A token came along that is none of ours.
    WrongToken 401 "wrong-token" "The bearer token is not known"
    /// The token is known and does not open this.
    NotAllowed 403 "not-allowed" "The bearer token does not open this"
    /// Without tokens, only this machine may ask, under its own name.
    WrongHost 403 "wrong-host" "The Host header names another machine"
    /// No such route.
    NoRoute 404 "no-route" "There is nothing at this path"
    /// No such message.
    NoMessage 404 "no-message" "This message is not known"
    /// No such lane.
    NoLane 404 "no-lane" "This lane is not known"
    /// The route knows other methods.
    WrongMethod 405 "wrong-method" "This path does not take that method"
    /// The body took too long.
    TooSlow 408 "too-slow" "The body took too long to arrive"
    /// The body is too large.
    TooLarge 413 "too-large" "The body is too large"
    /// The request line is too long.
    LongUri 414 "long-uri" "The path and query are too long"
    /// The content type is another one.
    WrongType 415 "wrong-type" "The body has another content type"
    /// Fields break rules.
    Invalid 422 "invalid" "A field breaks a rule"
    /// The headers are too large.
    LargeHead 431 "large-head" "The headers are too large"
    /// A fault of ours.
    Internal 500 "internal" "Something broke here"
    /// Stored data does not read back.
    Corrupt 500 "corrupt" "Stored data does not read back"
    /// This backend cannot do that.
    Unsupported 501 "unsupported" "The configured store cannot do that"
    /// A part cannot be reached.
    Unavailable 503 "unavailable" "A part cannot be reached now"
    /// A store lost a write.
    Poisoned 503 "poisoned" "A store lost a write and needs a restart"
    /// The answer took too long.
    Busy 503 "busy" "The answer took too long"
    /// The hold is full.
    NoRoom 503 "no-room" "There is no room for it now"
}

/// One problem, ready to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its row in the table.
    pub sort: Sort,
    /// What happened here, and what to do. No personal data.
    pub detail: String,
    /// Fields and the rules they break.
    pub faults: Vec<FieldFault>,
}

/// The result of a request.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A problem with a sentence about this occurrence.
    #[must_use]
    pub fn new(sort: Sort, detail: impl Into<String>) -> Self {
        Self {
            sort,
            detail: detail.into(),
            faults: Vec::new(),
        }
    }

    /// Fields that break rules.
    #[must_use]
    pub fn faults(sort: Sort, faults: Vec<FieldFault>) -> Self {
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Self {
            sort,
            detail: told.join("; "),
            faults,
        }
    }

    /// One field that breaks a rule.
    #[must_use]
    pub fn field(sort: Sort, field: &str, rule: impl Into<String>) -> Self {
        Self::faults(sort, vec![FieldFault::new(field, rule)])
    }
}

impl From<Error> for Problem {
    /// Tells the part and never what lay underneath: that is for the log.
    fn from(error: Error) -> Self {
        let part = error.part;
        let (sort, detail) = match error.kind {
            Kind::Unavailable => (
                Sort::Unavailable,
                format!("`{part}` cannot be reached; nothing was promised, send it again"),
            ),
            Kind::Unsupported => (Sort::Unsupported, format!("`{part}` cannot do that")),
            Kind::Invalid => (Sort::Invalid, format!("`{part}` does not take that")),
            Kind::Corrupt => (
                Sort::Corrupt,
                format!("`{part}` holds data that does not read back; see the log"),
            ),
            Kind::Poisoned => (
                Sort::Poisoned,
                format!("`{part}` lost a write; nothing is taken until a restart"),
            ),
        };
        if sort.status() >= 500 {
            tracing::error!(%error, "a request failed");
        }
        Self::new(sort, detail)
    }
}

/// A problem as it goes out.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct Written<'a> {
    /// Stable identifier of the sort of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:nightgate:problem:invalid")]
    uri: String,
    /// The same for every problem of this type.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened here, and what to do.
    detail: &'a str,
    /// Fields and the rules they break.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Object>)]
    faults: &'a [FieldFault],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let sort = self.sort;
        let status = StatusCode::from_u16(sort.status()).unwrap_or_default();
        let written = Written {
            uri: format!("{TYPE_PREFIX}{}", sort.slug()),
            title: sort.title(),
            status: sort.status(),
            detail: &self.detail,
            faults: &self.faults,
        };
        let body = serde_json::to_vec(&written).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                let after = match sort {
                    Sort::NoRoom => RETRY_AFTER_NO_ROOM_S,
                    _ => RETRY_AFTER_S,
                };
                headers.insert(RETRY_AFTER, after.into());
            }
            StatusCode::UNAUTHORIZED => {
                let scheme = HeaderValue::from_static(r#"Bearer realm="nightgate""#);
                headers.insert(WWW_AUTHENTICATE, scheme);
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients switch on types and statuses: changing a row is a breaking change.
    #[test]
    fn the_table_is_what_clients_were_promised() {
        let table: Vec<String> = Sort::ALL
            .iter()
            .map(|sort| format!("{} {}", sort.status(), sort.slug()))
            .collect();
        let promised = "400 bad-json, 400 bad-query, 400 bad-path, 400 cut-off, 401 no-token, \
             401 wrong-token, 403 not-allowed, 403 wrong-host, 404 no-route, 404 no-message, \
             404 no-lane, 405 wrong-method, 408 too-slow, 413 too-large, 414 long-uri, \
             415 wrong-type, 422 invalid, 431 large-head, 500 internal, 500 corrupt, \
             501 unsupported, 503 unavailable, 503 poisoned, 503 busy, 503 no-room";
        assert_eq!(table.join(", "), promised);
    }

    #[test]
    fn every_row_has_a_status_of_its_own_and_a_title_without_a_full_stop() {
        for sort in Sort::ALL {
            assert!(StatusCode::from_u16(sort.status()).is_ok(), "{sort:?}");
            assert!(!sort.title().ends_with('.'), "{sort:?}");
            let same = |other: &&Sort| other.slug() == sort.slug();
            assert_eq!(Sort::ALL.iter().filter(same).count(), 1, "{sort:?}");
        }
    }

    #[test]
    fn what_lay_underneath_an_error_is_not_told() {
        let error = Error::new(Kind::Unavailable, "hold", "put 3 messages").with("+821012345678");
        let problem = Problem::from(error);
        assert_eq!(problem.sort, Sort::Unavailable);
        assert!(!problem.detail.contains("8210"));
        let response = problem.into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert_eq!(response.headers()[CONTENT_TYPE], CONTENT);
    }
}
