//! The gateway measured: its CPU and memory while machines report.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use trunkline::{Config, Error, Result};
use trunkline_testkit::mosquitto::Server;
use trunkline_testkit::{Child, eventually};

use crate::gateway::{Counts, platform};

/// Open files besides one for each machine.
const FILES_BESIDES: u64 = 200;
/// How long all machines may take to come.
const ARRIVE_MAX: Duration = Duration::from_secs(600);

/// Runs `count` machines that report `every` so often, and measures for a while once all are there.
pub(crate) async fn run(
    count: u64,
    [every, span]: [Duration; 2],
    with_events: bool,
) -> Result<Value> {
    let failed = |error: std::io::Error| Error::internal("the bench failed").with_source(error);
    has_files(count)?;
    // As `mosquitto::settings` has it: once a second rather than with each change.
    let settings = "allow_anonymous true\nautosave_on_changes false\n";
    let broker = Server::start_with(settings, &[]);
    let folder = tempfile::tempdir().map_err(failed)?;
    let mut config = Config::default();
    config.data = folder.path().to_owned();
    config.admin.address = ([127, 0, 0, 1], 0).into();
    config.devices.broker = broker.url();
    let counts = Arc::new(Counts {
        with_events,
        ..Counts::default()
    });
    let running = platform(&counts).start(config).await?;
    let mut machines = Command::new(std::env::current_exe().map_err(failed)?);
    machines.args([
        "machines",
        &broker.url(),
        &count.to_string(),
        &every.as_secs().to_string(),
    ]);
    let machines = Child::spawn(machines.stdout(Stdio::null())).map_err(failed)?;
    let all_came = async || counts.online.load(Ordering::Relaxed) >= count;
    eventually(ARRIVE_MAX, all_came).await;
    // What came at once is behind it after one round.
    sleep(every).await;
    let (began, cpu) = (Instant::now(), cpu_seconds("self"));
    let (brokers, reports) = (broker_cpu(&broker), counts.reports.load(Ordering::Relaxed));
    sleep(span).await;
    let seconds = began.elapsed().as_secs_f64();
    let reports = counts
        .reports
        .load(Ordering::Relaxed)
        .saturating_sub(reports);
    let per_second = u32::try_from(reports).map_or(0.0, f64::from) / seconds;
    let measured = json!({
        "bench": "device", "machines": count, "every_s": every.as_secs(), "with_events": with_events,
        "seconds": round(seconds), "reports": reports, "per_second": round(per_second),
        "cores": round((cpu_seconds("self") - cpu) / seconds),
        "broker_cores": round((broker_cpu(&broker) - brokers) / seconds),
        "resident_mib": resident_mib("VmRSS:"), "peak_mib": resident_mib("VmHWM:"),
    });
    drop(machines);
    running.shutdown().await;
    Ok(measured)
}

/// Raises the soft limit of open files, which children inherit, as far as it goes.
fn has_files(count: u64) -> Result<()> {
    let wanted = count + FILES_BESIDES;
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // What can't be raised is told below.
    setrlimit(Resource::Nofile, raised).ok();
    match getrlimit(Resource::Nofile).current {
        Some(current) if current < wanted => {
            let text = format!(
                "{count} machines need {wanted} open files and {current} are allowed: as root, `ulimit -n {wanted}`"
            );
            Err(Error::unavailable("files_too_few", text))
        }
        _ => Ok(()),
    }
}

fn broker_cpu(broker: &Server) -> f64 {
    broker.id().map_or(0.0, |id| cpu_seconds(&id.to_string()))
}

/// User and system seconds of a process, from Linux's hundredths.
fn cpu_seconds(process: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let numbers = after.split_whitespace().skip(11).take(2);
    numbers
        .filter_map(|word| word.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn resident_mib(line: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = text.lines().find_map(|it| it.strip_prefix(line));
    let kib = found.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

fn round(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}
