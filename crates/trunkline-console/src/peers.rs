//! The other processes of the platform: what is asked here is asked there too, and answered as one.
//!
//! Each service that runs elsewhere serves the part of the admin API that is about it, under [`PEER_PATH`] of its own
//! address. A peer that does not answer is named under `unreachable`: an answer is never silently a part of the whole.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tower::ServiceExt as _;
use trunkline_call::Channel;
use trunkline_core::{ByteString, Error, report};

use crate::extract::Refused;
use crate::{Parts, events, sagas};

/// Where a service serves the part of the admin API that is about it.
pub const PEER_PATH: &str = "/trunkline/admin";

/// A longer question is refused.
const QUESTION_BYTES_MAX: usize = 1024 * 1024;
/// A longer answer is not read.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A peer that only tells something has so long for it.
const TELLS_WITHIN_MS: u64 = 5_000;
/// A peer that replays dead letters has so long for it.
const WORKS_WITHIN_MS: u64 = 600_000;

/// A service of the platform that runs in another process.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub service: ByteString,
    /// How it is called.
    pub channel: Channel,
}

/// How the answers of several processes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    /// The lists of this name, one behind the other, in the order of a member.
    List(&'static str, &'static str),
    /// The numbers of this name, added up.
    Sum(&'static str),
    /// Whoever knows it answers.
    First,
    /// All must be well.
    Health,
}

/// What is asked of the peers too; none for what is only of this process, or the same everywhere.
fn merge_of(method: &Method, path: &str) -> Option<Merge> {
    let get = method == Method::GET;
    match path {
        "/health" => Some(Merge::Health),
        "/api/v1/subscriptions" => Some(Merge::List("subscriptions", "group")),
        "/api/v1/outbox" => Some(Merge::List("outboxes", "service")),
        "/api/v1/audit" => Some(Merge::List("entries", "at")),
        "/api/v1/audit/check" => Some(Merge::List("logs", "service")),
        "/api/v1/sagas" => Some(Merge::List("sagas", "id")),
        "/api/v1/projections" => Some(Merge::List("projections", "service")),
        "/api/v1/dead-letters" if get => Some(Merge::List("dead_letters", "id")),
        "/api/v1/dead-letters/replay" => Some(Merge::List("groups", "group")),
        "/api/v1/dead-letters/discard" => Some(Merge::Sum("discarded")),
        _ => [
            "/api/v1/dead-letters/",
            "/api/v1/sagas/",
            "/api/v1/projections/",
            "/api/v1/subscriptions/",
            "/api/v1/outbox/",
        ]
        .iter()
        .any(|prefix| path.starts_with(prefix))
        .then_some(Merge::First),
    }
}

/// One process's answer.
struct Reply {
    status: StatusCode,
    body: Bytes,
    /// How long a peer took.
    took: Duration,
}

impl Reply {
    fn json(&self) -> Option<Map<String, Value>> {
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(members)) => Some(members),
            _ => None,
        }
    }

    /// It knows nothing of what was asked for: somebody else may.
    fn is_ignorant(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body.clone()).into_response();
        let kind = if self.status.is_success() || self.status == StatusCode::SERVICE_UNAVAILABLE {
            "application/json"
        } else {
            "application/problem+json"
        };
        let kind = HeaderValue::from_static(kind);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

/// Answers for all processes what is about all of them.
pub(crate) async fn ask(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let merge = merge_of(request.method(), request.uri().path());
    let Some(merge) = merge.filter(|_| !parts.peers.is_empty()) else {
        return next.run(request).await;
    };
    let (head, body) = request.into_parts();
    let question = match Limited::new(body, QUESTION_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            let error = Error::invalid("body_unreadable", error.to_string())
                .with("bytes_max", QUESTION_BYTES_MAX);
            return Refused(error).into_response();
        }
    };
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let ours = next.run(Request::from_parts(head, Body::from(question.clone())));
    let theirs = asked(&parts, &method, target, question.clone());
    let (ours, theirs) = futures::join!(ours, theirs);
    match read(ours).await {
        Ok(ours) => merged(merge, ours, theirs, events::limit_in(uri.query())),
        Err(error) => Refused(error).into_response(),
    }
}

