//! Calls with an idempotency key: one effect and one answer, however often they come.

use bytes::Bytes;
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use tonic::Code;
use trunkline_call::server::body_too_large;
use trunkline_call::{Body, headers};
use trunkline_core::{Error, Result};
use trunkline_store::{StoredResponse, body_hash};

use super::work::{End, has_failed};
use crate::Cx;
use crate::http::idempotent::{Begun, REPLAYED, begin, checked, named};

/// The largest question that is kept in memory to be compared.
const QUESTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest answer that is stored.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The key of a call that has one.
pub(super) fn key_of(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(headers::IDEMPOTENCY_KEY).cloned()
}

/// Runs the handler once for its key.
pub(super) async fn run(
    cx: &Cx,
    end: &End,
    key: HeaderValue,
    request: Request<Body>,
) -> Result<Response<Body>> {
    let key = checked(&key)?;
    let cx = &named(cx, &end.method.path, &key);
    let (parts, body) = request.into_parts();
    let question = read(body).await?;
    let hash = body_hash(&question);
    let mut claim = match begin(cx, &end.method.path, key, hash).await? {
        Begun::Replay(stored) => return Ok(replayed(&stored)),
        Begun::Claim(claim) => claim,
    };
    let request = Request::from_parts(parts, Body::new(Full::new(question)));
    let done = match stored(end.call(cx, request).await).await {
        // What failed here may be tried again.
        Ok(answer) if has_failed_for_now(&answer) => {
            claim.give_back(cx).await;
            return Ok(response(&answer));
        }
        Ok(answer) => {
            // A refusal is an answer too, and stays the same; what was done meanwhile does not.
            if code_of(&answer) != Code::Ok {
                cx.undo().await;
            }
            claim.complete(cx, &answer).await.map(|()| answer)
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(answer) => Ok(response(&answer)),
        Err(error) => {
            claim.give_back(cx).await;
            Err(error)
        }
    }
}

async fn read(body: Body) -> Result<Bytes> {
    match Limited::new(body, QUESTION_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(body_too_large(QUESTION_BYTES_MAX)),
        Err(error) => {
            let text = "the request's message broke off";
            Err(Error::invalid("body_unreadable", text).with_source(error))
        }
    }
}

/// An answer as it is stored: its message, and among the headers its metadata and status.
async fn stored(response: Response<Body>) -> Result<StoredResponse> {
    let (parts, body) = response.into_parts();
    let collected = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let collected = collected.map_err(|error| {
        let text = "an answer of a call with an idempotency key is at most 1 MiB";
        Error::internal(text).with_source(error)
    })?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let mut headers = Vec::new();
    for (name, value) in parts.headers.iter().chain(&trailers) {
        // What is no text is no metadata: binary values are written in base64.
        if let (Ok(value), true) = (value.to_str(), name != CONTENT_TYPE) {
            headers.push((name.to_string(), value.to_owned()));
        }
    }
    Ok(StoredResponse {
        status: 200,
        headers,
        body: collected.to_bytes().to_vec(),
    })
}

fn code_of(answer: &StoredResponse) -> Code {
    let code = answer
        .headers
        .iter()
        .find(|(name, _)| name == "grpc-status");
    code.map_or(Code::Unknown, |(_, code)| Code::from_bytes(code.as_bytes()))
}

fn has_failed_for_now(answer: &StoredResponse) -> bool {
    let stays = [
        Code::Ok,
        Code::InvalidArgument,
        Code::NotFound,
        Code::OutOfRange,
    ];
    !stays.contains(&code_of(answer))
}

fn replayed(answer: &StoredResponse) -> Response<Body> {
    let mut response = response(answer);
    let yes = HeaderValue::from_static("true");
    response.headers_mut().insert(REPLAYED, yes);
    response
}

fn response(answer: &StoredResponse) -> Response<Body> {
    let (mut headers, mut trailers) = (HeaderMap::new(), HeaderMap::new());
    for (name, value) in &answer.headers {
        let name = HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.as_str())) {
            let is_status = name.as_str().starts_with("grpc-");
            let place = if is_status {
                &mut trailers
            } else {
                &mut headers
            };
            place.append(name, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if has_failed(&trailers) {
        headers.extend(trailers);
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers;
        return response;
    }
    let message = Frame::data(Bytes::from(answer.body.clone()));
    let frames = [message, Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, std::convert::Infallible>));
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    *response.headers_mut() = headers;
    response
}
