//! Which calls an operation is.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use http::Method;
use trunkline_core::{Error, Result};

/// An operation of a target: `GET /api/v1/products/{id}`, or for gRPC `shop.v1.Stock/Reserve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationName {
    /// None for gRPC.
    method: Option<Method>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Parameter(String),
    /// The rest of the path.
    Rest(String),
}

impl OperationName {
    /// Whether a call is of this operation.
    pub fn fits(&self, method: &str, path: &str) -> bool {
        let is_method = self
            .method
            .as_ref()
            .map_or(method == "POST", |own| own == method);
        is_method && self.fits_path(path)
    }

    /// A method of gRPC; without a name every one, of every service.
    pub(super) fn of_grpc(service: Option<&str>, method: Option<&str>) -> Self {
        let segment = |name: Option<&str>, else_: &str| match name {
            Some(name) => Segment::Text(name.to_owned()),
            None => Segment::Parameter(else_.to_owned()),
        };
        Self {
            method: None,
            segments: vec![segment(service, "service"), segment(method, "method")],
        }
    }

    /// Every method of a service of gRPC.
    pub(super) fn of_service(service: &str) -> Result<Self> {
        // A name that is none would fit no call.
        let Self { segments, .. } = format!("{service}/Method").parse()?;
        match segments.first() {
            Some(Segment::Text(service)) => Ok(Self::of_grpc(Some(service), None)),
            _ => Err(Error::internal("a service has a name")),
        }
    }

    fn fits_path(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut given = path.split('/');
        for segment in &self.segments {
            match (segment, given.next()) {
                (Segment::Rest(_), Some(first)) => return !first.is_empty(),
                (Segment::Text(text), Some(given)) if text == given => {}
                (Segment::Parameter(_), Some(given)) if !given.is_empty() => {}
                _ => return false,
            }
        }
        given.next().is_none()
    }

    /// What is looked at first: the most exact.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let rests = |segment: &&Segment| matches!(segment, Segment::Rest(_));
        let texts = |segment: &&Segment| matches!(segment, Segment::Text(_));
        let rests = self.segments.iter().filter(rests).count();
        let texts = self.segments.iter().filter(texts).count();
        (rests, Reverse(texts))
    }
}

impl FromStr for OperationName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(
                "operation_invalid",
                "expected an operation such as `GET /api/v1/products/{id}` or `shop.v1.Stock/Reserve`",
            )
            .with("found", text)
        };
        let (method, path) = match text.split_once(' ') {
            Some((method, path)) => {
                let known = method.bytes().all(|byte| byte.is_ascii_uppercase());
                let method = Method::from_str(method).ok().filter(|_| known);
                (
                    Some(method.ok_or_else(bad)?),
                    path.strip_prefix('/').ok_or_else(bad)?,
                )
            }
            None => {
                let path = text.strip_prefix('/').unwrap_or(text);
                if path.split('/').count() != 2 || path.contains('{') {
                    return Err(bad());
                }
                (None, path)
            }
        };
        if path.contains([' ', '?', '#']) {
            return Err(bad());
        }
        let segments: Option<Vec<Segment>> = path.split('/').map(segment).collect();
        let segments = segments.ok_or_else(bad)?;
        let before_last = segments.iter().rev().skip(1);
        if before_last
            .into_iter()
            .any(|one| matches!(one, Segment::Rest(_)))
        {
            return Err(bad());
        }
        Ok(Self { method, segments })
    }
}

fn segment(text: &str) -> Option<Segment> {
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    match inner.map(|name| name.strip_prefix('*').ok_or(name)) {
        None => (!text.contains(['{', '}'])).then(|| Segment::Text(text.to_owned())),
        Some(Ok(name)) => Some(Segment::Rest(name.to_owned())),
        Some(Err(name)) => (!name.is_empty()).then(|| Segment::Parameter(name.to_owned())),
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(method) = &self.method {
            write!(f, "{method} /")?;
        }
        for (at, segment) in self.segments.iter().enumerate() {
            let slash = if at == 0 { "" } else { "/" };
            match segment {
                Segment::Text(text) => write!(f, "{slash}{text}")?,
                Segment::Parameter(name) => write!(f, "{slash}{{{name}}}")?,
                Segment::Rest(name) => write!(f, "{slash}{{*{name}}}")?,
            }
        }
        Ok(())
    }
}
