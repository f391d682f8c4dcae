//! What `#[event(...)]` says.

use std::str::FromStr;

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, DeriveInput, Expr, Ident, LitStr, Path};

const OPTIONS: &str =
    "`type`, `version`, `topic`, `key`, `kind`, `priority`, `encrypted`, `upcast(...)`, `crate`";

/// A version and where it stands.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) major: u16,
    pub(crate) minor: u16,
    pub(crate) span: Span,
}

impl Version {
    pub(crate) fn number(&self) -> (u16, u16) {
        (self.major, self.minor)
    }
}

/// One `upcast(...)`.
pub(crate) struct Upcast {
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) with: Path,
}

/// Everything `#[event(...)]` says, checked as far as it can be without the type.
pub(crate) struct Args {
    pub(crate) event_type: LitStr,
    pub(crate) version: Version,
    pub(crate) topic: LitStr,
    pub(crate) key: Option<Expr>,
    pub(crate) kind: Ident,
    pub(crate) priority: Ident,
    pub(crate) encrypted: bool,
    pub(crate) upcasts: Vec<Upcast>,
    pub(crate) krate: Option<LitStr>,
}

#[derive(Default)]
struct Found {
    event_type: Option<LitStr>,
    version: Option<Version>,
    topic: Option<LitStr>,
    key: Option<Expr>,
    kind: Option<Ident>,
    priority: Option<Ident>,
    encrypted: Option<()>,
    upcasts: Vec<Upcast>,
    krate: Option<LitStr>,
}

impl Args {
    pub(crate) fn parse(input: &DeriveInput) -> syn::Result<Self> {
        let mut found = Found::default();
        let mut at = input.ident.span();
        for attribute in input.attrs.iter().filter(|a| a.path().is_ident("event")) {
            at = attribute.path().span();
            found.read(attribute)?;
        }
        let missing = |what: &str| syn::Error::new(at, format!("the event needs {what}"));
        let word = |word: &str| Ident::new(word, Span::call_site());
        let args = Self {
            event_type: found
                .event_type
                .ok_or_else(|| missing("a type: `#[event(type = \"order.created\")]`"))?,
            version: found
                .version
                .ok_or_else(|| missing("a version: `#[event(version = \"1.0\")]`"))?,
            topic: found
                .topic
                .ok_or_else(|| missing("a topic: `#[event(topic = \"order-events\")]`"))?,
            key: found.key,
            kind: found.kind.unwrap_or_else(|| word("Domain")),
            priority: found.priority.unwrap_or_else(|| word("Medium")),
            encrypted: found.encrypted.is_some(),
            upcasts: found.upcasts,
            krate: found.krate,
        };
        args.check_chain()?;
        Ok(args)
    }

    /// The steps form one chain, oldest first, that ends at the type's own version.
    fn check_chain(&self) -> syn::Result<()> {
        let wrong = |version: &Version, text: String| Err(syn::Error::new(version.span, text));
        let show = |version: &Version| format!("{}.{}", version.major, version.minor);
        for step in &self.upcasts {
            if step.from.number() >= step.to.number() {
                let text = format!(
                    "an upcast goes to a newer version, but {} is not newer than {}",
                    show(&step.to),
                    show(&step.from)
                );
                return wrong(&step.to, text);
            }
        }
        for (step, next) in self.upcasts.iter().zip(self.upcasts.iter().skip(1)) {
            if step.to.number() != next.from.number() {
                let text = format!(
                    "upcasts form a chain, oldest first: this one must start at {}, where the one before ends",
                    show(&step.to)
                );
                return wrong(&next.from, text);
            }
        }
        match self.upcasts.last() {
            Some(last) if last.to.number() != self.version.number() => wrong(
                &last.to,
                format!(
                    "the last upcast must end at the event's own version, {}",
                    show(&self.version)
                ),
            ),
            _ => Ok(()),
        }
    }
}

