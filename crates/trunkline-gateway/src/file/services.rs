//! Services, routes and plugins of the file.

use std::collections::BTreeMap;

use super::node::{Node, What};
use super::read::{Fields, Problems};
use super::{Names, Owned, reference, tags};
use crate::config::{PluginConfig, Protocol, Route, Schemes, Service, Url};
use crate::entry::has_good_port;

/// The longest time that Kong takes, in milliseconds.
const MILLIS_MAX: i64 = 2_147_483_646;

const PROTOCOLS: [(&str, Protocol); 4] = [
    ("http", Protocol::Http),
    ("https", Protocol::Https),
    ("grpc", Protocol::Grpc),
    ("grpcs", Protocol::Grpcs),
];

/// A plugin that stands on its own, with what it says it belongs to.
pub(super) struct FreePlugin {
    pub(super) route: Option<Owned<()>>,
    pub(super) service: Option<Owned<()>>,
    pub(super) plugin: PluginConfig,
}

pub(super) fn service(
    node: &Node,
    path: String,
    names: &mut Names,
    problems: &mut Problems,
) -> Option<Service> {
    let mut fields = Fields::of(node, path, problems)?;
    let name = fields.text("name", problems);
    let name = fields.needs("name", name, problems);
    let id = fields.text("id", problems);
    let url = place(&mut fields, problems);
    let mut millis = |name: &'static str| {
        let millis = fields.number(name, (1, MILLIS_MAX), problems);
        millis.and_then(|millis| u32::try_from(millis).ok())
    };
    let [connect, write, read] =
        ["connect_timeout", "write_timeout", "read_timeout"].map(&mut millis);
    let retries = fields.number("retries", (0, 32_767), problems);
    let routes = fields.list("routes", problems, |node, path, problems| {
        route(node, path, names, problems)
    });
    let plugins = fields.list("plugins", problems, plugin);
    let tags = tags(&mut fields, problems);
    if fields.flag("enabled", problems) == Some(false) {
        let why = "`enabled: false` is not supported for a service: leave it out";
        problems.add(fields.place, &fields.path, why);
    }
    let depth = fields.number("tls_verify_depth", (0, 64), problems);
    let client_certificate = reference(&mut fields, "client_certificate", problems);
    let tls_verify = fields.flag("tls_verify", problems);
    let ca_certificates = fields.texts("ca_certificates", problems);
    let at = fields.path.clone().into_boxed_str();
    fields.end(problems);
    // Its place in the list is taken whatever is wrong with it, so that what belongs to it finds it.
    let index = names.counts.0;
    names.counts.0 += 1;
    let known = name.iter().chain(&id);
    names
        .services
        .extend(known.map(|name| (name.clone(), index)));
    Some(Service {
        name: name.unwrap_or_default(),
        url,
        retries: retries.and_then(|retries| u16::try_from(retries).ok()),
        connect_timeout: connect,
        write_timeout: write,
        read_timeout: read,
        client_certificate,
        tls_verify: tls_verify.unwrap_or(true),
        tls_verify_depth: depth.and_then(|depth| u8::try_from(depth).ok()),
        ca_certificates,
        routes,
        plugins,
        tags,
        at,
    })
}

/// Where a service is: `url`, or its parts; nothing where it has none of them.
fn place(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<Url> {
    let node = fields.take("url");
    let url = fields.text("url", problems);
    let protocol = fields.one_of("protocol", &PROTOCOLS, problems);
    let host = fields.text("host", problems);
    let port = fields.number("port", (0, 65_535), problems);
    let path = fields.text("path", problems);
    if let (Some(node), Some(url)) = (node, url) {
        if protocol.is_some() || host.is_some() || port.is_some() || path.is_some() {
            let expected = "expected `url`, or `protocol`, `host`, `port` and `path`, and not both";
            fields.wrong(node, "url", expected, problems);
        }
        let parsed = parse_url(&url);
        if parsed.is_none() {
            let expected = format!(
                "expected `http://host:port/path`, with http, https, grpc or grpcs, found `{url}`"
            );
            fields.wrong(node, "url", expected, problems);
        }
        return parsed;
    }
    let host = match host {
        Some(host) => host,
        None if protocol.is_some() || port.is_some() || path.is_some() => {
            problems.add(fields.place, &fields.path, "expected `host`");
            return None;
        }
        None => return None,
    };
    let protocol = protocol.unwrap_or_default();
    let port = port.and_then(|port| u16::try_from(port).ok());
    Some(Url {
        protocol,
        host,
        port: port.unwrap_or(protocol.port()),
        path,
    })
}

impl Protocol {
    fn port(self) -> u16 {
        match self {
            Self::Http | Self::Grpc => 80,
            Self::Https | Self::Grpcs => 443,
        }
    }
}

fn parse_url(url: &str) -> Option<Url> {
    let (scheme, rest) = url.split_once("://")?;
    let (_, protocol) = PROTOCOLS.iter().find(|(word, _)| *word == scheme)?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at_checked(slash)?,
        None => (rest, ""),
    };
    let authority: http::uri::Authority = authority.parse().ok()?;
    let is_host = !authority.as_str().contains('@') && !authority.host().is_empty();
    if !is_host || !has_good_port(&authority) || path.contains(['?', '#']) {
        return None;
    }
    Some(Url {
        protocol: *protocol,
        host: authority.host().to_owned(),
        port: authority.port_u16().unwrap_or(protocol.port()),
        path: (!matches!(path, "" | "/")).then(|| path.to_owned()),
    })
}

