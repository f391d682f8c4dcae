//! What guides show of code is code that is compiled and tested.

const SOURCES: [&str; 3] = [
    include_str!("../../examples/returns.rs"),
    include_str!("../../src/order/saga.rs"),
    include_str!("orchestration.rs"),
];

#[test]
fn the_guide_of_sagas_quotes_what_is_compiled() {
    let guide = include_str!("../../../../docs/guides/sagas.md");
    let blocks: Vec<_> = guide
        .split("```rust\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() > 5, "{blocks:#?}");
    for block in blocks {
        let is_there = SOURCES.iter().any(|source| source.contains(block));
        assert!(is_there, "nobody compiles this:\n{block}");
    }
}
