//! Connecting, and what comes by a connection.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet, Publish, RetainForwardRule, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use trunkline_core::{Error, Result, report};

use super::{Link, PUBLISHES_MAX};
use crate::gate::{Arrival, Gate};

/// How often the gateway shows the broker that it lives. A broker that has not answered by the next time is left, and hands
/// over again what is not acknowledged: so there is time for a slow one.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long connecting may take, in seconds.
const CONNECT_SECONDS: u64 = 10;
/// The first pause after a failure, and the longest; it doubles.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// A connection that lasted so long was sound: the next pause is the first again.
const SOUND: Duration = Duration::from_secs(30);
/// How long the farewell may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(5);

/// Why a connection ended.
enum End {
    Stopped,
    /// It is to be made anew.
    Renewed,
    Failed(Error),
}

impl Link {
    /// Keeps a connection until `stop`, then says farewell.
    pub(crate) async fn run(self: Arc<Self>, mut gate: Gate, stop: CancellationToken) {
        let (mut pause, longest) = PAUSE;
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.has_room() => {}
            }
            let began = Instant::now();
            let end = match self.options() {
                Ok(options) => self.connection(options, &mut gate, &stop).await,
                Err(error) => End::Failed(error),
            };
            self.ended();
            let error = match end {
                End::Stopped => break,
                End::Renewed => {
                    sleep(PAUSE.0).await;
                    continue;
                }
                End::Failed(error) => error,
            };
            if began.elapsed() > SOUND {
                pause = PAUSE.0;
            }
            tracing::warn!(
                service = &*self.service, broker = self.config.host, port = self.config.port,
                error = %report(&error), ?pause, "the devices' broker is away"
            );
            let jittered = pause.mul_f64(0.5 + self.env.random_f64() / 2.0);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = sleep(jittered) => {}
            }
            pause = (pause * 2).min(longest);
        }
        self.close();
    }

    fn options(&self) -> Result<MqttOptions> {
        let config = &self.config;
        let mut options = MqttOptions::new(&config.client_id, &config.host, config.port);
        let session = u32::try_from(config.session.as_secs()).unwrap_or(u32::MAX);
        options
            .set_clean_start(false)
            .set_session_expiry_interval(Some(session))
            .set_receive_maximum(Some(config.in_flight_max))
            .set_max_packet_size(Some(config.packet_bytes_max))
            .set_manual_acks(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_connection_timeout(CONNECT_SECONDS)
            .set_outgoing_inflight_upper_limit(64);
        if let Some((user, password)) = &config.credentials {
            options.set_credentials(user, password);
        }
        if let (true, Some(file)) = (config.is_tls, &config.ca) {
            let trusted = trusted(file)?;
            let tls = TlsConfiguration::Rustls(Arc::new(trusted));
            options.set_transport(Transport::tls_with_config(tls));
        }
        Ok(options)
    }

    async fn connection(
        &self,
        options: MqttOptions,
        gate: &mut Gate,
        stop: &CancellationToken,
    ) -> End {
        let room = usize::from(self.config.in_flight_max) + PUBLISHES_MAX + 8;
        let (client, mut events) = AsyncClient::new(options, room);
        self.began(client.clone());
        let mut leaving = None;
        loop {
            let event = match self.next(&mut events, &client, stop, &mut leaving).await {
                Ok(event) => event,
                Err(error) => return leaving.unwrap_or(End::Failed(error)),
            };
            match event {
                // What comes now is not acknowledged, so it comes again.
                Event::Incoming(_) if leaving.is_some() => {}
                Event::Incoming(packet) => {
                    if let Err(error) = self.incoming(packet, &client, gate) {
                        return End::Failed(error);
                    }
                }
                Event::Outgoing(Outgoing::Publish(_)) => {
                    self.publishes.fetch_sub(1, Ordering::AcqRel);
                }
                Event::Outgoing(Outgoing::Disconnect) => {
                    return leaving.unwrap_or(End::Renewed);
                }
                Event::Outgoing(_) => {}
            }
        }
    }

    /// What happens next on the connection. When it is to end, a farewell is queued behind the acknowledgements that wait
    /// to be written; an error says that it has ended.
    async fn next(
        &self,
        events: &mut EventLoop,
        client: &AsyncClient,
        stop: &CancellationToken,
        leaving: &mut Option<End>,
    ) -> Result<Event> {
        let mut poll = pin!(events.poll());
        loop {
            let is_leaving = leaving.is_some();
            let why = tokio::select! {
                biased;
                event = &mut poll => return event.map_err(lost),
                () = stop.cancelled(), if !is_leaving => End::Stopped,
                () = self.renew.notified(), if !is_leaving => End::Renewed,
                () = sleep(FAREWELL_WITHIN), if is_leaving => return Err(silent()),
            };
            *leaving = Some(why);
            if !*self.up.borrow() || client.try_disconnect().is_err() {
                return Err(silent());
            }
        }
    }

    fn incoming(&self, packet: Packet, client: &AsyncClient, gate: &mut Gate) -> Result<()> {
        match packet {
            Packet::ConnAck(connack) => {
                tracing::info!(
                    service = &*self.service,
                    broker = self.config.host,
                    port = self.config.port,
                    session_kept = connack.session_present,
                    "the devices' broker is reached"
                );
                let filters = self.filters.iter();
                let filters = filters.map(|path| Filter {
                    path: path.clone(),
                    qos: QoS::AtLeastOnce,
                    nolocal: true,
                    preserve_retain: false,
                    retain_forward_rule: RetainForwardRule::OnEverySubscribe,
                });
                let asked = client.try_subscribe_many(filters);
                asked.map_err(|error| broken("the broker can't be asked").with_source(error))
            }
            Packet::SubAck(suback) => {
                let mut codes = suback.return_codes.iter();
                if codes.any(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                    let text = "the broker does not let the gateway read its devices' topics";
                    return Err(broken(text).with("answers", format!("{:?}", suback.return_codes)));
                }
                self.set_up(true);
                Ok(())
            }
            Packet::Publish(publish) => {
                self.arrived(gate, &arrival(publish));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn arrival(publish: Publish) -> Arrival {
    let properties = publish.properties.unwrap_or_default();
    let mut named = properties.user_properties.into_iter();
    Arrival {
        topic: publish.topic,
        payload: publish.payload,
        again: publish.dup,
        retained: publish.retain,
        packet: publish.pkid,
        id: named.find(|(name, _)| name == "id").map(|(_, id)| id),
        correlation: properties.correlation_data,
    }
}

fn broken(text: &'static str) -> Error {
    Error::unavailable("device_broker_away", text)
}

fn silent() -> Error {
    broken("the broker did not take a farewell")
}

fn lost(error: ConnectionError) -> Error {
    let text = match &error {
        ConnectionError::ConnectionRefused(_) => "the broker refused the gateway",
        ConnectionError::Timeout(_) => "the broker did not answer in time",
        _ => "the connection to the broker was lost",
    };
    broken(text).with_source(error)
}

/// A client that trusts the authorities in a file.
fn trusted(file: &std::path::Path) -> Result<ClientConfig> {
    let bad = || {
        let text = "expected a PEM file of the authorities that are trusted";
        Error::invalid("device_tls_invalid", text).with("file", file.display())
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|e| bad().with_source(e))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad().with_source(error))?;
        let added = roots.add(certificate);
        added.map_err(|error| bad().with_source(error))?;
    }
    if roots.is_empty() {
        return Err(bad());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| bad().with_source(error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
