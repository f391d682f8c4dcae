//! Against a small name server on a port of its own, over UDP and, for what is too long for that, TCP.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, Record};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const COMES: Duration = Duration::from_secs(20);

#[derive(Clone)]
enum Says {
    Records(Vec<Record>),
    NoSuchName,
    Nothing,
    Garbage,
    TooLongForUdp(Vec<Record>),
}

type Zone = HashMap<(String, RecordType), Says>;

struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

fn answer(zone: &Mutex<Zone>, request: &[u8], is_udp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(request).ok()?;
    let query = request.queries.first()?.clone();
    let key = (query.name().to_ascii().to_lowercase(), query.query_type());
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    let says = zone.lock().get(&key).cloned();
    let name_is_there = zone.lock().keys().any(|(name, _)| *name == key.0);
    response.add_query(query);
    match says {
        Some(Says::Nothing) => return None,
        Some(Says::Garbage) => {
            let mut bytes = request.metadata.id.to_be_bytes().to_vec();
            bytes.extend([0xff; 40]);
            return Some(bytes);
        }
        Some(Says::TooLongForUdp(_)) if is_udp => response.metadata.truncation = true,
        Some(Says::Records(records) | Says::TooLongForUdp(records)) => {
            response.add_answers(records);
        }
        None if name_is_there => {}
        Some(Says::NoSuchName) | None => response.metadata.response_code = ResponseCode::NXDomain,
    }
    response.to_vec().ok()
}

impl Server {
    async fn start() -> Self {
        // The same port for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let (zone, asked) = (Arc::<Mutex<Zone>>::default(), Arc::<AtomicU32>::default());
        let mut tasks = JoinSet::new();
        let (udp_zone, count) = (zone.clone(), asked.clone());
        tasks.spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(bytes) = answer(&udp_zone, &buffer[..length], true) {
                    udp.send_to(&bytes, from).await.unwrap();
                }
            }
        });
        let tcp_zone = zone.clone();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                while let Ok(length) = stream.read_u16().await {
                    let mut request = vec![0; length.into()];
                    stream.read_exact(&mut request).await.unwrap();
                    if let Some(bytes) = answer(&tcp_zone, &request, false) {
                        let length = u16::try_from(bytes.len()).unwrap();
                        stream.write_u16(length).await.unwrap();
                        stream.write_all(&bytes).await.unwrap();
                    }
                }
            }
        });
        Self {
            address,
            zone,
            asked,
            _tasks: tasks,
        }
    }

    fn says(&self, name: &str, kind: RecordType, says: Says) {
        self.zone.lock().insert((name.to_owned(), kind), says);
    }

    fn watch(&self, url: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let join = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{join}server={}&ttl_min_ms=50", self.address);
        Dns::from_url(&url).unwrap().watch("any")
    }
}

fn a(name: &str, ttl: u32, addresses: &[[u8; 4]]) -> Vec<Record> {
    let record = |address: &[u8; 4]| {
        let data = RData::A(Ipv4Addr::from(*address).into());
        Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
    };
    addresses.iter().map(record).collect()
}

fn srv(name: &str, priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let data = SRV::new(priority, weight, port, Name::from_ascii(target).unwrap());
    Record::from_rdata(Name::from_ascii(name).unwrap(), 0, RData::SRV(data))
}

async fn next(watch: &mut BoxStream<'static, Result<Vec<Instance>>>) -> Result<Vec<String>> {
    let item = timeout(COMES, watch.next()).await.expect("it comes");
    let list = item.expect("the watch is open")?;
    let mut said: Vec<_> = list.iter().map(|one| format!("{one:?}")).collect();
    said.sort();
    Ok(said)
}

#[tokio::test]
async fn addresses_come_and_come_again_when_their_time_is_up() {
    let server = Server::start().await;
    let name = "inventory.shop.svc.";
    server.says(
        name,
        RecordType::A,
        Says::Records(a(name, 0, &[[10, 0, 0, 1], [10, 0, 0, 2]])),
    );
    let six = Record::from_rdata(
        Name::from_ascii(name).unwrap(),
        0,
        RData::AAAA("fd00::7".parse::<std::net::Ipv6Addr>().unwrap().into()),
    );
    server.says(name, RecordType::AAAA, Says::Records(vec![six]));
    let mut watch = server.watch("dns://inventory.shop.svc.:7001");
    assert_eq!(
        next(&mut watch).await.unwrap(),
        [
            "http://10.0.0.1:7001",
            "http://10.0.0.2:7001",
            "http://[fd00::7]:7001"
        ]
    );
    server.says(
        name,
        RecordType::A,
        Says::Records(a(name, 0, &[[10, 0, 0, 3]])),
    );
    server.says(name, RecordType::AAAA, Says::Records(Vec::new()));
    assert_eq!(next(&mut watch).await.unwrap(), ["http://10.0.0.3:7001"]);
}

