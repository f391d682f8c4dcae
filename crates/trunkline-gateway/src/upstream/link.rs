//! From the file to what requests are sent by: what stands as it stood is the same as before.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::runtime::Handle;
use trunkline_call::{Speaks, Wire, WireConfig, WireTls};
use trunkline_core::Env;

use super::tls::{self, TlsKey};
use super::{Backend, Group, Member, UpstreamState};
use crate::config::{self, At, Config, Protocol, Service, Url};

/// As many targets an upstream may have.
const TARGETS_MAX: usize = 10_000;
/// A connection that nobody uses is closed after so long: many servers close it after 5 s, and then a request may be on
/// its way already.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// So many connections of HTTP/1.1 that nobody uses are kept to each target.
const IDLE_COUNT_MAX: usize = 512;
/// What Kong has where the file says nothing.
const RETRIES: u16 = 5;
/// A request is not sent again more often, whatever the file says.
const RETRIES_MAX: u16 = 100;
const TIMEOUT_MILLIS: u32 = 60_000;

/// Everything that services are reached by, by what it was made of.
#[derive(Default)]
pub(crate) struct Upstreams {
    groups: HashMap<String, Arc<Group>>,
    plain: HashMap<(String, u16), Arc<Group>>,
    wires: HashMap<WireKey, Arc<Wire>>,
    tls: HashMap<TlsKey, Arc<rustls::ClientConfig>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WireKey {
    host: String,
    port: u16,
    protocol: Protocol,
    connect: Duration,
    /// The name that it has to prove.
    name: Option<String>,
    /// As long as it is kept, its place is its own.
    tls: usize,
}

impl Upstreams {
    /// The upstreams of the file, by their names.
    pub(crate) fn states(&self) -> Vec<UpstreamState> {
        let mut states: Vec<_> = self.groups.values().map(|group| group.state()).collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        states
    }

    pub(super) fn ask(&self, runtime: &Handle) {
        for group in self.groups.values() {
            group.ask(runtime);
        }
    }

    /// But for those that others go on with.
    pub(super) fn ask_no_more(&self, others: Option<&Self>) {
        for (name, group) in &self.groups {
            let other = others.and_then(|others| others.groups.get(name));
            if other.is_none_or(|other| !Arc::ptr_eq(other, group)) {
                group.ask_no_more();
            }
        }
    }
}

/// A mistake: where in the file, and what was expected.
type Mistake = (String, String);

/// Makes what requests are sent by.
pub(crate) struct Links<'a> {
    config: &'a Config,
    before: Option<&'a Upstreams>,
    now: Upstreams,
    env: &'a Env,
}

impl<'a> Links<'a> {
    /// The upstreams of a file; what is wrong with them goes to `wrong`.
    pub(crate) fn new(
        config: &'a Config,
        before: Option<&'a Upstreams>,
        env: &'a Env,
        wrong: &mut Vec<Mistake>,
    ) -> Self {
        let mut links = Self {
            config,
            before,
            now: Upstreams::default(),
            env,
        };
        for (index, upstream) in config.upstreams.iter().enumerate() {
            let at = match upstream.at.is_empty() {
                true => format!("upstreams[{index}]"),
                false => upstream.at.to_string(),
            };
            if upstream.name.is_empty() {
                wrong.push((format!("{at}.name"), "expected a name".to_owned()));
            } else if links.now.groups.contains_key(&upstream.name) {
                let name = &upstream.name;
                let expected = format!("expected a name of its own, found a second `{name}`");
                wrong.push((format!("{at}.name"), expected));
            } else if upstream.targets.len() > TARGETS_MAX {
                let expected = format!("expected at most {TARGETS_MAX} targets");
                wrong.push((format!("{at}.targets"), expected));
            } else {
                links.group(&at, upstream, wrong);
            }
        }
        links
    }

    pub(crate) fn done(self) -> Upstreams {
        self.now
    }

