//! Where the gateway and nginx differ, and why.

/// One difference.
pub(super) struct Difference {
    /// The request of the corpus.
    pub(super) name: &'static str,
    pub(super) ours: &'static str,
    pub(super) nginx: &'static str,
    pub(super) why: &'static str,
}

impl Difference {
    /// As it stands in the documentation.
    pub(super) fn row(&self) -> String {
        let text = |told: &str| told.replace('|', "\\|");
        format!(
            "| `{}` | {} | {} | {} |",
            self.name,
            text(self.ours),
            text(self.nginx),
            self.why
        )
    }
}

pub(super) const ALL: &[Difference] = &[
    Difference {
        name: "absolute-other-host",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "One of two hosts would route it, and a service might believe the other.",
    },
    Difference {
        name: "chunk-bare-lf",
        ours: "400 closed; nothing",
        nginx: "200 kept; POST /a \"ab\"",
        why: "Lines of chunks end in CR LF: a reader that sees another end sees another request.",
    },
    Difference {
        name: "chunk-data-lf",
        ours: "400 closed; POST /a and no whole body",
        nginx: "200 kept; POST /a \"ab\"",
        why: "As `chunk-bare-lf`.",
    },
    Difference {
        name: "chunk-extension-lf",
        ours: "400 closed; nothing",
        nginx: "200 kept; POST /a \"ab\"",
        why: "As `chunk-bare-lf`.",
    },
    Difference {
        name: "chunk-no-end",
        ours: "408 closed; POST /a and no whole body",
        nginx: "closed; POST /a and no whole body",
        why: "The client is told that its body did not come in time.",
    },
    Difference {
        name: "chunk-no-last",
        ours: "408 closed; POST /a and no whole body",
        nginx: "closed; POST /a and no whole body",
        why: "As `chunk-no-end`.",
    },
    Difference {
        name: "chunk-size-huge",
        ours: "408 closed; POST /a and no whole body",
        nginx: "400 closed; nothing",
        why: "nginx bounds bodies by itself (1 MiB); here `request-size-limiting` does, by what comes of them.",
    },
    Difference {
        name: "chunk-size-lf",
        ours: "400 closed; nothing",
        nginx: "200 kept; POST /a \"ab\"",
        why: "As `chunk-bare-lf`.",
    },
    Difference {
        name: "chunk-too-long",
        ours: "400 closed; POST /a and no whole body",
        nginx: "400 closed; nothing",
        why: "Bodies stream: the service is told that this one broke off.",
    },
    Difference {
        name: "chunk-trailer",
        ours: "200 kept; POST /a \"ab\"",
        nginx: "200 kept; POST /a [trailer: x-odd] \"ab\"",
        why: "Trailers concern one connection, and so does the word of them.",
    },
    Difference {
        name: "chunked-and-length",
        ours: "200 closed; POST /a \"ab\"",
        nginx: "400 closed; nothing",
        why: "Read as chunks, and the connection is closed: ADR 12.",
    },
    Difference {
        name: "chunked-twice",
        ours: "501 closed; nothing",
        nginx: "400 closed; nothing",
        why: "A transfer coding that is not undone here is not implemented (501).",
    },
    Difference {
        name: "coding-chunked-identity",
        ours: "400 closed; nothing",
        nginx: "501 closed; nothing",
        why: "Refused by both, as malformed here.",
    },
    Difference {
        name: "coding-empty",
        ours: "400 closed; nothing",
        nginx: "501 closed; nothing",
        why: "As `coding-chunked-identity`.",
    },
    Difference {
        name: "coding-identity",
        ours: "400 closed; nothing",
        nginx: "501 closed; nothing",
        why: "As `coding-chunked-identity`.",
    },
    Difference {
        name: "coding-unknown",
        ours: "400 closed; nothing",
        nginx: "501 closed; nothing",
        why: "As `coding-chunked-identity`.",
    },
    Difference {
        name: "coding-vertical-tab",
        ours: "400 closed; nothing",
        nginx: "501 closed; nothing",
        why: "As `coding-chunked-identity`.",
    },
    Difference {
        name: "connect",
        ours: "501 closed; nothing",
        nginx: "400 closed; nothing",
        why: "Refused by both, as not implemented here.",
    },
    Difference {
        name: "connection-names-header",
        ours: "200 kept; GET /a",
        nginx: "200 kept; GET /a [x-odd: a]",
        why: "What `Connection` names concerns this connection alone (RFC 9110, 7.6.1).",
    },
    Difference {
        name: "early-hints",
        ours: "200 kept; GET /early",
        nginx: "closed and hangs; GET /early",
        why: "Hints are dropped, and the answer behind them is taken; nginx 1.22 takes them for the answer.",
    },
    Difference {
        name: "expect-continue-waits",
        ours: "100 408 closed; POST /a and no whole body",
        nginx: "100 kept; POST /a and no whole body",
        why: "As `chunk-no-end`.",
    },
    Difference {
        name: "header-100k",
        ours: "431 closed; nothing",
        nginx: "400 closed; nothing",
        why: "Refused by both; 431 says why.",
    },
    Difference {
        name: "header-40k",
        ours: "200 kept; GET /a",
        nginx: "400 closed; nothing",
        why: "Heads may have 64 KiB here.",
    },
    Difference {
        name: "header-brackets",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "That is no name of a header.",
    },
    Difference {
        name: "header-control",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a [x-odd: ab]",
        why: "A control character may end a header for somebody else.",
    },
    Difference {
        name: "header-delete",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a [x-odd: ab]",
        why: "As `header-control`.",
    },
    Difference {
        name: "header-no-colon",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a [x-odd: ]",
        why: "That is no header.",
    },
    Difference {
        name: "header-underscore",
        ours: "200 kept; GET /a [x_odd: a]",
        nginx: "200 kept; GET /a",
        why: "Passed on, as Kong does.",
    },
    Difference {
        name: "headers-110",
        ours: "431 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "There may be 100 headers.",
    },
    Difference {
        name: "host-none-1.0",
        ours: "400 closed; nothing",
        nginx: "200 closed; GET /a",
        why: "Without a host nothing is routed, in any version.",
    },
    Difference {
        name: "host-port-odd",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "What stands behind the colon of a host is a port, or somebody reads another host.",
    },
    Difference {
        name: "host-user",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "A host has no user; a service might take it for one.",
    },
    Difference {
        name: "http-0.9",
        ours: "400 closed; nothing",
        nginx: "bare answer; nothing",
        why: "Refused by both; here as a malformed request of HTTP/1.1.",
    },
    Difference {
        name: "length-and-chunked",
        ours: "200 closed; POST /a \"ab\"",
        nginx: "400 closed; nothing",
        why: "As `chunked-and-length`.",
    },
    Difference {
        name: "length-too-long",
        ours: "408 closed; POST /a and no whole body",
        nginx: "closed; POST /a and no whole body",
        why: "As `chunk-no-end`.",
    },
    Difference {
        name: "length-too-short",
        ours: "200 kept; POST /a \"123\"",
        nginx: "200 400 closed; POST /a \"123\"",
        why: "What follows the body is no request: the connection is closed when it does not become one.",
    },
    Difference {
        name: "length-twice-same",
        ours: "200 kept; POST /a \"12345\"",
        nginx: "400 closed; nothing",
        why: "The same length twice is one (RFC 9110, 8.6), and one goes on.",
    },
    Difference {
        name: "line-space-at-end",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "A request line has two spaces (RFC 9112, 3).",
    },
    Difference {
        name: "line-two-spaces",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "As `line-space-at-end`.",
    },
    Difference {
        name: "options-star",
        ours: "400 kept; nothing",
        nginx: "400 closed; nothing",
        why: "It is about no path, and no route is found by it; the connection is good.",
    },
    Difference {
        name: "path-100k",
        ours: "431 closed; nothing",
        nginx: "414 closed; nothing",
        why: "As `header-100k`.",
    },
    Difference {
        name: "path-backslash",
        ours: "400 kept; nothing",
        nginx: "200 kept; GET /a\\..\\b",
        why: "Some servers take it for a slash: ADR 10.",
    },
    Difference {
        name: "path-broken-encoding",
        ours: "400 kept; nothing",
        nginx: "400 closed; nothing",
        why: "Refused by both; what follows on the connection is not in doubt.",
    },
    Difference {
        name: "path-dot",
        ours: "200 kept; GET /a/b",
        nginx: "200 kept; GET /a/./b",
        why: "A path has one spelling, and the service gets the one that was routed: ADR 10.",
    },
    Difference {
        name: "path-dots",
        ours: "200 kept; GET /b",
        nginx: "200 kept; GET /a/../b",
        why: "As `path-dot`.",
    },
    Difference {
        name: "path-dots-above",
        ours: "400 kept; nothing",
        nginx: "400 closed; nothing",
        why: "As `path-broken-encoding`.",
    },
    Difference {
        name: "path-encoded-dots",
        ours: "200 kept; GET /b",
        nginx: "200 kept; GET /a/%2e%2E/b",
        why: "As `path-dot`.",
    },
    Difference {
        name: "path-encoded-letter",
        ours: "200 kept; GET /a",
        nginx: "200 kept; GET /%61",
        why: "As `path-dot`.",
    },
    Difference {
        name: "path-encoded-nul",
        ours: "400 kept; nothing",
        nginx: "400 closed; nothing",
        why: "As `path-broken-encoding`.",
    },
    Difference {
        name: "path-encoded-slash",
        ours: "200 kept; GET /a%2Fb",
        nginx: "200 kept; GET /a%2fb",
        why: "As `path-dot`.",
    },
    Difference {
        name: "path-fragment",
        ours: "200 kept; GET /a",
        nginx: "200 kept; GET /a#b",
        why: "A fragment is for the client alone (RFC 9110, 7.1).",
    },
    Difference {
        name: "path-parameter-dots",
        ours: "400 kept; nothing",
        nginx: "200 kept; GET /a/..;x/b",
        why: "Some servers cut `;x` off and go up: ADR 10.",
    },
    Difference {
        name: "path-slashes",
        ours: "200 kept; GET /a/b",
        nginx: "200 kept; GET //a///b",
        why: "As `path-dot`.",
    },
    Difference {
        name: "path-utf8",
        ours: "200 kept; GET /%C3%A4",
        nginx: "200 kept; GET /ä",
        why: "As `path-dot`.",
    },
    Difference {
        name: "pipelined-after-upgrade-refused",
        ours: "200 200 kept; GET /1 + GET /2",
        nginx: "101 kept; GET /1 [upgrade: h2c]",
        why: "Only WebSocket is gone on in: anything else is asked for in vain.",
    },
    Difference {
        name: "te-trailers",
        ours: "200 kept; GET /a [te: trailers]",
        nginx: "200 kept; GET /a",
        why: "gRPC needs it.",
    },
    Difference {
        name: "trace",
        ours: "405 kept; nothing",
        nginx: "405 closed; nothing",
        why: "Refused by both; the connection is good.",
    },
    Difference {
        name: "trailing-bytes",
        ours: "200 kept; GET /a",
        nginx: "200 400 closed; GET /a",
        why: "As `length-too-short`.",
    },
    Difference {
        name: "upgrade-1.0",
        ours: "200 closed; GET /a",
        nginx: "101 kept; GET /a [upgrade: websocket]",
        why: "HTTP/1.0 has no upgrades (RFC 9110, 7.8).",
    },
    Difference {
        name: "upgrade-h2c",
        ours: "200 kept; GET /a",
        nginx: "101 kept; GET /a [upgrade: h2c]",
        why: "As `pipelined-after-upgrade-refused`.",
    },
    Difference {
        name: "upgrade-post",
        ours: "200 kept; POST /a \"ab\"",
        nginx: "101 kept; POST /a [upgrade: websocket] \"ab\"",
        why: "WebSocket is asked for by GET without a body; anything else is a request.",
    },
    Difference {
        name: "upgrade-unnamed",
        ours: "200 kept; GET /a",
        nginx: "101 kept; GET /a [upgrade: websocket]",
        why: "What `Connection` does not name is not asked for on this connection.",
    },
    Difference {
        name: "version-1.2",
        ours: "400 closed; nothing",
        nginx: "200 kept; GET /a",
        why: "HTTP/1.1 is the last of its kind.",
    },
    Difference {
        name: "version-2.0",
        ours: "400 closed; nothing",
        nginx: "505 closed; nothing",
        why: "HTTP/2 does not begin like this.",
    },
    Difference {
        name: "version-none",
        ours: "400 closed; nothing",
        nginx: "bare answer; nothing",
        why: "As `http-0.9`.",
    },
];
