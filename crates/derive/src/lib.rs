//! The derive macros behind `tidepost::Message` and `tidepost::Shared`: they write down a struct's layout, so that both ends of a topic can
//! compare it. What makes a struct plain data is checked by zerocopy's own derives.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Fields, LitStr, Result, parse_macro_input};

/// Implements `tidepost::Message` for a `#[repr(C)]` or `#[repr(transparent)]` struct whose fields are messages.
///
/// The type's name on the wire is the struct's; `#[tidepost(name = "…")]` chooses another, for instance when a
/// program in which the struct is called differently has to understand it.
///
/// ```
/// use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(tidepost::Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Pose { x: f64, y: f64 }
/// ```
///
/// Without `repr(C)` the compiler may order the fields as it likes, differently in each program:
///
/// ```compile_fail
/// use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(tidepost::Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// struct Pose { x: f64, y: f64 }
/// ```
///
/// Padding would carry bytes that were never written to another process. A struct with some is refused,
///
/// ```compile_fail
/// use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(tidepost::Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Tagged { tag: u8, value: u64 }
/// ```
///
/// and taken once the gap has a name:
///
/// ```
/// use tidepost::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
/// #[derive(tidepost::Message, FromBytes, IntoBytes, Immutable, KnownLayout)]
/// #[repr(C)]
/// struct Tagged { tag: u8, reserved: [u8; 7], value: u64 }
/// ```
///
/// An enum has bit patterns that are no value, and is refused:
///
/// ```compile_fail
/// #[derive(tidepost::Message)]
/// #[repr(u8)]
/// enum Colour { Red, Green }
/// ```
#[proc_macro_derive(Message, attributes(tidepost))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// Implements `tidepost::Shared` for a `#[repr(C)]` or `#[repr(transparent)]` struct whose fields are shared types: locks, atomic
/// numbers, plain numbers that never change, arrays and structs of them. `#[tidepost(name = "…")]` as for messages.
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// #[derive(tidepost::Shared)]
/// #[repr(C)]
/// struct Counters { hits: AtomicU64, balance: tidepost::Mutex<i64> }
/// ```
///
/// What would mean something in one process alone is refused:
///
/// ```compile_fail
/// use std::sync::atomic::AtomicU64;
/// #[derive(tidepost::Shared)]
/// #[repr(C)]
/// struct Counters { hits: AtomicU64, balance: std::sync::Mutex<i64> }
/// ```
#[proc_macro_derive(Shared, attributes(tidepost))]
pub fn derive_shared(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand_shared(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand_shared(input: &DeriveInput) -> Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "only structs can lie in a region: any bytes must be a value",
        ));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "a type in a region has no parameters: its layout is one",
        ));
    }
    check_representation(input)?;
    let name = wire_name(input)?;
    let ident = &input.ident;
    let kinds: Vec<_> = data.fields.iter().map(|field| &field.ty).collect();
    let fields = fields(&data.fields, &quote!(::tidepost::Shared));
    Ok(quote! {
        // Every field is one of those types, which is checked here.
        const _: () = {
            const fn is_shared<T: ::tidepost::Shared>() {}
            #(is_shared::<#kinds>();)*
        };
        // SAFETY: as each of its fields; what lies between them is never looked at.
        unsafe impl ::tidepost::Placeable for #ident {}
        impl ::tidepost::Shared for #ident {
            fn descriptor() -> ::tidepost::TypeDescriptor {
                let mut fields = ::std::vec::Vec::new();
                #(#fields)*
                ::tidepost::TypeDescriptor::of_struct::<Self>(#name, fields)
            }
        }
    })
}

fn expand(input: &DeriveInput) -> Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "only structs can be messages: any bytes must be a value",
        ));
    };
    check_representation(input)?;
    let name = wire_name(input)?;
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let fields = fields(&data.fields, &quote!(::tidepost::Message));
    Ok(quote! {
        impl #impl_generics ::tidepost::Message for #ident #type_generics #where_clause {
            fn descriptor() -> ::tidepost::TypeDescriptor {
                let mut fields = ::std::vec::Vec::new();
                #(#fields)*
                ::tidepost::TypeDescriptor::of_struct::<Self>(#name, fields)
            }
        }
    })
}

/// One statement for each field, which adds it and what is nested in it.
fn fields(fields: &Fields, of: &Tokens) -> Vec<Tokens> {
    let members = fields.members();
    members
        .zip(fields)
        .map(|(member, field)| {
            let (kind, name) = (&field.ty, quote!(#member).to_string());
            quote! {
                fields.extend(::tidepost::TypeDescriptor::nested_fields(
                    #name,
                    ::core::mem::offset_of!(Self, #member),
                    &<#kind as #of>::descriptor(),
                ));
            }
        })
        .collect()
}

fn check_representation(input: &DeriveInput) -> Result<()> {
    let mut is_fixed = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            is_fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<syn::LitInt>()?;
            }
            Ok(())
        })?;
    }
    let help = "it needs #[repr(C)] or #[repr(transparent)], so that its layout is the same in every program";
    if is_fixed { Ok(()) } else { Err(Error::new_spanned(&input.ident, help)) }
}

fn wire_name(input: &DeriveInput) -> Result<String> {
    let mut name = input.ident.to_string();
    for attribute in input.attrs.iter().filter(|attribute: &&Attribute| attribute.path().is_ident("tidepost"))
    {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("the only option is `name = \"…\"`"));
            }
            name = meta.value()?.parse::<LitStr>()?.value();
            Ok(())
        })?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn error(input: DeriveInput) -> String {
        expand(&input).expect_err("it must be refused").to_string()
    }

    #[test]
    fn every_field_is_written_down() {
        let text = expand(&parse_quote! {
            #[repr(C, align(16))]
            struct Pose { x: f64, inner: Inner }
        });
        let text = text.expect("it is a message").to_string();
        for part in ["\"Pose\"", "\"x\"", "\"inner\"", "offset_of ! (Self , inner)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_tuple_struct_has_numbered_fields_and_may_be_renamed() {
        let input = parse_quote! {
            #[repr(transparent)]
            #[tidepost(name = "Metres")]
            struct Length(f64);
        };
        let text = expand(&input).expect("it is a message").to_string();
        assert!(text.contains("\"Metres\"") && text.contains("\"0\""), "{text}");
    }

    #[test]
    fn what_cannot_be_a_message_is_refused_with_the_reason() {
        assert!(error(parse_quote! { #[repr(u8)] enum E { A } }).contains("only structs"));
        assert!(error(parse_quote! { #[repr(C)] union U { a: u8 } }).contains("only structs"));
        assert!(error(parse_quote! { struct S { a: u8 } }).contains("repr(C)"));
        assert!(error(parse_quote! { #[repr(C)] #[tidepost(size = 3)] struct S; }).contains("only option"));
    }
}
