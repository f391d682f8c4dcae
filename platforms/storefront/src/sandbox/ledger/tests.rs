use super::*;

fn ledger(options: Options) -> Ledger {
    Ledger::open(options, Env::system()).unwrap()
}

fn request(source: &str, amount: i64) -> ChargeRequest {
    ChargeRequest {
        amount,
        currency: "USD".into(),
        source: source.into(),
        reference: "order".into(),
    }
}

fn charged(ledger: &Ledger, key: &str, source: &str, amount: i64) -> Charge {
    match ledger.charge(key, request(source, amount)).unwrap() {
        Answer::Now(charge) => charge,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_charged_once() {
    let ledger = ledger(Options::default());
    let first = charged(&ledger, "k", "tok_visa", 100);
    assert_eq!(first.status, ChargeStatus::Succeeded);
    assert_eq!(charged(&ledger, "k", "tok_visa", 100), first);
    assert_eq!(ledger.all().len(), 1);
    let other = ledger.charge("k", request("tok_visa", 200)).unwrap_err();
    assert_eq!(other.code(), "idempotency_mismatch");
}

#[test]
fn cards_and_amounts_decide() {
    let ledger = ledger(Options::default());
    for (source, amount, reason) in [
        ("tok_declined", 100, "card_declined"),
        ("tok_insufficient", 100, "insufficient_funds"),
        ("tok_visa", AMOUNT_LIMIT_MINOR, "amount_limit"),
    ] {
        let charge = charged(&ledger, source, source, amount);
        assert_eq!(charge.status, ChargeStatus::Declined);
        assert_eq!(charge.reason.as_deref(), Some(reason));
    }
    assert!(matches!(
        ledger.charge("t", request("tok_timeout", 1)).unwrap(),
        Answer::Never
    ));
    assert_eq!(ledger.get("t"), None);
    assert!(matches!(
        ledger.charge("f", request("tok_flaky", 1)).unwrap(),
        Answer::Fail
    ));
    assert_eq!(
        charged(&ledger, "f", "tok_flaky", 1).status,
        ChargeStatus::Succeeded
    );
}

#[test]
fn a_void_gives_back_or_prevents() {
    let ledger = ledger(Options::default());
    charged(&ledger, "paid", "tok_visa", 100);
    assert_eq!(ledger.void("paid").unwrap().status, ChargeStatus::Refunded);
    assert_eq!(ledger.void("paid").unwrap().status, ChargeStatus::Refunded);

    assert!(matches!(
        ledger.charge("late", request("tok_late", 100)).unwrap(),
        Answer::After(_)
    ));
    assert_eq!(ledger.void("late").unwrap().status, ChargeStatus::Voided);

    assert_eq!(ledger.void("never").unwrap().status, ChargeStatus::Voided);
    assert_eq!(
        charged(&ledger, "never", "tok_visa", 100).status,
        ChargeStatus::Voided
    );
}

#[test]
fn a_ledger_is_found_again_without_its_torn_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let options = Options {
        ledger: Some(path.clone()),
        late: Duration::ZERO,
    };
    let first = ledger(options.clone());
    charged(&first, "a", "tok_visa", 100);
    first.charge("late", request("tok_late", 100)).unwrap();
    first.void("a").unwrap();
    drop(first);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"charge\"")
        .unwrap();

    let again = ledger(options.clone());
    assert_eq!(again.get("a").unwrap().status, ChargeStatus::Refunded);
    assert_eq!(again.get("late").unwrap().status, ChargeStatus::Succeeded);
    charged(&again, "b", "tok_visa", 100);
    drop(again);
    assert_eq!(ledger(options).all().len(), 3);
}