/// Asks every peer at once.
async fn asked(
    parts: &Parts,
    method: &Method,
    target: &str,
    question: Bytes,
) -> Vec<(ByteString, Result<Reply, Error>)> {
    let within = if *method == Method::GET {
        TELLS_WITHIN_MS
    } else {
        WORKS_WITHIN_MS
    };
    let asks = parts.peers.iter().map(|peer| {
        let question = question.clone();
        async move {
            let began = Instant::now();
            let reply = async {
                let mut request = http::Request::builder()
                    .method(method)
                    .uri(format!("{PEER_PATH}{target}"))
                    .header("x-trunkline-deadline-ms", within)
                    .header(CONTENT_TYPE, "application/json");
                if let Some(token) = &parts.token {
                    request = request.header(AUTHORIZATION, token.bearer());
                }
                let request = request.body(Body::from(question)).map_err(|error| {
                    Error::internal("a question is a request").with_source(error)
                })?;
                let reply = read(peer.channel.clone().oneshot(request).await?).await?;
                let took = began.elapsed();
                Ok(Reply { took, ..reply })
            };
            (peer.service.clone(), reply.await)
        }
    });
    join_all(asks).await
}

/// What the peers' members of this name are, as far as the peers answer: for who asks on its own account.
pub(crate) async fn members(parts: &Parts, target: &str, name: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for (service, reply) in asked(parts, &Method::GET, target, Bytes::new()).await {
        match reply {
            Ok(reply) => {
                if let Some(Value::Array(found)) =
                    reply.json().and_then(|mut json| json.remove(name))
                {
                    all.extend(found);
                }
            }
            Err(error) => {
                tracing::warn!(%service, error = %report(&error), "a process does not tell what it has");
            }
        }
    }
    all
}

/// A peer's part of the health report, with how long it took to come; an answer that is none is as good as none, and no reason
/// to say nothing of the others.
fn pinged(reply: Reply) -> Result<Reply, Error> {
    let knows = reply.status.is_success() || reply.status == StatusCode::SERVICE_UNAVAILABLE;
    let mut report = reply.json().filter(|_| knows).unwrap_or_default();
    let Some(Value::Array(services)) = report.get_mut("services") else {
        let text = "the service does not say how it is";
        return Err(Error::unavailable("health_unknown", text).with("status", reply.status));
    };
    let micros = u64::try_from(reply.took.as_micros()).unwrap_or(u64::MAX);
    for service in services.iter_mut().filter_map(Value::as_object_mut) {
        service.insert("latency_us".to_owned(), micros.into());
    }
    let body = Value::Object(report).to_string().into();
    Ok(Reply { body, ..reply })
}

async fn read(response: Response) -> Result<Reply, Error> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| {
        Error::unavailable("answer_broken", "the answer broke off").with("why", error)
    })?;
    Ok(Reply {
        status: head.status,
        body: body.to_bytes(),
        took: Duration::ZERO,
    })
}

fn merged(
    merge: Merge,
    ours: Reply,
    theirs: Vec<(ByteString, Result<Reply, Error>)>,
    limit: Option<usize>,
) -> Response {
    let mut replies = vec![ours];
    let mut unreachable = Vec::new();
    for (service, reply) in theirs {
        let reply = if merge == Merge::Health {
            reply.and_then(pinged)
        } else {
            reply
        };
        match reply {
            Ok(reply) => replies.push(reply),
            Err(error) => unreachable.push(json!({
                "service": service, "error": report(&error).to_string(),
            })),
        }
    }
    let is_bad = |reply: &Reply| {
        let excused = reply.is_ignorant()
            || (merge == Merge::Health && reply.status == StatusCode::SERVICE_UNAVAILABLE);
        !reply.status.is_success() && !excused
    };
    if let Some(at) = replies.iter().position(is_bad) {
        return replies.swap_remove(at).into_response();
    }
    if merge == Merge::First || replies.iter().all(Reply::is_ignorant) {
        let knows = replies.iter().position(|reply| !reply.is_ignorant());
        return replies.swap_remove(knows.unwrap_or(0)).into_response();
    }
    let mut whole = Map::new();
    for reply in replies.iter().filter(|reply| !reply.is_ignorant()) {
        take_in(&mut whole, merge, reply.json().unwrap_or_default());
    }
    finish(&mut whole, merge, unreachable, limit);
    let well = whole.get("status").is_none_or(|status| status == "healthy");
    let status = if well {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, axum::Json(Value::Object(whole))).into_response()
}

