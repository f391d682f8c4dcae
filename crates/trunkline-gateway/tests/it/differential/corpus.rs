//! Odd requests. Each has its name in a header, so that the service knows which is which.

/// All of them, by name.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, text) in TEXTS {
        let text = text.replace("{n}", &format!("x-name: {name}"));
        all.push((*name, text.into_bytes()));
    }
    for (name, line, headers) in HEADS {
        let text = format!("{line}\r\nHost: h\r\nx-name: {name}\r\n{headers}\r\n");
        all.push((*name, text.into_bytes()));
    }
    all.extend(made());
    all
}

/// Requests with one host and no body, by their lines and headers.
const HEADS: &[(&str, &str, &str)] = &[
    ("plain", "GET /a?b=c HTTP/1.1", ""),
    ("head", "HEAD /a HTTP/1.1", ""),
    ("options", "OPTIONS /a HTTP/1.1", ""),
    ("trace", "TRACE /a HTTP/1.1", ""),
    ("connect", "CONNECT h:80 HTTP/1.1", ""),
    ("method-lower", "get /a HTTP/1.1", ""),
    ("method-unknown", "BREW /a HTTP/1.1", ""),
    ("method-odd", "M-SEARCH /a HTTP/1.1", ""),
    ("method-brackets", "GE(T /a HTTP/1.1", ""),
    ("options-star", "OPTIONS * HTTP/1.1", ""),
    ("close", "GET /a HTTP/1.1", "Connection: close\r\n"),
    ("path-dots", "GET /a/../b HTTP/1.1", ""),
    ("path-dots-above", "GET /../b HTTP/1.1", ""),
    ("path-encoded-dots", "GET /a/%2e%2E/b HTTP/1.1", ""),
    ("path-dot", "GET /a/./b HTTP/1.1", ""),
    ("path-slashes", "GET //a///b HTTP/1.1", ""),
    ("path-encoded-slash", "GET /a%2fb HTTP/1.1", ""),
    ("path-encoded-letter", "GET /%61 HTTP/1.1", ""),
    ("path-encoded-nul", "GET /a%00b HTTP/1.1", ""),
    ("path-broken-encoding", "GET /a%zz HTTP/1.1", ""),
    ("path-backslash", "GET /a\\..\\b HTTP/1.1", ""),
    ("path-parameter-dots", "GET /a/..;x/b HTTP/1.1", ""),
    ("path-fragment", "GET /a#b HTTP/1.1", ""),
    ("path-utf8", "GET /\u{e4} HTTP/1.1", ""),
    ("path-relative", "GET a HTTP/1.1", ""),
    ("path-empty-query", "GET /a? HTTP/1.1", ""),
    ("absolute", "GET http://h/a HTTP/1.1", ""),
    ("absolute-other-host", "GET http://other/a HTTP/1.1", ""),
    ("absolute-https", "GET https://h/a HTTP/1.1", ""),
    ("absolute-ftp", "GET ftp://h/a HTTP/1.1", ""),
    ("absolute-user", "GET http://user@h/a HTTP/1.1", ""),
    ("absolute-no-path", "GET http://h HTTP/1.1", ""),
    ("version-1.0", "GET /a HTTP/1.0", ""),
    (
        "version-1.0-keep",
        "GET /a HTTP/1.0",
        "Connection: keep-alive\r\n",
    ),
    ("version-1.2", "GET /a HTTP/1.2", ""),
    ("version-2.0", "GET /a HTTP/2.0", ""),
    ("version-lower", "GET /a http/1.1", ""),
    ("version-none", "GET /a", ""),
    ("line-two-spaces", "GET  /a HTTP/1.1", ""),
    ("line-tab", "GET\t/a HTTP/1.1", ""),
    ("line-space-in-path", "GET /a b HTTP/1.1", ""),
    ("line-space-at-end", "GET /a HTTP/1.1 ", ""),
    ("header-folded", "GET /a HTTP/1.1", "x-odd: a\r\n b\r\n"),
    (
        "header-space-before-colon",
        "GET /a HTTP/1.1",
        "x-odd : a\r\n",
    ),
    (
        "header-space-before-name",
        "GET /a HTTP/1.1",
        " x-odd: a\r\n",
    ),
    ("header-no-colon", "GET /a HTTP/1.1", "x-odd\r\n"),
    ("header-no-name", "GET /a HTTP/1.1", ": a\r\n"),
    ("header-empty-value", "GET /a HTTP/1.1", "x-odd:\r\n"),
    ("header-nul", "GET /a HTTP/1.1", "x-odd: a\0b\r\n"),
    ("header-control", "GET /a HTTP/1.1", "x-odd: a\u{1}b\r\n"),
    ("header-delete", "GET /a HTTP/1.1", "x-odd: a\u{7f}b\r\n"),
    ("header-bare-cr", "GET /a HTTP/1.1", "x-odd: a\rb\r\n"),
    (
        "header-bare-lf",
        "GET /a HTTP/1.1",
        "x-odd: a\nx-odd-2: b\r\n",
    ),
    ("header-utf8", "GET /a HTTP/1.1", "x-odd: \u{e4}\r\n"),
    ("header-underscore", "GET /a HTTP/1.1", "x_odd: a\r\n"),
    ("header-brackets", "GET /a HTTP/1.1", "x-odd(): a\r\n"),
    (
        "header-twice",
        "GET /a HTTP/1.1",
        "x-odd: a\r\nx-odd: b\r\n",
    ),
    (
        "connection-names-header",
        "GET /a HTTP/1.1",
        "Connection: x-odd\r\nx-odd: a\r\n",
    ),
    (
        "connection-names-host",
        "GET /a HTTP/1.1",
        "Connection: host\r\n",
    ),
    (
        "te-trailers",
        "GET /a HTTP/1.1",
        "TE: trailers\r\nConnection: te\r\n",
    ),
    (
        "te-gzip",
        "GET /a HTTP/1.1",
        "TE: gzip\r\nConnection: te\r\n",
    ),
    (
        "upgrade-websocket",
        "GET /a HTTP/1.1",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ),
    (
        "upgrade-h2c",
        "GET /a HTTP/1.1",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ),
    (
        "upgrade-unnamed",
        "GET /a HTTP/1.1",
        "Upgrade: websocket\r\n",
    ),
    ("early-hints", "GET /early HTTP/1.1", ""),
    ("expect-other", "GET /a HTTP/1.1", "Expect: something\r\n"),
    ("get-length-0", "GET /a HTTP/1.1", "Content-Length: 0\r\n"),
    (
        "length-negative",
        "POST /a HTTP/1.1",
        "Content-Length: -1\r\n",
    ),
    ("length-plus", "POST /a HTTP/1.1", "Content-Length: +0\r\n"),
    ("length-hex", "POST /a HTTP/1.1", "Content-Length: 0x0\r\n"),
    ("length-empty", "POST /a HTTP/1.1", "Content-Length:\r\n"),
    (
        "length-overflow",
        "POST /a HTTP/1.1",
        "Content-Length: 99999999999999999999\r\n",
    ),
    ("length-missing", "POST /a HTTP/1.1", ""),
];

