//! What the macro refuses; what it makes is tested in `trunkline-core`.

#[test]
fn mistakes_are_named_where_they_stand() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
