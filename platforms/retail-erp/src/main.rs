//! The `retail-erp` binary.

mod cli;
mod parts;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use retail_erp::iot::DeviceCredentials;
use retail_erp::machine::{Broker, Done, Machine, Plan, Seller, Setup, Sold};
use retail_erp::vm::Sale;
use retail_erp::{DEVICE, Erp, demo};
use tokio::time::Instant;
use trunkline::{Config, Error, Result, stop_requested, telemetry};

use cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => Box::pin(up(cli.up)).await,
        Some(Command::Up(again)) => Box::pin(up(again)).await,
        Some(Command::Run(run)) => Box::pin(parts::run(run)).await,
        Some(Command::Token(wanted)) => token(&wanted),
        Some(Command::Vm(wanted)) => Box::pin(vm(wanted)).await,
        Some(Command::Schemas { write, dir }) => schemas(&dir, write),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("retail-erp: {}\n", trunkline::report(&error));
            // There is nobody left to tell if this fails.
            drop(std::io::stderr().write_all(text.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Runs the ERP until it is asked to stop.
async fn up(options: cli::Up) -> Result<()> {
    if options.processes {
        return parts::up(options).await;
    }
    let begun = Instant::now();
    let settings = options.settings();
    let config = settings.load()?;
    telemetry::init_logs(config.log.format, &config.log.filter)?;
    let erp = Erp::start_platform(&settings, config, |platform| platform).await?;
    print(&format!("The ERP is up ({:.2?}).\n", begun.elapsed()))?;
    if !options.quiet {
        print(&welcome(&erp)?)?;
    }
    stop_requested().await?;
    tokio::select! {
        biased;
        again = stop_requested() => again,
        () = erp.shutdown() => Ok(()),
    }
}

/// Addresses, and an order and a sale in one line each.
pub(crate) fn welcome(erp: &Erp) -> Result<String> {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let (gateway, data) = (erp.gateway_url(), erp.data());
    let customer = retail_erp::token(data, "user_789", &[], DAY)?;
    let machine = retail_erp::token(data, demo::MACHINE, &[DEVICE], DAY)?;
    let (shop, vm) = (demo::SHOP, demo::MACHINE);
    Ok(format!(
        "
  gateway   {gateway}
  admin     {admin}   /health  /metrics  /api/v1/events  /api/v1/flows
  data      {data}   mail in {mail}

  CUSTOMER='Authorization: Bearer {customer}'
  MACHINE='Authorization: Bearer {machine}'

An order:

  curl -s -H \"$CUSTOMER\" -H \"Idempotency-Key: $(date +%s%N)\" --json '{{\"shopId\": \"{shop}\",
    \"items\": [{{\"productId\": \"prod_789\", \"quantity\": 2}}], \"cardToken\": \"tok_visa\"}}' {gateway}/orders

A vending machine that comes online and sells:

  curl -s -H \"$MACHINE\" --json '{{\"status\": \"online\"}}' {gateway}/api/devices/{vm}/status
  curl -s -H \"$MACHINE\" --json '{{\"saleId\": \"s1\", \"slot\": \"A1\", \"cardToken\": \"tok_visa\"}}' \\
    {gateway}/api/vm/sales
  curl -s -H \"$MACHINE\" --json '{{\"vended\": true}}' {gateway}/api/vm/sales/s1/finish

Ctrl-C stops the ERP, and the next start goes on from there.
",
        admin = erp.admin_url(),
        mail = data.join("mail").display(),
        data = data.display(),
    ))
}

fn token(wanted: &cli::Token) -> Result<()> {
    let lifetime = Duration::from_secs(u64::from(wanted.hours) * 3_600);
    let roles: Vec<&str> = wanted.role.iter().map(String::as_str).collect();
    let token = retail_erp::token(&wanted.data, &wanted.user, &roles, lifetime)?;
    print(&format!("{token}\n"))
}

/// Runs a simulated vending machine, and tells of each sale.
async fn vm(wanted: cli::Vm) -> Result<()> {
    let plan = Plan {
        sales: wanted.sales,
        pause: Duration::from_millis(wanted.pause_ms),
        jam_every: wanted.jam_every,
        card_token: wanted.card.clone(),
    };
    let done = match wanted.broker.clone() {
        Some(url) => vm_by_mqtt(wanted, url, &plan).await?,
        None => vm_by_http(&wanted, &plan).await?,
    };
    let Done {
        vended,
        refunded,
        refused,
    } = done;
    print(&format!(
        "{vended} vended, {refunded} paid back, {refused} refused\n"
    ))
}

async fn vm_by_http(wanted: &cli::Vm, plan: &Plan) -> Result<Done> {
    const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
    let token = retail_erp::token(&wanted.data, &wanted.machine, &[DEVICE], LIFETIME)?;
    let machine = Machine::new(&wanted.gateway, &wanted.shop, &wanted.machine, token).await?;
    let told = |sale: &Sale| {
        let line = format!(
            "{}  {:?}  order {}\n",
            sale.sale_id, sale.status, sale.order_id
        );
        // It goes on where nobody reads of it.
        drop(print(&line));
    };
    machine.run(plan, told).await
}

async fn vm_by_mqtt(wanted: cli::Vm, url: String, plan: &Plan) -> Result<Done> {
    let bad = |text: &'static str| Error::invalid("credentials_invalid", text);
    let password = match &wanted.credentials {
        None => None,
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| bad("the file can't be read").with_source(error))?;
            let read: DeviceCredentials = serde_json::from_str(&text).map_err(|error| {
                bad("expected {\"user\": …, \"password\": …}").with_source(error)
            })?;
            if read.user != wanted.machine {
                return Err(bad("the credentials are another machine's").with("user", read.user));
            }
            Some(read.password)
        }
    };
    let state = wanted.state;
    let machine = Seller::open(Setup {
        broker: Broker { url, password },
        slots: if wanted.slot.is_empty() {
            demo::filled()
        } else {
            wanted.slot
        },
        folder: state.unwrap_or_else(|| Path::new("vm").join(&wanted.machine)),
        machine_id: wanted.machine,
        vend_takes: Duration::from_millis(wanted.vend_ms),
        clock_off_seconds: 0,
    })?;
    let told = |sold: &Sold| {
        let end = match &sold.refused {
            Some(why) => format!("refused: {why}"),
            None if sold.vended => "vended".to_owned(),
            None => "jammed, to be paid back".to_owned(),
        };
        // It goes on where nobody reads of it.
        drop(print(&format!("{}  {end}\n", sold.sale_id)));
    };
    machine.run(plan, told).await
}

fn schemas(dir: &Path, write: bool) -> Result<()> {
    let platform = retail_erp::platform(&Config::default());
    if !write {
        platform.schemas(dir).check()?;
        return print("every event fits its schema\n");
    }
    for file in platform.write_schemas(dir)? {
        print(&format!("{}\n", file.display()))?;
    }
    Ok(())
}

pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Error::internal("the terminal is gone").with_source(error))
}
