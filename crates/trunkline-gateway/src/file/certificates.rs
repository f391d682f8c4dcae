//! Certificates of the file, with the names that clients ask for.

use super::node::{Node, What};
use super::read::{Fields, Problems, text_of};
use super::{Owned, owned, tags, unknown};
use crate::config::{CaCertificate, Certificate};

pub(super) fn certificate(
    node: &Node,
    path: String,
    problems: &mut Problems,
) -> Option<Certificate> {
    let mut fields = Fields::of(node, path, problems)?;
    let [cert, key] = ["cert", "key"].map(|name| {
        let text = fields.text(name, problems);
        fields.needs(name, text, problems)
    });
    fields.unsupported(
        &[
            ("cert_alt", "a certificate has one key here"),
            ("key_alt", "a certificate has one key here"),
        ],
        problems,
    );
    let certificate = Certificate {
        id: fields.text("id", problems),
        cert: cert.unwrap_or_default(),
        key: key.unwrap_or_default(),
        snis: fields.list("snis", problems, sni),
        tags: tags(&mut fields, problems),
        at: fields.path.clone().into_boxed_str(),
    };
    fields.end(problems);
    Some(certificate)
}

pub(super) fn authority(
    node: &Node,
    path: String,
    problems: &mut Problems,
) -> Option<CaCertificate> {
    let mut fields = Fields::of(node, path, problems)?;
    let cert = fields.text("cert", problems);
    let cert = fields.needs("cert", cert, problems);
    fields.ignored(&["cert_digest"]);
    let authority = CaCertificate {
        id: fields.text("id", problems),
        cert: cert.unwrap_or_default(),
        tags: tags(&mut fields, problems),
        at: fields.path.clone().into_boxed_str(),
    };
    fields.end(problems);
    Some(authority)
}

/// A name alone, or fields with its `name`.
fn sni(node: &Node, path: String, problems: &mut Problems) -> Option<String> {
    if !matches!(node.what, What::Fields(_))
        && let Some(name) = text_of(node)
    {
        return Some(name);
    }
    name(Fields::of(node, path, problems)?, problems)
}

fn name(mut fields: Fields<'_>, problems: &mut Problems) -> Option<String> {
    let name = fields.text("name", problems);
    let name = fields.needs("name", name, problems);
    tags(&mut fields, problems);
    fields.ignored(&["id"]);
    fields.end(problems);
    name
}

/// Names that stand on their own say which certificate they are of.
pub(super) fn snis(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<Owned<String>> {
    owned(fields, ("snis", "certificate"), problems, name)
}

pub(super) fn give(
    certificates: &mut [Certificate],
    snis: Vec<Owned<String>>,
    problems: &mut Problems,
) {
    for sni in snis {
        let mut known = certificates.iter_mut();
        match known.find(|certificate| certificate.id.as_ref() == Some(&sni.owner)) {
            Some(certificate) => certificate.snis.push(sni.what),
            None => unknown(&sni, "certificate", problems),
        }
    }
}
