//! What a request shows of who sent it: a key or a token, in a header, the query or a cookie.

use std::borrow::Cow;

use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::{Mistake, mistake};

/// Where it may be shown.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) headers: Vec<HeaderName>,
    pub(super) parameters: Vec<String>,
    pub(super) cookies: Vec<String>,
}

/// What is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'a> {
    Nothing,
    One(Cow<'a, str>),
    /// A header that holds something else; or two, which could be read as one by us and as the other by the service.
    Unfit,
}

impl<'a> Shown<'a> {
    fn and(self, another: Cow<'a, str>) -> Self {
        match self {
            Self::Nothing => Self::One(another),
            _ => Self::Unfit,
        }
    }
}

impl Places {
    /// The one that a request shows. `of_header` takes it out of a header's text.
    pub(super) fn shown<'a>(
        &self,
        request: &'a Parts,
        of_header: impl Fn(&'a str) -> Option<&'a str>,
    ) -> Shown<'a> {
        let mut shown = Shown::Nothing;
        for name in &self.headers {
            for value in request.headers.get_all(name) {
                match value.to_str().ok().and_then(&of_header) {
                    Some(value) => shown = shown.and(Cow::Borrowed(value)),
                    None => return Shown::Unfit,
                }
            }
        }
        if !self.parameters.is_empty()
            && let Some(query) = request.uri.query()
        {
            for (name, value) in form_urlencoded::parse(query.as_bytes()) {
                if self.parameters.iter().any(|known| **known == *name) {
                    shown = shown.and(value);
                }
            }
        }
        if !self.cookies.is_empty() {
            for value in cookies(&request.headers, &self.cookies) {
                shown = shown.and(Cow::Borrowed(value));
            }
        }
        shown
    }

    /// Marks the headers that hold it as secret, so that no log tells them.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        for name in &self.headers {
            if let http::header::Entry::Occupied(mut entry) = headers.entry(name) {
                entry.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        }
    }
}

fn cookies<'a>(headers: &'a HeaderMap, named: &[String]) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(COOKIE).iter();
    let all = all.filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(';'));
    all.filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        named.iter().any(|known| known == name).then_some(value)
    })
}

/// Names of headers, from the setting of this name.
pub(super) fn header_names(at: &str, names: &[String]) -> Result<Vec<HeaderName>, Mistake> {
    let name = |(index, name): (usize, &String)| {
        HeaderName::try_from(&**name)
            .map_err(|_| mistake(&format!("{at}[{index}]"), "expected the name of a header"))
    };
    names.iter().enumerate().map(name).collect()
}
