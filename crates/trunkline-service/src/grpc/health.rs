//! `grpc.health.v1`, told by the platform's own health.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as Answers, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use trunkline_telemetry::Health;

use super::{Server, boxed};

/// How often the checks run for each client that watches.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The health of a service and, the same, of each of its services of gRPC.
#[derive(Debug, Clone)]
struct Told {
    health: Health,
    names: Vec<&'static str>,
}

pub(super) fn server(health: Health, names: Vec<&'static str>) -> Server {
    boxed(HealthServer::new(Told { health, names }))
}

impl Told {
    /// Without a name the whole service is meant.
    fn knows(&self, name: &str) -> bool {
        name.is_empty() || self.names.contains(&name)
    }

    async fn status_of(&self, name: &str) -> ServingStatus {
        if !self.knows(name) {
            return ServingStatus::ServiceUnknown;
        }
        match self.health.report().await.is_healthy() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        }
    }
}

fn said(status: ServingStatus) -> HealthCheckResponse {
    let status = status.into();
    HealthCheckResponse { status }
}

type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Answers for Told {
    type WatchStream = Statuses;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status_of(&request.get_ref().service).await {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found("there is no such service here"))
            }
            status => Ok(Response::new(said(status))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let name = request.into_inner().service;
        let watch = (self.clone(), name, None);
        let changes = stream::unfold(watch, |(told, name, before)| async move {
            let mut pause = before.map(|_| LOOK_EVERY);
            loop {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let now = told.status_of(&name).await;
                if before != Some(now) {
                    return Some((now, (told, name, Some(now))));
                }
                pause = Some(LOOK_EVERY);
            }
        });
        let changes = changes.map(|status| Ok(said(status)));
        Ok(Response::new(Box::pin(changes)))
    }
}
