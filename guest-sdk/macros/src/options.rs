//! What stands in the parentheses of the attributes.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    Ident, Lit, LitBool, LitStr, Path, Token, meta::ParseNestedMeta, parenthesized, parse::ParseStream,
    punctuated::Punctuated,
};

use crate::duration;

/// What both attributes take.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) name: Option<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) connectors: Vec<Path>,
}

impl Shared {
    /// Whether the option was one of these.
    pub(crate) fn take(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<bool> {
        if meta.path.is_ident("name") {
            let name: LitStr = meta.value()?.parse()?;
            check_name(&name)?;
            self.name = Some(name);
        } else if meta.path.is_ident("description") {
            self.description = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("connectors") {
            self.connectors.extend(paths(meta)?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

fn check_name(name: &LitStr) -> syn::Result<()> {
    let text = name.value();
    let valid = (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if valid {
        return Ok(());
    }
    Err(syn::Error::new(name.span(), "a name has 1 to 128 of the characters A-Z, a-z, 0-9, `-` and `_`"))
}

/// `connectors(A, b::C)`.
pub(crate) fn paths(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<Path>> {
    let list;
    parenthesized!(list in meta.input);
    let paths = Punctuated::<Path, Token![,]>::parse_terminated_with(&list, Path::parse_mod_style)?;
    Ok(paths.into_iter().collect())
}

/// `search_keys("a", "b.c")`.
pub(crate) fn texts(meta: &ParseNestedMeta<'_>) -> syn::Result<Vec<LitStr>> {
    let list;
    parenthesized!(list in meta.input);
    let texts = Punctuated::<LitStr, Token![,]>::parse_terminated_with(&list, |input: ParseStream<'_>| {
        input.parse()
    })?;
    Ok(texts.into_iter().collect())
}

/// `on_behalf_of` or `on_behalf_of = true`.
pub(crate) fn flag(meta: &ParseNestedMeta<'_>) -> syn::Result<bool> {
    if meta.input.peek(Token![=]) {
        return Ok(meta.value()?.parse::<LitBool>()?.value);
    }
    Ok(true)
}

/// `key = "30s"` as a `Duration`.
pub(crate) fn time(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let milliseconds = duration::parse(&meta.value()?.parse()?)?;
    Ok(quote! { ::core::time::Duration::from_millis(#milliseconds) })
}

/// `retry(attempts = 5, …)` as a `RetryPolicy`.
pub(crate) fn retry(meta: &ParseNestedMeta<'_>) -> syn::Result<TokenStream> {
    let mut fields = Vec::new();
    meta.parse_nested_meta(|meta| {
        let key = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        let field = match key.as_str() {
            "attempts" => {
                let attempts: syn::LitInt = meta.value()?.parse()?;
                let attempts: u32 = attempts.base10_parse()?;
                quote! { attempts: #attempts }
            }
            "initial" => {
                let time = time(&meta)?;
                quote! { initial: #time }
            }
            "backoff" => {
                let literal: Lit = meta.value()?.parse()?;
                let backoff: f64 = match &literal {
                    Lit::Float(number) => number.base10_parse()?,
                    Lit::Int(number) => number.base10_parse()?,
                    other => return Err(syn::Error::new(other.span(), "expected a number such as 2.0")),
                };
                if backoff < 1.0 {
                    return Err(syn::Error::new(literal.span(), "the backoff is at least 1"));
                }
                quote! { backoff: #backoff }
            }
            "max" => {
                let time = time(&meta)?;
                quote! { max: #time }
            }
            "non_retryable" => {
                let kinds = texts(&meta)?;
                quote! { non_retryable: ::std::vec![#(::std::string::String::from(#kinds)),*] }
            }
            _ => {
                return Err(meta.error(
                    "unknown option of `retry`: it takes attempts, initial, backoff, max, non_retryable(\"Kind\")",
                ));
            }
        };
        fields.push(field);
        Ok(())
    })?;
    Ok(quote! { airlock::RetryPolicy { #(#fields,)* ..::core::default::Default::default() } })
}
