//! Where the records of groups are kept: a stream with the last record of each group and topic, written
//! only by whoever has read the one before.

use async_nats::header::NATS_SEQUENCE;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, LastRawMessageErrorKind, Republish, StorageType};
use async_nats::{Message, Subject};
use trunkline_core::{Error, Result};

use crate::config::NatsConfig;
use crate::error;
use crate::link::Link;
use crate::names::Names;
use crate::record::Record;

/// A record and its revision: 0 where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) record: Record,
    pub(crate) revision: u64,
}

/// The stream that keeps the records.
pub(crate) fn config(names: &Names, config: &NatsConfig) -> stream::Config {
    stream::Config {
        name: names.groups(),
        description: Some(
            "Trunkline: the members of groups, and who reads which partition".to_owned(),
        ),
        subjects: vec![names.group("*", "*")],
        max_messages_per_subject: 1,
        storage: StorageType::File,
        num_replicas: config.replicas,
        // A change is told when it is kept, with its revision.
        republish: Some(Republish {
            source: names.group("*", "*"),
            destination: names.group_changed("{{wildcard(1)}}", "{{wildcard(2)}}"),
            headers_only: false,
        }),
        ..stream::Config::default()
    }
}

pub(crate) async fn load(link: &Link, names: &Names, subject: &str) -> Result<Kept> {
    let read = async {
        let stream = link
            .js
            .get_stream_no_info(names.groups())
            .await
            .map_err(|e| e.to_string());
        match stream {
            Ok(stream) => Ok(stream.get_last_raw_message_by_subject(subject).await),
            Err(error) => Err(error),
        }
    };
    let unreadable = |source: String| error::lost().with_source(source);
    match link
        .within("read a group's record", read)
        .await?
        .map_err(unreadable)?
    {
        Ok(message) => Ok(Kept {
            record: parse(&message.payload, subject)?,
            revision: message.sequence,
        }),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            Ok(Kept::default())
        }
        Err(error) => Err(error::lost()
            .with("request", "read a group's record")
            .with_source(error)),
    }
}

/// Writes a record if its revision is still this one; says which it has then, or nothing if it had changed.
pub(crate) async fn save(
    link: &Link,
    subject: &str,
    record: &Record,
    revision: u64,
) -> Result<Option<u64>> {
    let payload = serde_json::to_vec(record);
    let payload =
        payload.map_err(|e| Error::internal("a record can't be written").with_source(e))?;
    let message = PublishMessage::build()
        .payload(payload.into())
        .expected_last_subject_sequence(revision);
    let sent = async {
        link.js
            .send_publish(subject.to_owned(), message)
            .await?
            .await
    };
    match link.within("write a group's record", sent).await? {
        Ok(ack) => Ok(Some(ack.sequence)),
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
        Err(error) => Err(error::publish(error).with("record", subject)),
    }
}

/// What a change that was told says.
pub(crate) fn changed(message: &Message) -> Option<(Subject, Kept)> {
    let revision = message
        .headers
        .as_ref()?
        .get(NATS_SEQUENCE)?
        .as_str()
        .parse()
        .ok()?;
    let record = serde_json::from_slice(&message.payload).ok()?;
    Some((message.subject.clone(), Kept { record, revision }))
}

fn parse(payload: &[u8], subject: &str) -> Result<Record> {
    serde_json::from_slice(payload).map_err(|e| {
        let message = "the record of a group is not what Trunkline writes";
        Error::new(
            trunkline_core::ErrorKind::Corrupt,
            "nats_group_record_invalid",
            message,
        )
        .with("subject", subject)
        .with_source(e)
    })
}
