//! The catalogue as it is delivered: one product a line.

use serde::Deserialize;
use trunkline::{Error, ErrorKind, Result};

use crate::Money;

const FILE: &str = include_str!("../data/catalogue.jsonl");

/// A product of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// Its id, a UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The department it stands in.
    pub category: String,
    /// Who makes it.
    pub brand: String,
    /// A sentence about it.
    pub description: String,
    /// The price of one.
    pub price: Money,
    /// ISO 4217.
    pub currency: String,
    /// How many there are at first.
    pub stock: u32,
    /// The forms it comes in.
    pub variants: Vec<Variant>,
}

/// A form of a product.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its id, a UUID.
    pub id: String,
    /// What it is, such as `colour: moss`.
    pub name: String,
    /// The price of one.
    pub price: Money,
}

/// Every product of the file that the binary carries.
///
/// # Errors
/// `Corrupt`, naming the line.
pub fn products() -> Result<Vec<Product>> {
    FILE.lines()
        .enumerate()
        .map(|(index, line)| read(index, line))
        .collect()
}

fn read(index: usize, line: &str) -> Result<Product> {
    serde_json::from_str(line).map_err(|error| {
        Error::new(
            ErrorKind::Corrupt,
            "catalogue_corrupt",
            "the catalogue can't be read",
        )
        .with("line", index + 1)
        .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_is_whole() {
        let products = products().unwrap();
        assert!(products.len() >= 1_000);
        let ids: BTreeSet<_> = products.iter().map(|product| &product.id).collect();
        assert_eq!(ids.len(), products.len());
        for product in &products {
            assert!(uuid::Uuid::parse_str(&product.id).is_ok(), "{product:?}");
            assert!(
                product.price > Money::ZERO && product.currency == "USD",
                "{product:?}"
            );
            assert!(!product.variants.is_empty(), "{product:?}");
        }
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = read(6, "{\"id\": 1}").unwrap_err();
        assert!(error.to_string().contains("line: 7"), "{error}");
    }
}
