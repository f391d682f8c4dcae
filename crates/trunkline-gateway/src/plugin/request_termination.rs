//! `request-termination`: an answer of the gateway's own, and the service is not asked.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings, told};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    status_code: Option<u16>,
    message: Option<String>,
    body: Option<String>,
    content_type: Option<String>,
    trigger: Option<String>,
    echo: bool,
}

#[derive(Debug)]
struct RequestTermination {
    status: StatusCode,
    said: Said,
    /// The header or parameter without which a request goes on.
    trigger: Option<(HeaderName, String)>,
}

#[derive(Debug)]
enum Said {
    Message(String),
    Body(String, HeaderValue),
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.echo {
        return Err(mistake(
            "echo",
            "expected false: requests are not shown to whoever sent them",
        ));
    }
    let status = StatusCode::from_u16(settings.status_code.unwrap_or(503))
        .ok()
        .filter(|status| (100..600).contains(&status.as_u16()))
        .ok_or_else(|| mistake("status_code", "expected a status from 100 to 599"))?;
    let said = match (settings.message, settings.body) {
        (Some(_), Some(_)) => {
            return Err(mistake("", "expected `message` or `body`, and not both"));
        }
        (_, Some(body)) => {
            let kind = settings
                .content_type
                .as_deref()
                .unwrap_or("application/json; charset=utf-8");
            let kind = HeaderValue::from_str(kind)
                .map_err(|_| mistake("content_type", "expected a media type"))?;
            Said::Body(body, kind)
        }
        (message, None) => Said::Message(
            message.unwrap_or_else(|| status.canonical_reason().unwrap_or("Terminated").to_owned()),
        ),
    };
    let trigger = settings.trigger.map(|name| {
        let header = HeaderName::try_from(&*name);
        header
            .map(|header| (header, name))
            .map_err(|_| mistake("trigger", "expected the name of a header"))
    });
    Ok(Arc::new(RequestTermination {
        status,
        said,
        trigger: trigger.transpose()?,
    }))
}

impl Plugin for RequestTermination {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if let Some((header, parameter)) = &self.trigger {
            let request = &exchange.request;
            let query = request.uri.query().unwrap_or_default();
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let named = pairs.any(|(name, _)| *name == **parameter);
            if !named && !request.headers.contains_key(header) {
                return Verdict::Next;
            }
        }
        Verdict::Answer(match &self.said {
            Said::Message(message) => told(self.status, message),
            Said::Body(body, kind) => {
                let mut response = Response::new(Body::from(body.clone()));
                *response.status_mut() = self.status;
                response.headers_mut().insert(CONTENT_TYPE, kind.clone());
                response
            }
        })
    }
}
