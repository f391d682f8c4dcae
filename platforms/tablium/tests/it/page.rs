//! The page, played on by browsers.

use std::path::{Path, PathBuf};

use tablium::page::ASSETS;
use trunkline::{Asset, Program as _};
use trunkline_testkit::node;

use crate::world::World;

/// Where pictures of the page are left for whoever wants to see them.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Lets browsers do what a file says, on a site of their own.
async fn browsers(file: &str) {
    let world = World::start().await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/page")
        .join(file);
    let mut script = node::browser_script(&file);
    script
        .arg(world.site.running().gateway_url())
        .arg(pictures());
    let output = tokio::task::spawn_blocking(move || script.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{}", String::from_utf8_lossy(&output.stdout).trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_play_connect_four_to_its_end_and_a_third_watches() {
    browsers("four.cjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_play_chess_to_mate_and_once_more() {
    browsers("chess.cjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_table_is_joined_by_its_link() {
    browsers("private.cjs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_comes_through_the_gateway_and_only_once() {
    let world = World::start().await;
    // What the typeface looks like is for the browsers.
    let texts = ASSETS.iter().map(Asset::path);
    for path in texts.filter(|path| !path.ends_with(".woff2")) {
        let first = world.gateway.get(path).await;
        assert_eq!(first.status, 200, "{path}");
        let policy = first.header("content-security-policy").unwrap();
        assert!(!policy.contains("unsafe"), "{policy}");
        let tag = first.header("etag").unwrap();
        let again = world.gateway.with("if-none-match", tag).get(path).await;
        assert_eq!(
            (again.status.as_u16(), again.body.len()),
            (304, 0),
            "{path}"
        );
    }
    assert_eq!(world.gateway.get("/assets/none.js").await.status, 404);
}

#[test]
fn the_client_is_the_official_one_to_the_byte() {
    let official = node::modules().join("socket.io-client/dist/socket.io.esm.min.js");
    let vendored = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/page/vendor/socket.io-4.8.4.esm.min.js"
    );
    let read = |path: &Path| std::fs::read(path).unwrap();
    assert!(read(&official) == read(Path::new(vendored)));
}