impl Found {
    fn read(&mut self, attribute: &Attribute) -> syn::Result<()> {
        attribute.parse_nested_meta(|meta| {
            let Some(name) = meta.path.get_ident().map(ToString::to_string) else {
                return Err(meta.error(format!("unknown option; the options are {OPTIONS}")));
            };
            match name.as_str() {
                "type" => once(&meta, &mut self.event_type, name_literal(&meta, "type")?),
                "version" => once(&meta, &mut self.version, version(&meta)?),
                "topic" => once(&meta, &mut self.topic, name_literal(&meta, "topic")?),
                "key" => once(&meta, &mut self.key, meta.value()?.parse()?),
                "kind" => {
                    let words = ["domain", "integration", "command", "system"];
                    once(&meta, &mut self.kind, choice(&meta, &words)?)
                }
                "priority" => {
                    let words = ["high", "medium", "low"];
                    once(&meta, &mut self.priority, choice(&meta, &words)?)
                }
                "encrypted" => once(&meta, &mut self.encrypted, ()),
                "upcast" => {
                    self.upcasts.push(upcast(&meta)?);
                    Ok(())
                }
                "crate" => once(&meta, &mut self.krate, meta.value()?.parse()?),
                other => Err(meta.error(format!(
                    "unknown option `{other}`; the options are {OPTIONS}"
                ))),
            }
        })
    }
}

fn once<T>(meta: &ParseNestedMeta<'_>, place: &mut Option<T>, value: T) -> syn::Result<()> {
    if place.replace(value).is_some() {
        return Err(meta.error("given twice"));
    }
    Ok(())
}

/// A name that can also be a file's name and a part of a topic's.
fn name_literal(meta: &ParseNestedMeta<'_>, what: &str) -> syn::Result<LitStr> {
    let literal: LitStr = meta.value()?.parse()?;
    let text = literal.value();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
    let first = |c: char| c.is_ascii_alphanumeric();
    if !text.chars().all(allowed) || !text.starts_with(first) || !text.ends_with(first) {
        return Err(syn::Error::new(
            literal.span(),
            format!(
                "a {what} is made of letters, digits and `. _ - :`, and begins and ends with a letter or a digit"
            ),
        ));
    }
    Ok(literal)
}

fn version(meta: &ParseNestedMeta<'_>) -> syn::Result<Version> {
    let literal: LitStr = meta.value()?.parse()?;
    let wrong = || {
        syn::Error::new(
            literal.span(),
            "expected a version major.minor, such as \"1.0\"",
        )
    };
    let text = literal.value();
    let (major, minor) = text.split_once('.').ok_or_else(wrong)?;
    let number = |part: &str| {
        // One way to write each number, so that a version has one text.
        let plain =
            part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        if plain {
            u16::from_str(part).map_err(|_| wrong())
        } else {
            Err(wrong())
        }
    };
    Ok(Version {
        major: number(major)?,
        minor: number(minor)?,
        span: literal.span(),
    })
}

/// One of some words, as the name of an enum's variant.
fn choice(meta: &ParseNestedMeta<'_>, words: &[&str]) -> syn::Result<Ident> {
    let given: Ident = meta.value()?.parse()?;
    let text = given.to_string();
    if !words.contains(&text.as_str()) {
        let list = words.join("`, `");
        return Err(syn::Error::new(
            given.span(),
            format!("expected one of `{list}`"),
        ));
    }
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let variant: String = first.into_iter().chain(letters).collect();
    Ok(Ident::new(&variant, given.span()))
}

fn upcast(meta: &ParseNestedMeta<'_>) -> syn::Result<Upcast> {
    let (mut from, mut to, mut with) = (None, None, None);
    meta.parse_nested_meta(|part| {
        if part.path.is_ident("from") {
            once(&part, &mut from, version(&part)?)
        } else if part.path.is_ident("to") {
            once(&part, &mut to, version(&part)?)
        } else if part.path.is_ident("with") {
            once(&part, &mut with, part.value()?.parse()?)
        } else {
            Err(part.error("unknown option; an upcast has `from`, `to` and `with`"))
        }
    })?;
    let shape =
        || meta.error("expected `upcast(from = \"1.0\", to = \"1.1\", with = path::to::function)`");
    Ok(Upcast {
        from: from.ok_or_else(shape)?,
        to: to.ok_or_else(shape)?,
        with: with.ok_or_else(shape)?,
    })
}
