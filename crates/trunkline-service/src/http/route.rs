//! Routes on the wire.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use futures::future::BoxFuture;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use trunkline_call::server::{Limits, body_too_large};
use trunkline_call::{Body, Responses, problem};
use trunkline_core::{Context, Error, Result};

use super::asset::{Asset, Prepared};
use super::handler::HttpHandler;
use super::idempotent;
use super::input::Incoming;
use super::output::Answer;
use crate::Cx;
use crate::openapi::Operation;
use crate::runtime::Runtime;

type Call = Arc<dyn Fn(Cx, Incoming) -> BoxFuture<'static, Result<Answer>> + Send + Sync>;

/// One method of one path.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) idempotent: bool,
    pub(crate) describe: fn(&mut Operation),
    end: RouteEnd,
}

/// What answers.
enum RouteEnd {
    Call(Call),
    Asset(Asset),
}

impl Route {
    pub(crate) fn new<A, H: HttpHandler<A>>(
        method: Method,
        path: &'static str,
        handler: H,
    ) -> Self {
        let call: Call = Arc::new(move |cx, incoming| handler.clone().call(cx, incoming));
        Self {
            method,
            path,
            idempotent: false,
            describe: H::describe,
            end: RouteEnd::Call(call),
        }
    }

    pub(crate) fn asset(asset: Asset) -> Self {
        Self {
            method: Method::GET,
            path: asset.path(),
            idempotent: false,
            describe: |_| {},
            end: RouteEnd::Asset(asset),
        }
    }

    pub(crate) fn is_asset(&self) -> bool {
        matches!(self.end, RouteEnd::Asset(_))
    }

    pub(crate) fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// A service's routes as a router, not yet behind the server's layer.
pub(crate) fn router(runtime: &Arc<Runtime>, routes: &[Route]) -> Result<Router> {
    let mut router = Router::new();
    for route in routes {
        let filter = MethodFilter::try_from(route.method.clone()).map_err(|_| {
            Error::invalid("route_invalid", "no route can have this method")
                .with("method", &route.method)
        })?;
        router = match &route.end {
            RouteEnd::Call(call) => {
                let end = Arc::new(End {
                    runtime: runtime.clone(),
                    call: call.clone(),
                    path: route.path,
                    idempotent: route.idempotent,
                });
                let handler = move |request: Request| {
                    let end = end.clone();
                    async move { end.answer(request).await }
                };
                router.route(route.path, on(filter, handler))
            }
            RouteEnd::Asset(asset) => {
                let prepared = Arc::new(Prepared::of(asset)?);
                let handler = move |request: Request| {
                    let prepared = prepared.clone();
                    async move { prepared.answer(request.headers()) }
                };
                router.route(route.path, on(filter, handler))
            }
        };
    }
    Ok(router)
}

/// Where a request ends.
struct End {
    runtime: Arc<Runtime>,
    call: Call,
    path: &'static str,
    idempotent: bool,
}

impl End {
    async fn answer(&self, request: Request) -> Response {
        let context = request.extensions().get::<Context>().cloned();
        let context = context.unwrap_or_else(|| Context::root(&self.runtime.env));
        match self.run(request, context.clone()).await {
            Ok(response) => response,
            Err(error) => problem::response(&error, Some(&context)),
        }
    }

    async fn run(&self, request: Request, context: Context) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let incoming = Incoming {
            parts,
            body: read(body).await?,
        };
        let cx = Cx::new(self.runtime.clone(), context);
        if self.idempotent {
            return idempotent::run(&cx, self.path, &*self.call, incoming).await;
        }
        let done = match (self.call)(cx.clone(), incoming).await {
            Ok(answer) => cx.finish(None).await.map(|()| answer),
            Err(error) => Err(error),
        };
        match done {
            Ok(answer) => Ok(response(answer, self.runtime.responses)),
            Err(error) => {
                cx.undo().await;
                Err(error)
            }
        }
    }
}

async fn read(body: Body) -> Result<bytes::Bytes> {
    let bytes_max = Limits::default().body_bytes_max;
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(body_too_large(bytes_max)),
        Err(error) => {
            let text = "the request's body broke off";
            Err(Error::invalid("body_unreadable", text).with_source(error))
        }
    }
}

/// The answer's body as the service wraps it.
pub(super) fn wrapped(answer: &Answer, responses: Responses) -> Option<Vec<u8>> {
    let body = answer.body.as_ref()?;
    Some(match responses {
        Responses::Plain => body.clone(),
        Responses::Data => [br#"{"data":"#, body.as_slice(), b"}"].concat(),
    })
}

fn response(answer: Answer, responses: Responses) -> Response {
    let body = wrapped(&answer, responses);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = answer.status;
    if let Some(location) = answer.location
        && let Ok(location) = HeaderValue::from_str(&location)
    {
        response.headers_mut().insert(LOCATION, location);
    }
    if let Some(body) = body {
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        *response.body_mut() = Body::from(body);
    }
    response
}
