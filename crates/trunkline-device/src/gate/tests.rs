use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_core::Event;

use super::*;
use crate::{CommandTopics, DeviceTopic, Pattern};

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "t.sale", version = "1.0", topic = "t", key = machine)]
struct Sale {
    sale: String,
    machine: String,
    cents: u32,
}

#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "t.status", version = "1.0", topic = "t", key = status)]
struct Status {
    status: String,
}

type Told = Arc<Mutex<Vec<Refused>>>;

fn gate() -> (Gate, Told) {
    let told = Told::default();
    let hook = told.clone();
    let sales = DeviceTopic::new("v/{m}/sales")
        .id("/sale")
        .names_device("/machine");
    let declared = Declared {
        reports: vec![
            Report::of::<Sale>(sales).unwrap(),
            Report::of::<Status>("v/{m}/status").unwrap(),
        ],
        presence: Some(Pattern::new("v/{m}/presence").unwrap()),
        commands: Some(CommandTopics::new("v/{m}/commands", "v/{m}/replies").unwrap()),
        as_users: true,
        known: Some(Arc::new(|device| device != "stranger")),
        on_refusal: Some(Arc::new(move |refused| hook.lock().push(refused.clone()))),
    };
    let mut config = DeviceConfig::from_url("mqtt://localhost", "test").unwrap();
    config.burst_max = 100;
    (Gate::new(declared, &config, Env::seeded(1)).unwrap(), told)
}

fn arrival(topic: &str, payload: &str) -> Arrival {
    Arrival {
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        packet: 1,
        ..Arrival::default()
    }
}

fn event(taken: Result<(ByteString, Taken), Refusal>) -> Envelope {
    match taken.unwrap().1 {
        Taken::Event(envelope) => *envelope,
        Taken::Presence { .. } => panic!("a report was expected"),
    }
}

const SALE: &str = r#"{"sale":"s1","machine":"m1","cents":250}"#;

