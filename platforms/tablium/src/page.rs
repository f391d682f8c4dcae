//! The page to play on, in the program itself: plain files of `page/`, which no build step has made.

use trunkline::Asset;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! script {
    ($name:literal) => {
        Asset::new(
            concat!("/assets/", $name),
            SCRIPT,
            include_bytes!(concat!("../page/", $name)),
        )
    };
}

/// What [`trunkline::Service::assets`] serves at `/` and `/assets/…`.
pub const ASSETS: &[Asset] = &[
    Asset::new("/", HTML, include_bytes!("../page/index.html")),
    Asset::new(
        "/assets/style.css",
        STYLE,
        include_bytes!("../page/style.css"),
    ),
    Asset::new(
        "/assets/icon.svg",
        "image/svg+xml",
        include_bytes!("../page/icon.svg"),
    ),
    script!("account.js"),
    script!("api.js"),
    script!("app.js"),
    script!("chat.js"),
    script!("chess.js"),
    script!("clock.js"),
    script!("dom.js"),
    script!("four.js"),
    script!("history.js"),
    script!("live.js"),
    script!("lobby.js"),
    script!("player.js"),
    script!("refresh.js"),
    script!("result.js"),
    script!("table.js"),
    Asset::new(
        "/assets/inter-latin.woff2",
        "font/woff2",
        include_bytes!("../page/vendor/inter-latin.woff2"),
    )
    .immutable(),
    // The official client, as it is on npm: a test compares them.
    Asset::new(
        "/assets/socket.io-4.8.4.esm.min.js",
        SCRIPT,
        include_bytes!("../page/vendor/socket.io-4.8.4.esm.min.js"),
    )
    .immutable(),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// A file that is forgotten here is a page that does not start.
    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let files = |folder: &Path| {
            let entries = std::fs::read_dir(folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        let mut found = files(&folder);
        found.extend(files(&folder.join("vendor")));
        found.retain(|name| name != "vendor" && !name.ends_with("LICENSE"));
        let source = include_str!("page.rs");
        let named = |name: &String| source.contains(&format!("{name}\""));
        let forgotten: Vec<_> = found.iter().filter(|name| !named(name)).collect();
        assert!(forgotten.is_empty(), "{forgotten:?}");
        assert_eq!(super::ASSETS.len(), found.len());
    }
}
