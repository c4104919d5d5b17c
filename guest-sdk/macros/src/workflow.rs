//! `#[workflow]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{ItemFn, LitStr, meta, parse::Parser, spanned::Spanned};

use crate::{
    declared::{self, Declared},
    function::{self, Parameter},
    options::{self, Shared},
};

pub(crate) fn expand(options: TokenStream, item: ItemFn) -> syn::Result<TokenStream> {
    let mut shared = Shared::default();
    let mut display_name: Option<LitStr> = None;
    let mut on_behalf_of = false;
    let mut execution_timeout = None;
    let mut retry = None;
    let (mut signals, mut queries, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    let mut search_keys: Vec<LitStr> = Vec::new();
    let parser = meta::parser(|meta| {
        if shared.take(&meta)? {
        } else if meta.path.is_ident("display_name") {
            display_name = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("on_behalf_of") {
            on_behalf_of = options::flag(&meta)?;
        } else if meta.path.is_ident("execution_timeout") {
            execution_timeout = Some(options::time(&meta)?);
        } else if meta.path.is_ident("retry") {
            retry = Some(options::retry(&meta)?);
        } else if meta.path.is_ident("signals") {
            signals.extend(options::paths(&meta)?);
        } else if meta.path.is_ident("queries") {
            queries.extend(options::paths(&meta)?);
        } else if meta.path.is_ident("updates") {
            updates.extend(options::paths(&meta)?);
        } else if meta.path.is_ident("search_keys") {
            search_keys.extend(options::texts(&meta)?);
        } else {
            return Err(meta.error(
                "unknown option of #[workflow]: it takes name, display_name, description, on_behalf_of, connectors(…), execution_timeout, retry(…), signals(…), queries(…), updates(…), search_keys(…)",
            ));
        }
        Ok(())
    });
    parser.parse2(options)?;

    let function = function::read(item, "a workflow")?;
    let (input, parameter) = function.input()?;
    let (mut contexts, mut context) = (0, None);
    let mut arguments = Vec::new();
    for parameter in &function.parameters {
        arguments.push(match parameter {
            Parameter::Context(name, _, called) if name == "Workflow" && contexts == 0 => {
                contexts += 1;
                context.clone_from(called);
                quote! { __context }
            }
            Parameter::Context(name, span, _) if name == "Workflow" => {
                return Err(syn::Error::new(*span, "one `Workflow` is enough: it can be cloned"));
            }
            Parameter::Context(_, span, _) => {
                return Err(syn::Error::new(
                    *span,
                    "a workflow's context is an `airlock::Workflow`; `ActivityContext` is for activities",
                ));
            }
            Parameter::Tools(slot) => {
                return Err(syn::Error::new_spanned(
                    slot,
                    "`Tools` is for activities: a workflow calls tools with `ctx.call_tool::<Slot>(tool, arguments)`",
                ));
            }
            Parameter::Input { .. } => quote! { __input },
        });
    }
    if contexts == 0 {
        return Err(syn::Error::new(
            function.item.sig.ident.span(),
            "a workflow's first parameter is its context: `ctx: airlock::Workflow`",
        ));
    }

    let declared =
        Declared { connectors: &shared.connectors, signals: &signals, queries: &queries, updates: &updates };
    let assertions = declared::assertions(&function.item, context.as_deref(), &declared);
    let (marker, (body, body_name)) = (function.marker(), function.body(assertions));
    let (name, ident) = (function.name(shared.name.as_ref()), &function.item.sig.ident);
    let description = function.description(shared.description.as_ref());
    let (output, slots) = (&function.output, &shared.connectors);
    let option = |value: Option<TokenStream>| match value {
        Some(value) => quote! { ::core::option::Option::Some(#value) },
        None => quote! { ::core::option::Option::None },
    };
    let display_name = option(display_name.map(|name| quote! { #name }));
    let execution_timeout = option(execution_timeout);
    let retry = option(retry);
    let parameter = option(parameter.map(|name| quote! { #name }));
    let value = quote_spanned! { output.span() => <#output as airlock::Outcome>::Value };
    Ok(quote! {
        #marker

        impl airlock::WorkflowFn for #ident {
            const NAME: &'static str = #name;
            const PARAMETER: ::core::option::Option<&'static str> = #parameter;
            const CONNECTORS: &'static [&'static str] = &[#(<#slots as airlock::Slot>::CONNECTOR),*];
            const SIGNALS: &'static [&'static str] = &[#(<#signals as airlock::Signal>::NAME),*];
            const QUERIES: &'static [&'static str] = &[#(<#queries as airlock::Query>::NAME),*];
            const UPDATES: &'static [&'static str] = &[#(<#updates as airlock::Update>::NAME),*];
            type Input = #input;
            type Output = #value;

            fn definition() -> airlock::WorkflowDefinition {
                airlock::WorkflowDefinition {
                    name: #name,
                    display_name: #display_name,
                    description: #description,
                    input_schema: airlock::__rt::workflow_input::<<Self as airlock::WorkflowFn>::Input>(
                        <Self as airlock::WorkflowFn>::PARAMETER,
                    ),
                    output_schema: airlock::__rt::workflow_output::<<Self as airlock::WorkflowFn>::Output>(),
                    on_behalf_of: #on_behalf_of,
                    execution_timeout: #execution_timeout,
                    slots: ::std::vec![#(airlock::SlotDefinition::of::<#slots>()),*],
                    signals: ::std::vec![#(airlock::HandlerDefinition::signal::<#signals>()),*],
                    queries: ::std::vec![#(airlock::HandlerDefinition::query::<#queries>()),*],
                    updates: ::std::vec![#(airlock::HandlerDefinition::update::<#updates>()),*],
                    retry: #retry,
                    search_keys: ::std::vec![#(#search_keys),*],
                }
            }

            #[allow(unused_variables)]
            fn run(
                __context: airlock::Workflow,
                __input: <Self as airlock::WorkflowFn>::Input,
            ) -> impl ::core::future::Future<Output = airlock::Result<<Self as airlock::WorkflowFn>::Output>> + 'static {
                #body
                async move { airlock::Outcome::into_result(#body_name(#(#arguments),*).await) }
            }
        }
    })
}
