//! `trunkline dead-letters`.

use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Done, Failure, print, show};
use crate::args::{DeadLetters, Discard, LetterFilter, Replay};
use crate::client::{Client, segment};
use crate::table::{Table, cell, cells, items};

const PATH: &str = "/api/v1/dead-letters";

pub(super) async fn run(client: &Client, command: DeadLetters, as_json: bool) -> Done {
    match command {
        DeadLetters::List(filter) => list(client, filter, as_json).await,
        DeadLetters::Show { id } => {
            let letter = client.get(&format!("{PATH}/{}", segment(&id)), &[]).await?;
            if as_json {
                print(&letter)
            } else {
                tell(&letter)
            }
        }
        DeadLetters::Edit { id, data, file } => {
            let data = match (data, file) {
                (Some(data), _) => data,
                (None, Some(file)) => read(&file)?,
                (None, None) => return Err(Failure::Usage("expected --data or --file".to_owned())),
            };
            let data: Value = serde_json::from_str(&data)
                .map_err(|error| Failure::Usage(format!("the new data is not JSON: {error}")))?;
            let path = format!("{PATH}/{}/edit", segment(&id));
            let letter = client.post(&path, &json!({ "data": data })).await?;
            if as_json {
                print(&letter)
            } else {
                tell(&letter)
            }
        }
        DeadLetters::Replay(replay) => self::replay(client, replay, as_json).await,
        DeadLetters::Discard(discard) => self::discard(client, discard, as_json).await,
    }
}

async fn list(client: &Client, filter: LetterFilter, as_json: bool) -> Done {
    let query = [
        ("group", filter.group),
        ("key", filter.key),
        ("type", filter.event_type),
        ("after", filter.after),
        ("limit", filter.limit.map(|limit| limit.to_string())),
    ];
    let answer = client.get(PATH, &query).await?;
    show(&answer, as_json, |answer| {
        let mut table = Table::new(&[
            "ID", "GROUP", "KEY", "EVENT", "ATTEMPTS", "REPLAYS", "RETRY AT", "ERROR",
        ]);
        for letter in items(answer, "dead_letters") {
            let event = letter.get("event").unwrap_or(&Value::Null);
            let mut row = cells(letter, &["id", "group", "key"]);
            row.push(cell(event, "type"));
            row.extend(cells(letter, &["attempts", "replays", "retry_at"]));
            row.push(error(letter));
            table.row(row);
        }
        table
    })?;
    if let (false, Some(next)) = (as_json, answer.get("next").and_then(Value::as_str)) {
        eprintln!("there may be more: --after {next}");
    }
    Ok(())
}

/// Why a letter is parked. One without an error only waits behind another of its key.
fn error(letter: &Value) -> String {
    match letter.get("error") {
        Some(Value::String(_)) => cell(letter, "error"),
        _ => "waits behind an earlier letter of its key".to_owned(),
    }
}

fn tell(letter: &Value) -> Done {
    let mut table = Table::new(&[]);
    for name in ["id", "group", "key"] {
        table.row(vec![name.to_owned(), cell(letter, name)]);
    }
    table.row(vec!["error".to_owned(), error(letter)]);
    let names = [
        "code",
        "retry",
        "attempts",
        "replays",
        "recoveries",
        "parked_at",
        "failed_at",
        "decided_at",
        "retry_at",
    ];
    for name in names {
        table.row(vec![name.to_owned(), cell(letter, name)]);
    }
    let event = letter.get("event").unwrap_or(&Value::Null);
    let names = [
        "id",
        "type",
        "version",
        "source",
        "time",
        "topic",
        "correlation_id",
        "causation_id",
        "traceparent",
    ];
    for name in names {
        table.row(vec![format!("event {name}"), cell(event, name)]);
    }
    let mut out = io::stdout();
    table.write(&mut out)?;
    if let Some(original) = letter.get("original") {
        writeln!(out, "\ndata before the first edit:")?;
        print(original)?;
    }
    writeln!(out, "\ndata:")?;
    print(event.get("data").unwrap_or(&Value::Null))
}

fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("--file {}: {error}", file.display())))
}

async fn replay(client: &Client, replay: Replay, as_json: bool) -> Done {
    let which = replay.which;
    let mut wanted = given([
        ("group", replay.group),
        ("key", which.key),
        ("type", which.event_type),
        ("id", which.id),
    ]);
    if let Some(rate) = replay.rate {
        wanted.insert("rate_per_second".to_owned(), rate.into());
    }
    wanted.insert("dry_run".to_owned(), replay.dry_run.into());
    wanted.insert("force".to_owned(), replay.force.into());
    let answer = client
        .post(&format!("{PATH}/replay"), &wanted.into())
        .await?;
    show(&answer, as_json, |answer| {
        let names = [
            "group",
            "keys",
            "freed",
            "replayed",
            "failed",
            "refused",
            "interrupted",
        ];
        let mut table = Table::new(&[
            "GROUP",
            "KEYS",
            "FREED",
            "REPLAYED",
            "FAILED",
            "HELD BACK",
            "INTERRUPTED",
        ]);
        for group in items(answer, "groups") {
            table.row(cells(group, &names));
        }
        table
    })?;
    if !as_json && replay.dry_run {
        would(&answer).write(&mut io::stdout())?;
        eprintln!("nothing was replayed: each was tried and undone, and this is how it would end");
    }
    let failed = |group: &Value| group.get("failed").and_then(Value::as_u64).unwrap_or(0);
    let failed: u64 = items(&answer, "groups").iter().map(failed).sum();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Broken(anyhow::anyhow!(
        "{failed} letters failed again; their keys stay parked"
    )))
}

/// The values that were given, by their names in a request.
fn given<const N: usize>(texts: [(&str, Option<String>); N]) -> Map<String, Value> {
    let given = texts.into_iter();
    given
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect()
}

/// How each letter would end.
fn would(answer: &Value) -> Table {
    let mut table = Table::new(&["LETTER", "KEY", "EVENT", "WOULD", "ERROR"]);
    for group in items(answer, "groups") {
        for letter in items(group, "letters") {
            let mut row = cells(letter, &["id", "key", "event_type"]);
            let outcome = cell(letter, "outcome");
            row.push(outcome.trim_start_matches("would_").to_owned());
            row.push(cell(letter, "error"));
            table.row(row);
        }
    }
    table
}

async fn discard(client: &Client, discard: Discard, as_json: bool) -> Done {
    let answer = if let Some(id) = &discard.id {
        let path = format!("{PATH}/{}/discard", segment(id));
        client.post(&path, &json!({})).await?
    } else {
        let wanted = given([
            ("group", discard.group),
            ("key", discard.key),
            ("type", discard.event_type),
        ]);
        client
            .post(&format!("{PATH}/discard"), &wanted.into())
            .await?
    };
    if as_json {
        return print(&answer);
    }
    writeln!(io::stdout(), "{} discarded", cell(&answer, "discarded"))?;
    Ok(())
}