/// A route that stands on its own names its service.
pub(super) fn route_of(
    node: &Node,
    path: String,
    names: &mut Names,
    problems: &mut Problems,
) -> Option<Owned<Route>> {
    let mut fields = Fields::of(node, path, problems)?;
    let owner = reference(&mut fields, "service", problems);
    let owner = fields.needs("service", owner, problems);
    let (path, place) = (fields.path.clone(), fields.place);
    let what = rest_of_route(fields, names, problems);
    Some(Owned {
        owner: owner?,
        path: format!("{path}.service"),
        place,
        what,
    })
}

fn route(node: &Node, path: String, names: &mut Names, problems: &mut Problems) -> Option<Route> {
    let fields = Fields::of(node, path, problems)?;
    Some(rest_of_route(fields, names, problems))
}

fn rest_of_route(mut fields: Fields<'_>, names: &mut Names, problems: &mut Problems) -> Route {
    let name = fields.text("name", problems);
    let id = fields.text("id", problems);
    // Kong wants no name; metrics and logs do.
    let known = name.as_ref().or(id.as_ref());
    let called = known.cloned().unwrap_or_else(|| fields.path.clone());
    let aliases = name.iter().chain(&id);
    names
        .routes
        .extend(aliases.map(|alias| (alias.clone(), called.clone())));
    let default = Route::default();
    let redirect = [426, 301, 302, 307, 308].map(|status: u16| (status.to_string(), status));
    let redirect = redirect.each_ref().map(|(word, status)| (&**word, *status));
    let status = fields.one_of("https_redirect_status_code", &redirect, problems);
    let versions = [("v0", ()), ("v1", ())];
    if fields
        .one_of("path_handling", &versions, problems)
        .is_some()
        && let Some(node) = fields.take("path_handling")
        && node.what == What::Text("v1".to_owned())
    {
        let why =
            "`v1` is not supported: `v0` joins a service's path and the request's with one slash";
        fields.wrong(node, "path_handling", why, problems);
    }
    // Bodies are passed on as they come.
    fields.ignored(&["request_buffering", "response_buffering"]);
    let stream = "routes of TCP streams are not served here";
    fields.unsupported(
        &[
            ("sources", stream),
            ("destinations", stream),
            ("expression", "write hosts, paths, methods and headers"),
            ("priority", "write `regex_priority`"),
        ],
        problems,
    );
    let priority = signed(&mut fields, "regex_priority", problems);
    let route = Route {
        name: called,
        paths: fields.texts("paths", problems),
        methods: fields.texts("methods", problems),
        hosts: fields.texts("hosts", problems),
        headers: headers(&mut fields, problems),
        snis: fields.texts("snis", problems),
        schemes: schemes(&mut fields, problems),
        regex_priority: priority.unwrap_or(default.regex_priority),
        strip_path: fields
            .flag("strip_path", problems)
            .unwrap_or(default.strip_path),
        preserve_host: fields
            .flag("preserve_host", problems)
            .unwrap_or(default.preserve_host),
        https_redirect_status_code: status.unwrap_or(default.https_redirect_status_code),
        plugins: fields.list("plugins", problems, plugin),
        tags: tags(&mut fields, problems),
        at: fields.path.clone().into_boxed_str(),
    };
    fields.end(problems);
    route
}

/// A whole number that may be below 0.
fn signed(fields: &mut Fields<'_>, name: &'static str, problems: &mut Problems) -> Option<i32> {
    let node = fields.take(name)?;
    let number = match node.what {
        What::Integer(number) => i32::try_from(number).ok(),
        _ => None,
    };
    if number.is_none() {
        let expected = format!("expected a whole number, found {}", node.kind());
        fields.wrong(node, name, expected, problems);
    }
    number
}

