//! What must not compile.

#[test]
fn a_delivery_is_settled_once() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
