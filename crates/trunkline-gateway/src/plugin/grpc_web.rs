//! `grpc-web`: browsers call services of gRPC.

mod text;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, CONTENT_TYPE, TE,
};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;

use self::text::{Decoded, encode};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::grpc;

const WEB: &str = "application/grpc-web";
const TEXT: &str = "application/grpc-web-text";
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// What a page has to be let see to know how a call ended.
const EXPOSED: &str = "grpc-status,grpc-message,grpc-status-details-bin";
/// The first byte of the message that holds the trailers.
const TRAILERS: u8 = 0x80;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    proto: Option<String>,
    pass_stripped_path: bool,
    allow_origin_header: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            proto: None,
            pass_stripped_path: false,
            allow_origin_header: "*".to_owned(),
        }
    }
}

/// What is called as gRPC-Web goes on as gRPC, and its answer comes back as gRPC-Web; gRPC itself goes through.
///
/// # Source
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>, and Kong's documentation of its plugin.
#[derive(Debug)]
struct GrpcWeb {
    passes_stripped_path: bool,
    origin: HeaderValue,
}

/// How a page called.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    kind: HeaderValue,
    is_text: bool,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.proto.is_some() {
        let expected = "expected none: messages of JSON are not supported";
        return Err(mistake("proto", expected));
    }
    let origin = HeaderValue::try_from(settings.allow_origin_header);
    let origin = origin.map_err(|_| mistake("allow_origin_header", "expected an origin or *"))?;
    Ok(Arc::new(GrpcWeb {
        passes_stripped_path: settings.pass_stripped_path,
        origin,
    }))
}

/// How a request calls, if it does.
pub(crate) fn called(extensions: &Extensions) -> Option<&Called> {
    extensions.get::<Called>()
}

impl Called {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?;
        let text = kind.to_str().ok()?;
        let is = |name: &str| {
            let rest = text.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
        };
        let is_text = is(TEXT);
        (is_text || is(WEB)).then(|| Self {
            kind: kind.clone(),
            is_text,
        })
    }

    /// The body as gRPC has it.
    pub(crate) fn decode(&self, body: Body) -> Body {
        if self.is_text {
            Body::new(Decoded::new(body))
        } else {
            body
        }
    }
}

impl Plugin for GrpcWeb {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if exchange.request.method == Method::OPTIONS {
            return Verdict::Answer(self.preflight());
        }
        let Some(called) = Called::of(&exchange.request.headers) else {
            return Verdict::Next;
        };
        let head = &mut exchange.request;
        let kind = called.kind.to_str().unwrap_or(WEB);
        let rest = kind.strip_prefix(if called.is_text { TEXT } else { WEB });
        let native = format!("application/grpc{}", rest.unwrap_or_default());
        if let Ok(native) = HeaderValue::try_from(native) {
            head.headers.insert(CONTENT_TYPE, native);
        }
        head.headers
            .insert(TE, HeaderValue::from_static("trailers"));
        head.headers.remove(CONTENT_LENGTH);
        if !self.passes_stripped_path {
            put_prefix_back(&mut head.uri, head.headers.get(FORWARDED_PREFIX));
        }
        exchange.extensions.insert(called);
        Verdict::Next
    }

    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        // A call that was refused before it came here has not been looked at.
        let refused = || Called::of(&exchange.request.headers);
        let called = called(&exchange.extensions).cloned();
        let Some(called) = called.or_else(refused) else {
            return;
        };
        grpc::translate(response);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, called.kind.clone());
        headers.remove(CONTENT_LENGTH);
        headers
            .entry(ACCESS_CONTROL_ALLOW_ORIGIN)
            .or_insert_with(|| self.origin.clone());
        headers.append(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(EXPOSED),
        );
        // A call that is refused has its status in the headers, and nothing more to say.
        if headers.contains_key(grpc::STATUS) {
            *response.body_mut() = Body::empty();
            return;
        }
        let inner = std::mem::take(response.body_mut());
        *response.body_mut() = Body::new(Encoded {
            inner,
            is_text: called.is_text,
            is_over: false,
        });
    }
}

impl GrpcWeb {
    fn preflight(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        let methods = HeaderValue::from_static("POST");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let allowed = "content-type,x-grpc-web,x-user-agent,grpc-timeout,authorization";
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static(allowed),
        );
        response
    }
}

/// A method's whole path is its name: what the route took off goes on all the same.
fn put_prefix_back(uri: &mut Uri, prefix: Option<&HeaderValue>) {
    let prefix = prefix.and_then(|prefix| prefix.to_str().ok());
    let rest = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let whole = prefix.and_then(|prefix| PathAndQuery::try_from(format!("{prefix}{rest}")).ok());
    if let Some(whole) = whole {
        *uri = Uri::from(whole);
    }
}

/// An answer as pages read it: its trailers are its last message.
struct Encoded {
    inner: Body,
    is_text: bool,
    is_over: bool,
}

impl Encoded {
    fn frame(&self, bytes: Bytes) -> Frame<Bytes> {
        Frame::data(match self.is_text {
            true => encode(&bytes),
            false => bytes,
        })
    }

    fn end(&mut self, trailers: &HeaderMap) -> Frame<Bytes> {
        self.is_over = true;
        self.inner = Body::empty();
        self.frame(message(trailers))
    }
}

/// Trailers as a message.
fn message(trailers: &HeaderMap) -> Bytes {
    let mut text = BytesMut::new();
    for (name, value) in trailers {
        text.put_slice(name.as_str().as_bytes());
        text.put_slice(b":");
        text.put_slice(value.as_bytes());
        text.put_slice(b"\r\n");
    }
    let mut message = BytesMut::with_capacity(5 + text.len());
    message.put_u8(TRAILERS);
    message.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    message.unsplit(text);
    message.freeze()
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let frame = match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => this.frame(data),
            Some(Ok(Err(frame))) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                this.end(&trailers)
            }
            Some(Err(error)) => this.end(&grpc::last_words(&error).unwrap_or_default()),
            // A service that ends without a status has broken off.
            None => {
                let error =
                    axum::Error::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                this.end(&grpc::last_words(&error).unwrap_or_default())
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_from_its_content_type() {
        for (kind, found) in [
            ("application/grpc-web", Some(false)),
            ("application/grpc-web+proto", Some(false)),
            ("application/grpc-web-text", Some(true)),
            ("application/grpc-web-text+proto; x=1", Some(true)),
            ("application/grpc-website", None),
            ("application/grpc", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            let called = Called::of(&headers).map(|called| called.is_text);
            assert_eq!(called, found, "{kind}");
        }
    }

    #[test]
    fn trailers_are_a_message() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let told = message(&trailers);
        assert_eq!(&*told, b"\x80\x00\x00\x00\x0fgrpc-status:0\r\n");
    }

    #[test]
    fn the_prefix_is_put_back() {
        let mut uri = Uri::from_static("/Reserve?a=b");
        put_prefix_back(&mut uri, Some(&HeaderValue::from_static("/stock.v1.Stock")));
        assert_eq!(uri, "/stock.v1.Stock/Reserve?a=b");
        put_prefix_back(&mut uri, None);
        assert_eq!(uri, "/stock.v1.Stock/Reserve?a=b");
    }
}
