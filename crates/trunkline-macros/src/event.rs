//! The implementation of `EventData`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput};

use crate::args::{Args, Version};
use crate::{key, krate};

pub(crate) fn expand(input: &DeriveInput) -> syn::Result<TokenStream> {
    if let Data::Union(data) = &input.data {
        return Err(syn::Error::new(
            data.union_token.span,
            "a union can't be an event's data",
        ));
    }
    if !input.generics.params.is_empty() {
        return Err(syn::Error::new_spanned(
            &input.generics,
            "an event's data has no type or lifetime parameters: one type is one version of one event",
        ));
    }
    let args = Args::parse(input)?;
    let krate = krate::path(args.krate.as_ref())?;
    let key = key::body(input, args.key.as_ref(), &krate)?;
    let version = |version: &Version| {
        let (major, minor) = version.number();
        quote!(#krate::Version::new(#major, #minor))
    };
    let own_version = version(&args.version);
    let steps = args.upcasts.iter().map(|step| {
        let (from, to, with) = (version(&step.from), version(&step.to), &step.with);
        quote!(#krate::Upcast { from: #from, to: #to, step: #with })
    });
    let Args {
        event_type,
        topic,
        kind,
        priority,
        encrypted,
        ..
    } = &args;
    let name = &input.ident;
    // Errors about the type point at its name; names resolve where the derive stands.
    let span = name.span().resolved_at(Span::call_site());
    Ok(quote_spanned! {span=>
        #[automatically_derived]
        impl #krate::EventData for #name {
            const TYPE: &'static str = #event_type;
            const VERSION: #krate::Version = #own_version;
            const TOPIC: &'static str = #topic;
            const KIND: #krate::Kind = #krate::Kind::#kind;
            const PRIORITY: #krate::Priority = #krate::Priority::#priority;
            const ENCRYPTED: bool = #encrypted;

            fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> {
                #key
            }

            fn upcasts() -> &'static [#krate::Upcast] {
                const STEPS: &[#krate::Upcast] = &[#(#steps),*];
                STEPS
            }
        }
    })
}
