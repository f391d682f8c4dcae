//! Free ports.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports from here to [`END`] are nobody's by convention; from there on are those of a platform's parts.
const FIRST: u16 = 10_000;
const END: u16 = 20_000;
/// Fewer than these are not worth choosing from.
const COUNT_MIN: u16 = 1_000;
/// What Linux begins with when it gives a port to whoever asks for any.
const GIVEN_FROM: u16 = 32_768;

/// A TCP port of the loopback address that nobody listens on right now, and that this process was not told before.
///
/// It is below those that the system gives to whoever asks for any port, a connection's own end included: one that is free
/// now would be somebody else's by the time that a program listens on it, or while a server is down between two starts.
///
/// Prefer to let a server bind port 0 and ask it; this is for programs that must be told a number.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = given_from().min(END).saturating_sub(FIRST);
    if count < COUNT_MIN {
        return Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port());
    }
    // Processes that run side by side begin at places of their own.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..count {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let place = start.wrapping_add(step) % u32::from(count);
        let port = FIRST + u16::try_from(place).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// The first port that the system gives by itself.
fn given_from() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first = |range: String| range.split_whitespace().next()?.parse().ok();
    range.ok().and_then(first).unwrap_or(GIVEN_FROM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_told_once_and_never_given_by_the_system() {
        let ports: std::collections::BTreeSet<u16> =
            (0..100).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 100);
        assert!(ports.iter().all(|port| *port < given_from()));
        let held = TcpListener::bind(("127.0.0.1", free_port().unwrap())).unwrap();
        let taken = held.local_addr().unwrap().port();
        assert!((0..100).all(|_| free_port().unwrap() != taken));
    }
}
