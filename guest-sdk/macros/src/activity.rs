//! `#[activity]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{ItemFn, meta, parse::Parser, spanned::Spanned};

use crate::{
    function::{self, Parameter},
    options::{self, Shared},
};

pub(crate) fn expand(options: TokenStream, item: ItemFn) -> syn::Result<TokenStream> {
    let mut shared = Shared::default();
    let mut limits = Vec::new();
    let parser = meta::parser(|meta| {
        if shared.take(&meta)? {
            return Ok(());
        }
        let limit = match &meta.path {
            path if path.is_ident("schedule_to_start") => options::time(&meta).map(|time| quote! { schedule_to_start: Some(#time) }),
            path if path.is_ident("start_to_close") => options::time(&meta).map(|time| quote! { start_to_close: Some(#time) }),
            path if path.is_ident("schedule_to_close") => options::time(&meta).map(|time| quote! { schedule_to_close: Some(#time) }),
            path if path.is_ident("heartbeat") => options::time(&meta).map(|time| quote! { heartbeat: Some(#time) }),
            path if path.is_ident("retry") => options::retry(&meta).map(|policy| quote! { retry: Some(#policy) }),
            _ => Err(meta.error(
                "unknown option of #[activity]: it takes name, description, schedule_to_start, start_to_close, schedule_to_close, heartbeat, retry(…), connectors(…)",
            )),
        };
        limits.push(limit?);
        Ok(())
    });
    parser.parse2(options)?;

    let function = function::read(item, "an activity")?;
    let (input, _) = function.input()?;
    let mut contexts = 0;
    let mut arguments = Vec::new();
    let mut slots: Vec<TokenStream> = shared.connectors.iter().map(|path| quote! { #path }).collect();
    for parameter in &function.parameters {
        arguments.push(match parameter {
            Parameter::Context(name, span, _) if name == "Workflow" => {
                return Err(syn::Error::new(
                    *span,
                    "an activity's context is an `airlock::ActivityContext`; `Workflow` is for workflows",
                ));
            }
            Parameter::Context(_, span, _) if contexts == 1 => {
                return Err(syn::Error::new(*span, "one `ActivityContext` is enough: it can be cloned"));
            }
            Parameter::Context(..) => {
                contexts += 1;
                quote! { __context.clone() }
            }
            Parameter::Tools(slot) => {
                slots.push(quote! { #slot });
                quote! { airlock::__rt::tools::<#slot>() }
            }
            Parameter::Input { .. } => quote! { __input },
        });
    }

    let (marker, (body, body_name)) = (function.marker(), function.body(TokenStream::new()));
    let (name, ident) = (function.name(shared.name.as_ref()), &function.item.sig.ident);
    let description = function.description(shared.description.as_ref());
    let output = &function.output;
    let value = quote_spanned! { output.span() => <#output as airlock::Outcome>::Value };
    Ok(quote! {
        #marker

        impl airlock::Activity for #ident {
            const NAME: &'static str = #name;
            const CONNECTORS: &'static [&'static str] = &[#(<#slots as airlock::Slot>::CONNECTOR),*];
            type Input = #input;
            type Output = #value;

            fn definition() -> airlock::ActivityDefinition {
                airlock::ActivityDefinition {
                    name: #name,
                    description: #description,
                    input_schema: airlock::__rt::plain_input::<<Self as airlock::Activity>::Input>(),
                    output_schema: airlock::__rt::plain_output::<<Self as airlock::Activity>::Output>(),
                    options: airlock::ActivityOptions { #(#limits,)* ..::core::default::Default::default() },
                    slots: ::std::vec![#(airlock::SlotDefinition::of::<#slots>()),*],
                }
            }

            #[allow(unused_variables, clippy::let_unit_value)]
            fn run(
                __context: airlock::ActivityContext,
                __input: <Self as airlock::Activity>::Input,
            ) -> impl ::core::future::Future<Output = airlock::Result<<Self as airlock::Activity>::Output>> + 'static {
                #body
                async move { airlock::Outcome::into_result(#body_name(#(#arguments),*).await) }
            }
        }
    })
}
