//! What has to be done, and doing it.

use std::fmt;
use std::sync::Arc;

use trunkline_core::{Error, ErrorKind, Result};

use super::Topology;
use crate::amqp::{Connection, Queue, no_arguments};
use crate::topics::Quiet;
use crate::transport::RabbitMq;

/// What has to be done, and what can't be. `Display` is for people: a line for each exchange, queue and binding, and a
/// sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Exchanges, then queues, each with its bindings, in the order of the file.
    pub steps: Vec<Step>,
    topology: Topology,
}

/// A line of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// Such as `exchange order.exchange: topic, durable`.
    pub what: String,
    /// What is to be done.
    pub outcome: Outcome,
}

/// What is to be done about an exchange, a queue or a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It would be made.
    Make,
    /// It is there as it is declared.
    Exists,
    /// It would be made if it is not there: AMQP can't look for bindings, and making one again changes nothing.
    Ensure,
    /// It is there with other properties, and is not touched: what the server says.
    Conflict(String),
}

impl Plan {
    /// How many exchanges and queues would be made.
    pub fn to_make(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Make)
    }

    /// How many exchanges and queues are in conflict with the server.
    pub fn refused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Conflict(_)))
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        let steps = self.steps.iter();
        steps.filter(|step| which(&step.outcome)).count()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { what, outcome } in &self.steps {
            match outcome {
                Outcome::Make => writeln!(f, "+ {what}")?,
                Outcome::Exists => writeln!(f, "= {what}: as declared")?,
                Outcome::Ensure => writeln!(f, "~ {what}: made if it is not there")?,
                Outcome::Conflict(said) => writeln!(f, "! {what}: {said}; left as it is")?,
            }
        }
        let (make, refused) = (self.to_make(), self.refused());
        let exist = self.count(|outcome| *outcome == Outcome::Exists);
        write!(f, "{make} to make, {exist} as declared, {refused} refused")
    }
}

/// Compares the file with the server. Changes nothing.
///
/// # Errors
/// `Unavailable` when the server can't be asked, `PermissionDenied` when it does not answer to this user.
pub async fn plan(rabbit: &RabbitMq, topology: &Topology) -> Result<Plan> {
    let shared = rabbit.shared();
    let connection = shared.publisher.connection(shared).await?;
    let mut steps = Vec::new();
    for exchange in &topology.exchanges {
        steps.push(Step {
            what: about("exchange", &exchange.name, &exchange.kind, exchange.durable),
            outcome: compare_exchange(&connection, exchange).await?,
        });
    }
    for queue in &topology.queues {
        let outcome = compare_queue(&connection, queue).await?;
        let is_refused = matches!(outcome, Outcome::Conflict(_));
        steps.push(Step {
            what: about("queue", &queue.name, "classic", queue.durable),
            outcome,
        });
        for binding in queue.bindings.iter().filter(|_| !is_refused) {
            let (key, from) = (&binding.routing_key, &binding.exchange);
            steps.push(Step {
                what: format!("binding {from} -> {} with {key:?}", queue.name),
                outcome: Outcome::Ensure,
            });
        }
    }
    Ok(Plan {
        steps,
        topology: topology.clone(),
    })
}

fn about(what: &str, name: &str, kind: &str, durable: bool) -> String {
    let kept = if durable { "durable" } else { "transient" };
    format!("{what} {name}: {kind}, {kept}")
}

/// What exists is declared again as the file has it: that changes nothing, and the server says what differs.
async fn compare_exchange(connection: &Connection, wanted: &super::Exchange) -> Result<Outcome> {
    let channel = connection.channel(Arc::new(Quiet)).await?;
    let exists = channel.exchange_exists(&wanted.name).await;
    if let Some(missing) = missing(exists)? {
        return Ok(missing);
    }
    let declared = channel
        .exchange(&wanted.name, &wanted.kind, wanted.durable, &no_arguments())
        .await;
    judged(declared)
}

async fn compare_queue(connection: &Connection, wanted: &super::Queue) -> Result<Outcome> {
    let channel = connection.channel(Arc::new(Quiet)).await?;
    let exists = channel.look(&wanted.name).await.map(drop);
    if let Some(missing) = missing(exists)? {
        return Ok(missing);
    }
    judged(channel.queue(&as_declared(wanted)).await.map(drop))
}

fn as_declared(wanted: &super::Queue) -> Queue {
    Queue {
        name: wanted.name.to_string(),
        durable: wanted.durable,
        ..Queue::default()
    }
}

fn missing(exists: Result<()>) -> Result<Option<Outcome>> {
    match exists {
        Ok(()) => Ok(None),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(Some(Outcome::Make)),
            ErrorKind::Conflict => judged(Err(error)).map(Some),
            _ => Err(error),
        },
    }
}

fn judged(declared: Result<()>) -> Result<Outcome> {
    match declared {
        Ok(()) => Ok(Outcome::Exists),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(Outcome::Conflict(said(&error))),
        Err(error) => Err(error),
    }
}

fn said(error: &Error) -> String {
    let mut facts = error.context();
    let said = facts.find(|(name, _)| *name == "server_said");
    said.map_or_else(|| error.to_string(), |(_, said)| said.to_owned())
}

/// Makes what the plan says is to be made, bindings included; says how many exchanges and queues were made. What is in
/// conflict stays as it is, and so do the bindings of a queue that is.
///
/// # Errors
/// `Conflict`: somebody else made something with other properties since the plan was made; `NotFound`: a binding names an
/// exchange that neither the file nor the server has; the others of [`plan`].
pub async fn apply(rabbit: &RabbitMq, plan: &Plan) -> Result<usize> {
    let shared = rabbit.shared();
    let connection = shared.publisher.connection(shared).await?;
    let channel = connection.channel(Arc::new(Quiet)).await?;
    let refused = |what: &str| {
        let step = plan.steps.iter().find(|step| step.what == what);
        step.is_some_and(|step| matches!(step.outcome, Outcome::Conflict(_)))
    };
    for wanted in &plan.topology.exchanges {
        if !refused(&about(
            "exchange",
            &wanted.name,
            &wanted.kind,
            wanted.durable,
        )) {
            channel
                .exchange(&wanted.name, &wanted.kind, wanted.durable, &no_arguments())
                .await?;
        }
    }
    for wanted in &plan.topology.queues {
        if refused(&about("queue", &wanted.name, "classic", wanted.durable)) {
            continue;
        }
        channel.queue(&as_declared(wanted)).await?;
        for binding in &wanted.bindings {
            let (from, key) = (&binding.exchange, &binding.routing_key);
            let bound = channel.bind(&wanted.name, from, key, &no_arguments()).await;
            bound.map_err(|error| error.with("exchange", from))?;
        }
    }
    Ok(plan.to_make())
}
