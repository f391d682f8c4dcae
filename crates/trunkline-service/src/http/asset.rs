//! Files of a page, which a service answers as they are.

use axum::response::Response;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};
use trunkline_call::Body;
use trunkline_core::{Error, Result};

/// What a page may load and do: what comes from where it came from itself, with nothing inline, and in no frame. `connect-src`
/// holds for WebSocket too.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);
/// It is kept, and asked about each time.
const ASKED: HeaderValue = HeaderValue::from_static("no-cache");
/// It is kept for a year, and not asked about.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file of a page, in the program itself.
///
/// # Guarantees
/// It is answered with its `ETag`, and with 304 to who has it already. Its `Content-Security-Policy` lets a page load from where
/// it came from alone, and run no inline script.
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    immutable: bool,
}

impl Asset {
    /// `bytes` at `path`; text has its `charset` in the type, such as `text/html; charset=utf-8`.
    pub const fn new(path: &'static str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self {
            path,
            content_type,
            bytes,
            immutable: false,
        }
    }

    /// Where it is.
    pub const fn path(&self) -> &'static str {
        self.path
    }

    /// Says that the path's bytes never change, as when a version is part of it: browsers do not ask again.
    #[must_use]
    pub const fn immutable(mut self) -> Self {
        self.immutable = true;
        self
    }
}

/// An asset, ready to be answered.
pub(super) struct Prepared {
    bytes: Bytes,
    etag: HeaderValue,
    content_type: HeaderValue,
    caching: HeaderValue,
}

impl Prepared {
    /// # Errors
    /// `InvalidInput` for a content type that no header can have.
    pub(super) fn of(asset: &Asset) -> Result<Self> {
        let content_type = HeaderValue::from_str(asset.content_type).map_err(|error| {
            Error::invalid("asset_invalid", "expected a content type")
                .with("path", asset.path)
                .with_source(error)
        })?;
        let hash = Sha256::digest(asset.bytes);
        let hex: String = hash
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let etag = HeaderValue::from_str(&format!("\"{hex}\""));
        Ok(Self {
            bytes: Bytes::from_static(asset.bytes),
            etag: etag.map_err(|error| Error::internal("hex is ASCII").with_source(error))?,
            content_type,
            caching: if asset.immutable { KEPT } else { ASKED },
        })
    }

    pub(super) fn answer(&self, asked: &HeaderMap) -> Response {
        let is_known = self.is_known(asked);
        let body = if is_known {
            Body::empty()
        } else {
            Body::from(self.bytes.clone())
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, self.caching.clone());
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, self.content_type.clone());
        }
        response
    }

    /// Whether who asks has it already. A proxy that packs may have made the tag a weak one.
    fn is_known(&self, asked: &HeaderMap) -> bool {
        let tags = asked.get_all(IF_NONE_MATCH).iter();
        let mut tags = tags
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim);
        tags.any(|tag| tag == "*" || self.etag == tag.strip_prefix("W/").unwrap_or(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Asset = Asset::new("/", "text/html; charset=utf-8", b"<!doctype html>");

    fn asked(tag: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
        Prepared::of(&PAGE).unwrap().answer(&headers)
    }

    #[test]
    fn who_has_it_does_not_get_it_again() {
        let first = Prepared::of(&PAGE).unwrap().answer(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(first.headers()[CACHE_CONTROL], "no-cache");
        let policy = first.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(!policy.contains("unsafe") && policy.contains("default-src 'none'"));

        let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
        for known in [&tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
            assert_eq!(asked(known).status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        for other in ["\"x\"", "", tag.trim_matches('"')] {
            assert_eq!(asked(other).status(), StatusCode::OK, "{other}");
        }
    }

    #[test]
    fn what_has_a_version_in_its_path_is_kept() {
        let asset = PAGE.immutable();
        let answer = Prepared::of(&asset).unwrap().answer(&HeaderMap::new());
        let caching = answer.headers()[CACHE_CONTROL].to_str().unwrap();
        assert!(caching.contains("immutable"), "{caching}");
        let bad = Asset::new("/", "text/html\n", b"");
        assert!(Prepared::of(&bad).is_err());
    }
}
