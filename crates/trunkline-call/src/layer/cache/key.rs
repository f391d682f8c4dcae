//! Which answers are of the same question.

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, VARY};
use http::{HeaderMap, HeaderName, Request};

use crate::Body;
use crate::headers::{USER_ID, USER_ROLES};

/// Who asks: an answer is given to nobody else, unless it is public.
const WHO: [HeaderName; 4] = [AUTHORIZATION, COOKIE, USER_ID, USER_ROLES];
/// In what form.
const FORM: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

/// A question, told apart by all that an answer may depend on: path, form and who asks. Each part stands behind its
/// length, so that no two questions look the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key(Box<[u8]>);

impl Key {
    /// The question of whoever asks, and of anybody.
    pub(super) fn both(request: &Request<Body>) -> (Self, Self) {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let mut key = Vec::with_capacity(path.len() + 64);
        part(&mut key, path.as_bytes());
        parts(&mut key, request.headers(), &FORM);
        let anybody = Self(key.as_slice().into());
        parts(&mut key, request.headers(), &WHO);
        (Self(key.into()), anybody)
    }
}

fn parts(key: &mut Vec<u8>, headers: &HeaderMap, names: &[HeaderName]) {
    for name in names {
        let values = headers.get_all(name);
        part(key, &values.iter().count().to_le_bytes());
        for value in values {
            part(key, value.as_bytes());
        }
    }
}

fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    key.extend_from_slice(bytes);
}

/// Whether an answer depends on nothing but what a key has: one that does is not kept.
pub(super) fn is_told_apart(answer: &HeaderMap) -> bool {
    let is_known = |name: &str| name.is_empty() || is_of(&WHO, name) || is_of(&FORM, name);
    answer.get_all(VARY).iter().all(|line| {
        let line = line.to_str().ok();
        line.is_some_and(|line| line.split(',').map(str::trim).all(is_known))
    })
}

/// Whether a public answer depends on who asks all the same.
pub(super) fn varies_by_who(answer: &HeaderMap) -> bool {
    let mut lines = answer.get_all(VARY).iter();
    lines.any(|line| {
        let mut names = line.to_str().unwrap_or_default().split(',').map(str::trim);
        names.any(|name| is_of(&WHO, name))
    })
}

fn is_of(names: &[HeaderName], name: &str) -> bool {
    names
        .iter()
        .any(|known| known.as_str().eq_ignore_ascii_case(name))
}
