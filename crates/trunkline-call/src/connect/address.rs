//! Where a host is: its addresses, looked up again when they are old.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use trunkline_core::{Error, Result};

use super::unreached;

/// What was looked up is looked up again when it is older.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// After a look-up that failed, the next is no sooner than this; what was known last is used meanwhile.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A name server has so long for an answer.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);
/// More addresses of one name are not tried.
const ADDRESSES_MAX: usize = 16;

/// A host and port: an address is what it says, a name is where the system's resolver finds it.
pub(super) struct Address {
    host: String,
    port: u16,
    known: ArcSwap<Known>,
    /// Who looks it up holds it.
    looking: tokio::sync::Mutex<()>,
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// For ever, without.
    until: Option<Instant>,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.trim_matches(['[', ']']);
        let known = match host.parse::<IpAddr>() {
            Ok(ip) => Known {
                addresses: vec![SocketAddr::new(ip, port)],
                until: None,
            },
            Err(_) => Known {
                addresses: Vec::new(),
                until: Some(Instant::now()),
            },
        };
        Self {
            host: host.to_owned(),
            port,
            known: ArcSwap::from_pointee(known),
            looking: tokio::sync::Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Whether a connection to this address still leads there, as far as is known.
    pub(super) fn is_at(&self, peer: SocketAddr) -> bool {
        self.known.load().addresses.contains(&peer)
    }

    /// A connection to one of its addresses: to the next in turn, and if that fails to those after it. Each has half of
    /// the time that is left, and the last all of it.
    pub(super) async fn connect(&self, by: Instant) -> Result<(TcpStream, SocketAddr)> {
        let known = timeout_at(by, self.current()).await;
        let known = known.unwrap_or_else(|_| Err(unreached(true, late())))?;
        let count = known.addresses.len();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for at in 0..count {
            let Some(address) = known.addresses.get((first.wrapping_add(at)) % count) else {
                break;
            };
            let now = Instant::now();
            let left = by.saturating_duration_since(now);
            let until = if at + 1 == count { by } else { now + left / 2 };
            match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = late(),
            }
        }
        self.doubt(&known);
        Err(unreached(true, failed))
    }

    /// Looks it up again, if what is known is old.
    pub(super) async fn refresh(&self) {
        drop(self.current().await);
    }

    async fn current(&self) -> Result<Arc<Known>> {
        let known = self.known.load_full();
        if known.is_fresh() {
            return Ok(known);
        }
        let _looking = self.looking.lock().await;
        let known = self.known.load_full();
        if known.is_fresh() {
            return Ok(known);
        }
        let found = tokio::time::timeout(LOOK_UP_WITHIN, lookup_host((&*self.host, self.port)));
        let found = found.await.unwrap_or_else(|_| Err(late()));
        let found = found.map(|found| found.take(ADDRESSES_MAX).collect::<Vec<_>>());
        let next = match found {
            Ok(addresses) if !addresses.is_empty() => Known::of(addresses, KNOWN_FOR),
            // Better an old address than none.
            Ok(_) | Err(_) if !known.addresses.is_empty() => {
                tracing::warn!(host = %self.host, "the name has no address now: those known last are used");
                Known::of(known.addresses.clone(), ASK_AGAIN_AFTER)
            }
            Ok(_) => return Err(self.unknown(io::Error::from(io::ErrorKind::NotFound))),
            Err(error) => return Err(self.unknown(error)),
        };
        let next = Arc::new(next);
        self.known.store(next.clone());
        Ok(next)
    }

    /// Nobody takes a connection there: perhaps it is elsewhere by now.
    fn doubt(&self, known: &Known) {
        if known.until.is_some() {
            let addresses = known.addresses.clone();
            self.known
                .store(Arc::new(Known::of(addresses, ASK_AGAIN_AFTER)));
        }
    }

    #[cold]
    fn unknown(&self, error: io::Error) -> Error {
        Error::unavailable("name_unknown", "the name has no address")
            .with("host", &self.host)
            .with_source(error)
    }
}

impl Known {
    fn of(addresses: Vec<SocketAddr>, keep: Duration) -> Self {
        Self {
            addresses,
            until: Some(Instant::now() + keep),
        }
    }

    fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }
}

fn late() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    impl Address {
        pub(crate) fn moves_to(&self, address: SocketAddr) {
            at(self, &[address]);
        }
    }

    fn at(address: &Address, addresses: &[SocketAddr]) {
        let known = Known::of(addresses.to_vec(), Duration::from_secs(3_600));
        address.known.store(Arc::new(known));
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn each_address_of_a_name_is_tried_in_turn() {
        let (one, two) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let listeners = [one.local_addr().unwrap(), two.local_addr().unwrap()];
        let name = Address::new("several.test", 1);
        at(&name, &listeners);
        let mut peers = Vec::new();
        for _ in 0..4 {
            peers.push(name.connect(soon()).await.unwrap().1);
        }
        assert_eq!(peers, [listeners, listeners].concat());
        // One that takes no connections costs no request.
        drop(one);
        for _ in 0..4 {
            assert_eq!(name.connect(soon()).await.unwrap().1, listeners[1]);
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_an_address_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = Address::new("localhost", port);
        let (_, peer) = name.connect(soon()).await.unwrap();
        assert!(name.is_at(peer));
        assert!(name.known.load().until.is_some());
        let address = Address::new("[::1]", 80);
        assert!(address.known.load().is_fresh());
        assert!(address.is_at("[::1]:80".parse().unwrap()));
        let nowhere = Address::new("no-such-name.invalid", 80);
        let error = nowhere.connect(soon()).await.unwrap_err();
        assert_eq!(error.code(), "name_unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_last_is_used_while_a_name_can_not_be_looked_up() {
        let name = Address::new("no-such-name.invalid", 80);
        let old: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let known = Known {
            addresses: vec![old],
            until: Some(Instant::now()),
        };
        name.known.store(Arc::new(known));
        assert_eq!(name.current().await.unwrap().addresses, [old]);
        assert!(name.known.load().is_fresh());
    }
}
