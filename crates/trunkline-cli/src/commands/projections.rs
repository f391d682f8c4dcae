//! `trunkline projection`.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Done, print, show, unreachable_are_named};
use crate::args::Projections;
use crate::client::{Client, segment};
use crate::table::{Table, cell, cells, items};

const PATH: &str = "/api/v1/projections";

pub(super) async fn run(client: &Client, command: Projections, as_json: bool) -> Done {
    match command {
        Projections::List => {
            let answer = client.get(PATH, &[]).await?;
            show(&answer, as_json, table)?;
            if !as_json {
                unreachable_are_named(&answer, "projections");
            }
            Ok(())
        }
        Projections::Rebuild { service, name, by } => {
            let path = format!("{PATH}/{}/{}/rebuild", segment(&service), segment(&name));
            let body = by.map_or_else(|| json!({}), |by| json!({ "by": by }));
            let answer = client.post(&path, &body).await?;
            if as_json {
                return print(&answer);
            }
            writeln!(io::stdout(), "rebuild: {}", cell(&answer, "name"))?;
            Ok(())
        }
    }
}

fn table(answer: &Value) -> Table {
    let names = [
        "service",
        "name",
        "version",
        "position",
        "behind",
        "rebuilding",
        "error",
    ];
    let mut table = Table::new(&[
        "SERVICE",
        "PROJECTION",
        "VERSION",
        "POSITION",
        "BEHIND",
        "REBUILDING",
        "ERROR",
    ]);
    for projection in items(answer, "projections") {
        table.row(cells(projection, &names));
    }
    table
}
