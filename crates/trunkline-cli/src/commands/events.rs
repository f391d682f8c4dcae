//! `trunkline events`.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::Done;
use crate::args::Events;
use crate::client::Client;
use crate::table::{cell, items};

const PATH: &str = "/api/v1/events";
/// How long `--follow` waits before it asks again when it was let go.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(client: &Client, args: Events, as_json: bool) -> Done {
    let filter = [
        ("correlation_id", args.correlation_id),
        ("type", args.event_type),
        ("business_key", args.business_key),
    ];
    let mut query = filter.to_vec();
    query.push(("limit", Some(args.limit.to_string())));
    query.push(("newest_first", Some("true".to_owned())));
    let answer = client.get(PATH, &query).await?;
    let mut newest: Vec<&Value> = items(&answer, "events").iter().collect();
    newest.reverse();
    let mut position = 0;
    for event in newest {
        position = told(event, as_json)?.max(position);
    }
    if !args.follow {
        return Ok(());
    }
    loop {
        let mut query = filter.to_vec();
        query.push(("after", Some(position.to_string())));
        query.push(("follow", Some("true".to_owned())));
        let each = |event: &Value| {
            position = told(event, as_json)?.max(position);
            Ok(())
        };
        // It ends when the platform stops, or lets go of one who reads too slowly; whoever comes again goes on there.
        client.follow(PATH, &query, each).await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints an event, on one line, and returns its position.
fn told(event: &Value, as_json: bool) -> Result<u64, super::Failure> {
    let mut out = io::stdout();
    if as_json {
        writeln!(out, "{event}")?;
    } else {
        let names = ["time", "type", "source", "key", "correlation_id"];
        let [time, kind, source, key, correlation] = names.map(|name| cell(event, name));
        writeln!(
            out,
            "{time}  {kind:<28}  {source:<22}  key {key}  flow {correlation}"
        )?;
    }
    Ok(event.get("position").and_then(Value::as_u64).unwrap_or(0))
}
