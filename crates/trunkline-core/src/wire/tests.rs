use proptest::prelude::*;

use super::*;
use crate::testing::{any_envelope, envelope};

fn encode(envelope: &Envelope) -> Bytes {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes);
    assert!(bytes.len() <= envelope.encoded_bytes_max());
    bytes.into()
}

#[test]
fn the_form_never_changes_between_releases() {
    let bytes = encode(&envelope());
    let mut expected: Vec<u8> = vec![1, 0b0111_1111, 0x10, 1, 0, 0, 0];
    expected.extend(1_767_225_600_i64.to_le_bytes());
    expected.extend(250_000_000_i32.to_le_bytes());
    expected.extend(0xabc_u128.to_le_bytes());
    expected.extend(0xdef_u64.to_le_bytes());
    expected.extend(b"\x24019b76da-a800-7000-8000-000000000001\x0dorder.created");
    expected.extend(b"\x0dorder-service\x0corder-events\x06flow-1");
    expected.extend(b"\x07order-1\x07event-0\x03ada\x01\x06region\x04\"eu\"");
    expected.extend(br#"{"order_id":"order-1","total":59.98}"#);
    assert_eq!(bytes, expected);
}

#[test]
fn texts_and_data_share_the_bytes() {
    let bytes = encode(&envelope());
    let range = bytes.as_ptr_range();
    let read = Envelope::decode(bytes).unwrap();
    for part in [read.id.as_bytes(), read.topic.as_bytes(), &read.data] {
        assert!(range.contains(&part.as_ptr()));
    }
}

#[test]
fn every_shorter_text_is_refused_or_shorter_in_its_data() {
    let original = envelope();
    let bytes = encode(&original);
    for end in 0..bytes.len() {
        match Envelope::decode(bytes.slice(..end)) {
            Ok(read) => {
                assert!(end >= bytes.len() - original.data.len());
                assert!(original.data.starts_with(&read.data));
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        }
    }
}

#[test]
fn a_length_beyond_the_end_is_refused_without_asking_for_memory() {
    let mut bytes = encode(&Envelope {
        extensions: Vec::new(),
        ..envelope()
    })
    .to_vec();
    bytes[1] |= HAS_EXTENSIONS;
    let data = bytes.len() - envelope().data.len();
    bytes.truncate(data);
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let error = Envelope::decode(bytes.into()).unwrap_err();
    assert_eq!(error.context().next(), Some(("field", "extensions")));
}

#[test]
fn an_unknown_form_is_refused() {
    let mut bytes = encode(&envelope()).to_vec();
    bytes[0] = 2;
    assert_eq!(
        Envelope::decode(bytes.into()).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(envelope in any_envelope()) {
        prop_assert_eq!(Envelope::decode(encode(&envelope)).unwrap(), envelope);
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(read) = Envelope::decode(Bytes::from(bytes.clone())) {
            // Whatever is read has one form only.
            prop_assert_eq!(encode(&read), bytes);
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        envelope in any_envelope(), at in any::<prop::sample::Index>(), to in any::<u8>()
    ) {
        let mut bytes = encode(&envelope).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(read) = Envelope::decode(Bytes::from(bytes.clone())) {
            // A nanosecond field of another sign than the seconds is normalised.
            if !(7..19).contains(&at) {
                prop_assert_eq!(encode(&read).len(), bytes.len());
            }
        }
    }
}
