use super::*;

#[test]
fn an_error_prints_its_facts_and_not_its_source() {
    let source = Error::internal("the disk is gone");
    let error = Error::unavailable("log_closed", "the log is closed")
        .with("topic", "orders")
        .with("partition", 3)
        .with_source(source);
    assert_eq!(
        error.to_string(),
        "the log is closed (topic: orders, partition: 3)"
    );
    assert_eq!(
        report(&error).to_string(),
        "the log is closed (topic: orders, partition: 3): the disk is gone"
    );
    assert_eq!(Error::internal("alone").to_string(), "alone");
}

#[test]
fn the_kind_says_whether_to_retry_until_told_otherwise() {
    let retry = |kind| Error::new(kind, "code", "message").retry();
    assert_eq!(retry(ErrorKind::Unavailable), Retry::Transient);
    assert_eq!(retry(ErrorKind::Overloaded), Retry::Transient);
    assert_eq!(retry(ErrorKind::DeadlineExceeded), Retry::Unknown);
    assert_eq!(retry(ErrorKind::Internal), Retry::Unknown);
    assert_eq!(retry(ErrorKind::InvalidInput), Retry::Permanent);
    assert_eq!(retry(ErrorKind::Corrupt), Retry::Permanent);
    let told = Error::unavailable("gone", "gone").with_retry(Retry::Permanent);
    assert_eq!(told.retry(), Retry::Permanent);
}
