//! Connections to the server. None of them waits for ever.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use crate::config::RedisConfig;
use crate::error;

pub(crate) type Connection = MultiplexedConnection;

/// A server, and one connection to it for everything that is answered at once. It is made when it is
/// needed, and again after it was lost; what was sent meanwhile fails.
pub(crate) struct Link {
    client: Client,
    timeout: Duration,
    place: String,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self> {
        let client = Client::open(config.server.clone())
            .map_err(|e| error::redis("the URL is no server's", e))?;
        Ok(Self {
            client,
            timeout: config.timeout,
            place: config.place(),
            connection: Mutex::new(None),
        })
    }

    /// Makes a connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let doing = "the server can't be reached";
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        match timeout(self.timeout, made).await {
            Ok(made) => made.map_err(|e| self.placed(error::redis(doing, e))),
            Err(_) => Err(self.placed(error::late("the server did not answer in time"))),
        }
    }

    /// Makes a connection that listens to channels.
    pub(crate) async fn listen(&self) -> Result<redis::aio::PubSub> {
        let doing = "the server can't be reached";
        match timeout(self.timeout, self.client.get_async_pubsub()).await {
            Ok(made) => made.map_err(|e| self.placed(error::redis(doing, e))),
            Err(_) => Err(self.placed(error::late("the server did not answer in time"))),
        }
    }

    /// One command on the shared connection.
    pub(crate) async fn call(&self, doing: &'static str, cmd: &Cmd) -> Result<Value> {
        let mut connection = self.shared().await?;
        let answer = timeout(self.timeout, connection.req_packed_command(cmd)).await;
        let answer = self.checked(doing, answer).await?;
        error::value(doing, answer).map_err(|e| self.placed(e))
    }

    /// Several commands on the shared connection. The first one that the server refuses is the error.
    pub(crate) async fn calls(&self, doing: &'static str, pipe: &Pipeline) -> Result<Vec<Value>> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.shared().await?;
        let calls = connection.req_packed_commands(pipe, 0, pipe.len());
        let answers = timeout(self.timeout, calls).await;
        let answers = self.checked(doing, answers).await?;
        let check = |value| error::value(doing, value).map_err(|e| self.placed(e));
        answers.into_iter().map(check).collect()
    }

    async fn shared(&self) -> Result<Connection> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let made = self.connect().await?;
        *connection = Some(made.clone());
        Ok(made)
    }

    /// Lets go of the shared connection when it is of no more use.
    async fn checked<T>(
        &self,
        doing: &'static str,
        answer: Result<Result<T, redis::RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T> {
        let failed = match answer {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) if !e.is_unrecoverable_error() => {
                return Err(self.placed(error::redis(doing, e)));
            }
            Ok(Err(e)) => error::redis(doing, e),
            Err(_) => error::late(doing),
        };
        *self.connection.lock().await = None;
        Err(self.placed(failed))
    }

    pub(crate) fn placed(&self, error: Error) -> Error {
        error.with("server", &self.place)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("server", &self.place)
            .finish_non_exhaustive()
    }
}
