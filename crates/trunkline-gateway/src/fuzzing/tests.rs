//! The same without a fuzzer: what the files of the tests become when bytes of them change.

use super::*;

const FILES: [&str; 2] = [
    include_str!("../file/tests/seed.yml"),
    include_str!("../file/tests/flat.yml"),
];
const ROUTES: &str = "shop.example.com /orders/1/items -\n- /orders g\n*.example.com /orders p\nshop.* ~/orders/\\d+ g\nshop.example.com:80 /o gp\n- ~/a|/orders/1/.*$ -\n";

/// Each begins with how long its pieces are.
const REQUESTS: [&[u8]; 5] = [
    b"\x01GET /a?b=c HTTP/1.1\r\nhost: h\r\nx-odd: \xe4\r\n\r\nHEAD * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\xffGET /1 HTTP/1.1\r\nhost: h\r\nconnection: a, Close\r\n\r\nGET /2 HTTP/1.1\r\nhost: h\r\n\r\n",
    b"\x05\r\n\nGET http://h/ HTTP/1.1\nhost: h\n\nPOST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab",
    b"\x0bGET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nconnection: keep-alive\r\n\r\nGET /chat HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n\r\n",
    b"\x07GET /1 HTTP/1.1\r\nhost: h\r\nconnection: \xff, close\r\n\r\nGET /2 HTTP/1.1\r\nhost: h\r\n\r\n",
];

/// Copies, cuts and changes of a text.
fn changed(text: &[u8], env: &Env) -> Vec<u8> {
    let mut bytes = text.to_vec();
    let pick = |below: usize| usize::try_from(env.random_u64()).unwrap_or(0) % below.max(1);
    for _ in 0..=pick(4) {
        let (from, to) = (pick(bytes.len()), pick(bytes.len()));
        let length = pick(40).min(bytes.len().saturating_sub(from));
        match pick(5) {
            0 => bytes.drain(from..from + length).for_each(drop),
            1 => {
                let piece = bytes.get(from..from + length).unwrap_or_default().to_vec();
                bytes.splice(to..to, piece).for_each(drop);
            }
            2 => {
                let odd = b"\n:-~*[]{}\"'#&!|>%\0\xff /.e9";
                if let (Some(byte), Some(new)) = (bytes.get_mut(from), odd.get(pick(odd.len()))) {
                    *byte = *new;
                }
            }
            3 => bytes.truncate(from.max(1)),
            _ => bytes.extend_from_within(from..from + length),
        }
    }
    bytes
}

#[test]
fn files_of_any_bytes_are_read_or_told_about() {
    for (seed, file) in (0..1_500).zip(FILES.iter().cycle()) {
        config(&changed(file.as_bytes(), &Env::seeded(seed)));
    }
    FILES.iter().for_each(|file| config(file.as_bytes()));
}

#[test]
fn routes_of_any_bytes_are_found_as_if_tried_one_by_one() {
    for seed in 0..3_000 {
        router(&changed(ROUTES.as_bytes(), &Env::seeded(seed)));
    }
    router(ROUTES.as_bytes());
}

#[test]
fn requests_of_any_bytes_are_read_as_hyper_reads_them() {
    for (seed, requests) in (0..8_000).zip(REQUESTS.iter().cycle()) {
        front(&changed(requests, &Env::seeded(seed)));
    }
    for requests in REQUESTS {
        for length in 1..requests.len() {
            let mut pieces = requests.to_vec();
            pieces[0] = u8::try_from(length % 256).unwrap();
            front(&pieces);
            front(&pieces[..length]);
        }
    }
}
