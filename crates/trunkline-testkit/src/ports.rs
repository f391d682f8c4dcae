//! Free ports.

use std::io;
use std::net::TcpListener;

/// A TCP port of the loopback address that nobody listens on right now.
///
/// Prefer to let a server bind port 0 and ask it; this is for programs that must be told a number.
///
/// # Errors
/// When the system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
