//! The topology as the admin API shows it.

use serde_json::{Value, json};
use trunkline_core::EventDecl;
use trunkline_saga::Flow;

use super::rooms;
use crate::Service;

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
                "grpc": grpc(service),
                "jobs": service.jobs.iter().map(|job| job.name).collect::<Vec<_>>(),
                "sagas": service.sagas.iter().map(|saga| &**saga.name()).collect::<Vec<_>>(),
                "namespaces": rooms::describe(service),
                "tables": !service.migrations.is_empty(),
            })
        })
        .collect();
    json!({ "platform": platform, "services": services, "flows": flows })
}

/// The services of gRPC that it answers, with their methods.
#[cfg(feature = "grpc")]
fn grpc(service: &Service) -> Vec<Value> {
    let declared = service.grpc.iter().map(|declared| {
        // They were checked before anything started.
        let methods = declared.methods().unwrap_or_default();
        let methods: Vec<Value> = methods.iter().map(|method| method.describe()).collect();
        json!({ "service": declared.name, "methods": methods })
    });
    declared.collect()
}

#[cfg(not(feature = "grpc"))]
fn grpc(_: &Service) -> [Value; 0] {
    []
}
