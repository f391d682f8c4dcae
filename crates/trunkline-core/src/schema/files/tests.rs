use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::*;
use crate::Event;

macro_rules! event {
    ($version:literal $(, $option:meta)* ; $($field:ident: $type:ty),*) => {{
        #[derive(Serialize, Deserialize, JsonSchema, Event)]
        #[event(type = "order.created", version = $version, topic = "order-events" $(, $option)*)]
        struct Data { $($field: $type),* }
        EventDecl::of::<Data>()
    }};
}

fn texts(dir: &TempDir, decl: EventDecl) -> Vec<String> {
    problems_in(dir.path(), &[decl])
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn stored(decl: EventDecl) -> TempDir {
    let dir = TempDir::new().unwrap();
    write_dir(dir.path(), &[decl]).unwrap();
    dir
}

#[test]
fn a_version_without_a_file_is_a_problem_until_it_is_written() {
    let dir = TempDir::new().unwrap();
    let decl = event!("1.0"; id: String);
    let folder = dir.path().join("schemas");
    let error = check_dir(&folder, &[decl]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("order.created 1.0: the version has no stored"),
        "{error}"
    );
    let written = write_dir(&folder, &[decl]).unwrap();
    assert_eq!(written, [folder.join("order.created/1.0.json")]);
    check_dir(&folder, &[decl]).unwrap();
    assert_eq!(write_dir(&folder, &[decl]).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_changed_field_without_a_new_version_is_named() {
    let dir = stored(event!("1.0"; id: String, total: u64));
    let changed = event!("1.0"; id: String, total: f64);
    let problems = problems_in(dir.path(), &[changed]).unwrap();
    assert!(
        problems.iter().all(|problem| problem.path == "total"),
        "{problems:?}"
    );
    assert!(
        problems[0].text.contains("declare a new version"),
        "{}",
        problems[0]
    );
    let added = event!("1.0"; id: String, total: u64, note: Option<String>);
    assert_eq!(
        texts(&dir, added),
        ["order.created 1.0, note: added: declare a new version of the event"]
    );
    // Writing does not paper over it.
    write_dir(dir.path(), &[changed]).unwrap();
    assert!(check_dir(dir.path(), &[changed]).is_err());
}

#[test]
fn a_minor_version_must_read_the_earlier_ones() {
    let dir = stored(event!("1.0"; id: String));
    let compatible = event!("1.1"; id: String, note: Option<String>);
    write_dir(dir.path(), &[compatible]).unwrap();
    assert_eq!(texts(&dir, compatible), Vec::<String>::new());
    let incompatible = event!("1.2"; id: String, currency: String);
    write_dir(dir.path(), &[incompatible]).unwrap();
    let found = texts(&dir, incompatible);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("order.created 1.2, currency: can't read what 1.0 wrote"));
    let major = event!("2.0"; id: String, currency: String);
    write_dir(dir.path(), &[major]).unwrap();
    assert_eq!(texts(&dir, major), Vec::<String>::new());
}

#[test]
fn an_upcast_makes_a_minor_version_read_the_earlier_ones() {
    fn keep(value: Value) -> Result<Value> {
        Ok(value)
    }
    let dir = stored(event!("1.0"; id: String));
    let decl = event!("1.1", upcast(from = "1.0", to = "1.1", with = keep); id: String, more: u8);
    write_dir(dir.path(), &[decl]).unwrap();
    assert_eq!(texts(&dir, decl), Vec::<String>::new());
}

#[test]
fn one_version_declared_with_two_types_is_a_problem() {
    let (one, two) = (event!("1.0"; id: String), event!("1.0"; id: u64));
    let dir = stored(one);
    let found = problems_in(dir.path(), &[one, two]).unwrap();
    assert!(
        found
            .iter()
            .any(|problem| problem.text.starts_with("declared twice")),
        "{found:?}"
    );
    assert_eq!(problems_in(dir.path(), &[one, one]).unwrap(), []);
}

#[test]
fn a_broken_file_is_named() {
    let decl = event!("1.0"; id: String);
    let dir = stored(decl);
    let file = dir.path().join("order.created/1.0.json");
    fs::write(&file, "{").unwrap();
    let error = check_dir(dir.path(), &[decl]).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
    assert!(
        error.to_string().contains("order.created/1.0.json"),
        "{error}"
    );
    fs::rename(&file, dir.path().join("order.created/newest.json")).unwrap();
    let error = check_dir(dir.path(), &[decl]).unwrap_err();
    assert!(error.to_string().contains("newest.json"), "{error}");
}
