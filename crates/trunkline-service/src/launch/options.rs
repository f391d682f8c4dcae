//! The command line that every platform has.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{Program, Settings};
use crate::config::place::GATEWAY;

#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Cli<O: Args, C: Subcommand> {
    #[command(subcommand)]
    pub(super) command: Option<Command<O, C>>,
    #[command(flatten)]
    pub(super) up: Up<O>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command<O: Args, C: Subcommand> {
    /// Run everything (this is what happens without a command)
    Up(Up<O>),
    /// Run some of the services alone; the configuration says where the rest is
    #[command(after_help = PLACES)]
    Run(Run<O>),
    /// Compare the events with their checked-in schemas
    Schemas {
        /// Write the schemas of new events and new versions
        #[arg(long)]
        write: bool,
        /// Where the schemas are
        #[arg(long, default_value = "schemas")]
        dir: PathBuf,
    },
    /// Print the manifests for Kubernetes: each service in pods of its own
    #[command(after_help = PODS)]
    Kubernetes(Pods),
    #[command(flatten)]
    Own(C),
}

/// What the manifests say beside what the platform declares.
#[derive(Debug, Args)]
pub(super) struct Pods {
    /// The image; its entry point is this program
    #[arg(long)]
    pub(super) image: String,
    /// The namespace
    #[arg(long, default_value = "default")]
    pub(super) namespace: String,
    /// How many pods each service has at least
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) replicas_min: u32,
    /// How many it has at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) replicas_max: u32,
    /// The configuration file, with a bus and stores on servers; it becomes a secret
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Up<O: Args> {
    #[command(flatten)]
    pub(super) how: How<O>,
    /// Run each service in a process of its own; needs a bus that processes share
    #[arg(long)]
    pub(super) processes: bool,
}

/// How parts run, be it all of them or some.
#[derive(Debug, Args)]
pub(super) struct How<O: Args> {
    /// The folder for everything that is kept [default: data]
    #[arg(long, value_name = "FOLDER")]
    pub(super) data: Option<PathBuf>,
    /// Where the gateway listens [default: 127.0.0.1:8000]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) gateway: Option<SocketAddr>,
    /// Where operators look into it [default: 127.0.0.1:9900]
    #[arg(long, value_name = "IP:PORT")]
    pub(super) admin: Option<SocketAddr>,
    /// The configuration file; without one, nothing needs to be configured
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Take over from the processes that run the same now: their addresses at once, and they end when this one is up
    #[arg(long)]
    pub(super) take_over: bool,
    /// Don't tell how to use it, nor what happens
    #[arg(long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) own: O,
}

#[derive(Debug, Args)]
pub(super) struct Run<O: Args> {
    /// The services, such as order-service; `gateway` is the gateway with the trail and the admin API of the whole
    #[arg(required = true, value_name = "SERVICE")]
    pub(super) services: Vec<String>,
    #[command(flatten)]
    pub(super) how: How<O>,
    /// End when the standard input ends: whoever started it is gone
    #[arg(long, hide = true)]
    pub(super) with_parent: bool,
}

/// How the parts of a platform find each other.
const PLACES: &str = "\
All parts read one configuration file. It names a bus that they share, and where each service is found:
  bus = \"nats://localhost:4222\"
  store = \"postgres://shop@localhost/shop?schema={service}\"
  [service.inventory-service]
  url = \"http://10.0.0.7:7001\"";

/// What the cluster has to have.
const PODS: &str = "\
The secret PLATFORM-keys holds the key files that all pods share, and `admin.token` if operators look into other pods:
  kubectl create secret generic storefront-keys --from-file=data/token.secret --from-literal=admin.token=...
Operators reach the console by `kubectl port-forward deploy/gateway 9900`.";

/// Flags that a part is not given: it is the parent's to run processes.
const PARENTS: [&str; 1] = ["processes"];
/// Flags that only the part with the gateway is given: its addresses are its own, and those who ran before it end when it,
/// the last part, is up.
const GATEWAYS: [&str; 3] = ["gateway", "admin", "take-over"];

impl<O: Args, C: Subcommand> Cli<O, C> {
    /// The command line, and the flags of `up` as they were given.
    pub(super) fn parse<P>() -> Result<(Self, Vec<OsString>), clap::Error>
    where
        P: Program<Options = O, Command = C>,
    {
        Self::parse_from::<P>(std::env::args_os())
    }

    fn parse_from<P>(
        words: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, Vec<OsString>), clap::Error>
    where
        P: Program<Options = O, Command = C>,
    {
        let mut command = Self::command()
            .name(P::NAME)
            .version(P::VERSION)
            .about(P::ABOUT)
            .after_help(P::HELP)
            .mut_subcommand("up", |up| up.after_help(P::HELP));
        let matches = command.try_get_matches_from_mut(words)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let given = match matches.subcommand() {
            None => given(&command, &matches),
            Some((name, matches)) => command
                .find_subcommand(name)
                .map(|command| given(command, matches))
                .unwrap_or_default(),
        };
        Ok((cli, given))
    }
}

