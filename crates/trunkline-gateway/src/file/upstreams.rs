//! Upstreams and targets of the file.

use super::node::Node;
use super::read::{Fields, Problems};
use super::{Owned, owned, reference, tags};
use crate::config::{Active, Algorithm, Checks, HashOn, Health, Passive, Target, Upstream};
use crate::entry::has_good_port;

/// The port of a target that names none, as Kong has it.
const PORT: u16 = 8_000;
const WEIGHT: u16 = 100;
/// The largest count of answers.
const COUNT_MAX: i64 = 255;

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("round-robin", Algorithm::RoundRobin),
    ("least-connections", Algorithm::LeastConnections),
    ("consistent-hashing", Algorithm::ConsistentHashing),
    ("latency", Algorithm::Latency),
];

pub(super) fn upstream(node: &Node, path: String, problems: &mut Problems) -> Option<Upstream> {
    let mut fields = Fields::of(node, path, problems)?;
    let name = fields.text("name", problems);
    let name = fields.needs("name", name, problems);
    let mut upstream = Upstream::new(name.unwrap_or_default());
    if let Some(algorithm) = fields.one_of("algorithm", &ALGORITHMS, problems) {
        upstream.algorithm = algorithm;
    }
    let cookie_path = fields.text("hash_on_cookie_path", problems);
    let cookie = fields.text("hash_on_cookie", problems);
    let cookie = cookie.map(|name| (name, cookie_path.unwrap_or_else(|| "/".to_owned())));
    upstream.hash_on = [
        ["hash_on", "hash_on_header", "hash_on_query_arg"],
        [
            "hash_fallback",
            "hash_fallback_header",
            "hash_fallback_query_arg",
        ],
    ]
    .map(|names| hash_on(&mut fields, names, cookie.clone(), problems));
    if upstream.hash_on[0] != HashOn::None && upstream.algorithm == Algorithm::RoundRobin {
        // Kong before 2.0 had no `algorithm`, and hashed whatever said by what.
        upstream.algorithm = Algorithm::ConsistentHashing;
    }
    if upstream.hash_on[0] == HashOn::None && upstream.algorithm == Algorithm::ConsistentHashing {
        let expected = "expected `hash_on`: there is nothing to hash by";
        problems.add(fields.place, &fields.path, expected);
    }
    upstream.host_header = fields.text("host_header", problems);
    upstream.client_certificate = reference(&mut fields, "client_certificate", problems);
    if let Some(inside) = fields.inside("healthchecks", problems) {
        upstream.healthchecks = health(inside, problems);
    }
    upstream.targets = fields.list("targets", problems, target);
    upstream.tags = tags(&mut fields, problems);
    // How many places its ring has is ours to choose.
    fields.ignored(&["id", "slots"]);
    if fields.flag("use_srv_name", problems) == Some(true) {
        let why = "`use_srv_name: true` is not supported: write `host_header`";
        problems.add(fields.place, &fields.path, why);
    }
    fields.unsupported(
        &[
            (
                "hash_on_uri_capture",
                "hash by a header, a cookie or a parameter",
            ),
            (
                "hash_fallback_uri_capture",
                "hash by a header, a cookie or a parameter",
            ),
        ],
        problems,
    );
    upstream.at = fields.path.clone().into_boxed_str();
    fields.end(problems);
    Some(upstream)
}

