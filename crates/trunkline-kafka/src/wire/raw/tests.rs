use rdkafka::Timestamp as Time;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use trunkline_bus::UNREADABLE;

use super::*;

const BINARY: [(&str, &[u8]); 4] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"sold"),
];

fn read(key: Option<&[u8]>, headers: &[(&str, &[u8])]) -> (Envelope, Option<Error>) {
    let owned = OwnedHeaders::new();
    let headers = BINARY.iter().chain(headers).fold(owned, |all, header| {
        all.insert(Header {
            key: header.0,
            value: Some(header.1),
        })
    });
    let record = OwnedMessage::new(
        Some(b"{}".to_vec()),
        key.map(<[u8]>::to_vec),
        "t".to_owned(),
        Time::CreateTime(1_000),
        3,
        7,
        Some(headers),
    );
    let raw = Raw::copy(&record, &Env::system(), &mut Scratch::default());
    let mut arrival = Arrival::new("t", Timestamp::UNIX_EPOCH);
    let first = raw.read(Form::Binary, &mut arrival, (3, 7));
    // It is read again as it was read before.
    let again = raw.read(Form::Binary, &mut arrival, (3, 7));
    assert_eq!(again.0, first.0);
    let told = |(_, error): &(_, Option<Error>)| error.as_ref().map(ToString::to_string);
    assert_eq!(told(&again), told(&first));
    first
}

#[test]
fn an_event_shares_the_records_buffer() {
    let headers: &[(&str, &[u8])] = &[("other", b"\xff"), ("ce_shelf", "süd".as_bytes())];
    let (event, unreadable) = read(Some(b"customer-1"), headers);
    assert!(unreadable.is_none(), "{unreadable:?}");
    assert_eq!((&*event.id, &*event.source), ("1", "/shop"));
    assert_eq!(event.key.as_deref(), Some("customer-1"));
    assert_eq!(
        event.extension("shelf").map(|text| &**text),
        Some("\"süd\"")
    );
    assert_eq!((event.time.as_second(), &event.data[..]), (1, &b"{}"[..]));
    let apart = event.data.as_ptr().addr() - event.id.as_bytes().as_ptr().addr();
    assert!(apart < 64, "they are {apart} bytes apart");
}

#[test]
fn what_is_no_text_of_ours_makes_no_event_unreadable() {
    let headers: &[(&str, &[u8])] = &[("content-type", b"\xff"), ("ce_shelf", b"7")];
    let (event, unreadable) = read(Some(b"caf\xe9"), headers);
    assert!(unreadable.is_none(), "{unreadable:?}");
    assert_eq!((event.key.as_deref(), &*event.id), (None, "1"));
    assert_eq!(event.content_type, "application/json");
    assert_eq!(event.extension("shelf").map(|text| &**text), Some("\"7\""));
}

#[test]
fn what_is_no_attribute_is_found_wherever_it_stands() {
    const TRACE_TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for shelf in ["7", "s\u{fc}d"] {
        let headers: &[(&str, &[u8])] = &[
            ("content-type", b"text/csv"),
            ("ce_shelf", shelf.as_bytes()),
            ("traceparent", TRACE_TEXT.as_bytes()),
            // The last one of a name is the one.
            ("content-type", b"text/plain"),
            ("ce_userid", b"u"),
        ];
        let (event, unreadable) = read(Some(shelf.as_bytes()), headers);
        assert!(unreadable.is_none(), "{unreadable:?}");
        assert_eq!(event.content_type, "text/plain");
        assert_eq!(event.trace.unwrap().to_string(), TRACE_TEXT);
        assert_eq!(event.user_id.as_deref(), Some("u"));
        assert_eq!(event.key.as_deref(), Some(shelf));
        let shelf = format!("\"{shelf}\"");
        assert_eq!(event.extension("shelf").map(|text| &**text), Some(&*shelf));
    }
}

#[test]
fn a_character_cut_in_two_is_no_text_on_either_side() {
    let headers: &[(&str, &[u8])] = &[("ce_a", b"caf\xc3"), ("ce_b", b"\xa9")];
    // The name of the second stands between the two; without one they are a text together.
    for headers in [
        headers,
        &[("ce_subject", b"\xc3"), ("traceparent", b"\xa9")],
    ] {
        let (event, unreadable) = read(None, headers);
        assert_eq!(event.event_type, UNREADABLE);
        let error = unreadable.unwrap().to_string();
        assert!(error.contains("expected: UTF-8"), "{error}");
    }
    let (event, unreadable) = read(Some(b"\xc3"), &[("ce_b", b"\xa9")]);
    assert!(unreadable.is_some());
    assert_eq!((&*event.id, event.key.as_deref()), ("t/3/7", None));
}

#[test]
fn attributes_are_told_by_their_places() {
    for (place, name) in KNOWN.iter().enumerate() {
        assert_eq!(known(name).map(usize::from), Some(place), "{name}");
    }
    assert_eq!(known("subject"), None);
}

#[test]
fn a_large_record_leaves_no_large_scratch() {
    let mut scratch = Scratch::default();
    scratch.put(NAMED_PART, &[b'x'; 2 * SCRATCH_BYTES_MAX]);
    scratch.clear();
    assert!(scratch.texts.capacity() <= SCRATCH_BYTES_MAX);
}
