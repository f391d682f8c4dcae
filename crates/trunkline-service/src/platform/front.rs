//! The gateway in front of a platform: its addresses, and the file that it goes by if there is one.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_core::{ByteString, Error, Result, report};
use trunkline_gateway::{Gateway, Keeper, Means};
use trunkline_security::AdminToken;

use super::handover::Sockets;
use super::unit::Shared;
use crate::config::place::GATEWAY;
use crate::{Config, Platform, Service, openapi};

/// Where the admin address has the gateway's own admin API.
const ADMIN_PATH: &str = "/gateway";

/// What a platform's gateway goes by.
pub(crate) struct Declared {
    pub(crate) config: trunkline_gateway::Config,
    pub(crate) means: Means,
    /// What the file says, where a file says it.
    text: Option<String>,
}

impl Declared {
    pub(crate) fn new(config: trunkline_gateway::Config, means: Means) -> Self {
        Self {
            config,
            means,
            text: None,
        }
    }
}

impl Platform {
    /// Goes by the file that the configuration names, instead of what was declared.
    ///
    /// # Errors
    /// `InvalidInput` for a file that can't be read, or with every mistake in it.
    pub(crate) fn by_file(mut self, config: &Config) -> Result<Self> {
        if let Some(file) = &config.gateway.file {
            let (config, text) = trunkline_gateway::Config::open(file)?;
            let means = self.gateway.take().map(|declared| declared.means);
            self.gateway = Some(Declared {
                config,
                means: means.unwrap_or_default(),
                text: Some(text),
            });
        }
        Ok(self)
    }
}

/// Places to listen for the gateway: without TLS, and with it.
struct Places {
    plain: TcpListener,
    tls: Option<TcpListener>,
}

/// What a gateway is made of, with its addresses bound.
pub(super) struct Prepared {
    declared: Declared,
    /// What each service declares, for the gateway's `request-validator`.
    documents: HashMap<ByteString, Value>,
    places: Places,
}

impl Prepared {
    /// Binds the gateway's addresses, if there is a gateway here.
    pub(super) async fn open(
        declared: Option<Declared>,
        services: &[Service],
        config: &Config,
        sockets: &mut Sockets,
    ) -> Result<Option<Self>> {
        let Some(declared) = declared else {
            return Ok(None);
        };
        let tls = match config.gateway.tls_address {
            Some(address) => {
                let listening = sockets.listen("gateway-tls", address, "gateway's TLS");
                Some(listening.await?)
            }
            None => None,
        };
        let address = config.gateway.address;
        let plain = sockets.listen(GATEWAY, address, "gateway").await?;
        let document = |service: &Service| (service.name.clone(), openapi::document(service));
        Ok(Some(Self {
            declared,
            documents: services.iter().map(document).collect(),
            places: Places { plain, tls },
        }))
    }

    /// Makes the gateway.
    pub(super) fn make(self, shared: &Shared) -> Result<Front> {
        let (documents, places) = (self.documents, self.places);
        let Declared {
            config,
            means,
            text,
        } = self.declared;
        if places.tls.is_some() && config.certificates.is_empty() {
            let text = "`gateway.tls_address` needs certificates in the gateway's configuration";
            return Err(Error::invalid("certificate_missing", text));
        }
        let network = shared.network.clone();
        let channel_of = move |service: &str| network.channel(GATEWAY, service);
        let (telemetry, env) = (shared.telemetry.clone(), shared.env.clone());
        // What the platform has itself is asked for by its name, whatever a file says of where it is.
        let own: Vec<ByteString> = documents.keys().cloned().collect();
        let means = means
            .local(move |service| own.iter().any(|own| **own == *service))
            .documents(move |service| documents.get(service).cloned());
        let gateway = Gateway::new(config, channel_of, means, telemetry, env.clone())?;
        let settings = &shared.config.gateway;
        let keeper = text.zip(settings.file.as_ref()).map(|(text, file)| {
            Keeper::new(gateway.clone(), text, env).with_file(file, settings.write_back)
        });
        Ok(Front {
            gateway,
            keeper,
            places,
        })
    }
}

/// A gateway that is ready to be opened.
pub(super) struct Front {
    gateway: Gateway,
    keeper: Option<Keeper>,
    places: Places,
}

impl Front {
    pub(super) fn gateway(&self) -> Gateway {
        self.gateway.clone()
    }

    /// Where it takes requests, without TLS and with it.
    pub(super) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let Places { plain, tls } = &self.places;
        let address = |listener: &TcpListener| listener.local_addr().ok();
        (address(plain), tls.as_ref().and_then(address))
    }

    /// Follows the file, if there is one, until the platform stops.
    pub(super) fn follow(&self, jobs: &mut JoinSet<()>, stop: &CancellationToken) {
        if let Some(keeper) = self.keeper.clone() {
            let stop = stop.clone();
            jobs.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = keeper.follow() => {}
                }
            });
        }
    }

    /// The admin API with the gateway's own beside it, if a file says what the gateway goes by.
    pub(super) fn beside(&self, admin: Router, token: Option<AdminToken>) -> Router {
        match &self.keeper {
            Some(keeper) => admin.nest(ADMIN_PATH, keeper.router(Router::new(), token)),
            None => admin,
        }
    }

    /// Takes requests until `stop`.
    pub(super) fn serve(self, doors: &mut JoinSet<()>, stop: &CancellationToken) {
        let Places { plain, tls } = self.places;
        if let Some(tls) = tls {
            let (gateway, stop) = (self.gateway.clone(), stop.clone());
            doors.spawn(async move {
                if let Err(error) = gateway.serve_tls(tls, stop.cancelled_owned()).await {
                    tracing::error!(error = %report(&error), "the gateway takes no TLS");
                }
            });
        }
        let stop = stop.clone();
        doors.spawn(async move { self.gateway.serve(plain, stop.cancelled_owned()).await });
    }
}
