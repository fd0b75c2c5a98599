//! Queues by way of the AWS SDK: the one file that knows how it talks to SQS.

mod fault;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName,
    MessageSystemAttributeNameForSends, MessageSystemAttributeValue, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use aws_sdk_sqs::{Client, Config};
use tokio::task::JoinSet;

use self::fault::{Call, Witness};
use super::queues::{
    Answer, Ask, Fault, FaultKind, Incoming, Look, Outgoing, Queue, Queues, Value,
};

/// What SQS calls all attributes of a message.
const ALL: &str = "All";
/// The type of a system attribute.
const STRING: &str = "String";

/// The queues of SQS itself, or of what speaks as it does.
///
/// Sends are never tried again by the SDK: SQS has no key that tells a second send of a message
/// from the first. Everything else is tried as often as the client is set to; a receive that is
/// tried again may hide messages that nobody got, until their time is over.
pub struct SdkQueues {
    client: Client,
    /// The same without retries.
    once: Client,
}

impl SdkQueues {
    /// Queues by `client`, with its time-outs; a receive may take as much longer as it waits.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let once = client.config().to_builder();
        let once = once.retry_config(RetryConfig::disabled()).build();
        Self {
            client,
            once: Client::from_conf(once),
        }
    }

    /// The client's time-outs, lengthened by `wait`.
    fn longer(&self, wait: Duration) -> TimeoutConfig {
        let own = self.client.config().timeout_config();
        let mut longer = own.map_or_else(TimeoutConfig::builder, TimeoutConfig::to_builder);
        if let Some(own) = own {
            longer.set_operation_timeout(own.operation_timeout().map(|limit| limit + wait));
            longer.set_operation_attempt_timeout(
                own.operation_attempt_timeout().map(|limit| limit + wait),
            );
        }
        longer.build()
    }
}

/// Runs a request on the threads of the runtime, beside others and near its connection: whoever
/// asks is mostly one task for a whole lane. It is given up as soon as nobody waits for it.
async fn aside<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    let mut task = JoinSet::new();
    task.spawn(request);
    match task.join_next().await {
        Some(Ok(answer)) => answer,
        Some(Err(fault)) if fault.is_panic() => std::panic::resume_unwind(fault.into_panic()),
        // The runtime ends, and whoever waits here with it.
        _ => std::future::pending().await,
    }
}

impl fmt::Debug for SdkQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkQueues").finish_non_exhaustive()
    }
}

#[async_trait]
impl Queues for SdkQueues {
    async fn find(&self, name: &str) -> Answer<Option<Queue>> {
        let witness = Witness::default();
        let call = self.client.get_queue_url().queue_name(name).customize();
        match call.interceptor(witness.clone()).send().await {
            Ok(found) => Ok(found.queue_url().map(Queue::new)),
            Err(error) if fault::is_no_such_queue(&error) => Ok(None),
            Err(error) => Err(fault::of(error, &witness, Call::Again)),
        }
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Answer<String>> {
        let count = messages.len();
        if count == 0 {
            return Vec::new();
        }
        let entries = messages.into_iter().enumerate().map(entry);
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return vec![Err(unformed(&error)); count],
        };
        let witness = Witness::default();
        let call = self.once.send_message_batch().queue_url(queue.url());
        let call = call.set_entries(Some(entries)).customize();
        match aside(call.interceptor(witness.clone()).send()).await {
            Ok(answer) => {
                let sent = answer.successful.into_iter();
                each(
                    count,
                    sent.map(|one| (one.id, one.message_id)),
                    &answer.failed,
                )
            }
            Err(error) => vec![Err(fault::of(error, &witness, Call::Once)); count],
        }
    }

    async fn receive(&self, queue: &Queue, ask: &Ask) -> Answer<Vec<Incoming>> {
        let witness = Witness::default();
        let call = self.client.receive_message().queue_url(queue.url());
        let mut call = call
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names(ALL)
            .max_number_of_messages(i32::try_from(ask.max).unwrap_or(i32::MAX))
            .visibility_timeout(seconds(ask.hide))
            .wait_time_seconds(seconds(ask.wait))
            .customize();
        if !ask.wait.is_zero() {
            let longer = Config::builder().timeout_config(self.longer(ask.wait));
            call = call.config_override(longer);
        }
        let answer = aside(call.interceptor(witness.clone()).send()).await;
        let answer = answer.map_err(|error| fault::of(error, &witness, Call::Again))?;
        let messages = answer.messages.unwrap_or_default();
        messages.into_iter().map(read::incoming).collect()
    }

