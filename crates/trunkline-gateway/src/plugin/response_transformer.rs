//! `response-transformer`: other headers for the client.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use super::request_transformer::header;
use super::transform::{Lists, Template, names, pairs};
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
struct ResponseTransformer {
    remove: Vec<HeaderName>,
    rename: Vec<(HeaderName, HeaderName)>,
    replace: Vec<(HeaderName, Template)>,
    add: Vec<(HeaderName, Template)>,
    append: Vec<(HeaderName, Template)>,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let lists = [
        ("remove", &settings.remove),
        ("rename", &settings.rename),
        ("replace", &settings.replace),
        ("add", &settings.add),
        ("append", &settings.append),
    ];
    for (name, lists) in lists {
        lists.check(name)?;
        if lists.uri.is_some() || !lists.querystring.is_empty() {
            return Err(mistake(
                name,
                "expected `headers` alone: an answer has no path",
            ));
        }
    }
    let rename = settings
        .rename
        .headers
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let both = text.split_once(':');
            let both = both.and_then(|(old, new)| Some((header(old)?, header(new)?)));
            both.ok_or_else(|| {
                let at = format!("rename.headers[{index}]");
                mistake(&at, format!("expected `old:new`, found `{text}`"))
            })
        });
    Ok(Arc::new(ResponseTransformer {
        remove: names("remove.headers", &settings.remove.headers, header)?,
        rename: rename.collect::<Result<_, _>>()?,
        replace: pairs("replace.headers", &settings.replace.headers, header)?,
        add: pairs("add.headers", &settings.add.headers, header)?,
        append: pairs("append.headers", &settings.append.headers, header)?,
    }))
}

impl Plugin for ResponseTransformer {
    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        for name in &self.remove {
            headers.remove(name);
        }
        for (old, new) in &self.rename {
            if let Some(value) = headers.remove(old) {
                headers.insert(new.clone(), value);
            }
        }
        let value = |template: &Template| HeaderValue::try_from(template.fill(exchange)?).ok();
        for (name, template) in &self.replace {
            if headers.contains_key(name)
                && let Some(value) = value(template)
            {
                headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &self.add {
            if !headers.contains_key(name)
                && let Some(value) = value(template)
            {
                headers.insert(name.clone(), value);
            }
        }
        for (name, template) in &self.append {
            if let Some(value) = value(template) {
                headers.append(name.clone(), value);
            }
        }
    }
}
