//! An inverted index with ranking.
//!
//! Every word of a query must be found, as a whole word or as the beginning of one; if no product has
//! them all, those with some are found. A rare word counts more than a common one (BM25's inverse
//! document frequency), a word of the name more than one of the description, a whole word more than a
//! beginning, and a product in stock a little more than one that is not.

use std::collections::{BTreeMap, HashMap};

use crate::Money;

/// Words of a query that count.
const WORDS_MAX: usize = 10;
/// What the beginning of a word counts against a whole word.
const PREFIX_WEIGHT: f64 = 0.6;
/// What a product that can't be ordered counts against one that can.
const OUT_OF_STOCK_WEIGHT: f64 = 0.8;

/// A product as it is searched.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) product_id: String,
    pub(super) name: String,
    pub(super) brand: String,
    pub(super) category: String,
    pub(super) description: String,
    pub(super) price: Money,
    pub(super) currency: String,
    pub(super) in_stock: bool,
}

/// The index. Documents are numbered as they come.
#[derive(Debug, Default)]
pub(super) struct Index {
    documents: Vec<Document>,
    numbers: HashMap<String, u32>,
    /// For each word, the documents that have it, and how much it counts there.
    postings: BTreeMap<String, Vec<(u32, f64)>>,
}

impl Index {
    /// Takes a document in, over the one of the same product.
    pub(super) fn put(&mut self, document: Document) {
        let number = match self.numbers.get(&document.product_id) {
            Some(&number) => {
                self.forget(number);
                number
            }
            None => u32::try_from(self.documents.len()).unwrap_or(u32::MAX),
        };
        for (word, weight) in weights(&document) {
            self.postings
                .entry(word)
                .or_default()
                .push((number, weight));
        }
        self.numbers.insert(document.product_id.clone(), number);
        match self.documents.get_mut(number as usize) {
            Some(place) => *place = document,
            None => self.documents.push(document),
        }
    }

    fn forget(&mut self, number: u32) {
        let Some(old) = self.documents.get(number as usize) else {
            return;
        };
        for word in weights(old).into_keys() {
            if let Some(list) = self.postings.get_mut(&word) {
                list.retain(|(other, _)| *other != number);
                if list.is_empty() {
                    self.postings.remove(&word);
                }
            }
        }
    }

    /// The best documents for a query, best first, each with its score.
    pub(super) fn search(&self, query: &str, limit: usize) -> Vec<(f64, &Document)> {
        let mut words: Vec<String> = words(query).take(WORDS_MAX).collect();
        words.sort_unstable();
        words.dedup();
        let mut found = HashMap::<u32, (usize, f64)>::new();
        for word in &words {
            for (number, score) in self.matches(word) {
                let (matched, total) = found.entry(number).or_default();
                *matched += 1;
                *total += score;
            }
        }
        let most = found
            .values()
            .map(|(matched, _)| *matched)
            .max()
            .unwrap_or_default();
        let mut hits: Vec<(f64, &Document)> = found
            .into_iter()
            .filter(|(_, (matched, _))| *matched == most)
            .filter_map(|(number, (_, score))| {
                let document = self.documents.get(number as usize)?;
                let weight = if document.in_stock {
                    1.0
                } else {
                    OUT_OF_STOCK_WEIGHT
                };
                Some((score * weight, document))
            })
            .collect();
        hits.sort_by(|(a, left), (b, right)| {
            b.total_cmp(a)
                .then_with(|| left.product_id.cmp(&right.product_id))
        });
        hits.truncate(limit);
        hits
    }

    /// What one word of a query counts in each document that has it.
    fn matches(&self, word: &str) -> HashMap<u32, f64> {
        let mut best = HashMap::<u32, f64>::new();
        let beginning = self.postings.range(word.to_owned()..);
        for (term, list) in beginning.take_while(|(term, _)| term.starts_with(word)) {
            let closeness = if term == word { 1.0 } else { PREFIX_WEIGHT };
            let rarity = self.rarity(list.len());
            for (number, weight) in list {
                let score = closeness * rarity * weight;
                let place = best.entry(*number).or_default();
                *place = place.max(score);
            }
        }
        best
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn rarity(&self, documents_with: usize) -> f64 {
        let all = self.documents.len() as f64;
        let with = documents_with as f64;
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }
}

/// What each word of a document counts.
fn weights(document: &Document) -> BTreeMap<String, f64> {
    let fields = [
        (&document.name, 4.0),
        (&document.category, 2.0),
        (&document.brand, 2.0),
        (&document.description, 1.0),
    ];
    let mut weights = BTreeMap::<String, f64>::new();
    for (text, weight) in fields {
        for word in words(text) {
            let place = weights.entry(word).or_default();
            *place = place.max(weight);
        }
    }
    weights
}

/// The words of a text, in lower case. Possessives lose their ending: "chef's" is "chef".
fn words(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase().replace("'s", "").replace("’s", "");
    let words: Vec<String> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.into_iter()
}

#[cfg(test)]
mod tests;
