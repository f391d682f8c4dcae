use super::*;
use trunkline_core::ErrorKind;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_makes_it_and_the_second_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/secret");
    let env = Env::system();
    let first = Secret::load_or_create(&path, &env).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let second = Secret::load_or_create(&path, &env).unwrap();
    assert_eq!(first.bytes(), second.bytes());
    assert_eq!(first.bytes().len(), 32);
    let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no draft is left behind");
}

#[test]
fn those_who_start_together_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let secrets: Vec<_> = std::thread::scope(|scope| {
        let start = || Secret::load_or_create(&path, &Env::system()).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|s| s.bytes() == secrets[0].bytes()));
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    Secret::load_or_create(&path, &Env::system()).unwrap();
    for mode in [0o604, 0o620, 0o644, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Secret::load_or_create(&path, &Env::system()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
    // Root alone may let a group read it.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let by_group = Secret::load_or_create(&path, &Env::system());
    assert_eq!(by_group.is_ok(), fs::metadata(&path).unwrap().uid() == 0);
}

#[test]
fn a_file_that_is_no_secret_is_corrupt_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    for content in ["", "short", "not base64url at all !!!!!!!!!!!!!!!!!!!!!!!"] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Secret::load_or_create(&path, &Env::system()).unwrap_err();
        assert_eq!(error.code(), "secret_file_invalid", "{content:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn it_is_never_printed() {
    let secret = Secret::new(*b"an-easy-to-find-secret-of-32-byt").unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(***)");
    assert!(Secret::new(*b"too short").is_err());
}
