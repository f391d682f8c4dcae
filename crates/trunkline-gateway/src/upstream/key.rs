//! What a request is hashed by.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};
use trunkline_core::Env;

use crate::config::HashOn;
use crate::plugin::Exchange;

/// The bytes that a request is hashed by.
pub(crate) struct Key<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    /// The cookie that its client is given, so that the next request is hashed by the same.
    pub(crate) cookie: Option<HeaderValue>,
}

/// The key of a request: by the first way that it has something for.
pub(crate) fn of<'a>(hash_on: &[HashOn; 2], exchange: &'a Exchange, env: &Env) -> Option<Key<'a>> {
    hash_on.iter().find_map(|by| {
        let found = match by {
            HashOn::None => None,
            HashOn::Consumer => {
                let name = exchange.consumer_name().or(exchange.credential.as_deref());
                name.map(|name| Cow::Borrowed(name.as_bytes()))
            }
            HashOn::Ip => Some(Cow::Owned(octets(exchange.remote))),
            HashOn::Header(name) => header(&exchange.request.headers, name),
            HashOn::Path => Some(Cow::Borrowed(exchange.request.uri.path().as_bytes())),
            HashOn::QueryArg(name) => argument(exchange.request.uri.query()?, name),
            HashOn::Cookie(name, path) => match cookie(&exchange.request.headers, name) {
                Some(value) => Some(Cow::Borrowed(value.as_bytes())),
                None => return given(name, path, env),
            },
        };
        let bytes = found.filter(|bytes| !bytes.is_empty())?;
        Some(Key {
            bytes,
            cookie: None,
        })
    })
}

/// Puts the cookie of a key into an answer.
pub(crate) fn tell(cookie: Option<HeaderValue>, headers: &mut HeaderMap) {
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// All values of a header, one after the other.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let mut others = values.peekable();
    if others.peek().is_none() {
        return Some(Cow::Borrowed(first));
    }
    let mut all = first.to_vec();
    for value in others {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

fn argument<'a>(query: &'a str, name: &str) -> Option<Cow<'a, [u8]>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (_, value) = pairs.find(|(key, _)| key == name)?;
    Some(match value {
        Cow::Borrowed(value) => Cow::Borrowed(value.as_bytes()),
        Cow::Owned(value) => Cow::Owned(value.into_bytes()),
    })
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lists = headers.get_all(COOKIE).iter();
    let mut pairs = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, value)| *key == name && !value.is_empty())?;
    Some(value)
}

/// A client without the cookie gets one.
fn given(name: &str, path: &str, env: &Env) -> Option<Key<'static>> {
    let value = env.id().to_string();
    let cookie = HeaderValue::try_from(format!("{name}={value}; Path={path}; HttpOnly")).ok()?;
    Some(Key {
        bytes: Cow::Owned(value.into_bytes()),
        cookie: Some(cookie),
    })
}
