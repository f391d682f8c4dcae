//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

/// Looks into a running platform and steers it, over its admin address.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// The platform's admin address.
    #[arg(
        long,
        global = true,
        env = "TRUNKLINE_ADMIN",
        default_value = "http://127.0.0.1:9900"
    )]
    pub(crate) admin: String,
    /// The admin token, where the platform asks for one.
    #[arg(
        long,
        global = true,
        env = "TRUNKLINE_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
    /// Print what the platform answers, as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Events that could not be handled, and those that queue behind them.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// The trail of events, the newest last.
    Events(Events),
    /// Where a business flow stands.
    #[command(subcommand)]
    Flows(Flows),
    /// Instances of sagas, each with its steps, and a hand on them.
    #[command(subcommand)]
    Saga(Sagas),
    /// Tables that follow the events of aggregates, and building them anew.
    #[command(subcommand)]
    Projection(Projections),
    /// Who handles events, how far behind.
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// Events that wait to be sent, and those that can't be.
    #[command(subcommand)]
    Outbox(Outbox),
    /// Who did what and what was refused, and whether the logs of that are what was written.
    #[command(subcommand)]
    Audit(Audit),
    /// Whether all is well; exit code 1 where it is not.
    Health,
    /// Certificates of a development CA: each service gets one that names it, for TLS at both ends.
    Certs(Certs),
    /// Runs Trunkline's conformance suite over an engine of yours: what it keeps of what the bus promises. The topics that
    /// it makes stay on the server. Exit code 101 where a case fails.
    Conform(Conform),
    /// The API gateway: runs one alone, by a Kong file, until Ctrl-C.
    #[command(args_conflicts_with_subcommands = true)]
    Gateway {
        #[command(subcommand)]
        command: Option<Gateway>,
        #[command(flatten)]
        alone: Box<Alone>,
    },
    /// What services there are, and who calls, publishes and handles what.
    #[command(args_conflicts_with_subcommands = true)]
    Topology {
        #[command(subcommand)]
        command: Option<Topology>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Lists the newest entries, the newest last.
    List {
        /// Of this service's log.
        #[arg(long)]
        service: Option<String>,
        /// Of this actor: a service, user:ID, or unknown.
        #[arg(long)]
        actor: Option<String>,
        /// Of this action, such as call.
        #[arg(long)]
        action: Option<String>,
        /// That ended so: done, refused or failed.
        #[arg(long)]
        outcome: Option<String>,
        /// Of this flow.
        #[arg(long, value_name = "ID")]
        correlation_id: Option<String>,
        /// From this time on, such as 2026-01-31T12:00:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// At most so many: 1 to 1000, 100 by default.
        #[arg(long)]
        limit: Option<u32>,
    },
    /// Reads every log from its beginning; exit code 1 where one is not what was written.
    Check,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Gateway {
    /// Tells everything that is wrong with a Kong file, each with its line; exit code 1 if something is.
    Check {
        /// The file: YAML or JSON.
        file: PathBuf,
    },
}

#[derive(Debug, Group)]
pub(crate) struct Alone {
    /// Kong's declarative file: YAML or JSON. It is followed: a change holds at once.
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_GATEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where requests are taken; given again, at several addresses.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TRUNKLINE_GATEWAY_LISTEN",
        value_delimiter = ',',
        default_value = "0.0.0.0:8000"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Where requests are taken with TLS, by the file's certificates; given again, at several addresses.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TRUNKLINE_GATEWAY_LISTEN_TLS",
        value_delimiter = ','
    )]
    pub(crate) listen_tls: Vec<SocketAddr>,
    /// Where the admin API, /metrics and /health are. Beyond loopback it asks for --token.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TRUNKLINE_GATEWAY_ADMIN_LISTEN",
        default_value = "127.0.0.1:8001"
    )]
    pub(crate) admin_listen: SocketAddr,
    /// Write changes by the admin API back to the file. Its comments are lost then.
    #[arg(long, env = "TRUNKLINE_GATEWAY_WRITE_BACK")]
    pub(crate) write_back: bool,
    /// How many threads take requests; one for each core by default.
    #[arg(long, value_name = "COUNT", env = "TRUNKLINE_GATEWAY_WORKERS")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Send spans to this collector, such as http://127.0.0.1:4318.
    #[arg(long, value_name = "URL", env = "TRUNKLINE_GATEWAY_OTLP")]
    pub(crate) otlp: Option<String>,
    /// Write the log as JSON, a line for each request.
    #[arg(long, env = "TRUNKLINE_GATEWAY_LOG_JSON")]
    pub(crate) log_json: bool,
    /// What is logged.
    #[arg(
        long,
        value_name = "FILTER",
        env = "TRUNKLINE_GATEWAY_LOG",
        default_value = "info"
    )]
    pub(crate) log: String,
}

