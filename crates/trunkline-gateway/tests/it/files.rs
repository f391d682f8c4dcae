//! Kong files of different shape, as they are found in the world: each drives a gateway over real connections.
//!
//! Words in capitals stand for what a test has: addresses, certificates, the path of a log.

mod dump;
mod edge;
mod migration;
mod observed;
mod partners;
mod seed;
mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use trunkline_core::Env;
use trunkline_gateway::{Config, Keeper};

use crate::kit::{Answer, Kit, alone, echo};
use crate::tls::own;
use crate::upstream_tls::{Ca, serving};

const FILES: [(&str, &str); 7] = [
    ("seed.yml", include_str!("../../src/file/tests/seed.yml")),
    ("shop.yml", include_str!("files/shop.yml")),
    ("partners.json", include_str!("files/partners.json")),
    ("migration.yml", include_str!("files/migration.yml")),
    ("edge.yml", include_str!("files/edge.yml")),
    ("observed.yml", include_str!("files/observed.yml")),
    ("dump.yml", include_str!("files/dump.yml")),
];

/// What stands in a file for what a test has.
struct Words(BTreeMap<&'static str, String>);

impl Words {
    /// Places where nobody is, and certificates that are good.
    fn new() -> Self {
        let nobody = "127.0.0.1:9".to_owned();
        let places = [
            "UPSTREAM_A",
            "UPSTREAM_B",
            "UPSTREAM_CHAT",
            "COLLECTOR",
            "ISSUER",
            "user-service:3001",
            "product-service:3002",
        ];
        let ports = ["PORT_A", "PORT_TLS", "PORT_GRPC", "REDIS_PORT"];
        let mut words = Self(BTreeMap::new());
        words.0.extend(places.map(|word| (word, nobody.clone())));
        words.0.extend(ports.map(|word| (word, "9".to_owned())));
        words
            .0
            .insert("LOG_FILE", "/tmp/no/such/folder/log".to_owned());
        let ca = Ca::new();
        let (cert, key) = ca.signs("gateway");
        let own = own(&["shop.example"]);
        let words = words.pem("CA_CERT", &ca.pem);
        let words = words.pem("CLIENT_CERT", &cert).pem("CLIENT_KEY", &key);
        let words = words.pem("SHOP_CERT", &own.pem).pem("SHOP_KEY", &own.key);
        words
            .pem("PARTNERS_CERT", &own.pem)
            .pem("PARTNERS_KEY", &own.key)
    }

    fn with(mut self, word: &'static str, means: impl ToString) -> Self {
        assert!(self.0.insert(word, means.to_string()).is_some(), "{word}");
        self
    }

    fn pem(mut self, word: &'static str, pem: &str) -> Self {
        self.0.insert(word, serde_json::to_string(pem).unwrap());
        self
    }

    /// The text of a file.
    fn text(&self, file: &str) -> String {
        let (_, text) = FILES.iter().find(|(name, _)| *name == file).unwrap();
        let words = self.0.iter();
        words.fold((*text).to_owned(), |text, (word, means)| {
            text.replace(word, means)
        })
    }

    async fn gateway(&self, file: &str) -> Kit {
        alone(&read(file, &self.text(file))).await
    }
}

fn read(name: &str, text: &str) -> Config {
    Config::parse(name, text).unwrap_or_else(|error| panic!("{error}"))
}

/// A server that a file's services are at.
struct Place {
    at: SocketAddr,
    server: JoinSet<()>,
}

impl Place {
    /// It tells what it got, and in `x-by` who it is; a path with `slow` in it is never answered.
    async fn start(name: &'static str) -> Self {
        let tell = move |request: Request, next: Next| async move {
            if request.uri().path().contains("slow") {
                std::future::pending::<()>().await;
            }
            let headers = [
                ("x-by", name),
                ("content-type", "application/json"),
                ("x-internal", "10.0.0.1"),
                ("x-total-count", "3"),
            ];
            (headers, next.run(request).await).into_response()
        };
        Self::serving(echo().layer(from_fn(tell)), None).await
    }

    async fn serving(router: Router, tls: Option<TlsAcceptor>) -> Self {
        let (at, server) = serving(router, tls).await;
        Self { at, server }
    }

    /// Ends at once, with all its connections.
    async fn dies(&mut self) {
        self.server.shutdown().await;
    }
}

/// A request, and what has to come of it: the line with its host, headers, the body, the status, and what is said.
///
/// What is said: `uri X` and `got NAME: X` of what the service got, `says NAME: X` of the answer's head, `body X` and `code X`
/// of its body; `got no NAME` and `says no NAME`; `says NAME` whatever it says.
type Row<'a> = (&'a str, &'a str, &'a str, u16, &'a [&'a str]);

