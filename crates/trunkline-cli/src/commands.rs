//! What each command asks, and how its answer is shown.

mod alone;
mod apply;
mod audit;
mod certs;
mod dead_letters;
mod events;
mod flows;
mod gateway;
mod projections;
mod sagas;

use std::fmt;
use std::io::{self, Write};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::args::{Command, Gateway, Outbox, Subscriptions, Topology};
use crate::client::{Client, segment};
use crate::table::{Table, cell, cells, clean, items};

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// Nobody answers at this address.
    Unreachable { address: String, why: String },
    /// The platform answered with an error.
    Refused {
        status: StatusCode,
        code: String,
        detail: String,
    },
    /// The platform is not well.
    Unhealthy,
    /// An audit log is not what was written.
    Tampered,
    /// Something on our side.
    Broken(anyhow::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } | Self::Unhealthy | Self::Tampered | Self::Broken(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) => f.write_str(what),
            Self::Unreachable { address, why } => write!(
                f,
                "tried {address} and could not talk to it: {why}; is the platform running, and is this its \
                 admin address (--admin)?"
            ),
            Self::Refused { status, code, .. } if code.starts_with("admin_token") => write!(
                f,
                "the platform asks for its admin token ({status}, {code}): --token or TRUNKLINE_ADMIN_TOKEN"
            ),
            Self::Refused {
                status,
                code,
                detail,
            } if !detail.is_empty() => write!(f, "{detail} ({status}, {code})"),
            Self::Refused { status, .. } => {
                write!(f, "answered {status}: is this a platform's admin address?")
            }
            Self::Unhealthy => f.write_str("the platform is not healthy"),
            Self::Tampered => f.write_str("an audit log is not what was written"),
            Self::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

type Done = Result<(), Failure>;

/// Does a command. The token is the one that the command line gives.
pub(crate) async fn run(
    client: &Client,
    command: Command,
    token: Option<String>,
    as_json: bool,
) -> Done {
    match command {
        Command::DeadLetters(command) => dead_letters::run(client, command, as_json).await,
        Command::Certs(args) => certs::run(args, as_json),
        Command::Events(args) => events::run(client, args, as_json).await,
        Command::Flows(command) => flows::run(client, command, as_json).await,
        Command::Saga(command) => sagas::run(client, command, as_json).await,
        Command::Projection(command) => projections::run(client, command, as_json).await,
        Command::Subscriptions(command) => subscriptions(client, command, as_json).await,
        Command::Outbox(command) => outbox(client, command, as_json).await,
        Command::Gateway {
            command: Some(Gateway::Check { file }),
            ..
        } => gateway::check(&file, as_json),
        Command::Gateway {
            command: None,
            alone,
        } => Box::pin(alone::run(*alone, token)).await,
        Command::Audit(command) => audit::run(client, command, as_json).await,
        Command::Health => health(client, as_json).await,
        // It needs no platform, and no runtime around it.
        Command::Conform(_) => Ok(()),
        Command::Topology {
            command: Some(Topology::Apply(apply)),
        } => apply::run(apply).await,
        Command::Topology { command: None } => print(&client.get("/api/v1/topology", &[]).await?),
    }
}

/// Prints JSON, indented.
fn print(value: &Value) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Prints the answer as it is, or as a table.
fn show(answer: &Value, as_json: bool, table: impl FnOnce(&Value) -> Table) -> Done {
    if as_json {
        return print(answer);
    }
    table(answer).write(&mut io::stdout())?;
    Ok(())
}

/// A list that lacks some says whose.
fn unreachable_are_named(answer: &Value, what: &str) {
    for peer in items(answer, "unreachable") {
        let [service, error] = ["service", "error"].map(|name| cell(peer, name));
        eprintln!("{service} does not answer, so its {what} are not here: {error}");
    }
}

async fn subscriptions(client: &Client, command: Subscriptions, as_json: bool) -> Done {
    let path = "/api/v1/subscriptions";
    let answer = match command {
        Subscriptions::List => client.get(path, &[]).await?,
        Subscriptions::Pause { group } => {
            let path = format!("{path}/{}/pause", segment(&group));
            client.post(&path, &json!({})).await?
        }
        Subscriptions::Resume { group } => {
            let path = format!("{path}/{}/resume", segment(&group));
            client.post(&path, &json!({})).await?
        }
    };
    show(&answer, as_json, |answer| {
        let names = [
            "group",
            "service",
            "state",
            "lag",
            "in_flight",
            "retrying_keys",
            "parked_keys",
        ];
        let mut table = Table::new(&[
            "GROUP",
            "SERVICE",
            "STATE",
            "LAG",
            "IN FLIGHT",
            "RETRYING",
            "PARKED",
        ]);
        for subscription in items(answer, "subscriptions") {
            table.row(cells(subscription, &names));
        }
        table
    })
}

