use super::*;

fn reply(payload: &str, correlation: Option<&'static str>) -> Result<Reply, String> {
    let arrival = Arrival {
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        correlation: correlation.map(|text| Bytes::from_static(text.as_bytes())),
        ..Arrival::default()
    };
    Reply::read("m1".into(), &arrival)
}

#[test]
fn an_answer_names_its_command_in_the_payload_or_by_correlation() {
    let yes = reply(r#"{"commandId":"c1","status":"acknowledged"}"#, None).unwrap();
    assert_eq!(
        (&*yes.command_id, yes.outcome()),
        ("c1", Outcome::Acknowledged)
    );
    assert_eq!(reply("", Some("c2")).unwrap().command_id, "c2");
    assert_eq!(
        reply("{}", Some("c2")).unwrap().outcome(),
        Outcome::Acknowledged
    );
    let no = reply(
        r#"{"commandId":"c1","status":"refused","reason":"jam"}"#,
        Some("c9"),
    )
    .unwrap();
    assert_eq!((&*no.command_id, no.outcome()), ("c1", Outcome::Refused));
    assert_eq!(no.reason.as_deref(), Some("jam"));
}

#[test]
fn what_is_no_answer_is_refused() {
    let long = format!(r#"{{"commandId":"{}"}}"#, "c".repeat(65));
    for text in [
        "",
        "ok",
        "{}",
        "[]",
        r#"{"commandId":"c","status":"maybe"}"#,
        &long,
    ] {
        assert!(reply(text, None).is_err(), "{text}");
    }
    let text = format!(
        r#"{{"commandId":"c","status":"refused","reason":"{}"}}"#,
        "\u{e9}".repeat(999)
    );
    let reason = reply(&text, None).unwrap().reason.unwrap();
    assert!(reason.len() <= 256 && reason.ends_with('\u{e9}'));
}

#[test]
fn a_command_is_sent_with_its_id_and_its_end() {
    let command = DeviceCommand::new("set_price", serde_json::json!({"cents": 250})).unwrap();
    let command = command.expires_in(Duration::MAX);
    assert_eq!(command.expires_in, EXPIRES_MAX);
    assert!(DeviceCommand::new("", 1).is_err());
    assert!(DeviceCommand::new("x", "y".repeat(65_536)).is_err());
    let pending = Pending {
        id: "c1".into(),
        device: "m1".into(),
        name: command.name,
        data: command.data.to_string(),
        expires_at: Timestamp::UNIX_EPOCH,
        attempts: 0,
    };
    let sent = pending.payload().unwrap();
    let wanted = r#"{"commandId":"c1","command":"set_price","expiresAt":"1970-01-01T00:00:00Z","data":{"cents":250}}"#;
    assert_eq!(std::str::from_utf8(&sent).unwrap(), wanted);
}