/// The flags that were given on the command line, each with its values as `--flag=value`.
fn given(command: &clap::Command, matches: &ArgMatches) -> Vec<OsString> {
    let mut words = Vec::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let Some(flag) = argument.get_long() else {
            continue;
        };
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if matches!(argument.get_action(), ArgAction::SetTrue) {
            words.push(format!("--{flag}").into());
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut word = OsString::from(format!("--{flag}="));
            word.push(value);
            words.push(word);
        }
    }
    words
}

/// What the process of one part is told, where its parent was given these flags.
pub(super) fn of_part<'a>(
    name: &'a str,
    given: &'a [OsString],
) -> impl Iterator<Item = OsString> + 'a {
    let is = |word: &OsString, flags: &[&str]| {
        let word = word.to_string_lossy();
        let flag = word.strip_prefix("--").unwrap_or(&word);
        let flag = flag.split_once('=').map_or(flag, |(flag, _)| flag);
        flags.contains(&flag)
    };
    let told = given
        .iter()
        .filter(move |word| !is(word, &PARENTS) && (name == GATEWAY || !is(word, &GATEWAYS)));
    let begin = ["run", name, "--with-parent"].map(OsString::from);
    begin.into_iter().chain(told.cloned())
}

impl<O: Args> How<O> {
    /// What it says over the configuration, for a process that runs these parts.
    pub(super) fn settings(&self, run: Vec<String>) -> Settings {
        Settings {
            data: self.data.clone(),
            gateway: self.gateway,
            admin: self.admin,
            config: self.config.clone(),
            run,
            take_over: self.take_over,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use trunkline_core::Result;

    use super::*;
    use crate::{Config, Platform, Running};

    #[derive(Debug, Clone, Args)]
    struct Own {
        #[arg(long)]
        sandbox: Option<String>,
    }

    #[derive(Debug, Subcommand)]
    enum Word {
        Token,
    }

    enum Shop {}

    impl Program for Shop {
        const NAME: &'static str = "shop";
        const VERSION: &'static str = "1.2.3";
        const ABOUT: &'static str = "A shop";
        const HELP: &'static str = "Cards decide.";
        type Options = Own;
        type Command = Word;

        fn platform(_: &Config) -> Result<Platform> {
            Ok(Platform::new("shop"))
        }

        async fn start(_: Own, _: Config) -> Result<Self> {
            unreachable!("nothing is started")
        }

        fn running(&self) -> &Running {
            match *self {}
        }

        async fn shutdown(self) {}

        fn welcome(&self) -> Result<String> {
            match *self {}
        }

        async fn command(_: Word) -> Result<()> {
            Ok(())
        }
    }

    fn parse(line: &str) -> Result<(Cli<Own, Word>, Vec<OsString>), clap::Error> {
        Cli::parse_from::<Shop>(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_part_is_told_what_concerns_it() {
        let flags = "--processes --quiet --data=d --config c.toml --gateway 127.0.0.1:1 --admin 127.0.0.1:2 --sandbox x=y";
        for line in [format!("shop {flags}"), format!("shop up {flags}")] {
            let (_, given) = parse(&line).unwrap();
            let told = |name| {
                let words = of_part(name, &given);
                let words: Vec<_> = words.map(|word| word.into_string().unwrap()).collect();
                words.join(" ")
            };
            assert_eq!(
                told("order-service"),
                "run order-service --with-parent --data=d --config=c.toml --quiet --sandbox=x=y"
            );
            let gateway = told(GATEWAY);
            assert!(gateway.contains("--gateway=127.0.0.1:1 --admin=127.0.0.1:2"));
            // What it is told it understands, and understands the same.
            let (cli, _) = parse(&format!("shop {gateway}")).unwrap();
            let Some(Command::Run(run)) = cli.command else {
                panic!("{gateway}");
            };
            assert_eq!(run.services, [GATEWAY]);
            assert!(run.with_parent && run.how.quiet);
            assert_eq!(run.how.own.sandbox.as_deref(), Some("x=y"));
            assert_eq!(run.how.settings(Vec::new()).config, Some("c.toml".into()));
        }
    }

    #[test]
    fn own_commands_help_and_mistakes() {
        let (cli, given) = parse("shop token").unwrap();
        assert!(matches!(cli.command, Some(Command::Own(Word::Token))) && given.is_empty());
        let help = parse("shop --help").unwrap_err();
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        for word in ["A shop", "Cards decide.", "--sandbox", "token", "schemas"] {
            assert!(help.to_string().contains(word), "{word}\n{help}");
        }
        let version = parse("shop --version").unwrap_err().to_string();
        assert_eq!(version, "shop 1.2.3\n");
        for wrong in [
            "shop run",
            "shop run a --processes",
            "shop --admin here",
            "shop up --sandbox",
            "shop buy",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.to_string().contains("error:"), "{wrong}\n{error}");
        }
    }
}
