//! Topics, exchanges and queues that a file declares, applied to an engine.

use std::fs;
use std::io::{self, Write as _};

use trunkline_core::{Env, Error, ErrorKind, report};

use super::{Done, Failure};
use crate::args::Apply;

/// Tells what is to be made, and makes it unless this is a dry run. What is there in another shape is told and left alone.
pub(super) async fn run(apply: Apply) -> Done {
    let text = fs::read_to_string(&apply.file).map_err(|error| {
        Failure::Usage(format!("{} can't be read: {error}", apply.file.display()))
    })?;
    let scheme = apply.to.split_once("://").map_or("", |(scheme, _)| scheme);
    let applied = match scheme {
        "kafka" => kafka(&apply, &text).await,
        "amqp" | "amqps" => rabbitmq(&apply, &text).await,
        _ => {
            let text = format!("expected --to to be kafka://… or amqp://…, found {scheme}://…");
            return Err(Failure::Usage(text));
        }
    };
    let applied = applied.map_err(|error| failed(&apply, &error))?;
    io::stdout().write_all(applied.plan.as_bytes())?;
    if applied.refused > 0 {
        let text = format!(
            "{} could not be applied, and stay as they are",
            applied.refused
        );
        return Err(Failure::Broken(anyhow::anyhow!(text)));
    }
    Ok(())
}

/// What came of it.
struct Applied {
    /// The plan, and what was made of it.
    plan: String,
    refused: usize,
}

fn told(plan: &impl ToString, made: Option<usize>, refused: usize) -> Applied {
    let plan = plan.to_string();
    let end = made.map_or_else(
        || "nothing was made: this is a dry run".to_owned(),
        |made| format!("{made} made"),
    );
    Applied {
        plan: format!("{}\n{end}\n", plan.trim_end()),
        refused,
    }
}

async fn kafka(apply: &Apply, text: &str) -> Result<Applied, Error> {
    use trunkline_kafka::{KafkaConfig, connect, topology};
    let declared = topology::read(text)?;
    let kafka = connect(KafkaConfig::from_url(&apply.to)?, Env::system()).await?;
    let options = topology::Options {
        replication: apply.replication,
    };
    let plan = topology::plan(&kafka, &declared, &options).await?;
    let made = match apply.dry_run {
        true => None,
        false => Some(topology::apply(&kafka, &plan).await?),
    };
    Ok(told(&plan, made, plan.refused()))
}

async fn rabbitmq(apply: &Apply, text: &str) -> Result<Applied, Error> {
    use trunkline_rabbitmq::{RabbitConfig, RabbitMq, topology};
    let declared = topology::read(text)?;
    let rabbit = RabbitMq::connect(RabbitConfig::from_url(&apply.to)?, Env::system()).await?;
    let plan = topology::plan(&rabbit, &declared).await?;
    let made = match apply.dry_run {
        true => None,
        false => Some(topology::apply(&rabbit, &plan).await?),
    };
    Ok(told(&plan, made, plan.refused()))
}

fn failed(apply: &Apply, error: &Error) -> Failure {
    let why = report(error).to_string();
    match error.kind() {
        ErrorKind::InvalidInput => Failure::Usage(format!("{}: {why}", apply.file.display())),
        _ => Failure::Broken(anyhow::anyhow!(why)),
    }
}
