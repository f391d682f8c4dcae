//! Who may call what, as the declarations say.

use trunkline_core::Result;
use trunkline_security::{EVERY_OPERATION, Permissions};

use super::bad;
use crate::Service;
use crate::config::place::{CONSOLE, GATEWAY};

/// What the console may do with each service: look into it and steer it.
pub(crate) const ADMIN: &str = "trunkline/admin";

/// What each service declares to use, the gateway's way to those that it leads to, and the console's to all.
pub(crate) fn permissions(
    services: &[Service],
    gateway: Option<&trunkline_gateway::Config>,
) -> Permissions {
    let mut permissions = Permissions::new().caller(GATEWAY);
    for service in services {
        let name = service.name.clone();
        permissions = permissions
            .caller(name.clone())
            .allow_operation(CONSOLE, name, ADMIN);
        for (target, operations) in &service.calls_operations {
            for operation in operations {
                permissions = permissions.allow_operation(
                    service.name.clone(),
                    target.clone(),
                    operation.clone(),
                );
            }
        }
    }
    let led_to = gateway.into_iter().flat_map(|gateway| &gateway.services);
    led_to.fold(permissions, |permissions, service| {
        permissions.allow(GATEWAY, service.name.as_str())
    })
}

/// Checks that every operation that a service names is one of a route that there is. Those of gRPC are known to its
/// descriptors alone.
///
/// # Errors
/// `InvalidInput` naming the first that is not.
pub(super) fn check(service: &Service, services: &[Service]) -> Result<()> {
    for (target, operations) in &service.calls_operations {
        let Some(called) = services.iter().find(|known| known.name == *target) else {
            continue;
        };
        for operation in operations {
            let rest = operation.split_once(' ');
            let known = match rest {
                None => *operation == EVERY_OPERATION || operation.contains('/'),
                Some((method, path)) => called
                    .routes
                    .iter()
                    .any(|route| route.method.as_str() == method && route.path == path),
            };
            if !known {
                return Err(
                    bad("a service names an operation that its target does not have")
                        .with("service", &service.name)
                        .with("target", target)
                        .with("operation", operation),
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::Json;

    use super::*;
    use crate::{Cx, Platform};

    async fn answer(_: Cx) -> Result<Json<()>> {
        Ok(Json(()))
    }

    fn platform(operation: &'static str) -> Platform {
        let stock = Service::new("stock").get("/stock/{sku}", answer);
        let orders = Service::new("orders").calls_operation("stock", operation);
        let carts = Service::new("carts").calls("stock").calls("orders");
        Platform::new("shop")
            .service(stock)
            .service(orders)
            .service(carts)
    }

    #[test]
    fn what_is_declared_may_be_called_and_nothing_else() {
        let platform = platform("GET /stock/{sku}");
        platform.check().unwrap();
        let permissions = platform.permissions();
        let may = |caller, target, operation| permissions.authorize(caller, target, operation);
        may("orders", "stock", "GET /stock/{sku}").unwrap();
        may("carts", "stock", "anything").unwrap();
        let other = may("orders", "stock", "DELETE /stock/{sku}").unwrap_err();
        assert!(other.to_string().contains(".calls_operation("), "{other}");
        assert!(may("stock", "orders", "*").is_err());
        may("console", "stock", ADMIN).unwrap();
        assert!(may("console", "stock", "GET /stock/{sku}").is_err());
        assert!(may("carts", "stock", ADMIN).is_err());
    }

    #[test]
    fn an_operation_that_is_not_there_can_not_be_declared() {
        platform("shop.Stock/Reserve").check().unwrap();
        for wrong in ["POST /stock/{sku}", "GET /stock/{id}", "GET", ""] {
            let error = platform(wrong).check().unwrap_err();
            assert_eq!(error.code(), "topology_invalid", "{wrong}");
        }
    }
}
