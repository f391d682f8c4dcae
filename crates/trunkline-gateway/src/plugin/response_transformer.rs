//! `response-transformer`: other headers for the client.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use super::transform::{Changes, KINDS, Lists, Template, changeable};
use super::{Exchange, Making, Mistake, Plugin, mistake, settings};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    remove: Lists,
    rename: Lists,
    replace: Lists,
    add: Lists,
    append: Lists,
}

#[derive(Debug)]
struct ResponseTransformer(Changes<HeaderName>);

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let Settings {
        remove,
        rename,
        replace,
        add,
        append,
    } = &settings;
    let all = [remove, rename, replace, add, append];
    for (name, lists) in KINDS.into_iter().zip(all) {
        lists.check(name)?;
        if lists.uri.is_some() || !lists.querystring.is_empty() {
            return Err(mistake(
                name,
                "expected `headers` alone: an answer has no path",
            ));
        }
    }
    let changes = Changes::of("headers", all, |lists| &lists.headers, changeable)?;
    Ok(Arc::new(ResponseTransformer(changes)))
}

impl Plugin for ResponseTransformer {
    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let (changes, headers) = (&self.0, response.headers_mut());
        for name in &changes.remove {
            headers.remove(name);
        }
        changes.rename(headers);
        let value = |template: &Template| HeaderValue::try_from(template.fill(exchange)?).ok();
        for (name, template) in &changes.replace {
            if headers.contains_key(name)
                && let Some(value) = value(template)
            {
                headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &changes.add {
            if !headers.contains_key(name)
                && let Some(value) = value(template)
            {
                headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &changes.append {
            if let Some(value) = value(template) {
                headers.append(name.clone(), value);
            }
        }
    }
}
