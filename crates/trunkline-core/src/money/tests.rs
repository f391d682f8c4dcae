use super::*;

fn read(json: &str) -> Result<Money, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn json_has_two_decimals_and_comes_back() {
    for (minor, text) in [(0, "0.00"), (5, "0.05"), (2_999, "29.99"), (6_000, "60.00")] {
        let money = Money::from_minor(minor).unwrap();
        assert_eq!(serde_json::to_string(&money).unwrap(), text);
        assert_eq!(read(text).unwrap(), money);
    }
    assert_eq!(read("60").unwrap().minor(), 6_000);
    assert_eq!(read("0.1").unwrap().minor(), 10);
    assert_eq!(read("2.999e1").unwrap().minor(), 2_999);
}

#[test]
fn every_cent_up_to_the_largest_amount_survives_json() {
    for minor in [
        Money::MAX.minor(),
        Money::MAX.minor() - 1,
        50_000_000_000_001,
        1 << 40,
    ] {
        let money = Money::from_minor(minor).unwrap();
        let text = serde_json::to_string(&money).unwrap();
        assert_eq!(read(&text).unwrap(), money, "{text}");
    }
}

#[test]
fn wrong_amounts_are_refused() {
    for text in [
        "-1",
        "-0.01",
        "1.999",
        "1e300",
        "1000000000000",
        "\"1.00\"",
        "null",
        "true",
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains("amount of money"), "{text}: {error}");
    }
}

#[test]
fn sums_and_products_do_not_overflow_in_silence() {
    let price = Money::from_minor(2_999).unwrap();
    assert_eq!(price.times(2).unwrap().minor(), 5_998);
    assert_eq!(
        Money::MAX.times(2).unwrap_err().code(),
        "amount_out_of_range"
    );
    assert_eq!(
        Money::MAX.plus(price).unwrap_err().code(),
        "amount_out_of_range"
    );
    assert_eq!(
        Money::sum([price.times(2), price.times(1)])
            .unwrap()
            .minor(),
        8_997
    );
    assert!(Money::sum([Ok(price), Money::MAX.times(u32::MAX)]).is_err());
}
