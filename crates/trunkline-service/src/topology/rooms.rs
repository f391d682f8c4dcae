//! What is declared of rooms.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trunkline_core::Result;

use super::bad;
use super::routes::RESERVED;
use crate::Service;
use crate::rooms::Template;

/// Checks that no other route is where a namespace is served, and that each room that is told of events has a name that can be made of them, and that none is told twice.
pub(super) fn check(service: &Service) -> Result<()> {
    for namespace in &service.namespaces {
        let taken = namespace.plain_at.filter(|path| {
            let is_there = |route: &crate::http::Route| route.path == *path;
            RESERVED.contains(path) || service.routes.iter().any(is_there)
        });
        if let Some(path) = taken {
            return Err(bad("a namespace is served where something else is")
                .with("service", &service.name)
                .with("path", path));
        }
    }
    let mut seen = BTreeSet::new();
    for reaction in &service.reactions {
        let Some(binding) = &reaction.rooms else {
            continue;
        };
        let event = reaction.decl.event_type;
        let about = |error: trunkline_core::Error| {
            error
                .with("service", &service.name)
                .with("namespace", &binding.namespace)
                .with("event", event)
        };
        if let Some(template) = binding.template {
            let template = Template::of(template).map_err(about)?;
            template.fits(&reaction.decl.schema()).map_err(about)?;
        }
        let told = (event, &binding.namespace, binding.event, binding.template);
        if !seen.insert(told) {
            let text = "an event is told in two ways that can't be told apart: name both rooms in one, or tell it by another name";
            return Err(about(bad(text)));
        }
    }
    Ok(())
}

/// The namespaces of a service, and what they tell of.
pub(super) fn describe(service: &Service) -> Vec<Value> {
    let namespaces = service.namespaces.iter().map(|namespace| {
        let told = service.reactions.iter().filter_map(|reaction| {
            let binding = reaction.rooms.as_ref()?;
            (binding.namespace == namespace.name).then(|| {
                json!({ "event": binding.event, "of": reaction.decl.event_type, "room": binding.template })
            })
        });
        let handled = namespace.handled.iter().map(|handled| handled.event);
        json!({
            "name": &*namespace.name,
            "handles": handled.collect::<Vec<_>>(),
            "tells": told.collect::<Vec<_>>(),
        })
    });
    namespaces.collect()
}
