//! `trunkline saga`.

mod timeline;

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Done, Failure, print, show, unreachable_are_named};
use crate::args::{Instance, SagaFilter, Sagas};
use crate::client::{Client, segment};
use crate::table::{Table, cell, cells, items};

const PATH: &str = "/api/v1/sagas";

pub(super) async fn run(client: &Client, command: Sagas, as_json: bool) -> Done {
    match command {
        Sagas::List(filter) => list(client, *filter, as_json).await,
        Sagas::Show { which } => {
            let instance = client.get(&path(&which), &[]).await?;
            if as_json {
                return print(&instance);
            }
            tell(&instance, &mut io::stdout())
        }
        Sagas::Retry { which, by } => steer(client, &which, ("retry", [("by", by)]), as_json).await,
        Sagas::Cancel { which, why, by } => {
            let said = [("why", why), ("by", by)];
            steer(client, &which, ("cancel", said), as_json).await
        }
        Sagas::RetryFrom { which, step, by } => {
            let said = [("step", Some(step)), ("by", by)];
            steer(client, &which, ("retry-from", said), as_json).await
        }
        Sagas::Migrate { which, version, by } => {
            let mut body = given([("by", by)]);
            body.insert("version".to_owned(), version.into());
            send(client, &which, ("migrate", body), as_json).await
        }
        Sagas::Skip {
            which,
            step,
            output,
            by,
        } => {
            let mut body = given([("step", Some(step)), ("by", by)]);
            body.insert("output".to_owned(), parsed("--output", output)?);
            send(client, &which, ("skip", body), as_json).await
        }
        Sagas::Signal {
            which,
            name,
            data,
            by,
        } => {
            let mut body = given([("name", Some(name)), ("by", by)]);
            body.insert("data".to_owned(), parsed("--data", data)?);
            send(client, &which, ("signal", body), as_json).await
        }
    }
}

fn path(which: &Instance) -> String {
    format!("{PATH}/{}/{}", segment(&which.service), segment(&which.id))
}

fn given<const N: usize>(said: [(&str, Option<String>); N]) -> Map<String, Value> {
    let said = said.into_iter();
    said.filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect()
}

fn parsed(option: &str, text: Option<String>) -> Result<Value, Failure> {
    let Some(text) = text else {
        return Ok(Value::Null);
    };
    serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("{option} is not JSON: {error}")))
}

async fn steer<const N: usize>(
    client: &Client,
    which: &Instance,
    (action, said): (&str, [(&str, Option<String>); N]),
    as_json: bool,
) -> Done {
    send(client, which, (action, given(said)), as_json).await
}

async fn send(
    client: &Client,
    which: &Instance,
    (action, body): (&str, Map<String, Value>),
    as_json: bool,
) -> Done {
    let answer = client
        .post(&format!("{}/{action}", path(which)), &json!(body))
        .await?;
    if as_json {
        return print(&answer);
    }
    let [done, id] = ["done", "id"].map(|name| cell(&answer, name));
    writeln!(io::stdout(), "{done}: {id}")?;
    Ok(())
}

async fn list(client: &Client, filter: SagaFilter, as_json: bool) -> Done {
    let query = [
        ("service", filter.service),
        ("saga", filter.saga),
        ("state", filter.state),
        ("correlation_id", filter.correlation_id),
        ("key", filter.key),
        ("older_than", filter.older_than),
        ("after", filter.after),
        ("limit", filter.limit.map(|limit| limit.to_string())),
    ];
    let answer = client.get(PATH, &query).await?;
    show(&answer, as_json, |answer| {
        let names = [
            "id",
            "service",
            "saga",
            "key",
            "state",
            "started_at",
            "status",
            "error",
        ];
        let mut table = Table::new(&[
            "ID", "SERVICE", "SAGA", "KEY", "STATE", "STARTED", "SAYS", "ERROR",
        ]);
        for instance in items(answer, "sagas") {
            table.row(cells(instance, &names));
        }
        table
    })?;
    if as_json {
        return Ok(());
    }
    unreachable_are_named(&answer, "sagas");
    if let Some(next) = answer.get("next").and_then(Value::as_str) {
        eprintln!("there may be more: --after {next}");
    }
    Ok(())
}

/// An instance for people: what it is, a line a step with a bar by time, and why what failed did.
fn tell(instance: &Value, out: &mut impl Write) -> Done {
    let [service, saga, key, state] =
        ["service", "saga", "key", "state"].map(|name| cell(instance, name));
    writeln!(out, "{service} {saga} {key}: {state}")?;
    let mut facts = Table::new(&[]);
    let names = [
        "id",
        "version",
        "correlation_id",
        "started_at",
        "changed_at",
        "wake_at",
        "parent",
        "input",
        "status",
        "output",
    ];
    for name in names {
        if instance.get(name).is_some_and(|value| !value.is_null()) {
            facts.row(vec![format!("  {name}"), cell(instance, name)]);
        }
    }
    facts.write(out)?;
    writeln!(out)?;
    timeline::of(instance).write(out)?;
    let mut failures = Vec::new();
    let error = |of: &Value| of.get("error").filter(|error| error.is_object()).cloned();
    for step in items(instance, "steps") {
        let name = cell(step, "name");
        let tries = items(step, "tries");
        failures.extend(tries.iter().filter_map(|one| {
            let (number, at) = (cell(one, "attempt"), cell(one, "at"));
            Some((format!("{name}, attempt {number} until {at}"), error(one)?))
        }));
        let unsaid = error(step).filter(|_| tries.is_empty());
        failures.extend(unsaid.map(|error| (name.clone(), error)));
        let undone = step.get("undone").and_then(error);
        failures.extend(undone.map(|error| (format!("undo of {name}"), error)));
    }
    failures.extend(error(instance).map(|error| ("the saga".to_owned(), error)));
    if !failures.is_empty() {
        writeln!(out)?;
    }
    for (what, error) in failures {
        let [code, message] = ["code", "message"].map(|name| cell(&error, name));
        writeln!(out, "{what}: {message} ({code})")?;
    }
    Ok(())
}