#[derive(Debug, Group)]
pub(crate) struct Certs {
    /// The CA's folder.
    #[arg(
        long,
        global = true,
        default_value = "data/certs",
        value_name = "FOLDER"
    )]
    pub(crate) dir: PathBuf,
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Makes the CA.
    Init {
        /// The platform's name in certificates: spiffe://TRUST_DOMAIN/SERVICE.
        #[arg(long, value_name = "NAME")]
        trust_domain: String,
    },
    /// Makes certificates for services, in a folder each; a service that has one gets another.
    Issue {
        /// The services.
        #[arg(required = true)]
        services: Vec<String>,
        /// A DNS name or address to put into them; their own names and `localhost` by default.
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// How long they live, in hours.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Makes every certificate anew.
    Renew,
    /// Takes a step of a change of roots. One that would cut a service off is refused: exit code 1.
    Rotate {
        /// begin: trust a new root beside the old one; switch: let it vouch; finish: trust the old one no longer.
        step: Step,
        /// How many seconds services get to notice a step before the next.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        settle: u64,
    },
    /// Shows the certificates, and which step comes next.
    Show,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Step {
    Begin,
    Switch,
    Finish,
}

#[derive(Debug, Group)]
pub(crate) struct Conform {
    /// The engine: redis://, amqp://, kafka:// or nats://.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Only the cases whose names contain this.
    #[arg(value_name = "CASE")]
    pub(crate) case: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Makes the topics, or exchanges, queues and bindings, that a YAML file declares. What is there in another shape
    /// is told and left alone: exit code 1. A second run changes nothing.
    Apply(Apply),
}

#[derive(Debug, Group)]
pub(crate) struct Apply {
    /// The file: Kafka's `topics` and `consumer_groups`, or RabbitMQ's `exchanges` and `queues`.
    #[arg(long)]
    pub(crate) file: PathBuf,
    /// The engine: kafka://host:9092 or amqp://user:password@host:5672/vhost.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Only tell what would be made.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many brokers keep each topic, whatever the file says: 1 on a cluster of one.
    #[arg(long)]
    pub(crate) replication: Option<u16>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Lists them, the oldest first.
    List(LetterFilter),
    /// Shows one with its event.
    Show {
        /// The letter's id.
        id: String,
    },
    /// Replaces the data of one's event; the original is kept.
    Edit {
        /// The letter's id.
        id: String,
        /// The new data, as JSON.
        #[arg(long, required_unless_present = "file", conflicts_with = "file")]
        data: Option<String>,
        /// A file with the new data; `-` is standard input.
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Handles the letters of parked keys again, in order. Ctrl-C interrupts between two letters; run it again
    /// to go on.
    Replay(Replay),
    /// Throws letters away, for good.
    Discard(Discard),
}

#[derive(Debug, Group)]
pub(crate) struct LetterFilter {
    /// Only of this group.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Only of this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Only of this event type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// At most so many, up to 1000.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// Those after this id.
    #[arg(long)]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Group)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only of this group.
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Only tell of each letter whether it would pass: it is handled, and what that did is undone.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// At most so many letters a second.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Replay even what was replayed in vain too often.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Group)]
#[group(required = true, multiple = true)]
pub(crate) struct Which {
    /// The key of this letter.
    pub(crate) id: Option<String>,
    /// This key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Keys with a letter of this event type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Every key.
    #[arg(long, conflicts_with_all = ["id", "key", "event_type"])]
    pub(crate) all: bool,
}

#[derive(Debug, Group)]
#[group(required = true, multiple = true)]
pub(crate) struct Discard {
    /// The letter's id.
    #[arg(conflicts_with_all = ["key", "event_type", "group"])]
    pub(crate) id: Option<String>,
    /// All letters of this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// All letters of this event type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only of this group.
    #[arg(long)]
    pub(crate) group: Option<String>,
}

#[derive(Debug, Group)]
pub(crate) struct Events {
    /// Only of this correlation id.
    #[arg(long)]
    pub(crate) correlation_id: Option<String>,
    /// Only of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only with this business key, such as an order's id.
    #[arg(long)]
    pub(crate) business_key: Option<String>,
    /// How many of the newest.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Goes on with each new one, until Ctrl-C.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sagas {
    /// Lists instances, the newest first.
    List(Box<SagaFilter>),
    /// Shows one: a line a step with a bar by time, and why what failed did.
    Show {
        #[command(flatten)]
        which: Instance,
    },
    /// Lets one go on that is parked, or tries the last step again of one that failed and had nothing to undo.
    Retry {
        #[command(flatten)]
        which: Instance,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
    /// Cancels one: what it did is undone.
    Cancel {
        #[command(flatten)]
        which: Instance,
        /// Why.
        #[arg(long)]
        why: Option<String>,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
    /// Says what a step gave, or that its compensation is done, so that the instance goes on without it.
    Skip {
        #[command(flatten)]
        which: Instance,
        /// The step's name or place.
        step: String,
        /// What it gave, as JSON; null by default.
        #[arg(long, value_name = "JSON")]
        output: Option<String>,
        /// Who does it, for the audit log and the journal.
        #[arg(long)]
        by: Option<String>,
    },
    /// Lets one go on from a step, as if that and all after it had not been.
    RetryFrom {
        #[command(flatten)]
        which: Instance,
        /// The step's name or place.
        step: String,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
    /// Moves one that waits or is parked to another version of its code, if that fits all that it has done.
    Migrate {
        #[command(flatten)]
        which: Instance,
        /// The version.
        version: u32,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
    /// Sends a signal that the instance waits for.
    Signal {
        #[command(flatten)]
        which: Instance,
        /// The signal's name.
        name: String,
        /// What it says, as JSON; null by default.
        #[arg(long, value_name = "JSON")]
        data: Option<String>,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// Lists them: how many events each shows, and how many not yet.
    List,
    /// Begins to build one anew, beside the tables that are read until it is done.
    Rebuild {
        /// The service whose projection it is.
        service: String,
        /// The projection's name.
        name: String,
        /// Who does it, for the audit log.
        #[arg(long)]
        by: Option<String>,
    },
}

#[derive(Debug, Group)]
pub(crate) struct Instance {
    /// The service whose saga it is.
    pub(crate) service: String,
    /// The instance's id.
    pub(crate) id: String,
}

#[derive(Debug, Group)]
pub(crate) struct SagaFilter {
    /// Of this service.
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Of this saga.
    #[arg(long)]
    pub(crate) saga: Option<String>,
    /// Only in this state.
    #[arg(long, value_parser = ["running", "waiting", "compensating", "completed", "failed", "compensated", "parked"])]
    pub(crate) state: Option<String>,
    /// Of this flow.
    #[arg(long, value_name = "ID")]
    pub(crate) correlation_id: Option<String>,
    /// Started with this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Started longer ago than this, such as 15m.
    #[arg(long, value_name = "TIME")]
    pub(crate) older_than: Option<String>,
    /// Go on after this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<String>,
    /// At most so many: 1 to 1000, 100 by default.
    #[arg(long)]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Flows {
    /// Tells the story of one: its events, what is still expected, and what it is stuck on.
    Show {
        /// A correlation id, or a business key such as an order's id.
        id: String,
    },
    /// Lists the newest.
    List {
        /// Only of this flow.
        #[arg(long)]
        flow: Option<String>,
        /// Only in this state.
        #[arg(long, value_parser = ["unknown", "running", "stuck", "succeeded", "failed"])]
        state: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Subscriptions {
    /// Lists them with their lag.
    List,
    /// Takes up no more work; what is under way ends.
    Pause {
        /// The group.
        group: String,
    },
    /// Takes up work again.
    Resume {
        /// The group.
        group: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// Lists what waits and what is stuck.
    List,
    /// Tries a stuck event again.
    Retry {
        /// The event's id.
        event_id: String,
    },
    /// Throws a stuck event away, for good.
    Discard {
        /// The event's id.
        event_id: String,
    },
}
