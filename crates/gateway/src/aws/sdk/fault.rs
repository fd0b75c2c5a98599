//! What the SDK's errors mean to the caller.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_sqs::Error as SqsError;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::get_queue_url::GetQueueUrlError;
use aws_sdk_sqs::types::BatchResultErrorEntry;

use crate::aws::queues::{Fault, FaultKind};

/// The longest reason that is kept, in characters.
const WHY_MAX: usize = 300;
/// Codes of too many requests, as they are without their prefix.
const THROTTLED: &[&str] = &[
    "RequestThrottled",
    "RequestThrottledException",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "KmsThrottled",
    "KMS.ThrottlingException",
    "OverLimit",
];
/// Codes that a person must look at, without their prefix.
const DENIED: &[&str] = &[
    "QueueDoesNotExist",
    "NonExistentQueue",
    "QueueDeletedRecently",
    "InvalidAddress",
    "InvalidSecurity",
    "UnsupportedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "NotAuthorized",
    "OptInRequired",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
];
/// Codes that say that nothing was done and the next try may do it, without their prefix.
const UNAVAILABLE: &[&str] = &[
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "RequestTimeout",
    "RequestTimeoutException",
];
/// What codes begin with in one protocol or the other.
const PREFIXES: &[&str] = &["AWS.SimpleQueueService.", "com.amazonaws.sqs#"];

/// Whether a request does harm when it is made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It sends: it must be known whether it was carried out.
    Once,
    /// It may be made again.
    Again,
}

/// Sees whether a request was handed to a connection. Before that (no credentials, no signature)
/// nothing can have been done.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<AtomicBool>);

impl Witness {
    fn saw(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Intercept for Witness {
    fn name(&self) -> &'static str {
        "Witness"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

/// Whether SQS said that there is no such queue.
pub(super) fn is_no_such_queue(error: &SdkError<GetQueueUrlError, HttpResponse>) -> bool {
    let Some(error) = error.as_service_error() else {
        return false;
    };
    let code = error.code().map(bare);
    error.is_queue_does_not_exist()
        || matches!(code, Some("QueueDoesNotExist" | "NonExistentQueue"))
}

/// What a failed request means.
pub(super) fn of<E>(error: SdkError<E, HttpResponse>, witness: &Witness, call: Call) -> Fault
where
    E: Into<SqsError> + StdError + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let (kind, why) = match error {
        SdkError::ServiceError(context) => {
            let error: SqsError = context.into_err().into();
            return of_service(&error, status.unwrap_or(0), call);
        }
        error @ SdkError::ConstructionFailure(_) => (FaultKind::Denied, chain(&error)),
        error @ SdkError::ResponseError(_) => (FaultKind::Unknown, chain(&error)),
        error if !witness.saw() || never_connected(&error) => {
            (FaultKind::Unavailable, chain(&error))
        }
        error => (FaultKind::Unknown, chain(&error)),
    };
    Fault::new(kind, why)
}

/// What SQS said of one entry of a request.
pub(super) fn of_entry(entry: &BatchResultErrorEntry) -> Fault {
    let by_fault = match entry.sender_fault {
        true => FaultKind::Rejected,
        false => FaultKind::Unavailable,
    };
    let kind = kind_of_code(&entry.code).unwrap_or(by_fault);
    Fault::new(kind, told(kind, Some(&entry.code), entry.message(), None))
}

fn of_service(error: &SqsError, status: u16, call: Call) -> Fault {
    let kind = kind_of(error)
        .or_else(|| error.code().and_then(kind_of_code))
        .unwrap_or_else(|| kind_of_status(status, call));
    let why = told(kind, error.code(), error.message(), Some(status));
    Fault::new(kind, why)
}

/// The modelled errors. Their codes are those of another protocol and no good to tell them by.
fn kind_of(error: &SqsError) -> Option<FaultKind> {
    use SqsError as E;
    Some(match error {
        E::RequestThrottled(_) | E::KmsThrottled(_) | E::OverLimit(_) => FaultKind::Throttled,
        E::QueueDoesNotExist(_)
        | E::QueueDeletedRecently(_)
        | E::InvalidAddress(_)
        | E::InvalidSecurity(_)
        | E::UnsupportedOperation(_)
        | E::KmsAccessDenied(_)
        | E::KmsDisabled(_)
        | E::KmsInvalidKeyUsage(_)
        | E::KmsInvalidState(_)
        | E::KmsNotFound(_)
        | E::KmsOptInRequired(_) => FaultKind::Denied,
        E::InvalidMessageContents(_)
        | E::ReceiptHandleIsInvalid(_)
        | E::MessageNotInflight(_)
        | E::BatchRequestTooLong(_)
        | E::TooManyEntriesInBatchRequest(_)
        | E::EmptyBatchRequest(_)
        | E::BatchEntryIdsNotDistinct(_)
        | E::InvalidBatchEntryId(_) => FaultKind::Rejected,
        _ => return None,
    })
}

fn bare(code: &str) -> &str {
    let mut prefixes = PREFIXES.iter();
    let bare = prefixes.find_map(|prefix| code.strip_prefix(prefix));
    bare.unwrap_or(code)
}

fn kind_of_code(code: &str) -> Option<FaultKind> {
    let code = bare(code);
    if THROTTLED.contains(&code) {
        Some(FaultKind::Throttled)
    } else if DENIED.contains(&code) || code.starts_with("KMS.") || code.starts_with("Kms") {
        Some(FaultKind::Denied)
    } else {
        UNAVAILABLE
            .contains(&code)
            .then_some(FaultKind::Unavailable)
    }
}

/// A status without a code we know. A server that failed within a send may have kept the message:
/// SQS says of `InternalFailure` only that its cause is unknown, and a proxy that lost its server
/// knows less.
fn kind_of_status(status: u16, call: Call) -> FaultKind {
    match status {
        429 => FaultKind::Throttled,
        300..=399 | 401 | 403 | 404 => FaultKind::Denied,
        408 => FaultKind::Unavailable,
        400..=499 => FaultKind::Rejected,
        _ if call == Call::Again => FaultKind::Unavailable,
        _ => FaultKind::Unknown,
    }
}

/// Code and text. The text about a message or an attribute may quote it, so that of a rejection is
/// left out.
fn told(kind: FaultKind, code: Option<&str>, text: Option<&str>, status: Option<u16>) -> String {
    let code = match (code, status) {
        (Some(code), _) => bare(code).to_owned(),
        (None, Some(status)) => format!("HTTP {status}"),
        (None, None) => "no code".to_owned(),
    };
    match text {
        Some(text) if kind != FaultKind::Rejected => short(&format!("{code}: {text}")),
        _ => short(&code),
    }
}

fn short(text: &str) -> String {
    text.chars().take(WHY_MAX).collect()
}

/// The error and what lay underneath, outermost first.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = errors.map(ToString::to_string).collect();
    short(&texts.join(": "))
}

/// Whether no connection came to be: no such host, refused, TLS failed, connect time-out.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    let mut errors = std::iter::successors(Some(error), |&error| error.source());
    errors.any(|error| {
        let http = error.downcast_ref::<hyper_util::client::legacy::Error>();
        http.is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}