#[tokio::test(start_paused = true)]
async fn a_report_becomes_an_event_of_its_device_with_the_devices_own_id() {
    let (mut gate, _) = gate();
    let first = event(gate.admit(&arrival("v/m1/sales", SALE)));
    assert_eq!(first.id, "m1/t.sale/s1");
    assert_eq!(first.key.as_deref(), Some("m1"));
    assert_eq!(first.user_id.as_deref(), Some("m1"));
    assert_eq!(crate::capture(&first, "m").as_deref(), Some("m1"));
    assert_eq!(event(gate.admit(&arrival("v/m1/sales", SALE))).id, first.id);
    // Another's report can't use up this id.
    let other = SALE.replace("m1", "m2");
    assert_eq!(
        event(gate.admit(&arrival("v/m2/sales", &other))).id,
        "m2/t.sale/s1"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_id_only_what_the_broker_hands_over_again_is_the_same() {
    let (mut gate, _) = gate();
    let status = arrival("v/m1/status", r#"{"status":"idle"}"#);
    let first = event(gate.admit(&status)).id;
    let again = Arrival {
        again: true,
        ..status.clone()
    };
    assert_eq!(event(gate.admit(&again)).id, first);
    assert_ne!(event(gate.admit(&status)).id, first, "said once more");
    let property = Arrival {
        id: Some("x7".to_owned()),
        ..status
    };
    assert_eq!(event(gate.admit(&property)).id, "m1/t.status/x7");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_as_declared_is_refused_and_told() {
    let (mut gate, told) = gate();
    let deep = "[".repeat(100_000);
    let long = SALE.replace("s1", &"s".repeat(129));
    for (topic, payload, reason) in [
        ("v/m1/other", SALE, Refusal::Topic),
        ("$SYS/broker/uptime", SALE, Refusal::Topic),
        ("v/+/sales", SALE, Refusal::Topic),
        ("v/#/sales", SALE, Refusal::Topic),
        ("v/a b/sales", SALE, Refusal::Topic),
        ("v/stranger/sales", SALE, Refusal::Unknown),
        ("v/m1/sales", "", Refusal::Payload),
        ("v/m1/sales", "{", Refusal::Payload),
        ("v/m1/sales", &deep, Refusal::Payload),
        (
            "v/m1/sales",
            r#"{"sale":"s1","machine":"m1","cents":-1}"#,
            Refusal::Payload,
        ),
        (
            "v/m1/sales",
            r#"{"sale":"s1","machine":"m1","cents":99999999999}"#,
            Refusal::Payload,
        ),
        ("v/m1/sales", r#"{"machine":"m1","cents":1}"#, Refusal::Id),
        ("v/m1/sales", &long, Refusal::Id),
        ("v/m2/sales", SALE, Refusal::OtherDevice),
        (
            "v/m1/sales",
            r#"{"sale":"s1","cents":1}"#,
            Refusal::OtherDevice,
        ),
        ("v/m1/presence", "perhaps", Refusal::Payload),
        ("v/m1/replies", "{}", Refusal::Payload),
    ] {
        assert_eq!(
            gate.admit(&arrival(topic, payload)).unwrap_err(),
            reason,
            "{topic} {payload:.50}"
        );
        tokio::time::advance(Duration::from_secs(61)).await;
    }
    let told = told.lock();
    assert_eq!(told.len(), 17);
    assert_eq!(told[5].device.as_deref(), Some("stranger"));
    assert!(
        told.iter()
            .all(|told| told.topic.len() <= 512 && !told.detail.contains("99999"))
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_text_are_refused() {
    let (mut gate, _) = gate();
    let mut bad = arrival("", SALE);
    bad.topic = Bytes::from_static(b"v/\xff\xfe/sales");
    assert_eq!(gate.admit(&bad).unwrap_err(), Refusal::Topic);
    let mut bad = arrival("v/m1/sales", "");
    bad.payload = Bytes::from_static(b"\x00\xff\xfe{\"sale\"");
    assert_eq!(gate.admit(&bad).unwrap_err(), Refusal::Payload);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_and_told_once() {
    let (mut gate, told) = gate();
    let status = arrival("v/m1/status", r#"{"status":"idle"}"#);
    let refused = (0..1_000).filter(|_| gate.admit(&status).is_err()).count();
    assert_eq!(refused, 900);
    assert_eq!(told.lock().len(), 1);
    assert!(
        gate.admit(&arrival("v/m2/status", r#"{"status":"idle"}"#))
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn presence_is_a_word_or_an_object() {
    let (mut gate, _) = gate();
    for (payload, wanted) in [
        ("online", true),
        ("offline", false),
        (r#"{"status":"online"}"#, true),
    ] {
        let taken = gate.admit(&arrival("v/m1/presence", payload)).unwrap();
        assert!(matches!(taken.1, Taken::Presence { online, .. } if online == wanted));
    }
    let reply = event(gate.admit(&arrival("v/m1/replies", r#"{"commandId":"c1"}"#)));
    assert_eq!(reply.id, "m1/trunkline.device.reply/c1");
}

fn topic() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        Just(b"m1".to_vec()),
        Just(b"+".to_vec()),
        Just(b"#".to_vec()),
        vec(any::<u8>(), 0..70),
    ];
    let last = prop_oneof![
        Just("sales"),
        Just("status"),
        Just("presence"),
        Just("replies"),
        Just("commands")
    ];
    let topic = |(name, last): (Vec<u8>, &str)| [b"v/", &*name, b"/", last.as_bytes()].concat();
    prop_oneof![(name, last).prop_map(topic), vec(any::<u8>(), 0..600)]
}

/// Nothing in particular, or a report of which some bytes are others.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<usize>(), any::<u8>()), 0..4);
    let changed = changes.prop_map(|changes| {
        let mut bytes = SALE.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..300), changed]
}

proptest! {
    #[test]
    fn of_any_bytes_only_what_is_declared_passes_and_always_as_its_own_device(
        topic in topic(), payload in payload(), packet in any::<u16>(), retained in any::<bool>(),
        again in any::<bool>(), id in proptest::option::of(".{0,200}"),
        correlation in proptest::option::of(vec(any::<u8>(), 0..100)),
    ) {
        let (mut gate, told) = gate();
        let arrival = Arrival {
            topic: topic.clone().into(), payload: payload.into(), again, retained, packet, id,
            correlation: correlation.map(Bytes::from),
        };
        match gate.admit(&arrival) {
            Ok((device, taken)) => {
                assert!(crate::is_name(&device));
                let level = topic.split(|byte| *byte == b'/').nth(1);
                assert_eq!(level, Some(device.as_bytes().as_ref()));
                if let Taken::Event(envelope) = taken {
                    assert_eq!(envelope.key.as_ref(), Some(&device));
                    assert!(envelope.id.len() <= 64 + ID_BYTES_MAX + 64);
                    if envelope.event_type == "t.sale" {
                        let sale = Event::<Sale>::decode(*envelope).unwrap().data;
                        assert_eq!(sale.machine, *device);
                    }
                }
            }
            Err(_) => assert!(told.lock().len() <= 1),
        }
    }
}
