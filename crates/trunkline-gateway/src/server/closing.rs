//! The end of a listener: nobody new, and nobody lost who believes to be connected.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

/// A connection that was begun before has so long to be made. 250 ms: a round trip to anywhere.
pub(super) const MADE_WITHIN: Duration = Duration::from_millis(250);

/// Has the system leave everybody unanswered who begins to connect. Connections that were begun are made and can be
/// accepted; whoever is left unanswered tries again, and is refused when the listener is gone.
///
/// Closing alone would reset who was connected and not accepted yet, with the request that was sent already.
///
/// # Errors
/// Where the system has no such thing.
#[cfg(target_os = "linux")]
pub(super) fn begin(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    /// Where the flags of TCP are in a segment, and the one of the first segment.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    /// The classic BPF instructions that this takes.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_is_connected_is_let_in_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let before = TcpStream::connect(address).await.unwrap();
        begin(&listener).unwrap();
        let after = timeout(MADE_WITHIN, TcpStream::connect(address)).await;
        assert!(after.is_err(), "{after:?}");
        let (accepted, _) = listener.accept().await.unwrap();
        // What it sends is not taken for a beginning.
        before.try_write(b"a request").unwrap();
        accepted.readable().await.unwrap();
        let mut bytes = [0; 16];
        assert_eq!(accepted.try_read(&mut bytes).unwrap(), 9);
        assert_eq!(accepted.local_addr().unwrap(), address);
    }
}
