//! A site of a test's own: in this process, on free ports, with its data in a folder that goes away.

use std::time::Duration;

use serde_json::{Value, json};
use tablium::{STAFF, Site};
use tempfile::TempDir;
use trunkline::saga::State;
use trunkline::{Client, Config, Context, Env, Platform, Program as _, Settings};
use trunkline_testkit::eventually;
use trunkline_testkit::http::Caller;

use crate::sockets::{Browser, Browsers};

/// Long enough for anything that ends by itself.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) site: Site,
    pub(crate) gateway: Caller,
    pub(crate) admin: Caller,
    pub(crate) browsers: Browsers,
    _folder: TempDir,
}

/// Somebody with an account.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) caller: Caller,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::extended(|platform| platform).await
    }

    pub(crate) async fn extended(extend: impl FnOnce(Platform) -> Platform) -> Self {
        Self::configured(|_| {}, extend).await
    }

    pub(crate) async fn configured(
        set: impl FnOnce(&mut Config),
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Settings::on_free_ports(folder.path().join("data"))
            .load()
            .unwrap();
        set(&mut config);
        let site = Site::start_platform(config, extend).await.unwrap();
        Self {
            gateway: Caller::new(site.running().gateway_url()),
            admin: Caller::new(site.running().admin_url()),
            browsers: Browsers::start(),
            site,
            _folder: folder,
        }
    }

    /// Somebody with an account and a wallet, or as many.
    pub(crate) async fn user(&self, name: &str) -> User {
        let user = register(&self.gateway, name).await;
        user.is_known().await;
        user
    }

    /// A browser of a user, let in.
    pub(crate) async fn browser(&self, user: &User) -> Browser {
        let url = self.site.running().gateway_url();
        let browser = self.browsers.open(&user.name, &url, &user.token).await;
        browser.is_up(1).await;
        browser
    }

    /// Somebody who runs the site.
    pub(crate) fn staff(&self) -> Caller {
        // Each time somebody else, so that who asks often is not limited.
        let boss = format!("usr_boss_{}", Env::system().id());
        let token = tablium::token(self.site.data(), &boss, &[STAFF], SOON).unwrap();
        self.gateway.bearing(&token)
    }

    /// Waits until nothing is held; the ledger's sum is zero all the while.
    pub(crate) async fn holds_nothing(&self) {
        let staff = self.staff();
        eventually(SOON, async || {
            let sums = staff.get("/api/v1/ledger").await.expect(200);
            assert_eq!(sums["data"]["sum"]["amount"], "0");
            sums["data"]["held"]["amount"] == "0"
        })
        .await;
    }

    /// What two players come to: a game that is played.
    pub(crate) async fn game(&self, first: &User, second: &User, open: Value) -> String {
        let game = first.opens(open).await;
        second.joins(&game).await;
        self.comes_to_be(first, &game, "active").await;
        game
    }

    /// What a service of the site asks game-state-service, on behalf of a user.
    pub(crate) async fn ask(
        &self,
        (service, user): (&str, &str),
        path: &str,
        body: Value,
    ) -> trunkline::Result<Value> {
        let mut context = Context::root(&Env::system());
        context.user_id = Some(user.into());
        let network = self.site.running().network();
        let channel = network.channel(service.to_owned(), "game-state-service");
        let request = Client::new(channel, context).post(path);
        request.json(&body).send().await
    }

    /// How a game stands, without the gateway and its limits.
    pub(crate) async fn status(&self, game: &str) -> String {
        let context = Context::root(&Env::system());
        let network = self.site.running().network();
        let channel = network.channel("game-engine-service", "game-state-service");
        let request = Client::new(channel, context).get(format!("/internal/games/{game}"));
        let state: Value = request.send().await.unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    /// Gives up; a game that is over stays as it is.
    pub(crate) async fn resigns(&self, user: &User, game: &str) {
        let path = format!("/internal/games/{game}/resign");
        let resigned = self
            .ask(("realtime-service", &user.id), &path, json!({}))
            .await;
        assert!(
            resigned.is_ok() || self.status(game).await != "active",
            "{resigned:?}"
        );
    }

    /// How the saga of a game's first match ends.
    pub(crate) async fn match_state(&self, game: &str) -> State {
        let path = format!("/api/v1/sagas?key={game}.2");
        let read = async || {
            let sagas = self.admin.get(&path).await.expect(200);
            match sagas["sagas"][0]["state"].as_str() {
                Some("completed") => Some(State::Completed),
                Some("compensated") => Some(State::Compensated),
                Some("failed") => Some(State::Failed),
                Some("parked") => Some(State::Parked),
                _ => None,
            }
        };
        eventually(SOON, async || read().await.is_some()).await;
        read().await.unwrap()
    }

    /// Has a projection built from nothing, and waits until it is what is read.
    pub(crate) async fn rebuild(&self, projection: &str) {
        let path = format!(
            "/api/v1/projections/{}/{projection}/rebuild",
            tablium::state::NAME
        );
        self.admin.post(&path, json!({})).await.expect(200);
        eventually(SOON, async || {
            let all = self.admin.get("/api/v1/projections").await.expect(200);
            let mut all = all["projections"].as_array().unwrap().iter();
            let one = all.find(|one| one["name"] == projection).unwrap();
            assert_eq!(one["error"], Value::Null);
            one["rebuilding"].is_null() && one["behind"] == 0
        })
        .await;
    }

    pub(crate) async fn comes_to_be(&self, user: &User, game: &str, status: &str) -> Value {
        eventually(SOON, async || user.sees(game).await["status"] == status).await;
        user.sees(game).await
    }
}

