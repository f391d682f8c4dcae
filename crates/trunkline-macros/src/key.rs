//! The body of `EventData::key`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Expr, ExprField, ExprPath, Fields, Ident};

/// The expression that gives the key of `self`.
pub(crate) fn body(
    input: &DeriveInput,
    key: Option<&Expr>,
    krate: &TokenStream,
) -> syn::Result<TokenStream> {
    let Some(key) = key else {
        return Ok(quote!(::core::option::Option::None));
    };
    let value = match key {
        Expr::Path(path) => match path.path.get_ident() {
            Some(field) if field != "self" => field_of(input, field)?,
            _ => function(path),
        },
        Expr::Field(inner) if root(inner).is_some_and(|root| root != "self") => {
            nested(input, inner)?
        }
        // A field of `self` is borrowed, so that its key is not copied.
        Expr::Field(inner) => quote!(&#inner),
        other => quote!(#other),
    };
    Ok(quote_spanned!(key.span()=> #krate::IntoKey::into_key(#value)))
}

fn function(path: &ExprPath) -> TokenStream {
    quote!(#path(self))
}

/// The first name of `a.b.c`.
fn root(field: &ExprField) -> Option<&Ident> {
    match field.base.as_ref() {
        Expr::Field(inner) => root(inner),
        Expr::Path(path) => path.path.get_ident(),
        _ => None,
    }
}

fn nested(input: &DeriveInput, field: &ExprField) -> syn::Result<TokenStream> {
    if let Some(first) = root(field) {
        field_of(input, first)?;
    }
    Ok(quote!(&self.#field))
}

fn field_of(input: &DeriveInput, field: &Ident) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        let text = format!(
            "an enum has no field `{field}`; name a function of `&self`, such as `key = Self::{field}`"
        );
        return Err(syn::Error::new(field.span(), text));
    };
    let Fields::Named(named) = &data.fields else {
        let text = "the fields have no names; use an expression, such as `key = self.0`";
        return Err(syn::Error::new(field.span(), text));
    };
    let names: Vec<String> = named
        .named
        .iter()
        .filter_map(|f| f.ident.as_ref())
        .map(|name| format!("`{name}`"))
        .collect();
    if !names.contains(&format!("`{field}`")) {
        let text = format!(
            "no field `{field}` to take the key from; the fields are {}",
            names.join(", ")
        );
        return Err(syn::Error::new(field.span(), text));
    }
    Ok(quote!(&self.#field))
}
