//! `trunkline flows`.

use std::io::{self, Write};

use serde_json::Value;

use super::{Done, print, show};
use crate::args::Flows;
use crate::client::{Client, segment};
use crate::table::{Table, cell, cells, items};

const PATH: &str = "/api/v1/flows";

pub(super) async fn run(client: &Client, command: Flows, as_json: bool) -> Done {
    match command {
        Flows::List { flow, state } => {
            let answer = client
                .get(PATH, &[("flow", flow), ("state", state)])
                .await?;
            show(&answer, as_json, |answer| {
                let mut table = Table::new(&["FLOW", "KEY", "STATE", "EVENTS", "STUCK ON"]);
                for story in items(answer, "flows") {
                    let mut row = cells(story, &["flow", "key", "state"]);
                    row.push(items(story, "events").len().to_string());
                    let first = items(story, "stuck_on").first().unwrap_or(&Value::Null);
                    row.push(cell(first, "reason"));
                    table.row(row);
                }
                table
            })
        }
        Flows::Show { id } => {
            let answer = client.get(&format!("{PATH}/{}", segment(&id)), &[]).await?;
            if as_json {
                return print(&answer);
            }
            for story in items(&answer, "flows") {
                tell(story)?;
            }
            behind(&answer);
            Ok(())
        }
    }
}

fn behind(answer: &Value) {
    match answer.get("trail_lag").and_then(Value::as_u64) {
        None | Some(0) => {}
        Some(lag) => eprintln!("the trail is {lag} events behind: there may be more"),
    }
}

fn tell(story: &Value) -> Done {
    let mut out = io::stdout();
    let [flow, key, state] = ["flow", "key", "state"].map(|name| cell(story, name));
    writeln!(out, "{flow} {key}: {state}")?;
    for event in items(story, "events") {
        let depth = event.get("depth").and_then(Value::as_u64).unwrap_or(0);
        let depth = usize::try_from(depth).unwrap_or(0).min(32);
        let [time, kind, source] = ["time", "type", "source"].map(|name| cell(event, name));
        writeln!(
            out,
            "  {time}  {:indent$}{kind}  ({source})",
            "",
            indent = depth * 2
        )?;
    }
    for awaited in items(story, "expected") {
        let [one_of, after, due] = ["one_of", "after", "due"].map(|name| cell(awaited, name));
        let late = awaited.get("overdue") == Some(&Value::Bool(true));
        let late = if late { ", overdue" } else { "" };
        writeln!(out, "  expected: {one_of} after {after}, by {due}{late}")?;
    }
    for obstacle in items(story, "stuck_on") {
        let [kind, at, reason] = ["kind", "at", "reason"].map(|name| cell(obstacle, name));
        writeln!(out, "  stuck on: {kind} at {at}: {reason}")?;
    }
    Ok(())
}
