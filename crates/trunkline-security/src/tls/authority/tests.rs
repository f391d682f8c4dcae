use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use trunkline_core::{Clock, ErrorKind};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Place {
    folder: TempDir,
    authority: Authority,
    env: Env,
    clock: Clock,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(1);
    let authority = Authority::init(folder.path(), "shop.test", env.clone()).unwrap();
    Place {
        folder,
        authority,
        env,
        clock,
    }
}

impl Place {
    fn refused(&mut self, step: RotateStep) -> String {
        self.authority.rotate(step).unwrap_err().code().to_owned()
    }
}

#[test]
fn a_leaf_names_its_service_and_its_files_are_private() {
    let place = place();
    let leaf = place.authority.issue("order-service", &[], HOUR).unwrap();
    assert_eq!(
        leaf.identity.to_string(),
        "spiffe://shop.test/order-service"
    );
    assert_eq!(leaf.expires_at, place.env.after(HOUR));
    assert!(leaf.by_current_root);
    let mut files = vec![place.folder.path().join("root.pem")];
    files.extend(["cert.pem", "key.pem", "ca.pem"].map(|name| leaf.folder.join(name)));
    for file in &files {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    let shared = fs::read_to_string(leaf.folder.join("ca.pem")).unwrap();
    assert!(!shared.contains("PRIVATE"), "the root's key stays at home");
    let printed = format!(
        "{:?} {:?}",
        place.authority,
        place.authority.overview().unwrap()
    );
    assert!(!printed.contains("PRIVATE"), "{printed}");
    for wrong in ["", "../x", "a/b", "A", ".hidden"] {
        assert!(place.authority.issue(wrong, &[], HOUR).is_err(), "{wrong}");
    }
}

#[test]
fn a_ca_is_made_once_and_found_again() {
    let place = place();
    let again = Authority::init(place.folder.path(), "shop.test", place.env.clone());
    assert_eq!(again.unwrap_err().code(), "authority_exists");
    let found = Authority::open(place.folder.path(), place.env.clone()).unwrap();
    assert_eq!(found.overview().unwrap().trust_domain, "shop.test");
    let empty = tempfile::tempdir().unwrap();
    let missing = Authority::open(empty.path(), place.env.clone()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    fs::write(place.folder.path().join("authority.json"), "{").unwrap();
    let corrupt = Authority::open(place.folder.path(), place.env.clone()).unwrap_err();
    assert_eq!(corrupt.kind(), ErrorKind::Corrupt);
}

#[test]
fn each_step_of_a_rotation_has_its_turn_and_its_time() {
    let mut place = place();
    place.authority.issue("a", &[], HOUR).unwrap();
    assert_eq!(place.refused(RotateStep::Switch), "rotation_order");
    assert_eq!(place.refused(RotateStep::Finish), "rotation_order");
    place.authority.rotate(RotateStep::Begin).unwrap();
    assert_eq!(place.refused(RotateStep::Begin), "rotation_order");
    assert_eq!(place.refused(RotateStep::Switch), "rotation_unsettled");
    place.clock.advance(Authority::SETTLE);
    // Another run of the command goes on where the last one stopped.
    place.authority = Authority::open(place.folder.path(), place.env.clone()).unwrap();
    place.authority.rotate(RotateStep::Switch).unwrap();
    assert_eq!(place.authority.overview().unwrap().issued[0].trusts, 2);
    assert_eq!(place.refused(RotateStep::Finish), "rotation_unsettled");
    place.clock.advance(Authority::SETTLE);
    place.authority.rotate(RotateStep::Finish).unwrap();
    let overview = place.authority.overview().unwrap();
    assert_eq!(overview.next_step, RotateStep::Begin);
    assert_eq!(overview.issued[0].trusts, 1);
    assert!(overview.issued[0].by_current_root);
}

#[test]
fn a_step_that_would_cut_a_service_off_is_refused_with_its_name() {
    let mut place = place();
    for service in ["a", "b"] {
        place.authority.issue(service, &[], HOUR).unwrap();
    }
    let of_b = |name: &str| place.folder.path().join("b").join(name);
    let (old_ca, old_cert) = (
        fs::read(of_b("ca.pem")).unwrap(),
        fs::read(of_b("cert.pem")).unwrap(),
    );
    place.authority.rotate(RotateStep::Begin).unwrap();
    place.clock.advance(Authority::SETTLE);
    fs::write(of_b("ca.pem"), old_ca).unwrap();
    let error = place.authority.rotate(RotateStep::Switch).unwrap_err();
    assert_eq!(error.code(), "rotation_unready");
    assert!(error.to_string().contains("services: b"), "{error}");
    place.authority.issue("b", &[], HOUR).unwrap();
    place.authority.rotate(RotateStep::Switch).unwrap();
    place.clock.advance(Authority::SETTLE);
    fs::write(of_b("cert.pem"), old_cert).unwrap();
    let error = place.authority.rotate(RotateStep::Finish).unwrap_err();
    assert!(error.to_string().contains("services: b"), "{error}");
    place.authority.renew().unwrap();
    place.authority.rotate(RotateStep::Finish).unwrap();
}