async fn outbox(client: &Client, command: Outbox, as_json: bool) -> Done {
    let path = "/api/v1/outbox";
    match command {
        Outbox::List => {
            let answer = client.get(path, &[]).await?;
            show(&answer, as_json, outboxes)
        }
        Outbox::Retry { event_id } => {
            let path = format!("{path}/{}/retry", segment(&event_id));
            print(&client.post(&path, &json!({})).await?)
        }
        Outbox::Discard { event_id } => {
            let path = format!("{path}/{}/discard", segment(&event_id));
            print(&client.post(&path, &json!({})).await?)
        }
    }
}

fn outboxes(answer: &Value) -> Table {
    let names = [
        "service",
        "pending",
        "scheduled",
        "held",
        "lag_seconds",
        "last_error",
    ];
    let mut table = Table::new(&[
        "SERVICE",
        "PENDING",
        "SCHEDULED",
        "HELD",
        "LAG S",
        "LAST ERROR",
    ]);
    for outbox in items(answer, "outboxes") {
        table.row(cells(outbox, &names));
        for stuck in items(outbox, "stuck") {
            let event = stuck.get("event").unwrap_or(&Value::Null);
            let what = format!("  stuck: {} {}", cell(event, "type"), cell(event, "id"));
            table.row(vec![what]);
            table.row(vec![format!("    {}", cell(stuck, "error"))]);
        }
    }
    table
}

async fn health(client: &Client, as_json: bool) -> Done {
    let answer = client.send(Method::GET, "/health", None).await?;
    // An unhealthy platform answers 503 and says what is wrong.
    if answer.status != StatusCode::SERVICE_UNAVAILABLE {
        let body = answer.accepted()?;
        return show(&body, as_json, checks);
    }
    show(&answer.body, as_json, checks)?;
    Err(Failure::Unhealthy)
}

/// Every check of the report, at whatever depth, by its path.
fn checks(report: &Value) -> Table {
    let mut table = Table::new(&["CHECK", "STATUS", "LATENCY", "DETAILS"]);
    let whole = vec!["platform".to_owned(), cell(report, "status")];
    table.row(with_facts(whole, report, None));
    add_checks(report, "", &mut table);
    for peer in items(report, "unreachable") {
        let status = format!("does not answer: {}", cell(peer, "error"));
        table.row(with_facts(vec![cell(peer, "service"), status], peer, None));
    }
    table
}

fn add_checks(report: &Value, above: &str, table: &mut Table) {
    for name in ["services", "checks"] {
        match report.get(name) {
            Some(Value::Object(parts)) => {
                for (part, said) in parts {
                    let path = format!("{above}{part}");
                    if said.is_object() {
                        let row = vec![path.clone(), cell(said, "status")];
                        table.row(with_facts(row, said, None));
                        add_checks(said, &format!("{path}/"), table);
                    } else {
                        let row = vec![path, cell(report.get(name).unwrap_or(said), part)];
                        let details = report.get("details").and_then(|all| all.get(part));
                        table.row(with_facts(row, &Value::Null, details));
                    }
                }
            }
            Some(Value::Array(parts)) => {
                for said in parts {
                    let path = format!("{above}{}", cell(said, "service"));
                    let row = vec![path.clone(), cell(said, "status")];
                    table.row(with_facts(row, said, None));
                    add_checks(said, &format!("{path}/"), table);
                }
            }
            _ => {}
        }
    }
}

/// A row with how long a service took, and what a check tells beside its status.
fn with_facts(mut row: Vec<String>, of: &Value, details: Option<&Value>) -> Vec<String> {
    let latency = of.get("latency_us").and_then(Value::as_u64);
    row.push(latency.map_or_else(String::new, |micros| match micros {
        0..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{} ms", micros / 1_000),
    }));
    let facts = details.and_then(Value::as_object);
    let facts = facts.into_iter().flatten().map(|(name, _)| {
        let value = cell(details.unwrap_or(&Value::Null), name);
        format!("{}: {value}", clean(name))
    });
    row.push(facts.collect::<Vec<_>>().join(", "));
    row
}
