//! What an instance looks like from outside.

use jiff::Timestamp;
use serde::Serialize;
use trunkline_core::ByteString;
use trunkline_saga::{Data, Entry, Fault, Instance, LISTED_BYTES_MAX, Message, Record, State};
use uuid::Uuid;

use super::steps::{Step, steps};

/// An instance in a list, without what it was given and gave.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(super) id: Uuid,
    service: ByteString,
    saga: ByteString,
    key: ByteString,
    version: u32,
    state: State,
    correlation_id: ByteString,
    status: Option<Data>,
    code: Option<ByteString>,
    error: Option<String>,
    started_at: Timestamp,
    changed_at: Timestamp,
    wake_at: Option<Timestamp>,
    parent: Option<Uuid>,
}

impl Row {
    pub(super) fn of(service: &ByteString, one: &Instance) -> Self {
        let short = |data: &&Data| data.text().len() <= LISTED_BYTES_MAX;
        let error = one.error.as_ref();
        Self {
            id: one.id,
            service: service.clone(),
            saga: one.saga.clone(),
            key: one.key.clone(),
            version: one.version,
            state: one.state,
            correlation_id: one.correlation_id.clone(),
            status: one.status.as_ref().filter(short).cloned(),
            code: error.map(|error| error.code.clone()),
            error: error.map(|error| error.message.chars().take(LISTED_BYTES_MAX).collect()),
            started_at: one.started_at,
            changed_at: one.changed_at,
            wake_at: one.wake_at,
            parent: one.parent,
        }
    }
}

/// An instance with each of its steps, and with the journal as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    id: Uuid,
    service: ByteString,
    saga: ByteString,
    key: ByteString,
    version: u32,
    state: State,
    correlation_id: ByteString,
    context: Data,
    input: Data,
    status: Option<Data>,
    output: Option<Data>,
    error: Option<Fault>,
    started_at: Timestamp,
    changed_at: Timestamp,
    wake_at: Option<Timestamp>,
    owner: Option<ByteString>,
    parent: Option<Uuid>,
    steps: Vec<Step>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

impl Shown {
    pub(super) fn of(service: &ByteString, record: Record) -> Self {
        let Record {
            instance,
            entries,
            messages,
        } = record;
        Self {
            id: instance.id,
            service: service.clone(),
            saga: instance.saga,
            key: instance.key,
            version: instance.version,
            state: instance.state,
            correlation_id: instance.correlation_id,
            context: instance.context,
            input: instance.input,
            status: instance.status,
            output: instance.output,
            error: instance.error,
            started_at: instance.started_at,
            changed_at: instance.changed_at,
            wake_at: instance.wake_at,
            owner: instance.owner,
            parent: instance.parent,
            steps: steps(&entries),
            entries,
            messages,
        }
    }
}
