//! `trunkline audit`.

use serde_json::Value;

use super::{Done, Failure, show};
use crate::args::Audit;
use crate::client::Client;
use crate::table::{Table, cell, cells, items};

const PATH: &str = "/api/v1/audit";

pub(super) async fn run(client: &Client, command: Audit, as_json: bool) -> Done {
    match command {
        Audit::List {
            service,
            actor,
            action,
            outcome,
            correlation_id,
            since,
            limit,
        } => {
            let query = [
                ("service", service),
                ("actor", actor),
                ("action", action),
                ("outcome", outcome),
                ("correlation_id", correlation_id),
                ("since", since),
                ("limit", limit.map(|limit| limit.to_string())),
            ];
            show(&client.get(PATH, &query).await?, as_json, entries)
        }
        Audit::Check => {
            let answer = client.get(&format!("{PATH}/check"), &[]).await?;
            show(&answer, as_json, checks)?;
            let is_broken = |log: &Value| log.get("broken").is_some_and(|broken| !broken.is_null());
            match items(&answer, "logs").iter().any(is_broken) {
                true => Err(Failure::Tampered),
                false => Ok(()),
            }
        }
    }
}

fn entries(answer: &Value) -> Table {
    let names = [
        "at", "service", "actor", "action", "object", "outcome", "reason",
    ];
    let heads = [
        "AT", "LOG", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "REASON",
    ];
    let mut table = Table::new(&heads);
    for entry in items(answer, "entries") {
        table.row(cells(entry, &names));
    }
    table
}

fn checks(answer: &Value) -> Table {
    let mut table = Table::new(&["LOG", "ENTRIES", "STATE"]);
    for log in items(answer, "logs") {
        let mut row = cells(log, &["service", "entries"]);
        row.push(match log.get("broken") {
            None | Some(Value::Null) => "as it was written".to_owned(),
            Some(broken) => format!(
                "broken at {}: {}",
                cell(broken, "position"),
                cell(broken, "what")
            ),
        });
        table.row(row);
    }
    table
}