    async fn delete(&self, queue: &Queue, handles: &[String]) -> Vec<Answer<()>> {
        let count = handles.len();
        if count == 0 {
            return Vec::new();
        }
        let entry = |(place, handle): (usize, &String)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string());
            entry.receipt_handle(handle).build()
        };
        let entries = handles.iter().enumerate().map(entry);
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return vec![Err(unformed(&error)); count],
        };
        let witness = Witness::default();
        let call = self.client.delete_message_batch().queue_url(queue.url());
        let call = call.set_entries(Some(entries)).customize();
        match aside(call.interceptor(witness.clone()).send()).await {
            Ok(answer) => {
                let done = answer.successful.into_iter();
                each(count, done.map(|one| (one.id, ())), &answer.failed)
            }
            Err(error) => vec![Err(fault::of(error, &witness, Call::Again)); count],
        }
    }

    async fn hide(&self, queue: &Queue, handles: &[(String, Duration)]) -> Vec<Answer<()>> {
        let count = handles.len();
        if count == 0 {
            return Vec::new();
        }
        let entry = |(place, (handle, hide)): (usize, &(String, Duration))| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(place.to_string());
            let entry = entry.receipt_handle(handle);
            entry.visibility_timeout(seconds(*hide)).build()
        };
        let entries = handles.iter().enumerate().map(entry);
        let entries = match entries.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => entries,
            Err(error) => return vec![Err(unformed(&error)); count],
        };
        let witness = Witness::default();
        let call = self.client.change_message_visibility_batch();
        let call = call.queue_url(queue.url()).set_entries(Some(entries));
        match call.customize().interceptor(witness.clone()).send().await {
            Ok(answer) => {
                let done = answer.successful.into_iter();
                each(count, done.map(|one| (one.id, ())), &answer.failed)
            }
            Err(error) => vec![Err(fault::of(error, &witness, Call::Again)); count],
        }
    }

    async fn look(&self, queue: &Queue) -> Answer<Look> {
        let witness = Witness::default();
        let call = self.client.get_queue_attributes().queue_url(queue.url());
        let call = call.attribute_names(QueueAttributeName::All).customize();
        let answer = call.interceptor(witness.clone()).send().await;
        let answer = answer.map_err(|error| fault::of(error, &witness, Call::Again))?;
        Ok(read::look(&answer.attributes.unwrap_or_default()))
    }

    async fn tags(&self, queue: &Queue) -> Answer<BTreeMap<String, String>> {
        let witness = Witness::default();
        let call = self.client.list_queue_tags().queue_url(queue.url());
        let answer = call.customize().interceptor(witness.clone()).send().await;
        let answer = answer.map_err(|error| fault::of(error, &witness, Call::Again))?;
        Ok(answer.tags.unwrap_or_default().into_iter().collect())
    }

    async fn tag(&self, queue: &Queue, key: &str, value: Option<&str>) -> Answer<()> {
        let witness = Witness::default();
        match value {
            Some(value) => {
                let call = self.client.tag_queue().queue_url(queue.url());
                let call = call.tags(key, value).customize();
                let answer = call.interceptor(witness.clone()).send().await;
                answer.map_err(|error| fault::of(error, &witness, Call::Again))?;
            }
            None => {
                let call = self.client.untag_queue().queue_url(queue.url());
                let call = call.tag_keys(key).customize();
                let answer = call.interceptor(witness.clone()).send().await;
                answer.map_err(|error| fault::of(error, &witness, Call::Again))?;
            }
        }
        Ok(())
    }
}

/// SQS counts in whole seconds.
fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

fn unformed(error: &dyn std::error::Error) -> Fault {
    let why = format!("the request could not be formed: {error}");
    Fault::new(FaultKind::Rejected, why)
}

type Built<T> = Result<T, aws_sdk_sqs::error::BuildError>;

/// One message of a request, by its place in it.
fn entry((place, message): (usize, Outgoing)) -> Built<SendMessageBatchRequestEntry> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(place.to_string())
        .message_body(message.body)
        .set_message_group_id(message.group)
        .set_message_deduplication_id(message.deduplication);
    for attribute in message.attributes {
        let value = MessageAttributeValue::builder().data_type(attribute.kind);
        let value = match attribute.value {
            Value::Text(text) => value.string_value(text),
            Value::Bytes(bytes) => value.binary_value(Blob::new(bytes)),
        };
        entry = entry.message_attributes(attribute.name, value.build()?);
    }
    if let Some(trace) = message.trace {
        let value = MessageSystemAttributeValue::builder().data_type(STRING);
        let value = value.string_value(trace).build()?;
        let name = MessageSystemAttributeNameForSends::AwsTraceHeader;
        entry = entry.message_system_attributes(name, value);
    }
    if !message.delay.is_zero() {
        entry = entry.delay_seconds(seconds(message.delay));
    }
    entry.build()
}

/// One answer for each of `count` entries, which are named by their places. Whatever the answer
/// leaves out, or says twice, may have been done.
fn each<T>(
    count: usize,
    done: impl Iterator<Item = (String, T)>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Answer<T>> {
    let unknown = |why: &str| Err(Fault::new(FaultKind::Unknown, why));
    let mut answers: Vec<Option<Answer<T>>> = (0..count).map(|_| None).collect();
    let mut put = |id: &str, answer| {
        let place = id.parse::<usize>().ok();
        if let Some(slot) = place.and_then(|place| answers.get_mut(place)) {
            *slot = Some(match slot {
                None => answer,
                Some(_) => unknown("the answer names it twice"),
            });
        }
    };
    for (id, value) in done {
        put(&id, Ok(value));
    }
    for entry in failed {
        put(&entry.id, Err(fault::of_entry(entry)));
    }
    let left_out = || unknown("the answer leaves it out");
    let answers = answers.into_iter();
    answers.map(|one| one.unwrap_or_else(left_out)).collect()
}
