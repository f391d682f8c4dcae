//! The certificates of a development CA.

use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use trunkline_core::{Env, Error, report};
use trunkline_security::{Authority, Issued, Overview, RotateStep};

use super::{Done, Failure};
use crate::args::{Certs, CertsCommand, Step};
use crate::table::Table;

const SECONDS_PER_HOUR: u64 = 3600;

/// Runs one of the commands, and shows what there is then.
pub(super) fn run(certs: Certs, as_json: bool) -> Done {
    let overview = done(certs).map_err(|error| failed(&error))?;
    if as_json {
        return super::print(&described(&overview));
    }
    let mut table = Table::new(&["service", "name", "until", "root", "trusts"]);
    for leaf in &overview.issued {
        let root = if leaf.by_current_root {
            "current"
        } else {
            "old"
        };
        table.row(vec![
            leaf.identity.service().to_string(),
            leaf.identity.to_string(),
            leaf.expires_at.to_string(),
            root.to_owned(),
            roots(leaf),
        ]);
    }
    let mut out = io::stdout().lock();
    table.write(&mut out)?;
    writeln!(
        out,
        "\nroot of {} until {}; next step of a change of roots: {}",
        overview.trust_domain,
        overview.root_expires_at,
        name(overview.next_step)
    )?;
    Ok(())
}

fn done(certs: Certs) -> Result<Overview, Error> {
    let env = Env::system();
    let authority = match certs.command {
        CertsCommand::Init { trust_domain } => Authority::init(certs.dir, &trust_domain, env)?,
        CertsCommand::Show => Authority::open(certs.dir, env)?,
        CertsCommand::Issue {
            services,
            dns,
            hours,
        } => {
            let authority = Authority::open(certs.dir, env)?;
            let lifetime = Duration::from_secs(u64::from(hours) * SECONDS_PER_HOUR);
            for service in services {
                authority.issue(&service, &dns, lifetime)?;
            }
            authority
        }
        CertsCommand::Renew => {
            let authority = Authority::open(certs.dir, env)?;
            authority.renew()?;
            authority
        }
        CertsCommand::Rotate { step, settle } => {
            let settle = Duration::from_secs(settle);
            let mut authority = Authority::open(certs.dir, env)?.settle(settle);
            authority.rotate(match step {
                Step::Begin => RotateStep::Begin,
                Step::Switch => RotateStep::Switch,
                Step::Finish => RotateStep::Finish,
            })?;
            authority
        }
    };
    authority.overview()
}

fn described(overview: &Overview) -> Value {
    let issued = overview.issued.iter().map(|leaf| {
        json!({
            "service": &**leaf.identity.service(), "name": leaf.identity.to_string(),
            "expires_at": leaf.expires_at.to_string(), "folder": leaf.folder,
            "by_current_root": leaf.by_current_root, "trusts": leaf.trusts,
        })
    });
    json!({
        "trust_domain": &*overview.trust_domain,
        "root_expires_at": overview.root_expires_at.to_string(),
        "next_step": name(overview.next_step),
        "issued": issued.collect::<Vec<_>>(),
    })
}

fn roots(leaf: &Issued) -> String {
    match leaf.trusts {
        1 => "1 root".to_owned(),
        more => format!("{more} roots"),
    }
}

fn name(step: RotateStep) -> &'static str {
    match step {
        RotateStep::Begin => "begin",
        RotateStep::Switch => "switch",
        RotateStep::Finish => "finish",
    }
}

fn failed(error: &Error) -> Failure {
    Failure::Broken(anyhow::anyhow!("{}", report(error)))
}
