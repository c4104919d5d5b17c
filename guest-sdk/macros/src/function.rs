//! The function under an attribute: what its parts are, and messages for what they cannot be.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Ident, ItemFn, Lit, LitStr, Meta, Pat, PathArguments,
    ReturnType, Type, spanned::Spanned,
};

/// A parameter by what its type is called.
pub(crate) enum Parameter {
    /// `Workflow` or `ActivityContext`, and the name of the parameter.
    Context(String, Span, Option<String>),
    /// `Tools<Slot>`, with the slot.
    Tools(Type),
    /// Anything else.
    Input { name: String, ty: Box<Type>, span: Span },
}

pub(crate) struct Function {
    pub(crate) item: ItemFn,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Type,
}

/// Checks what every such function must be. `what` is "a workflow" or "an activity".
pub(crate) fn read(item: ItemFn, what: &str) -> syn::Result<Function> {
    let signature = &item.sig;
    let error = |span: Span, message: &str| Err(syn::Error::new(span, message));
    if signature.asyncness.is_none() {
        return error(signature.fn_token.span, &format!("{what} is an `async fn`: put `async` before `fn`"));
    }
    if !signature.generics.params.is_empty() || signature.generics.where_clause.is_some() {
        return error(
            signature.generics.span(),
            &format!("{what} cannot be generic: its input and output need one JSON schema each"),
        );
    }
    let ReturnType::Type(_, output) = &signature.output else {
        return error(
            signature.ident.span(),
            &format!(
                "{what} returns a result: write `-> airlock::Result<T>`, or `-> airlock::Result<()>` if there is nothing to return"
            ),
        );
    };
    let output = Type::clone(output);
    let parameters = signature.inputs.iter().map(parameter).collect::<syn::Result<_>>()?;
    Ok(Function { item, parameters, output })
}

fn parameter(argument: &FnArg) -> syn::Result<Parameter> {
    let FnArg::Typed(typed) = argument else {
        return Err(syn::Error::new(
            argument.span(),
            "put the attribute on a plain function, not on a method",
        ));
    };
    if let Type::Reference(reference) = &*typed.ty {
        return Err(syn::Error::new(
            reference.span(),
            "a parameter owns its value: use `String` instead of `&str`, `T` instead of `&T`",
        ));
    }
    if let Type::Path(path) = &*typed.ty
        && let Some(last) = path.path.segments.last()
    {
        match last.ident.to_string().as_str() {
            context @ ("Workflow" | "ActivityContext") if last.arguments.is_none() => {
                let name = match &*typed.pat {
                    Pat::Ident(name) => Some(name.ident.to_string()),
                    _ => None,
                };
                return Ok(Parameter::Context(context.to_owned(), typed.ty.span(), name));
            }
            "Tools" => return tools(&last.arguments, typed.ty.span()),
            _ => {}
        }
    }
    let name = match &*typed.pat {
        Pat::Ident(name) => name.ident.to_string().trim_start_matches('_').to_owned(),
        _ => "input".to_owned(),
    };
    let name = if name.is_empty() { "input".to_owned() } else { name };
    Ok(Parameter::Input { name, ty: typed.ty.clone(), span: typed.span() })
}

fn tools(arguments: &PathArguments, span: Span) -> syn::Result<Parameter> {
    if let PathArguments::AngleBracketed(arguments) = arguments
        && let (1, Some(GenericArgument::Type(slot))) = (arguments.args.len(), arguments.args.first())
    {
        return Ok(Parameter::Tools(slot.clone()));
    }
    Err(syn::Error::new(span, "name the slot: `Tools<Github>` for `airlock::connector!(Github = \"…\")`"))
}

impl Function {
    /// The type of the input, `()` if there is none, and the name of its parameter.
    pub(crate) fn input(&self) -> syn::Result<(TokenStream, Option<&str>)> {
        let mut found = None;
        for parameter in &self.parameters {
            if let Parameter::Input { name, ty, span } = parameter {
                if found.is_some() {
                    return Err(syn::Error::new(
                        *span,
                        "there is one input: put several values into a struct with #[derive(Serialize, Deserialize, JsonSchema)]",
                    ));
                }
                found = Some((quote! { #ty }, Some(name.as_str())));
            }
        }
        Ok(found.unwrap_or((quote! { () }, None)))
    }

    /// The function's own name, unless the attribute gives another.
    pub(crate) fn name(&self, given: Option<&LitStr>) -> LitStr {
        given.cloned().unwrap_or_else(|| {
            let ident = &self.item.sig.ident;
            LitStr::new(ident.to_string().trim_start_matches("r#"), ident.span())
        })
    }

    /// The attribute's description, else the documentation.
    pub(crate) fn description(&self, given: Option<&LitStr>) -> TokenStream {
        let text = given.map(LitStr::value).unwrap_or_else(|| documentation(&self.item.attrs));
        if text.is_empty() {
            quote! { ::core::option::Option::None }
        } else {
            quote! { ::core::option::Option::Some(#text) }
        }
    }

    /// What takes the function's place: a type of its name, and a function that names the type. A function and not a
    /// unit struct, so that variables of the same name remain possible.
    pub(crate) fn marker(&self) -> TokenStream {
        let (attributes, visibility, name) = (self.outer_attributes(), &self.item.vis, &self.item.sig.ident);
        let cfg = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
        quote! {
            #(#attributes)*
            #[allow(non_camel_case_types)]
            #[derive(Debug, Clone, Copy)]
            #visibility struct #name {}

            #(#cfg)*
            #[doc(hidden)]
            #[allow(dead_code)]
            #visibility fn #name() -> #name {
                #name {}
            }
        }
    }

    /// The function itself, under a name that nobody else uses, with something at the beginning of its body.
    pub(crate) fn body(&self, first: TokenStream) -> (TokenStream, Ident) {
        let mut item = self.item.clone();
        let block = &item.block;
        let statements = &block.stmts;
        *item.block = syn::parse_quote! { { #first #(#statements)* } };
        item.attrs.retain(|attribute| !is_outer(attribute));
        item.vis = syn::Visibility::Inherited;
        let name = Ident::new("__airlock_body", item.sig.ident.span());
        item.sig.ident = name.clone();
        (quote! { #item }, name)
    }

    fn outer_attributes(&self) -> Vec<&Attribute> {
        self.item.attrs.iter().filter(|attribute| is_outer(attribute)).collect()
    }
}

/// Documentation and conditions belong to the struct; lint attributes and such to the function.
fn is_outer(attribute: &Attribute) -> bool {
    ["doc", "cfg", "deprecated"].iter().any(|name| attribute.path().is_ident(name))
}

fn documentation(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) = &pair.value
        {
            let line = line.value();
            lines.push(line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
        }
    }
    lines.join("\n").trim().to_owned()
}