pub(super) fn headers(
    fields: &mut Fields<'_>,
    problems: &mut Problems,
) -> BTreeMap<String, Vec<String>> {
    let mut headers = BTreeMap::new();
    let Some(mut inside) = fields.inside("headers", problems) else {
        return headers;
    };
    for field in inside.pairs() {
        let path = format!("{}.{}", inside.path, field.name);
        let texts = match &field.node.what {
            What::List(items) => items
                .iter()
                .map(super::text_of)
                .collect::<Option<Vec<String>>>(),
            _ => None,
        };
        match texts {
            Some(texts) if !texts.is_empty() => {
                headers.insert(field.name.to_ascii_lowercase(), texts);
            }
            _ => problems.add(field.node.place, &path, "expected a list of values"),
        }
    }
    inside.ignored(&[]);
    headers
}

/// Kong's protocols of a route: whether it takes TLS, no TLS, or both.
fn schemes(fields: &mut Fields<'_>, problems: &mut Problems) -> Schemes {
    const WORDS: &str = "expected http, https, grpc, grpcs, ws or wss";
    let words = fields.list("protocols", problems, |node, path, problems| {
        let text = super::text_of(node);
        let secured = match text.as_deref() {
            Some("http" | "grpc" | "ws") => Some(false),
            Some("https" | "grpcs" | "wss") => Some(true),
            _ => None,
        };
        if secured.is_none() {
            let found = text.unwrap_or_else(|| node.kind().to_owned());
            problems.add(node.place, &path, format!("{WORDS}, found `{found}`"));
        }
        secured
    });
    match (words.contains(&false), words.contains(&true)) {
        (true, false) => Schemes::Http,
        (false, true) => Schemes::Https,
        _ => Schemes::Any,
    }
}

/// A plugin is for requests of HTTP, with TLS or without: Kong tells it from TCP streams by its protocols, and from no more.
fn protocols(fields: &mut Fields<'_>, problems: &mut Problems) {
    const HTTP: [&str; 6] = ["http", "https", "grpc", "grpcs", "ws", "wss"];
    const STREAMS: [&str; 4] = ["tcp", "tls", "tls_passthrough", "udp"];
    let words = fields.list("protocols", problems, |node, path, problems| {
        let word = super::text_of(node).unwrap_or_default();
        if !HTTP.iter().chain(&STREAMS).any(|known| *known == word) {
            let expected = format!("expected one of {}, found `{word}`", HTTP.join(", "));
            problems.add(node.place, &path, expected);
        }
        Some(word)
    });
    if !words.is_empty() && words.iter().all(|word| STREAMS.contains(&&**word)) {
        let why = "TCP streams are not served here: expected http, https, grpc or grpcs as well";
        let path = format!("{}.protocols", fields.path);
        problems.add(fields.place, &path, why);
    }
}

/// A plugin inside of what it is for.
pub(super) fn plugin(node: &Node, path: String, problems: &mut Problems) -> Option<PluginConfig> {
    let fields = Fields::of(node, path, problems)?;
    rest_of_plugin(fields, problems)
}

/// A plugin that stands on its own.
pub(super) fn plugin_of(node: &Node, path: String, problems: &mut Problems) -> Option<FreePlugin> {
    let mut fields = Fields::of(node, path, problems)?;
    let mut owned = |name: &'static str| {
        let owner = reference(&mut fields, name, problems)?;
        Some(Owned {
            owner,
            path: format!("{}.{name}", fields.path),
            place: fields.place,
            what: (),
        })
    };
    let (route, service) = (owned("route"), owned("service"));
    Some(FreePlugin {
        route,
        service,
        plugin: rest_of_plugin(fields, problems)?,
    })
}

fn rest_of_plugin(mut fields: Fields<'_>, problems: &mut Problems) -> Option<PluginConfig> {
    let name = fields.text("name", problems);
    let name = fields.needs("name", name, problems);
    let consumer = reference(&mut fields, "consumer", problems);
    let config = fields.take("config").map(Node::value).unwrap_or_default();
    let enabled = fields.flag("enabled", problems).unwrap_or(true);
    fields.ignored(&["id", "instance_name"]);
    protocols(&mut fields, problems);
    tags(&mut fields, problems);
    let enterprise = "it is of Kong's commercial edition";
    fields.unsupported(
        &[("consumer_group", enterprise), ("ordering", enterprise)],
        problems,
    );
    let at = fields.path.clone().into_boxed_str();
    fields.end(problems);
    Some(PluginConfig {
        name: name?,
        config,
        enabled,
        consumer,
        at,
    })
}
