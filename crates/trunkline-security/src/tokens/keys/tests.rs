use std::os::unix::fs::PermissionsExt;

use jsonwebtoken::Header;
use trunkline_core::Clock;

use super::*;
use crate::keys::header;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

struct Place {
    folder: tempfile::TempDir,
    keys: TokenKeys,
    env: Env,
    clock: Clock,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(1);
    let keys = open(folder.path(), &env);
    Place {
        folder,
        keys,
        env,
        clock,
    }
}

fn open(folder: &Path, env: &Env) -> TokenKeys {
    TokenKeys::open(folder.join("keys"), TokenKeysPolicy::default(), env.clone()).unwrap()
}

impl Place {
    fn token(&self) -> (String, Header) {
        let signer = self.keys.signer(self.env.now()).unwrap();
        let token = signer.sign_typed("t", &serde_json::json!({})).unwrap();
        let header = header(&token).unwrap();
        (token, header)
    }

    fn published(&self) -> usize {
        self.keys.jwks()["keys"].as_array().unwrap().len()
    }
}

#[test]
fn a_key_is_published_before_it_signs_and_until_its_tokens_are_gone() {
    let place = place();
    let (old, old_header) = place.token();
    place.clock.advance(30 * DAY);
    place.keys.tend().unwrap();
    assert_eq!(place.published(), 2);
    assert_eq!(place.token().1.kid, old_header.kid, "the next waits");
    place.keys.tend().unwrap();
    assert_eq!(place.published(), 2, "there is one next");

    place.clock.advance(15 * MINUTE);
    let (new, new_header) = place.token();
    assert_ne!(new_header.kid, old_header.kid);
    let both = place.keys.public();
    both.open::<serde_json::Value>(&old, &old_header).unwrap();
    both.open::<serde_json::Value>(&new, &new_header).unwrap();

    place.clock.advance(60 * MINUTE - Duration::from_secs(1));
    place.keys.tend().unwrap();
    assert_eq!(place.published(), 2);
    place.clock.advance(Duration::from_secs(1));
    place.keys.tend().unwrap();
    assert_eq!(place.published(), 1);
    let left = place.keys.public();
    assert!(left.open::<serde_json::Value>(&old, &old_header).is_err());
    left.open::<serde_json::Value>(&new, &new_header).unwrap();
}

#[test]
fn processes_that_share_a_folder_share_keys() {
    let place = place();
    let other = open(place.folder.path(), &place.env);
    assert_eq!(other.jwks(), place.keys.jwks());
    other.rotate().unwrap();
    assert_ne!(other.jwks(), place.keys.jwks());
    place.keys.tend().unwrap();
    assert_eq!(other.jwks(), place.keys.jwks());
}

#[test]
fn files_are_private_and_what_is_no_key_is_told() {
    let place = place();
    let folder = place.folder.path().join("keys");
    let file = fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let mode = file.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    fs::write(folder.join("README"), "notes may lie here").unwrap();
    place.keys.tend().unwrap();
    let before = place.keys.jwks();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(place.keys.tend().unwrap_err().code(), "secret_file_exposed");
    fs::remove_file(file.path()).unwrap();
    assert_eq!(place.keys.tend().unwrap_err().code(), "token_key_missing");
    assert_eq!(place.keys.jwks(), before, "what was known stays");
}

#[test]
fn a_set_has_a_bound() {
    let place = place();
    for _ in 1..KEYS_MAX {
        place.clock.advance(MINUTE);
        place.keys.rotate().unwrap();
    }
    place.clock.advance(MINUTE);
    assert_eq!(
        place.keys.rotate().unwrap_err().code(),
        "token_keys_too_many"
    );
    assert_eq!(place.published(), KEYS_MAX);
}
