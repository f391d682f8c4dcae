//! Consumers and their credentials of the file.

use super::node::Node;
use super::read::{Fields, Problems};
use super::{Names, Owned, owned, services, tags, unknown};
use crate::config::{Consumer, JwtSecret, KeyCredential, PluginConfig};

/// Credentials that stand on their own, each with its consumer.
pub(super) struct Credentials {
    jwt_secrets: Vec<Owned<JwtSecret>>,
    keys: Vec<Owned<KeyCredential>>,
    groups: Vec<Owned<String>>,
}

pub(super) fn consumer(
    node: &Node,
    path: String,
    (names, plugins): (&mut Names, &mut Vec<PluginConfig>),
    problems: &mut Problems,
) -> Option<Consumer> {
    let mut fields = Fields::of(node, path, problems)?;
    let username = fields.text("username", problems);
    let custom_id = fields.text("custom_id", problems);
    let id = fields.text("id", problems);
    if username.is_none() && custom_id.is_none() {
        let expected = "expected `username` or `custom_id`";
        problems.add(fields.place, &fields.path, expected);
    }
    let index = names.counts.1;
    names.counts.1 += 1;
    let called = username.iter().chain(&id).chain(&custom_id);
    names
        .consumers
        .extend(called.map(|name| (name.clone(), index)));
    let none = "there is no such credential here; key-auth and jwt are";
    fields.unsupported(
        &[
            ("basicauth_credentials", none),
            ("hmacauth_credentials", none),
            ("oauth2_credentials", none),
            ("mtls_auth_credentials", none),
            ("groups", "it is of Kong's commercial edition; write `acls`"),
        ],
        problems,
    );
    let own = fields.list("plugins", problems, services::plugin);
    let called = username.as_ref().or(custom_id.as_ref());
    plugins.extend(own.into_iter().map(|plugin| PluginConfig {
        consumer: called.cloned(),
        ..plugin
    }));
    let consumer = Consumer {
        username: username.or_else(|| custom_id.clone()).unwrap_or_default(),
        custom_id,
        jwt_secrets: fields.list("jwt_secrets", problems, |node, path, problems| {
            jwt_secret(Fields::of(node, path, problems)?, problems)
        }),
        keyauth_credentials: fields.list(
            "keyauth_credentials",
            problems,
            |node, path, problems| key(Fields::of(node, path, problems)?, problems),
        ),
        groups: fields.list("acls", problems, |node, path, problems| {
            group(Fields::of(node, path, problems)?, problems)
        }),
        tags: tags(&mut fields, problems),
        at: fields.path.clone().into_boxed_str(),
    };
    fields.end(problems);
    Some(consumer)
}

fn jwt_secret(mut fields: Fields<'_>, problems: &mut Problems) -> Option<JwtSecret> {
    let key = fields.text("key", problems);
    let key = fields.needs("key", key, problems);
    let algorithm = fields.text("algorithm", problems);
    let secret = fields.text("secret", problems);
    let rsa_public_key = fields.text("rsa_public_key", problems);
    tags(&mut fields, problems);
    fields.ignored(&["id"]);
    let at = fields.path.clone().into_boxed_str();
    fields.end(problems);
    Some(JwtSecret {
        key: key?,
        algorithm: algorithm.unwrap_or_else(|| "HS256".to_owned()),
        secret,
        rsa_public_key,
        at,
    })
}

fn key(mut fields: Fields<'_>, problems: &mut Problems) -> Option<KeyCredential> {
    let key = fields.text("key", problems);
    let key = fields.needs("key", key, problems);
    tags(&mut fields, problems);
    fields.ignored(&["id"]);
    fields.unsupported(
        &[("ttl", "take the key out of the file when it is to end")],
        problems,
    );
    let at = fields.path.clone().into_boxed_str();
    fields.end(problems);
    Some(KeyCredential { key: key?, at })
}

fn group(mut fields: Fields<'_>, problems: &mut Problems) -> Option<String> {
    let group = fields.text("group", problems);
    let group = fields.needs("group", group, problems);
    tags(&mut fields, problems);
    fields.ignored(&["id"]);
    fields.end(problems);
    group
}

/// Credentials at the top of the file.
pub(super) fn credentials(fields: &mut Fields<'_>, problems: &mut Problems) -> Credentials {
    Credentials {
        jwt_secrets: owned(fields, ("jwt_secrets", "consumer"), problems, jwt_secret),
        keys: owned(fields, ("keyauth_credentials", "consumer"), problems, key),
        groups: owned(fields, ("acls", "consumer"), problems, group),
    }
}

/// Gives each credential to its consumer.
pub(super) fn give(
    consumers: &mut [Consumer],
    names: &Names,
    credentials: Credentials,
    problems: &mut Problems,
) {
    let Credentials {
        jwt_secrets,
        keys,
        groups,
    } = credentials;
    hand(
        consumers,
        names,
        jwt_secrets,
        problems,
        |consumer, secret| {
            consumer.jwt_secrets.push(secret);
        },
    );
    hand(consumers, names, keys, problems, |consumer, key| {
        consumer.keyauth_credentials.push(key);
    });
    hand(consumers, names, groups, problems, |consumer, group| {
        consumer.groups.push(group);
    });
}

fn hand<T>(
    consumers: &mut [Consumer],
    names: &Names,
    list: Vec<Owned<T>>,
    problems: &mut Problems,
    put: impl Fn(&mut Consumer, T),
) {
    for owned in list {
        let index = names.consumers.get(&owned.owner).copied();
        match index.and_then(|index| consumers.get_mut(index)) {
            Some(consumer) => put(consumer, owned.what),
            None => unknown(&owned, "consumer", problems),
        }
    }
}
