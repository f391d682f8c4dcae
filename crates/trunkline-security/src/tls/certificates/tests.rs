use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use trunkline_core::Clock;

use super::*;
use crate::audit::kept_waiting;
use crate::{Authority, RotateStep};

const DOMAIN: &str = "shop.test";
const HOUR: Duration = Duration::from_secs(3600);

struct Place {
    folder: TempDir,
    authority: Authority,
    env: Env,
    clock: Clock,
}

fn place() -> Place {
    place_of(1)
}

fn place_of(seed: u64) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(seed);
    let authority = Authority::init(folder.path().join("ca"), DOMAIN, env.clone()).unwrap();
    Place {
        authority: authority.settle(Duration::ZERO),
        folder,
        env,
        clock,
    }
}

impl Place {
    fn config(&self, service: &str) -> CertificatesConfig {
        CertificatesConfig::in_folder(self.folder.path().join("ca").join(service), DOMAIN)
    }

    fn issue(&self, service: &str) -> Certificates {
        self.authority.issue(service, &[], HOUR).unwrap();
        self.load(service)
    }

    fn load(&self, service: &str) -> Certificates {
        Certificates::load(self.config(service), None, self.env.clone()).unwrap()
    }
}

/// A handshake over loopback and a byte each way. Gives whom the server saw.
async fn talk(
    server: &Certificates,
    client: &Certificates,
    target: &str,
) -> Result<String, String> {
    let acceptor = TlsAcceptor::from(server.server_config(&[b"h2"]).unwrap());
    let connector = TlsConnector::from(client.client_config(target, &[b"h2"]).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.map_err(|e| e.to_string())?;
        let mut stream = acceptor.accept(socket).await.map_err(|e| e.to_string())?;
        let byte = stream.read_u8().await.map_err(|e| e.to_string())?;
        stream.write_u8(byte).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        let peer = Identity::of_peer(stream.get_ref().1.peer_certificates());
        Ok::<_, String>(peer.unwrap().service().to_string())
    };
    let connect = async {
        let socket = TcpStream::connect(address)
            .await
            .map_err(|e| e.to_string())?;
        // Found by an address; known by its name.
        let name = ServerName::from(address.ip());
        let mut stream = connector
            .connect(name, socket)
            .await
            .map_err(|e| e.to_string())?;
        stream.write_u8(7).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        stream.read_u8().await.map_err(|e| e.to_string())
    };
    let (seen, heard) = tokio::join!(accept, connect);
    heard.and(seen)
}

