//! The derive macro for event types.
//!
//! Authors reach it as `trunkline::Event` or `trunkline_core::Event`.

mod args;
mod event;
mod key;
mod krate;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Derives `EventData`, which makes a type the data of an event.
///
/// ```ignore
/// #[derive(Debug, Serialize, Deserialize, JsonSchema, Event)]
/// #[event(type = "order.created", version = "1.1", topic = "order-events", key = order_id)]
/// #[event(priority = high, upcast(from = "1.0", to = "1.1", with = add_currency))]
/// struct OrderCreated {
///     order_id: String,
///     currency: String,
/// }
/// ```
///
/// # Shape
/// `type`, `version` and `topic` are required; the rest has a default.
///
/// | option | meaning |
/// |---|---|
/// | `type = "order.created"` | letters, digits and `. _ - :` |
/// | `version = "1.0"` | `major.minor` |
/// | `topic = "order-events"` | letters, digits and `. _ - :` |
/// | `key = order_id` | a field, a field of a field, a function of `&self`, or an expression of `self`; none by default |
/// | `kind = domain` | `domain`, `integration`, `command` or `system` |
/// | `priority = medium` | `high`, `medium` or `low` |
/// | `encrypted` | the data is encrypted on the bus |
/// | `upcast(from = "1.0", to = "1.1", with = path)` | one step from an older version; steps form a chain that ends at `version` |
/// | `crate = "path"` | where `trunkline_core` is, if neither it nor `trunkline` is a dependency by its own name |
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