/// Adds one process's answer to the whole; what is said once is said by the first.
fn take_in(whole: &mut Map<String, Value>, merge: Merge, part: Map<String, Value>) {
    let list = match merge {
        Merge::List(name, _) => name,
        Merge::Health => "services",
        Merge::Sum(_) | Merge::First => "",
    };
    for (name, value) in part {
        match (whole.get_mut(&name), value) {
            (Some(Value::Array(all)), Value::Array(more)) if name == list => all.extend(more),
            (Some(Value::Number(sum)), Value::Number(more)) if merge == Merge::Sum("discarded") => {
                let total = sum.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0);
                *sum = total.into();
            }
            (Some(status), more) if name == "status" && merge == Merge::Health => {
                if more != "healthy" {
                    *status = more;
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                whole.insert(name, value);
            }
        }
    }
}

fn finish(
    whole: &mut Map<String, Value>,
    merge: Merge,
    unreachable: Vec<Value>,
    limit: Option<usize>,
) {
    if let Merge::List(name, by) = merge
        && let Some(Value::Array(all)) = whole.get_mut(name)
    {
        let member = |value: &Value| Some(value.get(by)?.as_str()?.to_owned());
        all.sort_by_key(member);
        if name == "entries" {
            // The newest are wanted, the newest last.
            let limit = limit.unwrap_or(events::LIMIT);
            all.drain(..all.len().saturating_sub(limit));
        }
        if name == "sagas" {
            let next = sagas::page(all, limit);
            whole.insert("next".to_owned(), next);
        } else if name == "dead_letters" {
            let limit = limit.unwrap_or(events::LIMIT);
            let full = all.len() >= limit;
            all.truncate(limit);
            let next = all
                .last()
                .filter(|_| full)
                .and_then(|letter| letter.get("id"));
            let next = next.cloned().unwrap_or(Value::Null);
            whole.insert("next".to_owned(), next);
        }
    }
    if unreachable.is_empty() {
        return;
    }
    if merge == Merge::Health {
        whole.insert("status".to_owned(), "unhealthy".into());
    }
    whole.insert("unreachable".to_owned(), unreachable.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: Value) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_string().into(),
            took: Duration::from_millis(3),
        }
    }

    async fn whole(merge: Merge, ours: Reply, theirs: Vec<Result<Reply, Error>>) -> (u16, Value) {
        let theirs = theirs
            .into_iter()
            .map(|reply| ("b".into(), reply))
            .collect();
        let response = read(merged(merge, ours, theirs, Some(2))).await.unwrap();
        let body = serde_json::from_slice(&response.body).unwrap();
        (response.status.as_u16(), body)
    }

    fn down() -> Error {
        Error::unavailable("target_unreachable", "nobody answers")
    }

    #[tokio::test]
    async fn lists_become_one_in_order_and_within_the_limit() {
        let letters = Merge::List("dead_letters", "id");
        let ours = reply(200, json!({"dead_letters": [{"id": "3"}], "next": null}));
        let theirs = reply(
            200,
            json!({"dead_letters": [{"id": "1"}, {"id": "2"}], "next": "2"}),
        );
        let (status, body) = whole(letters, ours, vec![Ok(theirs)]).await;
        let expected = json!({"dead_letters": [{"id": "1"}, {"id": "2"}], "next": "2"});
        assert_eq!((status, body), (200, expected));
    }

    #[tokio::test]
    async fn sagas_become_one_list_with_the_newest_first() {
        let sagas = merge_of(&Method::GET, "/api/v1/sagas").unwrap();
        let ours = reply(
            200,
            json!({"sagas": [{"id": "3"}, {"id": "1"}], "next": "1"}),
        );
        let theirs = reply(200, json!({"sagas": [{"id": "2"}], "next": null}));
        let (status, body) = whole(sagas, ours, vec![Ok(theirs)]).await;
        let expected = json!({"sagas": [{"id": "3"}, {"id": "2"}], "next": "2"});
        assert_eq!((status, body), (200, expected));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named() {
        let groups = Merge::List("groups", "group");
        let ours = reply(200, json!({"groups": []}));
        let (status, body) = whole(groups, ours, vec![Err(down())]).await;
        assert_eq!(status, 200);
        assert_eq!(body["unreachable"][0]["service"], "b");
        let ours = reply(
            200,
            json!({"status": "healthy", "services": [{"service": "a"}]}),
        );
        let (status, body) = whole(Merge::Health, ours, vec![Err(down())]).await;
        assert_eq!((status, &body["status"]), (503, &json!("unhealthy")));
    }

    #[tokio::test]
    async fn one_that_is_not_well_makes_the_whole_not_well() {
        let ours = reply(
            200,
            json!({"status": "healthy", "services": [{"service": "a"}]}),
        );
        let theirs = reply(
            503,
            json!({"status": "unhealthy", "services": [{"service": "b"}]}),
        );
        let (status, body) = whole(Merge::Health, ours, vec![Ok(theirs)]).await;
        assert_eq!((status, &body["status"]), (503, &json!("unhealthy")));
        assert_eq!(
            body["services"],
            json!([{"service": "a"}, {"service": "b", "latency_us": 3_000}])
        );
    }

    #[tokio::test]
    async fn an_answer_that_is_no_report_is_that_of_one_who_does_not_answer() {
        for theirs in [
            reply(500, json!({"code": "internal"})),
            reply(503, json!({"code": "shutting_down"})),
            reply(200, json!("hello")),
        ] {
            let ours = json!({"status": "healthy", "services": [{"service": "a"}]});
            let (status, body) = whole(Merge::Health, reply(200, ours), vec![Ok(theirs)]).await;
            assert_eq!((status, &body["status"]), (503, &json!("unhealthy")));
            assert_eq!(body["services"], json!([{"service": "a"}]));
            assert_eq!(body["unreachable"][0]["service"], "b");
        }
    }

    #[tokio::test]
    async fn whoever_knows_answers_and_a_refusal_counts() {
        let unknown = || reply(404, json!({"code": "dead_letter_unknown"}));
        let known = reply(200, json!({"id": "1"}));
        let (status, _) = whole(Merge::First, unknown(), vec![Ok(known)]).await;
        assert_eq!(status, 200);
        let (status, body) = whole(Merge::First, unknown(), vec![Ok(unknown())]).await;
        assert_eq!(
            (status, &body["code"]),
            (404, &json!("dead_letter_unknown"))
        );
        let refused = reply(409, json!({"code": "dead_letters_busy"}));
        let discarded = Merge::Sum("discarded");
        let (status, _) = whole(discarded, unknown(), vec![Ok(refused)]).await;
        assert_eq!(status, 409);
        let ours = reply(200, json!({"discarded": 2}));
        let theirs = reply(200, json!({"discarded": 3}));
        let (_, body) = whole(discarded, ours, vec![Ok(theirs), Ok(unknown())]).await;
        assert_eq!(body, json!({"discarded": 5}));
    }

    #[tokio::test]
    async fn of_audit_entries_the_newest_are_kept_the_newest_last() {
        let at = |seconds: u32| json!({"at": format!("2026-01-01T00:00:{seconds:02}Z")});
        let ours = reply(200, json!({"entries": [at(1), at(4)]}));
        let theirs = reply(200, json!({"entries": [at(2), at(3)]}));
        let merge = merge_of(&Method::GET, "/api/v1/audit").unwrap();
        let (_, body) = whole(merge, ours, vec![Ok(theirs)]).await;
        assert_eq!(body["entries"], json!([at(3), at(4)]));
    }

    #[test]
    fn what_is_of_all_processes_is_asked_of_all() {
        let of = |method, path| merge_of(&method, path);
        assert_eq!(of(Method::GET, "/api/v1/events"), None);
        assert_eq!(of(Method::GET, "/metrics"), None);
        assert_eq!(of(Method::GET, "/health/live"), None);
        assert_eq!(
            of(Method::POST, "/api/v1/dead-letters/7/edit"),
            Some(Merge::First)
        );
        let replay = Some(Merge::List("groups", "group"));
        assert_eq!(of(Method::POST, "/api/v1/dead-letters/replay"), replay);
    }
}
