//! `request-transformer`: other headers, parameters, path or method for the service.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::Error;

use super::transform::{Changes, KINDS, Lists, Template, changeable};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::path::normalise;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    http_method: Option<String>,
    remove: Lists,
    rename: Lists,
    replace: Lists,
    add: Lists,
    append: Lists,
}

#[derive(Debug)]
struct RequestTransformer {
    method: Option<Method>,
    path: Option<Template>,
    headers: Changes<HeaderName>,
    parameters: Changes<String>,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let Settings {
        remove,
        rename,
        replace,
        add,
        append,
        http_method,
    } = &settings;
    let all = [remove, rename, replace, add, append];
    for (name, lists) in KINDS.into_iter().zip(all) {
        lists.check(name)?;
        if name != "replace" && lists.uri.is_some() {
            return Err(mistake(
                &format!("{name}.uri"),
                "expected `uri` in `replace` alone",
            ));
        }
    }
    let method = http_method.as_deref().map(|name| {
        let method = Method::from_bytes(name.as_bytes()).ok();
        method
            .filter(|method| {
                *method != Method::CONNECT && name.bytes().all(|byte| byte.is_ascii_uppercase())
            })
            .ok_or_else(|| {
                mistake(
                    "http_method",
                    format!("expected a method in capitals, found `{name}`"),
                )
            })
    });
    let path = replace.uri.as_deref();
    Ok(Arc::new(RequestTransformer {
        method: method.transpose()?,
        path: path
            .map(|path| Template::parse("replace.uri", path))
            .transpose()?,
        headers: Changes::of("headers", all, |lists| &lists.headers, changeable)?,
        parameters: Changes::of("querystring", all, |lists| &lists.querystring, parameter)?,
    }))
}

fn parameter(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

impl RequestTransformer {
    fn change_headers(&self, exchange: &mut Exchange) {
        let changes = &self.headers;
        for name in &changes.remove {
            exchange.request.headers.remove(name);
        }
        changes.rename(&mut exchange.request.headers);
        let value = |template: &Template, exchange: &Exchange| {
            HeaderValue::try_from(template.fill(exchange)?).ok()
        };
        for (name, template) in &changes.replace {
            if exchange.request.headers.contains_key(name)
                && let Some(value) = value(template, exchange)
            {
                exchange.request.headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &changes.add {
            if !exchange.request.headers.contains_key(name)
                && let Some(value) = value(template, exchange)
            {
                exchange.request.headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &changes.append {
            if let Some(value) = value(template, exchange) {
                exchange.request.headers.append(name.clone(), value);
            }
        }
    }

    /// The query as it is to be.
    fn query(&self, exchange: &Exchange) -> String {
        let changes = &self.parameters;
        let query = exchange.request.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let mut pairs: Vec<(String, String)> = pairs
            .filter(|(name, _)| !changes.remove.contains(name))
            .collect();
        for (old, new) in &changes.rename {
            for (name, _) in &mut pairs {
                if name == old {
                    name.clone_from(new);
                }
            }
        }
        for (wanted, template) in &changes.replace {
            if let Some(new) = template.fill(exchange) {
                let named = pairs.iter_mut().filter(|(name, _)| name == wanted);
                named.for_each(|(_, value)| value.clone_from(&new));
            }
        }
        for (wanted, template) in &changes.add {
            if !pairs.iter().any(|(name, _)| name == wanted)
                && let Some(value) = template.fill(exchange)
            {
                pairs.push((wanted.clone(), value));
            }
        }
        for (wanted, template) in &changes.append {
            if let Some(value) = template.fill(exchange) {
                pairs.push((wanted.clone(), value));
            }
        }
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish()
    }

    /// The path as it is to be: what a client put into a place of it is normalised as its own path was.
    fn path(&self, exchange: &Exchange) -> Result<Option<String>, Error> {
        let path = self
            .path
            .as_ref()
            .and_then(|template| template.fill(exchange));
        path.map(|path| normalise(&path)).transpose()
    }
}

impl Plugin for RequestTransformer {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let path = match self.path(exchange) {
            Ok(path) => path,
            Err(error) => return Verdict::Refuse(error),
        };
        let query = (!self.parameters.is_empty()).then(|| self.query(exchange));
        if !self.headers.is_empty() {
            self.change_headers(exchange);
        }
        if let Some(method) = &self.method {
            exchange.request.method = method.clone();
        }
        if path.is_none() && query.is_none() {
            return Verdict::Next;
        }
        let uri = &exchange.request.uri;
        let path = path.unwrap_or_else(|| uri.path().to_owned());
        let query = query.unwrap_or_else(|| uri.query().unwrap_or_default().to_owned());
        let mark = if query.is_empty() { "" } else { "?" };
        match PathAndQuery::try_from(format!("{path}{mark}{query}")) {
            Ok(rest) => {
                exchange.request.uri = Uri::from(rest);
                Verdict::Next
            }
            Err(error) => {
                let text = "expected a path and a query";
                Verdict::Refuse(Error::invalid("path_invalid", text).with_source(error))
            }
        }
    }
}
