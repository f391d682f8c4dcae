//! Where services are that the gateway reaches by itself: targets, which of them gets a request, and their health.

mod answer;
pub(crate) mod health;
pub(crate) mod key;
mod link;
pub(crate) mod path;
mod pick;
mod probe;
mod send;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use trunkline_call::WireTls;
use trunkline_core::{ByteString, Env};

use self::health::{Rules, Said};
pub(crate) use self::link::{Links, Upstreams};
use self::pick::{Picker, Vitals};
pub(crate) use self::send::{Backend, Sending};
use crate::compile::Compiled;
use crate::config::{self, HashOn};

/// An upstream of the file, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamState {
    /// Its name.
    pub name: ByteString,
    /// Whether requests are sent to it: some target is healthy, and not too few are.
    pub is_healthy: bool,
    /// Whether its targets' health is looked at.
    pub is_checked: bool,
    /// Its targets, in the order of the file.
    pub targets: Vec<TargetState>,
}

/// A target of an upstream, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetState {
    /// Its host and port.
    pub target: ByteString,
    /// Its share among the others.
    pub weight: u16,
    /// Whether it is healthy, as far as is known.
    pub is_healthy: bool,
    /// How many requests it has to do.
    pub under_way: usize,
}

/// Targets that do the same: those of an upstream, or the one that a service is at.
pub(crate) struct Group {
    pub(crate) name: ByteString,
    /// As the file has it, without its place there.
    config: config::Upstream,
    pub(crate) members: Box<[Member]>,
    pub(crate) picker: Picker,
    passive: Rules,
    active: Rules,
    /// Asks its targets how they are.
    asking: Mutex<JoinSet<()>>,
    /// How they are asked with TLS.
    tls: Option<WireTls>,
}

/// A target.
pub(crate) struct Member {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Both of them.
    pub(crate) name: ByteString,
    pub(crate) weight: u16,
    pub(crate) vitals: Arc<Vitals>,
    healthy: Option<Gauge>,
}

impl Group {
    /// The targets of an upstream; with what was known of them, if it was there before.
    fn new(upstream: &config::Upstream, before: Option<&Self>, env: &Env) -> Self {
        let health = &upstream.healthchecks;
        let (passive, active) = (
            Rules::of(&health.passive.checks),
            Rules::of(&health.active.checks),
        );
        let is_checked = !passive.are_off() || is_asked(upstream);
        let member = |target: &config::Target| {
            let name = ByteString::from(format!("{}:{}", target.host, target.port));
            let mut known = before.into_iter().flat_map(|group| &group.members);
            let known = known.find(|known| is_checked && known.name == name);
            let healthy = is_checked.then(|| {
                let labels = [
                    ("upstream", upstream.name.clone()),
                    ("target", name.to_string()),
                ];
                gauge!("trunkline_gateway_upstream_target_healthy", &labels)
            });
            let vitals = known.map_or_else(Arc::default, |known| known.vitals.clone());
            if let Some(gauge) = &healthy {
                gauge.set(f64::from(u8::from(vitals.health.is_healthy())));
            }
            Member {
                host: target.host.clone(),
                port: target.port,
                name,
                weight: target.weight,
                vitals,
                healthy,
            }
        };
        let members: Box<[Member]> = upstream.targets.iter().map(member).collect();
        let targets: Vec<_> = members
            .iter()
            .map(|one| (one.name.to_string(), one.weight, one.vitals.clone()))
            .collect();
        Self {
            name: ByteString::from(&*upstream.name),
            picker: Picker::new(upstream.algorithm, &targets, health.threshold, env.clone()),
            config: upstream.clone(),
            members,
            passive,
            active,
            asking: Mutex::default(),
            tls: None,
        }
    }

    /// What its requests are hashed by.
    pub(crate) fn hash_on(&self) -> Option<&[HashOn; 2]> {
        let is_hash = self.config.algorithm == config::Algorithm::ConsistentHashing;
        is_hash.then_some(&self.config.hash_on)
    }

    /// A target has answered a request, or not.
    pub(crate) fn said(&self, index: usize, said: Said) {
        if !self.passive.are_off() {
            self.judge(index, said, &self.passive);
        }
    }

    fn judge(&self, index: usize, said: Said, rules: &Rules) {
        let Some(member) = self.members.get(index) else {
            return;
        };
        let Some(is_healthy) = member.vitals.health.said(said, rules) else {
            return;
        };
        self.picker.turn();
        if let Some(gauge) = &member.healthy {
            gauge.set(f64::from(u8::from(is_healthy)));
        }
        let (upstream, target) = (&*self.name, &*member.name);
        if is_healthy {
            tracing::info!(service = "gateway", upstream, target, "target is healthy");
        } else {
            tracing::warn!(
                service = "gateway",
                upstream,
                target,
                ?said,
                "target is unhealthy"
            );
        }
    }

    fn state(&self) -> UpstreamState {
        let target = |member: &Member| TargetState {
            target: member.name.clone(),
            weight: member.weight,
            is_healthy: member.vitals.health.is_healthy(),
            under_way: member.vitals.under_way.load(Ordering::Relaxed),
        };
        UpstreamState {
            name: self.name.clone(),
            is_healthy: self.picker.is_up(),
            is_checked: !self.passive.are_off() || is_asked(&self.config),
            targets: self.members.iter().map(target).collect(),
        }
    }

    /// Begins to ask its targets how they are, if that was not begun before.
    fn ask(self: &Arc<Self>, runtime: &Handle) {
        let mut asking = self.asking.lock();
        if is_asked(&self.config) && asking.is_empty() {
            asking.spawn_on(probe::ask(Arc::downgrade(self)), runtime);
        }
    }

    fn ask_no_more(&self) {
        self.asking.lock().abort_all();
        *self.asking.lock() = JoinSet::new();
    }
}

/// Whether targets are asked how they are, and something comes of it.
fn is_asked(upstream: &config::Upstream) -> bool {
    let active = &upstream.healthchecks.active;
    let asks = active.healthy_interval > 0.0 || active.unhealthy_interval > 0.0;
    asks && !Rules::of(&active.checks).are_off()
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.name)
    }
}

/// Who serves, as far as asking targets goes: it is done while somebody does.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<(usize, Option<Handle>)>);

impl Watch {
    /// Somebody begins to serve.
    pub(crate) fn begin(&self, compiled: &ArcSwap<Compiled>) {
        let mut servers = self.0.lock();
        servers.0 += 1;
        let runtime = servers.1.get_or_insert_with(Handle::current);
        // Not before: who takes another configuration meanwhile finds a runtime, or is found here.
        compiled.load().upstreams.ask(runtime);
    }

    /// They serve by these now, and no longer by those before.
    pub(crate) fn go_on(&self, upstreams: &Upstreams, before: &Upstreams) {
        let servers = self.0.lock();
        before.ask_no_more(Some(upstreams));
        if let Some(runtime) = &servers.1 {
            upstreams.ask(runtime);
        }
    }

    /// Somebody has ended.
    pub(crate) fn end(&self, compiled: &ArcSwap<Compiled>) {
        let mut servers = self.0.lock();
        servers.0 = servers.0.saturating_sub(1);
        if servers.0 == 0 {
            servers.1 = None;
            compiled.load().upstreams.ask_no_more(None);
        }
    }
}
