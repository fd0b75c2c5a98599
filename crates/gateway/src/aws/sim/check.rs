//! What SQS turns away, with the code that it documents.
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>

use std::time::Duration;

use super::{Attribute, SimOptions, rejected};
use crate::aws::queues::{
    ATTRIBUTES_MAX, Answer, Ask, BATCH_MAX, DELAY_MAX, HIDE_MAX, Outgoing, Value, WAIT_MAX,
};

/// Longest name of an attribute, in bytes.
const NAME_MAX_BYTES: usize = 256;
/// Longest `MessageGroupId` and `MessageDeduplicationId`, in bytes.
const GROUP_MAX_BYTES: usize = 128;
/// What an attribute's type begins with.
const KINDS: [&str; 3] = ["String", "Number", "Binary"];

/// A message to a queue that is set up so.
pub(super) fn message(message: &Outgoing, options: &SimOptions) -> Answer<()> {
    let bytes = message.bytes();
    if message.body.is_empty() {
        return Err(rejected("MissingParameter: MessageBody"));
    }
    if bytes > options.bytes_max {
        let max = options.bytes_max;
        let why = format!("InvalidParameterValue: {bytes} bytes, {max} allowed");
        return Err(rejected(why));
    }
    if !message.body.chars().all(is_allowed) {
        return Err(rejected("InvalidMessageContents"));
    }
    whole("DelaySeconds", message.delay, DELAY_MAX)?;
    attributes(&message.attributes)?;
    group(message, options)
}

/// A request to receive.
pub(super) fn ask(ask: &Ask) -> Answer<()> {
    if ask.max == 0 || ask.max > BATCH_MAX {
        let why = "InvalidParameterValue: MaxNumberOfMessages must be 1 to 10";
        return Err(rejected(why));
    }
    whole("WaitTimeSeconds", ask.wait, WAIT_MAX)?;
    whole("VisibilityTimeout", ask.hide, HIDE_MAX)
}

/// A number of whole seconds up to `max`.
pub(super) fn whole(name: &str, value: Duration, max: Duration) -> Answer<()> {
    if value > max || value.subsec_nanos() != 0 {
        let max = max.as_secs();
        let why = format!("InvalidParameterValue: {name} must be 0 to {max} whole seconds");
        return Err(rejected(why));
    }
    Ok(())
}

/// The characters of XML 1.0, which are those of a body.
fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn attributes(attributes: &[Attribute]) -> Answer<()> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(rejected("InvalidParameterValue: more than 10 attributes"));
    }
    for (place, one) in attributes.iter().enumerate() {
        let name = &one.name;
        let again = attributes[..place].iter().any(|other| other.name == *name);
        if again || !is_name(name) {
            let why = "InvalidParameterValue: the name of an attribute";
            return Err(rejected(why));
        }
        let (kind, fits) = match &one.value {
            Value::Text(text) => {
                let fits = !text.is_empty() && text.chars().all(is_allowed);
                (&KINDS[..2], fits)
            }
            Value::Bytes(bytes) => (&KINDS[2..], !bytes.is_empty()),
        };
        let base = one.kind.split('.').next().unwrap_or_default();
        if !fits || !kind.contains(&base) || one.kind.len() > NAME_MAX_BYTES {
            let why = "InvalidParameterValue: the value or type of an attribute";
            return Err(rejected(why));
        }
    }
    Ok(())
}

/// Letters, digits, `_`, `-` and single dots between them; not the names that AWS keeps.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let low = name.to_ascii_lowercase();
    let kept = low.starts_with("aws.") || low.starts_with("amazon.");
    let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    let length = (1..=NAME_MAX_BYTES).contains(&name.len());
    length && name.bytes().all(letter) && !kept && !dots
}

fn group(message: &Outgoing, options: &SimOptions) -> Answer<()> {
    let ids = [&message.group, &message.deduplication];
    let wrong = |id: &&String| {
        let visible = id.bytes().all(|byte| byte.is_ascii_graphic());
        !visible || !(1..=GROUP_MAX_BYTES).contains(&id.len())
    };
    if ids.into_iter().flatten().any(|id| wrong(&id)) {
        return Err(rejected("InvalidParameterValue: a group or deduplication"));
    }
    let distinct = message.deduplication.is_some() || options.by_content;
    let why = match options.fifo {
        false if message.deduplication.is_some() => {
            "InvalidParameterValue: MessageDeduplicationId on a standard queue"
        }
        true if message.group.is_none() => "MissingParameter: MessageGroupId",
        true if !distinct => "InvalidParameterValue: MessageDeduplicationId is needed",
        true if !message.delay.is_zero() => "InvalidParameterValue: DelaySeconds on a FIFO queue",
        _ => return Ok(()),
    };
    Err(rejected(why))
}