    fn group(&mut self, at: &str, upstream: &config::Upstream, wrong: &mut Vec<Mistake>) {
        // Where it stands in the file, and its tags, make no other one of it.
        let mut plain = upstream.clone();
        plain.at = At::default();
        plain.tags.clear();
        for target in &mut plain.targets {
            target.at = At::default();
        }
        if plain
            .host_header
            .as_deref()
            .is_some_and(|host| HeaderValue::from_str(host).is_err())
        {
            let expected = "expected a host".to_owned();
            wrong.push((format!("{at}.host_header"), expected));
        }
        let active = &plain.healthchecks.active;
        let mut asked_by = None;
        if active.https {
            let key = TlsKey {
                is_verified: active.https_verify_certificate,
                depth: None,
                authorities: Vec::new(),
                own: self.own(plain.client_certificate.as_deref(), at, wrong),
            };
            asked_by = self.tls(key, at, wrong);
        }
        let before = self
            .before
            .and_then(|before| before.groups.get(&plain.name));
        let is_same = |group: &&Arc<Group>| {
            let config = |tls: &Option<WireTls>| tls.as_ref().map(|tls| Arc::as_ptr(&tls.config));
            let its = asked_by.as_ref().map(Arc::as_ptr);
            group.config == plain && config(&group.tls) == its
        };
        let group = match before.filter(is_same) {
            Some(same) => same.clone(),
            None => {
                let mut group = Group::new(&plain, before.map(|group| &**group), self.env);
                // Each target's own name takes the place of this one.
                group.tls = asked_by.map(|config| WireTls {
                    config,
                    name: active.https_sni.clone().unwrap_or_default(),
                });
                Arc::new(group)
            }
        };
        self.now.groups.insert(plain.name, group);
    }

    /// What a service at this place is reached by.
    pub(crate) fn backend(
        &mut self,
        at: &str,
        service: &Service,
        url: &Url,
        wrong: &mut Vec<Mistake>,
    ) -> Option<Backend> {
        let known = wrong.len();
        let group = match self.now.groups.get(&url.host) {
            Some(group) => group.clone(),
            None => self.plain(url),
        };
        let tls = match url.protocol {
            Protocol::Http | Protocol::Grpc => None,
            Protocol::Https | Protocol::Grpcs => self.tls_of(at, service, &group, wrong),
        };
        if wrong.len() > known {
            return None;
        }
        let millis =
            |millis: Option<u32>| Duration::from_millis(millis.unwrap_or(TIMEOUT_MILLIS).into());
        let connect = millis(service.connect_timeout);
        let mut ends = Vec::with_capacity(group.members.len());
        for member in &group.members {
            let made = self.wire((member, &group), url.protocol, connect, tls.as_ref());
            let host = host_of(&group, member, url.protocol);
            match made.and_then(|wire| Some((wire, HeaderValue::from_str(&host).ok()?))) {
                Some(end) => ends.push(end),
                None => {
                    let expected = format!("expected a host and a port, found `{}`", member.name);
                    wrong.push((format!("{at}.url"), expected));
                    return None;
                }
            }
        }
        Some(Backend {
            group,
            ends: ends.into_boxed_slice(),
            retries: service.retries.unwrap_or(RETRIES).min(RETRIES_MAX),
            write_within: millis(service.write_timeout),
            read_within: millis(service.read_timeout),
        })
    }

    /// The group of the one target that a service is at.
    fn plain(&mut self, url: &Url) -> Arc<Group> {
        let key = (url.host.clone(), url.port);
        let before = self.before.and_then(|before| before.plain.get(&key));
        let new = || {
            let mut upstream = config::Upstream::new(&*url.host);
            upstream.targets.push(config::Target {
                host: url.host.clone(),
                port: url.port,
                weight: 1,
                at: At::default(),
            });
            Arc::new(Group::new(&upstream, None, self.env))
        };
        let group = self.now.plain.entry(key);
        group
            .or_insert_with(|| before.cloned().unwrap_or_else(new))
            .clone()
    }

