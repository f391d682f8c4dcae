# One-liners. Anything with a condition is Rust, in xtask.

# everything that has to pass; CI runs the same
test:
    cargo xtask test

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

doc:
    cargo doc --workspace --no-deps --locked --open

# sizes, dependency arrows, what the documents name
tidy:
    cargo xtask tidy

# licences, advisories and doubled dependencies; needs cargo-deny
deny:
    cargo deny check

# the web store, with its data in ./data
run *args:
    cargo run --release --package storefront -- {{args}}

# one of the benchmarks, as docs/performance.md lists them
bench name *args:
    cargo run --release --manifest-path benches/Cargo.toml --bin {{name}} -- {{args}}