pub(crate) async fn register(gateway: &Caller, name: &str) -> User {
    let body = json!({
        "email": format!("{name}@example.com"), "username": name, "password": "correct horse",
    });
    let made = gateway
        .post("/api/v1/auth/register", body)
        .await
        .expect(201);
    assert_eq!(made["username"], name);
    let token = made["token"].as_str().unwrap().to_owned();
    User {
        id: made["userId"].as_str().unwrap().to_owned(),
        name: name.to_owned(),
        caller: gateway.bearing(&token),
        token,
    }
}

/// A game that takes no time.
pub(crate) fn quick(kind: &str) -> Value {
    json!({ "kind": kind, "clock": { "minutes": 10, "incrementSeconds": 1 } })
}

impl User {
    pub(crate) async fn opens(&self, open: Value) -> String {
        let state = self.caller.post("/api/v1/games", open).await.expect(201);
        assert_eq!(state["status"], "waiting");
        state["gameId"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn joins(&self, game: &str) -> Value {
        let path = format!("/api/v1/games/{game}/join");
        self.caller.post(&path, json!({})).await.expect(200)
    }

    pub(crate) async fn sees(&self, game: &str) -> Value {
        self.caller
            .get(&format!("/api/v1/games/{game}"))
            .await
            .expect(200)
    }

    /// Waits until the profile and the wallet are there.
    pub(crate) async fn is_known(&self) {
        eventually(SOON, async || {
            let me = self.caller.get("/api/v1/users/me").await;
            me.status == 200 && self.has().await == "1000"
        })
        .await;
    }

    /// What is in the wallet; nothing where there is none.
    pub(crate) async fn has(&self) -> String {
        let path = format!("/api/v1/users/{}/wallets", self.id);
        let wallets = self.caller.get(&path).await.expect(200);
        let amount = &wallets[0]["balance"]["amount"];
        amount.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn comes_to_have(&self, amount: &str) -> impl Future<Output = ()> {
        let amount = amount.to_owned();
        eventually(SOON, async move || self.has().await == amount)
    }

    pub(crate) async fn profile(&self) -> Value {
        self.caller.get("/api/v1/users/me").await.expect(200)
    }
}
