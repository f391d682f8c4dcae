use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::problem;

fn there_and_back(error: &Error) -> Error {
    // As the wire has it: in trailers.
    let mut headers = http::HeaderMap::new();
    encode(error).add_header(&mut headers).unwrap();
    super::error(Status::from_header_map(&headers).unwrap())
}

#[test]
fn kinds_codes_retries_and_pauses_survive() {
    for (kind, ..) in KINDS {
        for retry in [Retry::Permanent, Retry::Transient, Retry::Unknown] {
            let sent = Error::new(kind, "order_closed", "the order is closed")
                .with("order", 7)
                .with_retry(retry)
                .with_retry_after(Duration::from_millis(1_500));
            let got = there_and_back(&sent);
            assert_eq!(
                (got.kind(), got.code(), got.retry()),
                (kind, "order_closed", retry)
            );
            assert_eq!(got.retry_after(), sent.retry_after());
            let said = if is_hidden(kind) {
                HIDDEN
            } else {
                "the order is closed (order: 7)"
            };
            assert_eq!(got.message(), said);
            // And on to REST: the same status as if it had never been a status of gRPC.
            assert_eq!(problem::status(&got), problem::status(&sent));
        }
    }
}

#[test]
fn a_failure_tells_nothing_and_a_wrong_field_is_named() {
    let failed = encode(&Error::internal("the disk is gone").with("disk", "/dev/sda"));
    assert_eq!(failed.code(), Code::Internal);
    assert!(!format!("{failed:?}").contains("disk"), "{failed:?}");
    assert!(
        failed
            .get_error_details()
            .error_info()
            .unwrap()
            .metadata
            .len()
            == 2
    );

    let wrong =
        encode(&Error::invalid("quantity_invalid", "expected 1 or more").with("field", "quantity"));
    let details = wrong.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "quantity");
    assert_eq!(violations[0].description, "expected 1 or more");
    assert_eq!(details.error_info().unwrap().reason, "QUANTITY_INVALID");
}

#[test]
fn what_others_say_is_understood_by_its_code() {
    let cases = [
        (
            Status::not_found("x"),
            ErrorKind::NotFound,
            "not_found",
            Retry::Permanent,
        ),
        (
            Status::already_exists("x"),
            ErrorKind::Conflict,
            "already_exists",
            Retry::Permanent,
        ),
        (
            Status::aborted("x"),
            ErrorKind::Conflict,
            "aborted",
            Retry::Permanent,
        ),
        (
            Status::out_of_range("x"),
            ErrorKind::InvalidInput,
            "out_of_range",
            Retry::Permanent,
        ),
        (
            Status::resource_exhausted("x"),
            ErrorKind::Overloaded,
            "overloaded",
            Retry::Transient,
        ),
        (
            Status::unavailable("x"),
            ErrorKind::Unavailable,
            "unavailable",
            Retry::Unknown,
        ),
        (
            Status::cancelled("x"),
            ErrorKind::Unavailable,
            "cancelled",
            Retry::Unknown,
        ),
        (
            Status::unknown("x"),
            ErrorKind::Internal,
            "unknown",
            Retry::Unknown,
        ),
    ];
    for (status, kind, code, retry) in cases {
        let got = super::error(status);
        assert_eq!((got.kind(), got.code(), got.retry()), (kind, code, retry));
    }
    // A kind that the code can't carry is not believed.
    let facts = HashMap::from([(KIND.to_owned(), "unavailable".to_owned())]);
    let details = ErrorDetails::with_error_info("X", DOMAIN, facts);
    let lie = Status::with_error_details(Code::NotFound, "x", details);
    assert_eq!(super::error(lie).kind(), ErrorKind::NotFound);
}

proptest! {
    #[test]
    fn whatever_a_peer_sends_is_an_error(code in 0..40_i32, message in ".{0,64}", details: Vec<u8>) {
        let status = Status::with_details(Code::from_i32(code), message, details.into());
        let error = super::error(status);
        prop_assert!(!error.code().is_empty());
    }

    #[test]
    fn whatever_we_say_fits_into_headers(message in ".{0,3000}", fact in ".{0,3000}") {
        let error = (0..40).fold(Error::invalid("x", message), |error, _| error.with("fact", &fact));
        let mut headers = http::HeaderMap::new();
        encode(&error).add_header(&mut headers).unwrap();
        let bytes: usize = headers.values().map(http::HeaderValue::len).sum();
        prop_assert!(bytes < 12 * 1024, "{bytes}");
    }
}
