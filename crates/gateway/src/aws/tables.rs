//! What the SDK's errors about tables say to people. Items hold recipients, so neither request nor
//! answer may get into a text.

use std::error::Error as StdError;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

/// Why a request to DynamoDB failed: its code, or what lay underneath where there was no answer.
pub fn why<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
    R: std::fmt::Debug,
{
    match error {
        // AWS's own text may quote a key.
        SdkError::ServiceError(context) => {
            let code = context.err().code().unwrap_or("an error without a code");
            match code {
                "ResourceNotFoundException" => format!("{code}: see `dynamodb.table`"),
                "UnrecognizedClientException" | "AccessDeniedException" => {
                    format!("{code}: look at the credentials and their rights")
                }
                _ => code.to_owned(),
            }
        }
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(error) => format!("not connected: {}", root(error)),
            None => "not connected".to_owned(),
        },
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::ConstructionFailure(_) => "the request could not be made".to_owned(),
        _ => "the answer could not be read".to_owned(),
    }
}

/// The innermost cause.
fn root(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
