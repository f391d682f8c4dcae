//! The declared topology: what is checked before anything starts, and what is shown.

mod describe;
mod keys;
mod permissions;
mod rooms;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use trunkline_core::{Error, EventDecl, Kind, Result, Timestamp};
use trunkline_saga::Flow;

use crate::config::place::{CONSOLE, GATEWAY, KEYS};
use crate::{Config, Service};

pub(crate) use describe::describe;
pub(crate) use keys::check as check_keys;
pub(crate) use permissions::{ADMIN, permissions};

/// Checks that the services and flows fit together.
///
/// # Errors
/// `InvalidInput` for the first thing that does not, naming the services.
pub(crate) fn check(services: &[Service], flows: &[Flow]) -> Result<()> {
    let mut names = BTreeSet::new();
    for service in services {
        check_name(service)?;
        if !names.insert(&*service.name) {
            return Err(bad("two services have the same name").with("service", &service.name));
        }
    }
    for service in services {
        check_calls(service, &names)?;
        permissions::check(service, services)?;
        routes::check(service)?;
        #[cfg(feature = "grpc")]
        crate::grpc::check(service)?;
        check_reactions(service)?;
        check_jobs(service)?;
        check_sagas(service)?;
        rooms::check(service)?;
        #[cfg(feature = "device")]
        if let Some(devices) = &service.devices {
            devices
                .check()
                .map_err(|error| error.with("service", &service.name))?;
        }
        service
            .declared()
            .map_err(|error| error.with("service", &service.name))?;
    }
    check_events(services)?;
    let published: BTreeSet<_> = services
        .iter()
        .flat_map(|service| &service.publishes)
        .map(|d| d.event_type)
        .collect();
    for flow in flows {
        flow.check()
            .map_err(|error| bad("a flow makes no sense").with_source(error))?;
        for event in flow.event_types() {
            if !published.contains(event) {
                return Err(bad("a flow names an event that no service publishes")
                    .with("flow", flow.name())
                    .with("event", event));
            }
        }
    }
    Ok(())
}

fn bad(message: &'static str) -> Error {
    Error::invalid("topology_invalid", message)
}

fn check_name(service: &Service) -> Result<()> {
    let name = &service.name;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 63 || !name.chars().all(fits) || name.starts_with('-') {
        let text = "expected a service name of 1 to 63 lower-case letters, digits and `-`";
        return Err(bad(text).with("service", name));
    }
    if matches!(&**name, crate::platform::PLATFORM | GATEWAY | CONSOLE) {
        return Err(bad("this name is the platform's own").with("service", name));
    }
    Ok(())
}

fn check_calls(service: &Service, names: &BTreeSet<&str>) -> Result<()> {
    for target in &service.calls {
        if !names.contains(&**target) {
            return Err(bad("a service calls one that the platform does not have")
                .with("service", &service.name)
                .with("target", target));
        }
        if *target == service.name {
            return Err(bad("a service calls itself").with("service", target));
        }
    }
    Ok(())
}

/// Checks that every service that the gateway leads to is there.
///
/// # Errors
/// `InvalidInput` for the first that is not.
pub(crate) fn check_gateway(
    gateway: &trunkline_gateway::Config,
    services: &[Service],
) -> Result<()> {
    for service in &gateway.services {
        // One that says where it is may be somebody else's.
        if service.url.is_none() && services.iter().all(|known| *known.name != *service.name) {
            return Err(
                bad("the gateway leads to a service that the platform does not have")
                    .with("service", &service.name),
            );
        }
    }
    Ok(())
}

/// Checks that the configuration speaks of what is there.
///
/// # Errors
/// `InvalidInput` naming the section.
pub(crate) fn check_sections(config: &Config, services: &[Service]) -> Result<()> {
    let unknown = |section: String, known: Vec<&str>| {
        Error::invalid(
            "config_invalid",
            "a section of the configuration is of nobody here",
        )
        .with("section", section)
        .with("expected one of", known.join(", "))
    };
    let names: Vec<&str> = services.iter().map(|service| &*service.name).collect();
    if let Some(name) = config
        .service
        .keys()
        .find(|name| *name != GATEWAY && !names.contains(&name.as_str()))
    {
        return Err(unknown(format!("service.{name}"), names));
    }
    let gateway = config
        .service
        .get(GATEWAY)
        .into_iter()
        .flat_map(toml::Table::keys);
    if let Some(key) = gateway
        .into_iter()
        .find(|key| !KEYS.contains(&key.as_str()))
    {
        let text = "the gateway's section says where other processes find its keys, and no more";
        return Err(Error::invalid("config_invalid", text)
            .with("section", format!("service.{GATEWAY}"))
            .with("found", key)
            .with("expected one of", KEYS.join(", ")));
    }
    let external = services.iter().flat_map(|service| &service.external);
    let external: Vec<&str> = external.map(|external| &*external.name).collect();
    if let Some(name) = config
        .external
        .keys()
        .find(|name| !external.contains(&name.as_str()))
    {
        return Err(unknown(format!("external.{name}"), external));
    }
    for target in config.call.targets() {
        if !names.contains(&target) && !external.contains(&target) {
            let known = names.iter().chain(&external).copied().collect();
            return Err(unknown(format!("call.{target}"), known));
        }
    }
    for name in &config.run {
        if name != GATEWAY && !names.contains(&name.as_str()) {
            let known = names.join(", ");
            return Err(Error::invalid(
                "config_invalid",
                "`run` names what the platform does not have",
            )
            .with("found", name)
            .with("expected one of", format!("{GATEWAY}, {known}")));
        }
    }
    for service in services {
        // One that runs elsewhere has its settings there.
        if let (Some(check), true) = (service.section, config.runs(&service.name)) {
            check(config, &service.name)?;
        }
    }
    Ok(())
}

