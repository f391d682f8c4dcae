//! The declared topology: what is checked before anything starts, and what is shown.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trunkline_core::{Error, EventDecl, Kind, Result};
use trunkline_saga::Flow;

use crate::Service;

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
        check_routes(service)?;
        check_reactions(service)?;
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
    if &**name == crate::platform::PLATFORM {
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

fn check_routes(service: &Service) -> Result<()> {
    let mut seen = BTreeSet::new();
    for route in &service.routes {
        if !route.path.starts_with('/') {
            return Err(bad("expected a path that starts with /")
                .with("service", &service.name)
                .with("path", route.path));
        }
        if !seen.insert((route.method.to_string(), route.path)) {
            return Err(bad("two handlers answer the same route")
                .with("service", &service.name)
                .with("route", format!("{} {}", route.method, route.path)));
        }
    }
    Ok(())
}

fn check_reactions(service: &Service) -> Result<()> {
    let mut seen = BTreeSet::new();
    for reaction in &service.reactions {
        if !seen.insert(reaction.decl.event_type) {
            return Err(bad("two handlers of one service handle the same event")
                .with("service", &service.name)
                .with("event", reaction.decl.event_type));
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

/// The topology as the admin API shows it.
pub(crate) fn describe(platform: &str, services: &[Service], flows: &[Flow]) -> Value {
    let events = |declared: &mut dyn Iterator<Item = &EventDecl>| -> Vec<Value> {
        declared
            .map(|decl| {
                json!({
                    "type": decl.event_type, "version": decl.version.to_string(),
                    "topic": decl.topic, "kind": decl.kind, "priority": decl.priority,
                })
            })
            .collect()
    };
    let services: Vec<Value> = services
        .iter()
        .map(|service| {
            let routes = service.routes.iter().map(|route| {
                json!({ "method": route.method.as_str(), "path": route.path, "idempotent": route.idempotent })
            });
            let external = service.external.iter().map(|external| &*external.name);
            json!({
                "name": &*service.name,
                "version": &*service.version,
                "calls": service.calls.iter().map(|name| &**name).collect::<Vec<_>>(),
                "calls_external": external.collect::<Vec<_>>(),
                "publishes": events(&mut service.publishes.iter()),
                "handles": events(&mut service.reactions.iter().map(|reaction| &reaction.decl)),
                "routes": routes.collect::<Vec<_>>(),
                "jobs": service.jobs.iter().map(|job| job.name).collect::<Vec<_>>(),
                "tables": !service.migrations.is_empty(),
            })
        })
        .collect();
    json!({ "platform": platform, "services": services, "flows": flows })
}
