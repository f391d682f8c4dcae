//! All prefixes of a path that somebody declared, found in one walk along the path.

use crate::beside::give_way;

/// A compressed tree of texts, each with the ways that begin with it.
#[derive(Debug, Default)]
pub(super) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// What leads here from the node above.
    edge: Box<[u8]>,
    /// In the order in which they are tried.
    ways: Vec<usize>,
    /// No two begin with the same byte; sorted by it.
    below: Vec<Node>,
}

impl Trie {
    /// Adds a way. They have to come in the order in which they are tried.
    pub(super) fn insert(&mut self, text: &str, way: usize) {
        self.root.insert(text.as_bytes(), way);
    }

    /// Frees it, giving way meanwhile.
    pub(super) fn release(self) {
        self.root.release();
    }

    /// Gives the ways of every text that `path` begins with, the shortest first.
    pub(super) fn each<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a [usize])) {
        let (mut node, mut left) = (&self.root, path.as_bytes());
        loop {
            if !node.ways.is_empty() {
                visit(&node.ways);
            }
            let Some(next) = node.child(left) else {
                return;
            };
            let Some(rest) = left.strip_prefix(&*next.edge) else {
                return;
            };
            (node, left) = (next, rest);
        }
    }
}

impl Node {
    fn place(&self, text: &[u8]) -> Result<usize, usize> {
        let first = text.first().copied();
        self.below
            .binary_search_by_key(&first, |child| child.edge.first().copied())
    }

    fn release(self) {
        self.below.into_iter().for_each(Self::release);
        give_way();
    }

    fn child(&self, text: &[u8]) -> Option<&Self> {
        text.first()?;
        self.below.get(self.place(text).ok()?)
    }

    fn insert(&mut self, text: &[u8], way: usize) {
        if text.is_empty() {
            self.ways.push(way);
            return;
        }
        let at = match self.place(text) {
            Err(at) => {
                let leaf = Self {
                    edge: text.into(),
                    ways: vec![way],
                    below: Vec::new(),
                };
                self.below.insert(at, leaf);
                return;
            }
            Ok(at) => at,
        };
        let Some(child) = self.below.get_mut(at) else {
            return;
        };
        let both = child.edge.iter().zip(text);
        let common = both.take_while(|(one, other)| one == other).count();
        if common < child.edge.len() {
            child.split(common);
        }
        child.insert(text.get(common..).unwrap_or_default(), way);
    }

    /// Puts a node between this one's edge's first bytes and the rest of it.
    fn split(&mut self, at: usize) {
        let (begin, rest) = self.edge.split_at_checked(at).unwrap_or_default();
        let (begin, rest) = (Box::from(begin), Box::from(rest));
        let lower = Self {
            edge: rest,
            ways: std::mem::take(&mut self.ways),
            below: std::mem::take(&mut self.below),
        };
        self.edge = begin;
        self.below.push(lower);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_list_finds(texts in prop::collection::vec("[ab/]{0,6}", 0..40), path in "[ab/]{0,10}") {
            let mut trie = Trie::default();
            for (index, text) in texts.iter().enumerate() {
                trie.insert(text, index);
            }
            let mut found = Vec::new();
            trie.each(&path, |ways| found.extend_from_slice(ways));
            found.sort_unstable();
            let listed = texts.iter().enumerate().filter(|(_, text)| path.starts_with(&**text));
            let listed: Vec<_> = listed.map(|(index, _)| index).collect();
            prop_assert_eq!(found, listed);
        }
    }
}