async fn drive(kit: &Kit, rows: &[Row<'_>]) {
    for (at, row) in rows.iter().enumerate() {
        let answer = ask(kit, row.0, row.1, row.2).await;
        let row_at = format!("row {at}, {}: {answer:#?}", row.0);
        assert_eq!(answer.status, row.3, "{row_at}");
        for said in row.4 {
            assert!(holds(&answer, said), "{said:?} of {row_at}");
        }
    }
}

async fn ask(kit: &Kit, line: &str, headers: &str, body: &str) -> Answer {
    Answer::parse(&kit.raw(&written(line, headers, body)).await)
}

/// The bytes of a request whose line is `GET host/path`.
fn written(line: &str, headers: &str, body: &str) -> String {
    let (method, place) = line.split_once(' ').unwrap();
    let (host, path) = place.split_once('/').unwrap();
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("content-length: {}\r\n", body.len())
    };
    format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{length}{headers}\r\n{body}"
    )
}

fn holds(answer: &Answer, said: &str) -> bool {
    let (what, rest) = said.split_once(' ').unwrap();
    let (name, value) = match rest.split_once(": ") {
        Some((name, value)) => (name, Some(value)),
        None => (rest, None),
    };
    match (what, name.strip_prefix("no ")) {
        ("uri", _) => answer.json()["uri"] == rest,
        ("got", Some(name)) => answer.got(name).is_empty(),
        ("got", None) => answer.got(name) == [value.unwrap()],
        ("says", Some(name)) => answer.header(name).is_none(),
        ("says", None) => {
            let given = answer.header(name);
            given.is_some_and(|given| value.is_none_or(|value| given == value))
        }
        ("body", _) => answer.body == rest,
        ("code", _) => answer.json()["code"] == rest,
        _ => panic!("{said:?} is not known"),
    }
}

/// The names in the first column of the guide's table of plugins.
fn of_the_guide() -> BTreeSet<String> {
    let guide = include_str!("../../../../docs/guides/gateway.md");
    let (_, rest) = guide.split_once("\n## Plugins\n").unwrap();
    let table = rest.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = table.skip(1).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap().to_owned());
    let names = cells.flat_map(|cell| {
        let words = cell.split('`').map(str::to_owned).collect::<Vec<_>>();
        words.into_iter().skip(1).step_by(2)
    });
    names.collect()
}

#[test]
fn the_files_have_every_plugin_that_there_is() {
    let words = Words::new();
    let mut used = BTreeSet::new();
    for (file, _) in FILES {
        let config = read(file, &words.text(file));
        let services = config.services.iter();
        let inside = services.flat_map(|service| {
            let routes = service.routes.iter().flat_map(|route| &route.plugins);
            routes.chain(&service.plugins)
        });
        let all = config.plugins.iter().chain(inside);
        let enabled = all.filter(|plugin| plugin.enabled);
        used.extend(enabled.map(|plugin| plugin.name.clone()));
    }
    let unknown = "plugins: [{name: nope}]";
    let told = Config::check("kong.yml", unknown, &Env::system()).unwrap_err();
    let told = told.to_string();
    let (_, known) = told
        .split_once("expected one of ")
        .unwrap_or_else(|| panic!("{told}"));
    let known = known.split(", found").next().unwrap();
    let mut known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
    // Another name for one of them.
    known.insert("response-cache".to_owned());
    assert_eq!(known, of_the_guide());
    assert_eq!(used, known);
}

#[test]
fn the_files_are_right() {
    let words = Words::new();
    for (file, _) in FILES {
        let checked = Config::check(file, &words.text(file), &Env::system());
        checked.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// A request to the admin API; what it answered.
async fn admin(router: &Router, line: &str, body: String) -> (u16, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response: Response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

/// What the admin API gives as a file and takes again means what the file meant, also when the file was written anew.
#[tokio::test]
async fn the_files_go_through_the_admin_api_unchanged_in_meaning() {
    let words = Words::new();
    for (file, _) in FILES {
        let text = words.text(file);
        let kit = seed::gateway(&read(file, &text)).await;
        let keeper = Keeper::new(kit.gateway.clone(), &*text, Env::seeded(9));
        let router = keeper.router(Router::new(), None);
        let meant = serde_json::to_value(read(file, &text)).unwrap();
        assert_eq!(
            admin(&router, "GET /config", String::new()).await,
            (200, text.clone())
        );
        for line in ["POST /consumers", "DELETE /consumers/one-more"] {
            let body = "{\"username\": \"one-more\"}".to_owned();
            let (status, told) = admin(&router, line, body).await;
            assert!([201, 204].contains(&status), "{file}, {line}: {told}");
        }
        let (_, written) = admin(&router, "GET /config", String::new()).await;
        assert_ne!(written, text, "{file} was not written anew");
        let again = serde_json::to_value(read(file, &written)).unwrap();
        assert_eq!(again, meant, "{file}:\n{written}");
        let (status, told) = admin(&router, "POST /config", written.clone()).await;
        assert_eq!(status, 201, "{file}: {told}");
        let (_, taken) = admin(&router, "GET /config", String::new()).await;
        assert_eq!(taken, written);
    }
}