/// Checks that whatever is called from this process has a place: here, or an address.
///
/// # Errors
/// `InvalidInput` naming who calls, what is called, and the key that is missing.
pub(crate) fn check_places(
    config: &Config,
    services: &[Service],
    gateway: Option<&trunkline_gateway::Config>,
) -> Result<()> {
    let here = services.iter().filter(|service| config.runs(&service.name));
    let calls = here.flat_map(|service| service.calls.iter().map(|to| (&*service.name, &**to)));
    let routes = gateway.filter(|_| config.runs(GATEWAY)).into_iter();
    let routes = routes.flat_map(|gateway| gateway.services.iter().map(|to| (GATEWAY, &*to.name)));
    for (caller, target) in calls.chain(routes) {
        if !config.runs(target) && config.place_of(target)?.is_none() {
            let text = format!(
                "expected `url`, `urls` or `discover` in [service.{target}]: it does not run in this process"
            );
            return Err(Error::invalid("service_place_unknown", text).with("called by", caller));
        }
    }
    Ok(())
}

fn check_jobs(service: &Service) -> Result<()> {
    let mut seen = BTreeSet::new();
    for job in &service.jobs {
        let about = |error: Error| error.with("service", &service.name).with("job", job.name);
        if !seen.insert(job.name) {
            return Err(about(bad("two jobs of one service have the same name")));
        }
        job.schedule.next(Timestamp::UNIX_EPOCH).map_err(|error| {
            about(
                bad("expected a job's schedule to be a cron pattern or above 0").with("why", error),
            )
        })?;
    }
    Ok(())
}

fn check_reactions(service: &Service) -> Result<()> {
    let mut seen = BTreeSet::new();
    let handlers = service.reactions.iter();
    for reaction in handlers.filter(|reaction| reaction.rooms.is_none()) {
        // One by one, in batches and for each saga are groups of their own, each with its own place in the topic.
        let group = (reaction.batch_max.is_some(), &reaction.saga);
        if !seen.insert((reaction.decl.event_type, group)) {
            return Err(bad("two handlers of one service handle the same event")
                .with("service", &service.name)
                .with("event", reaction.decl.event_type));
        }
    }
    Ok(())
}

fn check_sagas(service: &Service) -> Result<()> {
    let mut names = BTreeSet::new();
    for saga in &service.sagas {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let name = saga.name();
        if name.is_empty() || name.len() > 63 || !name.chars().all(fits) {
            let text = "expected a saga's name of 1 to 63 lower-case letters, digits and `-`";
            return Err(bad(text).with("service", &service.name).with("saga", name));
        }
        if !names.insert(name) {
            return Err(bad("two sagas of one service have the same name")
                .with("service", &service.name)
                .with("saga", name));
        }
        // The journal would keep in the clear what the bus may not carry so.
        if let Some(sealed) = saga.wakes.iter().find(|reaction| reaction.decl.encrypted) {
            return Err(bad("an encrypted event can't wake a saga: handle it, and signal the saga with what it has to know")
                .with("service", &service.name)
                .with("saga", name)
                .with("event", sealed.decl.event_type));
        }
    }
    Ok(())
}

fn check_events(services: &[Service]) -> Result<()> {
    let mut published: BTreeMap<&str, Vec<(&Service, EventDecl)>> = BTreeMap::new();
    for service in services {
        for decl in &service.publishes {
            published
                .entry(decl.event_type)
                .or_default()
                .push((service, *decl));
        }
    }
    let mut commands: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        for reaction in &service.reactions {
            let decl = &reaction.decl;
            let Some(publishers) = published.get(decl.event_type) else {
                return Err(bad("a service handles an event that no service publishes")
                    .with("service", &service.name)
                    .with("event", decl.event_type));
            };
            for (publisher, theirs) in publishers {
                if theirs.topic != decl.topic || theirs.priority != decl.priority {
                    return Err(bad(
                        "publisher and handler disagree on an event's topic or priority",
                    )
                    .with("event", decl.event_type)
                    .with("publisher", &publisher.name)
                    .with("handler", &service.name));
                }
            }
            if decl.kind == Kind::Command
                && let Some(other) = commands.insert(decl.event_type, service)
            {
                return Err(bad("a command is handled by two services")
                    .with("command", decl.event_type)
                    .with("services", format!("{}, {}", other.name, service.name)));
            }
        }
    }
    for (event_type, publishers) in &published {
        let mut schemas = publishers
            .iter()
            .map(|(_, d)| (d.version, d.schema().to_string()));
        let first = schemas.next();
        if let Some(first) = first
            && schemas.any(|other| other.0 == first.0 && other.1 != first.1)
        {
            return Err(
                bad("two services publish one version of an event with different schemas")
                    .with("event", event_type),
            );
        }
    }
    Ok(())
}
