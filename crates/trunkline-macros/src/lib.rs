//! The derive macro for event types.
use proc_macro::TokenStream;

/// Derives `trunkline_core::EventData`.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let _ = input;
    TokenStream::new()
}