/// Whole requests; `{n}` stands for the header with the name.
const TEXTS: &[(&str, &str)] = &[
    ("host-none", "GET /a HTTP/1.1\r\n{n}\r\n\r\n"),
    ("host-none-1.0", "GET /a HTTP/1.0\r\n{n}\r\n\r\n"),
    ("host-empty", "GET /a HTTP/1.1\r\nHost:\r\n{n}\r\n\r\n"),
    (
        "host-twice",
        "GET /a HTTP/1.1\r\nHost: h\r\nHost: h\r\n{n}\r\n\r\n",
    ),
    (
        "host-two",
        "GET /a HTTP/1.1\r\nHost: h\r\nHost: i\r\n{n}\r\n\r\n",
    ),
    (
        "host-user",
        "GET /a HTTP/1.1\r\nHost: user@h\r\n{n}\r\n\r\n",
    ),
    ("host-space", "GET /a HTTP/1.1\r\nHost: h i\r\n{n}\r\n\r\n"),
    ("host-path", "GET /a HTTP/1.1\r\nHost: h/i\r\n{n}\r\n\r\n"),
    ("host-port", "GET /a HTTP/1.1\r\nHost: h:80\r\n{n}\r\n\r\n"),
    (
        "host-port-odd",
        "GET /a HTTP/1.1\r\nHost: h:x\r\n{n}\r\n\r\n",
    ),
    ("host-list", "GET /a HTTP/1.1\r\nHost: h, i\r\n{n}\r\n\r\n"),
    (
        "host-v6",
        "GET /a HTTP/1.1\r\nHost: [::1]:80\r\n{n}\r\n\r\n",
    ),
    ("http-0.9", "GET /a\r\n"),
    ("line-bare-lf", "GET /a HTTP/1.1\nHost: h\n{n}\n\n"),
    (
        "line-empty-before",
        "\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\n",
    ),
    ("head-cut-off", "GET /a HTTP/1.1\r\nHost: h\r\n{n}\r\nx-o"),
    ("line-cut-off", "GET /a HT"),
    (
        "pipelined",
        "GET /1 HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\n",
    ),
    (
        "pipelined-after-close",
        "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{n}\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\n",
    ),
    (
        "pipelined-after-upgrade-refused",
        "GET /1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{n}\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\n",
    ),
    (
        "trailing-bytes",
        "GET /a HTTP/1.1\r\nHost: h\r\n{n}\r\n\r\nrest",
    ),
    (
        "length",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-get",
        "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-too-short",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-too-long",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-twice-same",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-twice-other",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 4\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-list-same",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-list-other",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 4\r\n{n}\r\n\r\n12345",
    ),
    (
        "length-and-chunked",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunked-and-length",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunked",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
    ),
    (
        "chunked-1.0",
        "POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunked-upper",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunked-twice",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "coding-unknown",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "coding-gzip-chunked",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "coding-chunked-identity",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "coding-identity",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n{n}\r\n\r\n",
    ),
    (
        "coding-empty",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n{n}\r\n\r\n",
    ),
    (
        "coding-space-before-colon",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "coding-vertical-tab",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{b}chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-extension",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2;x=y\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-extension-lf",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2;x\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-bare-lf",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\nab\n0\n\n",
    ),
    (
        "chunk-size-lf",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-data-lf",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\n0\r\n\r\n",
    ),
    (
        "chunk-size-space",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2 \r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-space-before",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n 2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-0x",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-minus",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n-2\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-empty",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-zeros",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n0002\r\nab\r\n000\r\n\r\n",
    ),
    (
        "chunk-size-overflow",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n10000000000000002\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-huge",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n7fffffffffffffff\r\nab\r\n0\r\n\r\n",
    ),
    (
        "chunk-too-long",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "chunk-no-last",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n",
    ),
    (
        "chunk-no-end",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\n",
    ),
    (
        "chunk-trailer",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: x-odd\r\n{n}\r\n\r\n2\r\nab\r\n0\r\nx-odd: t\r\n\r\n",
    ),
    (
        "chunk-trailer-length",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{n}\r\n\r\n2\r\nab\r\n0\r\ncontent-length: 9\r\n\r\n",
    ),
    (
        "expect-continue",
        "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n{n}\r\n\r\nab",
    ),
    (
        "expect-continue-waits",
        "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n{n}\r\n\r\n",
    ),
    (
        "expect-continue-1.0",
        "POST /a HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n{n}\r\n\r\nab",
    ),
    (
        "upgrade-post",
        "POST /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n{n}\r\n\r\nab",
    ),
    (
        "upgrade-1.0",
        "GET /a HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{n}\r\n\r\n",
    ),
    ("preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
];

/// Those that are long.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let with = |name: &'static str, line: &str, headers: &str| {
        let text = format!("{line}\r\nHost: h\r\nx-name: {name}\r\n{headers}\r\n");
        (name, text.into_bytes())
    };
    let many = |count: usize| {
        (0..count)
            .map(|at| format!("x-m-{at}: 1\r\n"))
            .collect::<String>()
    };
    let mut raw = with("header-raw-bytes", "GET /a HTTP/1.1", "x-odd: ??\r\n");
    for byte in raw.1.iter_mut().filter(|byte| **byte == b'?') {
        *byte = 0xff;
    }
    vec![
        with(
            "header-8k",
            "GET /a HTTP/1.1",
            &format!("x-long: {}\r\n", "a".repeat(8_000)),
        ),
        with(
            "header-40k",
            "GET /a HTTP/1.1",
            &format!("x-long: {}\r\n", "a".repeat(40_000)),
        ),
        with(
            "header-100k",
            "GET /a HTTP/1.1",
            &format!("x-long: {}\r\n", "a".repeat(100_000)),
        ),
        with("headers-90", "GET /a HTTP/1.1", &many(90)),
        with("headers-110", "GET /a HTTP/1.1", &many(110)),
        with(
            "path-8k",
            &format!("GET /{} HTTP/1.1", "a".repeat(8_000)),
            "",
        ),
        with(
            "path-100k",
            &format!("GET /{} HTTP/1.1", "a".repeat(100_000)),
            "",
        ),
        raw,
    ]
}