#[tokio::test]
async fn services_know_each_other_by_name() {
    let place = place();
    let (orders, stock) = (
        place.issue("order-service"),
        place.issue("inventory-service"),
    );
    let seen = talk(&stock, &orders, "inventory-service").await.unwrap();
    assert_eq!(seen, "order-service");
    assert_eq!(
        stock.identity().to_string(),
        "spiffe://shop.test/inventory-service"
    );
    let wrong = talk(&stock, &orders, "payment-service").await.unwrap_err();
    assert!(
        wrong.contains("spiffe://shop.test/payment-service"),
        "{wrong}"
    );
    stock.check().unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_at_both_ends_and_noted() {
    let (ours, theirs) = (place_of(1), place_of(2));
    let audit = kept_waiting(ours.env.clone());
    ours.authority
        .issue("inventory-service", &[], HOUR)
        .unwrap();
    let config = ours.config("inventory-service");
    let stock = Certificates::load(config, Some(audit.clone()), ours.env.clone()).unwrap();
    let stranger = theirs.issue("order-service");
    assert!(talk(&stock, &stranger, "inventory-service").await.is_err());
    // It trusts ours, and is still not trusted by ours.
    let ca = ours.folder.path().join("ca/inventory-service/ca.pem");
    let theirs_ca = theirs.folder.path().join("ca/order-service/ca.pem");
    let both = [
        fs::read_to_string(&ca).unwrap(),
        fs::read_to_string(&theirs_ca).unwrap(),
    ];
    fs::write(&theirs_ca, both.concat()).unwrap();
    assert_eq!(stranger.reload().unwrap(), Reloaded::Swapped);
    assert!(talk(&stock, &stranger, "inventory-service").await.is_err());
    let noted = audit.take_waiting();
    assert_eq!(noted.len(), 1);
    assert_eq!(
        (&*noted[0].actor, &*noted[0].action),
        ("unknown", "tls.accept")
    );
    let reason = noted[0].reason.as_deref().unwrap();
    assert!(
        reason.contains("claims_to_be: spiffe://shop.test/order-service"),
        "{reason}"
    );
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_a_new_one_taken() {
    let place = place();
    let (orders, stock) = (
        place.issue("order-service"),
        place.issue("inventory-service"),
    );
    place.clock.advance(HOUR + Duration::from_secs(1));
    assert!(talk(&stock, &orders, "inventory-service").await.is_err());
    assert_eq!(orders.check().unwrap_err().code(), "certificate_expired");
    let load = Certificates::load(place.config("order-service"), None, place.env.clone());
    assert_eq!(load.unwrap_err().code(), "certificate_invalid");
    place.authority.renew().unwrap();
    assert_eq!(stock.reload().unwrap(), Reloaded::Swapped);
    assert!(talk(&stock, &orders, "inventory-service").await.is_err());
    assert_eq!(orders.reload().unwrap(), Reloaded::Swapped);
    assert_eq!(orders.reload().unwrap(), Reloaded::Unchanged);
    talk(&stock, &orders, "inventory-service").await.unwrap();
}

#[tokio::test]
async fn broken_files_change_nothing() {
    let place = place();
    let (orders, stock) = (
        place.issue("order-service"),
        place.issue("inventory-service"),
    );
    let folder = place.folder.path().join("ca/inventory-service");
    let good = fs::read(folder.join("cert.pem")).unwrap();
    let others = fs::read(place.folder.path().join("ca/order-service/cert.pem")).unwrap();
    for broken in [&b""[..], b"nonsense", &good[..good.len() / 2], &others] {
        fs::write(folder.join("cert.pem"), broken).unwrap();
        let error = stock.reload().unwrap_err();
        assert_eq!(error.code(), "certificate_invalid");
        assert_eq!(
            stock.reload().unwrap(),
            Reloaded::Unchanged,
            "it is told once"
        );
        assert_eq!(stock.check().unwrap_err().code(), "certificate_broken");
        talk(&stock, &orders, "inventory-service").await.unwrap();
    }
    fs::remove_file(folder.join("cert.pem")).unwrap();
    assert_eq!(stock.reload().unwrap_err().code(), "certificate_unreadable");
    fs::write(folder.join("cert.pem"), &good).unwrap();
    stock.reload().unwrap();
    stock.check().unwrap();
    let key = folder.join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(stock.reload().unwrap_err().code(), "private_key_exposed");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(folder.join("ca.pem"), vec![b'x'; 300 * 1024]).unwrap();
    assert!(stock.reload().unwrap_err().to_string().contains("256 KiB"));
    let printed = format!("{stock:?}");
    assert!(
        !printed.contains("PRIVATE") && printed.len() < 200,
        "{printed}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_and_roots_change_under_live_connections_without_a_failed_handshake() {
    let mut place = place();
    let (orders, stock) = (
        place.issue("order-service"),
        place.issue("inventory-service"),
    );
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let (orders, stock) = (orders.clone(), stock.clone());
        let (stop, done) = (stop.clone(), done.clone());
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                talk(&stock, &orders, "inventory-service").await.unwrap();
                talk(&orders, &stock, "order-service").await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Each time the two notice at different moments, and each moment sees handshakes.
    let both = [[&orders, &stock], [&stock, &orders]];
    for turn in 0..4 {
        let change: &mut dyn FnMut() = match turn {
            0 => &mut || drop(place.authority.renew().unwrap()),
            1 => &mut || place.authority.rotate(RotateStep::Begin).unwrap(),
            2 => &mut || place.authority.rotate(RotateStep::Switch).unwrap(),
            _ => &mut || place.authority.rotate(RotateStep::Finish).unwrap(),
        };
        change();
        for certificates in both[turn % 2] {
            let before = done.load(Ordering::Relaxed);
            assert_eq!(certificates.reload().unwrap(), Reloaded::Swapped);
            while done.load(Ordering::Relaxed) < before + 3 {
                assert!(
                    callers.try_join_next().is_none(),
                    "a caller failed in turn {turn}"
                );
                tokio::task::yield_now().await;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let overview = place.authority.overview().unwrap();
    assert!(
        overview
            .issued
            .iter()
            .all(|leaf| leaf.by_current_root && leaf.trusts == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_watcher_takes_what_is_new() {
    let place = place();
    let stock = place.issue("inventory-service");
    let before = stock.expires_at();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    let watched = stock.clone();
    tasks.spawn(async move { watched.watch(async move { drop(stopped.await) }).await });
    place
        .authority
        .issue("inventory-service", &[], 2 * HOUR)
        .unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(stock.expires_at() > before);
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
}