#[tokio::test]
async fn a_time_to_live_is_kept_between_its_bounds() {
    let server = Server::start().await;
    let name = "a.svc.";
    server.says(
        name,
        RecordType::A,
        Says::Records(a(name, 3_600, &[[10, 0, 0, 1]])),
    );
    let mut watch = server.watch("dns://a.svc.:1");
    assert_eq!(next(&mut watch).await.unwrap().len(), 1);
    let asked = server.asked.load(Ordering::Relaxed);
    let again = timeout(Duration::from_millis(300), watch.next()).await;
    assert!(again.is_err(), "an hour is not over yet");
    assert_eq!(server.asked.load(Ordering::Relaxed), asked);
    // Unless it is too long to be believed; then it is asked for, and not remembered.
    let mut watch = server.watch("dns://a.svc.:1?ttl_max_ms=60");
    assert_eq!(next(&mut watch).await.unwrap(), ["http://10.0.0.1:1"]);
    server.says(
        name,
        RecordType::A,
        Says::Records(a(name, 3_600, &[[10, 0, 0, 2]])),
    );
    assert_eq!(next(&mut watch).await.unwrap(), ["http://10.0.0.2:1"]);
}

#[tokio::test]
async fn places_have_ports_weights_and_a_priority() {
    let server = Server::start().await;
    let name = "_http._tcp.inventory.svc.";
    let records = vec![
        srv(name, 1, 3, 7001, "one.svc."),
        srv(name, 1, 0, 7002, "two.svc."),
        srv(name, 1, 1, 7003, "nowhere.svc."),
        srv(name, 2, 1, 7004, "two.svc."),
    ];
    server.says(name, RecordType::SRV, Says::Records(records));
    server.says(
        "one.svc.",
        RecordType::A,
        Says::Records(a("one.svc.", 0, &[[10, 0, 0, 1]])),
    );
    server.says(
        "two.svc.",
        RecordType::A,
        Says::Records(a("two.svc.", 0, &[[10, 0, 0, 2]])),
    );
    let mut watch = server.watch("srv://_http._tcp.inventory.svc.");
    assert_eq!(
        next(&mut watch).await.unwrap(),
        ["http://10.0.0.1:7001 (weight 3)", "http://10.0.0.2:7002"]
    );
    // A service that says that it is not offered.
    server.says(
        name,
        RecordType::SRV,
        Says::Records(vec![srv(name, 0, 0, 0, ".")]),
    );
    assert_eq!(next(&mut watch).await.unwrap_err().code(), "name_unknown");
}

#[tokio::test]
async fn what_is_too_long_comes_over_tcp() {
    let server = Server::start().await;
    let name = "many.svc.";
    let many: Vec<_> = (0..=255).map(|last| [10, 0, 1, last]).collect();
    server.says(name, RecordType::A, Says::TooLongForUdp(a(name, 0, &many)));
    let mut watch = server.watch("dns://many.svc.:1");
    assert_eq!(next(&mut watch).await.unwrap().len(), 256);
}

#[tokio::test]
async fn a_name_that_is_gone_garbage_and_silence_are_errors() {
    let server = Server::start().await;
    for (says, code) in [
        (Says::NoSuchName, "name_unknown"),
        (Says::Records(Vec::new()), "name_unknown"),
        (Says::Garbage, "name_server_unreachable"),
        (Says::Nothing, "name_server_unreachable"),
    ] {
        server.says("a.svc.", RecordType::A, says.clone());
        server.says("a.svc.", RecordType::AAAA, says);
        let mut watch = server.watch("dns://a.svc.:1");
        let error = next(&mut watch).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(
            timeout(COMES, watch.next()).await.unwrap().is_none(),
            "it has ended"
        );
    }
}

#[test]
fn a_wrong_url_names_the_mistake() {
    for (url, said) in [
        ("dns://inventory", "with a port"),
        ("dns://inventory:0", "with a port"),
        ("dns://:1", "dns://name:port"),
        ("dns://a b:1", "dns://name:port"),
        ("dns://a:1/path", "dns://name:port"),
        ("dns://a:1?server=here", "10.96.0.10:53"),
        ("dns://a:1?ttl_min_ms=0", "milliseconds"),
        ("dns://a:1?colour=red", "ttl_max_ms"),
        ("ftp://a:1", "srv://"),
        ("a", "srv://"),
    ] {
        let error = Dns::from_url(url).unwrap_err().to_string();
        assert!(error.contains(said), "{url}: {error}");
    }
}
