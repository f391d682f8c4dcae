//! Routes that a router can tell apart.

use std::collections::BTreeMap;

use trunkline_core::{Error, Result};

use super::bad;
use crate::Service;

/// What every service answers by itself.
pub(super) const RESERVED: [&str; 6] = [
    "/asyncapi.json",
    "/openapi.json",
    "/health",
    "/health/live",
    "/health/ready",
    "/.well-known/jwks.json",
];

/// Checks the form of every path, and that each request has one handler.
pub(super) fn check(service: &Service) -> Result<()> {
    let mut shapes: BTreeMap<String, (&str, Vec<String>)> = BTreeMap::new();
    for route in &service.routes {
        let about = |error: Error| {
            error
                .with("service", &service.name)
                .with("path", route.path)
        };
        let shape = shape(route.path).map_err(about)?;
        if RESERVED.contains(&route.path) {
            return Err(about(bad(
                "this path is answered for every service already",
            )));
        }
        let (path, methods) = shapes
            .entry(shape)
            .or_insert_with(|| (route.path, Vec::new()));
        if *path != route.path {
            return Err(about(bad(
                "two paths differ in a parameter's name only: name it alike",
            ))
            .with("other path", *path));
        }
        let method = route.method.to_string();
        if methods.contains(&method) {
            return Err(bad("two handlers answer the same route")
                .with("service", &service.name)
                .with("route", format!("{method} {}", route.path)));
        }
        methods.push(method);
    }
    Ok(())
}

/// The path with its parameters' names left out.
fn shape(path: &str) -> Result<String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err(bad("expected a path that starts with /"));
    };
    let mut shape = String::with_capacity(path.len());
    let mut names: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        shape.push('/');
        let name = part
            .strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'));
        match name {
            Some(name) => {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(fits) || names.contains(&name) {
                    return Err(bad(
                        "expected parameters such as {id}, each with its own name",
                    ));
                }
                names.push(name);
                shape.push_str("{}");
            }
            None if part.contains(['{', '}']) || part.starts_with([':', '*']) => {
                return Err(bad(
                    "expected a parameter to be a whole part of the path: /{id}/",
                ));
            }
            None => shape.push_str(part),
        }
    }
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_leaves_names_out() {
        assert_eq!(shape("/a/{id}/b").unwrap(), "/a/{}/b");
        assert_eq!(shape("/").unwrap(), "/");
        for wrong in [
            "a",
            "/:id",
            "/{}",
            "/{id}/{id}",
            "/x{id}",
            "/{*rest}",
            "/{a b}",
        ] {
            assert!(shape(wrong).is_err(), "{wrong}");
        }
    }
}
