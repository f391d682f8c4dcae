//! Dropping what retention allows.

use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::time::sleep;
use trunkline_core::{Result, report};

use crate::script;
use crate::topics::Topic;
use crate::transport::Shared;

/// How often streams are trimmed. Whole blocks of entries go at a time (`~`), so more often would not help.
const EVERY: Duration = Duration::from_secs(30);

/// Trims the streams of the topics that are known here, until the transport closes.
pub(crate) async fn keep_trimming(shared: Arc<Shared>) {
    loop {
        sleep(EVERY).await;
        if let Err(error) = trim(&shared).await {
            tracing::debug!(error = %report(&error), "streams could not be trimmed this time");
        }
    }
}

/// Trims once; what a group has yet to settle stays.
pub(crate) async fn trim(shared: &Shared) -> Result<()> {
    let mut pipe = Pipeline::new();
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let limited = |topic: &Arc<Topic>| topic.retention.is_some() || topic.retention_bytes.is_some();
    for topic in shared.topics.all().into_iter().filter(limited) {
        let age = topic
            .retention
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let bytes = topic
            .retention_bytes
            .map(|max| max / u64::from(topic.partitions.max(1)));
        let mut cmd = script::eval(script::TRIM, &topic.places);
        cmd.arg(number(age)).arg(number(bytes));
        pipe.add_command(cmd);
    }
    shared
        .link
        .calls("streams could not be trimmed", &pipe)
        .await?;
    Ok(())
}
