//! Where `trunkline_core` is for the crate that uses the macro.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Ident, LitStr, Path};

/// The path of `trunkline_core`: as `#[event(crate = "…")]` says, or the direct dependency, or
/// through the facade.
pub(crate) fn path(given: Option<&LitStr>) -> syn::Result<TokenStream> {
    if let Some(literal) = given {
        let path: Path = literal.parse()?;
        return Ok(quote!(#path));
    }
    let named = |name: &str| Ident::new(&name.replace('-', "_"), Span::call_site());
    match (crate_name("trunkline-core"), crate_name("trunkline")) {
        (Ok(FoundCrate::Name(name)), _) => {
            let name = named(&name);
            Ok(quote!(::#name))
        }
        (Err(_), Ok(FoundCrate::Name(name))) => {
            let name = named(&name);
            Ok(quote!(::#name::core))
        }
        (Err(_), Ok(FoundCrate::Itself)) => Ok(quote!(::trunkline::core)),
        (Ok(FoundCrate::Itself), _) | (Err(_), Err(_)) => Ok(quote!(::trunkline_core)),
    }
}
