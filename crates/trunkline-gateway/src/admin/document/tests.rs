use std::collections::BTreeSet;

use super::*;
use crate::Config;
use crate::file::Node;

const FLAT: &str = include_str!("../../file/tests/flat.yml");
const SEED: &str = include_str!("../../file/tests/seed.yml");

fn of(text: &str) -> Document {
    Document::of(Node::parse(text).unwrap().value(), &Env::seeded(1))
}

fn told(text: &str) -> (Value, Vec<Vec<String>>) {
    let config = Config::parse("kong.yml", text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let keys = config.consumers.iter().map(|consumer| {
        let keys = consumer.keyauth_credentials.iter();
        keys.map(|credential| credential.key.clone()).collect()
    });
    (serde_json::to_value(&config).unwrap(), keys.collect())
}

#[test]
fn what_is_written_is_what_was_read() {
    for text in [FLAT, SEED] {
        let document = of(text);
        let rendered = document.render().unwrap();
        assert_eq!(told(&rendered.text), told(text), "{}", rendered.text);
        // And a second time nothing moves.
        let again = of(&rendered.text).render().unwrap();
        assert_eq!(again.text, rendered.text);
    }
}

#[test]
fn texts_that_look_like_something_else_stay_texts() {
    let env = Env::seeded(1);
    let mut document = Document::default();
    for (index, text) in [
        "1.1",
        "on",
        "null",
        "~",
        "a: b",
        "# no",
        "- x",
        "",
        "0x1f",
        "é\u{1F600}\n\ttab",
        "'\"",
        "!tag",
        "&a",
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "username": format!("u{index}"), "tags": [text] });
        document.create(Kind::Consumer, body, None, &env).unwrap();
        let rendered = document.render().unwrap();
        let config = Config::parse("kong.yml", &rendered.text).unwrap();
        assert_eq!(config.consumers[index].tags, [text], "{}", rendered.text);
    }
}

#[test]
fn what_belongs_to_something_goes_with_it() {
    let mut document = of(FLAT);
    document.delete(Kind::Service, "orders", None);
    assert_eq!(document.list(Kind::Route, None).count(), 0);
    let plugins: Vec<_> = document.list(Kind::Plugin, None).collect();
    assert_eq!(plugins.len(), 1, "only that for all is left: {plugins:?}");
    document.delete(Kind::Consumer, "17", None);
    for kind in [Kind::Key, Kind::Jwt, Kind::Group] {
        assert_eq!(document.list(kind, None).count(), 0, "{kind:?}");
    }
    Config::parse("kong.yml", &document.render().unwrap().text).unwrap();
}

#[test]
fn a_patch_changes_what_it_says_and_null_takes_away() {
    let env = Env::seeded(2);
    let mut document = of(FLAT);
    let limits = document
        .list(Kind::Plugin, None)
        .find(|plugin| plugin.fields["name"] == "rate-limiting")
        .unwrap();
    let id = limits.id.clone();
    let change = json!({ "config": { "hour": 100, "minute": null }, "enabled": false });
    let patched = document
        .patch((Kind::Plugin, &id), change, None, &env)
        .unwrap();
    assert_eq!(patched.fields["config"], json!({ "hour": 100 }));
    assert_eq!(patched.fields["enabled"], false);
    let service = patched.owner(Kind::Service).unwrap();
    assert_eq!(
        document.known(Kind::Service, "orders", None).unwrap().id,
        service
    );
}

#[test]
fn a_name_is_taken_once_and_a_group_by_each_consumer() {
    let env = Env::seeded(3);
    let mut document = of(FLAT);
    let twice = document.create(Kind::Service, json!({ "name": "orders" }), None, &env);
    assert_eq!(twice.unwrap_err().code(), "entity_exists");
    let bob = document
        .create(Kind::Consumer, json!({ "username": "bob" }), None, &env)
        .unwrap();
    let of_bob = Some((Kind::Consumer, &*bob.id));
    let group = json!({ "group": "staff" });
    document
        .create(Kind::Group, group.clone(), of_bob, &env)
        .unwrap();
    let twice = document.create(Kind::Group, group, of_bob, &env);
    assert_eq!(twice.unwrap_err().code(), "entity_exists");
    // A key is one for all: it says who it is.
    let key = json!({ "key": "ann-key-1" });
    let twice = document.create(Kind::Key, key, of_bob, &env);
    assert_eq!(twice.unwrap_err().code(), "entity_exists");
}

/// Over many random changes: what is written can be read, says the same, and nobody belongs to anything that is gone.
#[test]
fn whatever_is_changed_the_file_says_the_same() {
    for seed in 0..200 {
        let env = Env::seeded(seed);
        let pick = |count: u64| env.random_u64() % count;
        let mut document = if seed % 2 == 0 { of(FLAT) } else { of(SEED) };
        for step in 0..30 {
            change(&mut document, (step, pick(8)), &pick, &env);
            let ids: BTreeSet<_> = document.entities.iter().map(|entity| &entity.id).collect();
            assert_eq!(ids.len(), document.entities.len());
            for entity in &document.entities {
                assert!(
                    entity.owners.iter().all(|(_, id)| ids.contains(id)),
                    "{entity:?}"
                );
            }
        }
        let rendered = document.render().unwrap();
        let again = of(&rendered.text);
        assert_eq!(again.entities.len(), document.entities.len(), "seed {seed}");
        assert_eq!(again.render().unwrap().text, rendered.text, "seed {seed}");
    }
}

fn change(
    document: &mut Document,
    (step, what): (usize, u64),
    pick: &impl Fn(u64) -> u64,
    env: &Env,
) {
    let any = |document: &Document, kind: Kind| {
        let all: Vec<_> = document
            .list(kind, None)
            .map(|entity| entity.id.clone())
            .collect();
        let at = usize::try_from(pick(all.len().max(1) as u64)).unwrap();
        all.get(at).cloned()
    };
    let kinds = [Kind::Service, Kind::Route, Kind::Consumer, Kind::Plugin];
    let kind = kinds[usize::try_from(pick(4)).unwrap()];
    let name = format!("n{step}");
    match what {
        0..5 => {
            let owner = kind.shape().owners.first();
            let owner = owner.and_then(|owner| Some((*owner, any(document, *owner)?)));
            let of = owner.as_ref().map(|(kind, id)| (*kind, &**id));
            let body = match kind {
                Kind::Consumer => json!({ "username": name }),
                Kind::Plugin => json!({ "name": "cors", "consumer": null }),
                Kind::Route => json!({ "name": name, "paths": [format!("/{name}")] }),
                _ => json!({ "name": name, "host": "h" }),
            };
            if of.is_some() || kind != Kind::Route {
                document.create(kind, body, of, env).unwrap();
            }
        }
        5 => {
            if let Some(id) = any(document, kind) {
                document.delete(kind, &id, None);
            }
        }
        6 => {
            if let Some(id) = any(document, kind) {
                let body = json!({ "tags": [name] });
                document.patch((kind, &id), body, None, env).unwrap();
            }
        }
        _ => {
            let body = json!({ "host": "other" });
            document
                .put((Kind::Service, &name), body, None, env)
                .unwrap();
        }
    }
}
