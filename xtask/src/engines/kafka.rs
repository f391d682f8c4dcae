//! Apache Kafka for the tests: its own jars, run by Java.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::debian;

/// Kafka's release.
const VERSION: &str = "4.1.0";
/// What it logs by, which it leaves to whoever runs it; the API's version is Kafka's own.
const SLF4J: &str = "1.7.36";

/// How long the server may take to start or to stop when its classes are prepared.
const STEP: Duration = Duration::from_millis(100);
const STEPS_MAX: usize = 600;

/// Makes sure that there is a server to start, in `target/engines/kafka`. The tests start their own, on ports
/// and in folders of its own.
pub(crate) fn ensure(root: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let home = target
        .unwrap_or_else(|| root.join("target"))
        .join("engines/kafka");
    let done = home.join("VERSION");
    if std::fs::read_to_string(&done).is_ok_and(|found| found == VERSION)
        && debian::find("java").is_some()
    {
        eprintln!("found {}", home.display());
        return Ok(());
    }
    let needed = [("java", "openjdk-17-jre-headless"), ("mvn", "maven")];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|(program, _)| debian::find(program).is_none())
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        debian::install(&missing, "the tests of Kafka need Java and Maven")?;
    }
    eprintln!("fetching Apache Kafka {VERSION}");
    if home.exists() {
        std::fs::remove_dir_all(&home).with_context(|| format!("removing {}", home.display()))?;
    }
    std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    fetch(&home)?;
    // Without it the server starts all the same, only slower.
    if let Err(error) = prepare(&home) {
        eprintln!("Kafka's classes are not prepared: {error:#}");
    }
    std::fs::write(&done, VERSION).with_context(|| format!("writing {}", done.display()))
}

/// Kafka and what it needs to run, by Maven.
fn fetch(home: &Path) -> Result<()> {
    let mut dependencies = String::new();
    for (group, artifact, version) in [
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.slf4j", "slf4j-simple", SLF4J),
    ] {
        write!(
            dependencies,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )?;
    }
    let project = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>trunkline</groupId>\
         <artifactId>kafka-engine</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{dependencies}</dependencies></project>"
    );
    std::fs::write(home.join("pom.xml"), project).context("writing pom.xml")?;
    let libs = home.join("libs");
    let fetched = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(home.join("pom.xml"))
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", libs.display()))
        .stdin(Stdio::null())
        .status()
        .context("mvn")?;
    if !fetched.success() || !libs.join(format!("kafka_2.13-{VERSION}.jar")).exists() {
        bail!("mvn could not fetch Apache Kafka {VERSION}: {fetched}");
    }
    Ok(())
}

/// Runs the server once and lets Java keep its classes as they are in memory, which halves each start.
fn prepare(home: &Path) -> Result<()> {
    let folder = home.join("once");
    std::fs::create_dir_all(&folder)?;
    let port = || -> Result<u16> { Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port()) };
    let (clients, control) = (port()?, port()?);
    let properties = folder.join("server.properties");
    std::fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{control}\n\
             listeners=PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{control}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}/data\n",
            folder.display()
        ),
    )?;
    let mut format = java(home);
    format.args([
        "kafka.tools.StorageTool",
        "format",
        "-t",
        "MkU3OEVBNTcwNTJENDM2Qg",
        "-c",
    ]);
    let formatted = format.arg(&properties).output().context("java")?;
    if !formatted.status.success() {
        bail!("{}", String::from_utf8_lossy(&formatted.stderr));
    }
    let mut command = java(home);
    // The option comes before the class.
    command.env("JAVA_TOOL_OPTIONS", "-XX:ArchiveClassesAtExit=classes.jsa");
    command.arg("kafka.Kafka").arg(&properties);
    let mut server = command.stderr(Stdio::null()).spawn().context("java")?;
    let stopped = run_once(&mut server, clients);
    // It is gone already unless something went wrong.
    drop(server.kill());
    drop(server.wait());
    drop(std::fs::remove_dir_all(&folder));
    stopped?;
    if !home.join("classes.jsa").exists() {
        bail!("Java wrote no archive");
    }
    Ok(())
}

/// Waits until the server takes connections, asks it to end, and waits for that.
fn run_once(server: &mut Child, port: u16) -> Result<()> {
    let mut asked = false;
    for _ in 0..STEPS_MAX {
        if server.try_wait()?.is_some() {
            if asked {
                return Ok(());
            }
            bail!("the server ended");
        }
        if !asked && TcpStream::connect(("127.0.0.1", port)).is_ok() {
            let id = server.id().to_string();
            asked = Command::new("kill").arg(id).status()?.success();
        }
        std::thread::sleep(STEP);
    }
    bail!("the server did not start and stop in time")
}

/// Java as the tests start it: the archive is good only for the same classes in the same order.
fn java(home: &Path) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-cp", "libs/*"])
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