    fn wire(
        &mut self,
        (member, group): (&Member, &Group),
        protocol: Protocol,
        connect: Duration,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Option<Arc<Wire>> {
        let name = tls.map(|_| {
            let named = group.config.host_header.as_deref().map(without_port);
            named.unwrap_or(&member.host).to_owned()
        });
        let key = WireKey {
            host: member.host.clone(),
            port: member.port,
            protocol,
            connect,
            name: name.clone(),
            tls: tls.map_or(0, |config| Arc::as_ptr(config).addr()),
        };
        if let Some(wire) = self.now.wires.get(&key) {
            return Some(wire.clone());
        }
        let before = self.before.and_then(|before| before.wires.get(&key));
        let wire = match before {
            Some(wire) => wire.clone(),
            None => {
                let mut config = WireConfig::new(&*member.host, member.port);
                config.speaks = match protocol {
                    Protocol::Http => Speaks::Http1,
                    Protocol::Https => Speaks::Either,
                    Protocol::Grpc | Protocol::Grpcs => Speaks::Http2,
                };
                config.connect_within = connect;
                config.idle_max = IDLE_MAX;
                config.idle_count_max = IDLE_COUNT_MAX;
                config.tls = tls
                    .cloned()
                    .zip(name)
                    .map(|(config, name)| WireTls { config, name });
                Arc::new(Wire::new(config).ok()?)
            }
        };
        self.now.wires.insert(key, wire.clone());
        Some(wire)
    }

    /// How TLS is spoken to a service.
    fn tls_of(
        &mut self,
        at: &str,
        service: &Service,
        group: &Group,
        wrong: &mut Vec<Mistake>,
    ) -> Option<Arc<rustls::ClientConfig>> {
        let of_group = group.config.client_certificate.as_deref();
        let own = service.client_certificate.as_deref().or(of_group);
        let own = self.own(own, at, wrong);
        let mut authorities = Vec::with_capacity(service.ca_certificates.len());
        for id in &service.ca_certificates {
            let mut known = self.config.ca_certificates.iter();
            match known.find(|known| known.id.as_deref() == Some(id)) {
                Some(known) => authorities.push(known.cert.clone()),
                None => {
                    let expected = format!("expected the id of a certificate, found `{id}`");
                    wrong.push((format!("{at}.ca_certificates"), expected));
                }
            }
        }
        let key = TlsKey {
            is_verified: service.tls_verify,
            depth: service.tls_verify_depth,
            authorities,
            own,
        };
        self.tls(key, at, wrong)
    }

    /// The certificate and key of this id.
    fn own(
        &self,
        id: Option<&str>,
        at: &str,
        wrong: &mut Vec<Mistake>,
    ) -> Option<(String, String)> {
        let id = id?;
        let mut known = self.config.certificates.iter();
        let found = known.find(|known| known.id.as_deref() == Some(id));
        if found.is_none() {
            let expected = format!("expected the id of a certificate, found `{id}`");
            wrong.push((format!("{at}.client_certificate"), expected));
        }
        found.map(|found| (found.cert.clone(), found.key.clone()))
    }

    fn tls(
        &mut self,
        key: TlsKey,
        at: &str,
        wrong: &mut Vec<Mistake>,
    ) -> Option<Arc<rustls::ClientConfig>> {
        let before = self.before.and_then(|before| before.tls.get(&key));
        let known = self.now.tls.get(&key).or(before).cloned();
        let made = match known {
            Some(known) => Ok(known),
            None => tls::config(&key).map(Arc::new),
        };
        match made {
            Ok(config) => {
                self.now.tls.insert(key, config.clone());
                Some(config)
            }
            Err((inside, expected)) => {
                wrong.push((format!("{at}.{inside}"), expected));
                None
            }
        }
    }
}

/// What a target is told as `Host`, if that is not the client's to say.
pub(super) fn host_of(group: &Group, member: &Member, protocol: Protocol) -> String {
    if let Some(host) = &group.config.host_header {
        return host.clone();
    }
    let usual = match protocol {
        Protocol::Http | Protocol::Grpc => 80,
        Protocol::Https | Protocol::Grpcs => 443,
    };
    match member.port == usual {
        true => member.host.clone(),
        false => member.name.to_string(),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    }
}
