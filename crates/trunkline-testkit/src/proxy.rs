//! A TCP proxy that cuts connections when it is told to.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use parking_lot::Mutex;

/// Nothing is about to be cut.
const NEVER: i64 = i64::MAX;

/// Stands between a client and a server. It works on threads of its own, so that it outlives a test's runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    open: Mutex<Vec<TcpStream>>,
    /// So many more bytes pass before everything is cut.
    left: AtomicI64,
    stops: AtomicBool,
}

impl Proxy {
    /// A proxy to `target`, which need not listen yet.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            open: Mutex::default(),
            left: AtomicI64::new(NEVER),
            stops: AtomicBool::new(false),
        });
        let accepts = shared.clone();
        thread::spawn(move || accepts.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection when so many more bytes have passed, in whatever direction: in the middle of something.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.left.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.lock().len() / 2
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        self.shared.cut();
        // Wakes the thread that accepts; if nobody listens any more, it has ended.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            if self.stops.load(Ordering::SeqCst) {
                return;
            }
            // A server that is down refuses; so does the proxy, by closing.
            let Ok(server) = TcpStream::connect(self.target) else {
                continue;
            };
            if self.join(client, server).is_err() {
                self.cut();
            }
        }
    }

    fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.open
            .lock()
            .extend([client.try_clone()?, server.try_clone()?]);
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let shared = self.clone();
            thread::spawn(move || shared.copy(from, to));
        }
        Ok(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let count = count.min(bytes.len());
            let length = i64::try_from(count).unwrap_or(NEVER);
            let before = match self.left.load(Ordering::SeqCst) {
                NEVER => NEVER,
                _ => self.left.fetch_sub(length, Ordering::SeqCst),
            };
            let passes = usize::try_from(before.max(0))
                .unwrap_or(usize::MAX)
                .min(count);
            if to
                .write_all(bytes.get(..passes).unwrap_or_default())
                .is_err()
            {
                break;
            }
            if passes < count {
                self.left.store(NEVER, Ordering::SeqCst);
                self.cut();
                break;
            }
        }
        // One end closed: so does the other.
        for stream in [&from, &to] {
            drop(stream.shutdown(Shutdown::Both));
        }
        self.open.lock().retain(|stream| stream.peer_addr().is_ok());
    }

    fn cut(&self) {
        for stream in self.open.lock().drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut back = stream.try_clone().unwrap();
                    io::copy(&mut stream, &mut back).unwrap_or(0)
                });
            }
        });
        address
    }

    fn round(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).map(|()| back)
    }

    #[test]
    fn bytes_pass_until_it_cuts() {
        let proxy = Proxy::to(echo()).unwrap();
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(round(&mut client, b"hello").unwrap(), b"hello");
        assert_eq!(proxy.connections(), 1);
        proxy.cut();
        assert!(round(&mut client, b"hello").is_err());
        // Four bytes there, three of them back: then it is cut in the middle.
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        proxy.cut_after(7);
        client.write_all(b"four").unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap_or(0);
        assert_eq!(back, b"fou");
        let mut client = TcpStream::connect(proxy.address()).unwrap();
        assert_eq!(round(&mut client, b"again").unwrap(), b"again");
    }
}