fn hash_on(
    fields: &mut Fields<'_>,
    [what, header, argument]: [&'static str; 3],
    cookie: Option<(String, String)>,
    problems: &mut Problems,
) -> HashOn {
    let words = [
        "none",
        "consumer",
        "ip",
        "header",
        "cookie",
        "path",
        "query_arg",
    ];
    let header = fields.text(header, problems);
    let argument = fields.text(argument, problems);
    let words = words.map(|word| (word, word));
    let by = match fields.one_of(what, &words, problems) {
        None | Some("none") => return HashOn::None,
        Some("consumer") => Some(HashOn::Consumer),
        Some("ip") => Some(HashOn::Ip),
        Some("path") => Some(HashOn::Path),
        Some("header") => header.map(HashOn::Header),
        Some("query_arg") => argument.map(HashOn::QueryArg),
        Some(_) => cookie.map(|(name, path)| HashOn::Cookie(name, path)),
    };
    by.unwrap_or_else(|| {
        let expected = format!("expected what `{what}` is called: its header, cookie or parameter");
        problems.add(fields.place, &fields.path, expected);
        HashOn::None
    })
}

/// Targets that stand on their own name their upstreams.
pub(super) fn targets(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<Owned<Target>> {
    owned(fields, ("targets", "upstream"), problems, rest_of_target)
}

fn target(node: &Node, path: String, problems: &mut Problems) -> Option<Target> {
    rest_of_target(Fields::of(node, path, problems)?, problems)
}

fn rest_of_target(mut fields: Fields<'_>, problems: &mut Problems) -> Option<Target> {
    let node = fields.take("target");
    let text = fields.text("target", problems);
    let text = fields.needs("target", text, problems);
    let weight = fields.number("weight", (0, 65_535), problems);
    tags(&mut fields, problems);
    fields.ignored(&["id"]);
    let at = fields.path.clone().into_boxed_str();
    let place: Option<http::uri::Authority> = text.as_deref().and_then(|text| text.parse().ok());
    let place = place.filter(has_good_port);
    if let (Some(node), None, Some(text)) = (node, &place, &text) {
        let expected = format!("expected a host and perhaps a port, found `{text}`");
        fields.wrong(node, "target", expected, problems);
    }
    fields.end(problems);
    let place = place?;
    Some(Target {
        host: place.host().to_owned(),
        port: place.port_u16().unwrap_or(PORT),
        weight: weight
            .and_then(|weight| u16::try_from(weight).ok())
            .unwrap_or(WEIGHT),
        at,
    })
}

fn health(mut fields: Fields<'_>, problems: &mut Problems) -> Health {
    let mut health = Health::default();
    if let Some(inside) = fields.inside("active", problems) {
        health.active = active(inside, problems);
    }
    if let Some(inside) = fields.inside("passive", problems) {
        health.passive = passive(inside, problems);
    }
    if let Some(threshold) = fields.number("threshold", (0, 100), problems) {
        health.threshold = u32::try_from(threshold).map_or(100.0, f64::from);
    }
    fields.end(problems);
    health
}

fn active(mut fields: Fields<'_>, problems: &mut Problems) -> Active {
    let mut active = Active::default();
    let kinds = ["http", "https", "tcp"].map(|kind| (kind, kind));
    let kind = fields.one_of("type", &kinds, problems);
    active.tcp_only = kind == Some("tcp");
    active.https = kind == Some("https");
    active.https_sni = fields.text("https_sni", problems);
    if let Some(is_verified) = fields.flag("https_verify_certificate", problems) {
        active.https_verify_certificate = is_verified;
    }
    if let Some(path) = fields.text("http_path", problems) {
        active.http_path = path;
    }
    active.timeout = fields
        .seconds("timeout", problems)
        .unwrap_or(active.timeout);
    if let Some(many) = fields.number("concurrency", (1, 1_000), problems) {
        active.concurrency = u32::try_from(many).unwrap_or(active.concurrency);
    }
    active.headers = super::services::headers(&mut fields, problems);
    let mut intervals = [0.0, 0.0];
    checks(
        &mut fields,
        &mut active.checks,
        Some(&mut intervals),
        problems,
    );
    [active.healthy_interval, active.unhealthy_interval] = intervals;
    fields.end(problems);
    active
}

fn passive(mut fields: Fields<'_>, problems: &mut Problems) -> Passive {
    let mut passive = Passive::default();
    let kinds = ["http", "tcp", "grpc"].map(|kind| (kind, ()));
    fields.one_of("type", &kinds, problems);
    checks(&mut fields, &mut passive.checks, None, problems);
    fields.end(problems);
    passive
}

/// What makes a target healthy and unhealthy; with how often it is asked, where it is.
fn checks(
    fields: &mut Fields<'_>,
    checks: &mut Checks,
    mut intervals: Option<&mut [f64; 2]>,
    problems: &mut Problems,
) {
    let count = |inside: &mut Fields<'_>, name, into: &mut u32, problems: &mut Problems| {
        if let Some(number) = inside.number(name, (0, COUNT_MAX), problems) {
            *into = u32::try_from(number).unwrap_or(*into);
        }
    };
    for (at, name) in ["healthy", "unhealthy"].into_iter().enumerate() {
        let Some(mut inside) = fields.inside(name, problems) else {
            continue;
        };
        if let Some(interval) = intervals.as_mut().and_then(|both| both.get_mut(at))
            && let Some(seconds) = inside.seconds("interval", problems)
        {
            *interval = seconds;
        }
        let statuses = inside.list("http_statuses", problems, |node, path, problems| {
            let status = super::text_of(node).and_then(|text| text.parse::<u16>().ok());
            let status = status.filter(|status| (100..=999).contains(status));
            if status.is_none() {
                problems.add(node.place, &path, "expected a status from 100 to 999");
            }
            status
        });
        let given = inside.take("http_statuses").is_some();
        let into = match at {
            0 => &mut checks.healthy_statuses,
            _ => &mut checks.unhealthy_statuses,
        };
        if given {
            *into = statuses;
        }
        if at == 0 {
            count(&mut inside, "successes", &mut checks.successes, problems);
        } else {
            count(
                &mut inside,
                "http_failures",
                &mut checks.http_failures,
                problems,
            );
            count(
                &mut inside,
                "tcp_failures",
                &mut checks.tcp_failures,
                problems,
            );
            count(&mut inside, "timeouts", &mut checks.timeouts, problems);
        }
        inside.end(problems);
    }
}
