//! What the body of a workflow uses of connectors and handlers, found in its text, so that what is not declared does not
//! compile.
//!
//! Only what names its type is seen: `ctx.call_tool::<Github>(…)`, `ctx.on_query::<Total>(…)`, and activities that are run
//! with the context itself or a clone of it. Functions are not looked into, neither those that the body calls nor those
//! inside it, whose types may be parameters; a plugin's own tests see what they use when they run.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{quote, quote_spanned};
use syn::{ItemFn, LitStr, Path};

/// What the attribute lists.
pub(crate) struct Declared<'a> {
    pub(crate) connectors: &'a [Path],
    pub(crate) signals: &'a [Path],
    pub(crate) queries: &'a [Path],
    pub(crate) updates: &'a [Path],
}

#[derive(Clone, Copy)]
enum Sort {
    Connector,
    Signal,
    Query,
    Update,
}

impl Sort {
    /// What a method with a type names.
    fn of(method: &str) -> Option<Self> {
        Some(match method {
            "call_tool" | "list_tools" | "await_auth" => Self::Connector,
            "signal" | "signal_sent" | "try_signal" | "on_signal" => Self::Signal,
            "on_query" => Self::Query,
            "on_update" | "on_valid_update" => Self::Update,
            _ => return None,
        })
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Connector => ("connector", "connectors"),
            Self::Signal => ("signal", "signals"),
            Self::Query => ("query", "queries"),
            Self::Update => ("update", "updates"),
        }
    }
}

/// Assertions to stand at the beginning of the body, where its own `use` lines count too. `context` is the name of the
/// parameter.
pub(crate) fn assertions(item: &ItemFn, context: Option<&str>, declared: &Declared<'_>) -> TokenStream {
    let block = &item.block;
    let mut found = Found {
        assertions: TokenStream::new(),
        contexts: context.map(str::to_owned).into_iter().collect(),
        variables: BTreeSet::new(),
        declared,
    };
    for argument in &item.sig.inputs {
        found.binds(quote! { #argument }.into_iter().collect::<Vec<_>>().as_slice());
    }
    found.look(quote! { #block });
    found.assertions
}

struct Found<'a> {
    assertions: TokenStream,
    /// Names of the context and of its clones.
    contexts: BTreeSet<String>,
    /// Names of other variables, which stand for nothing that is known yet.
    variables: BTreeSet<String>,
    declared: &'a Declared<'a>,
}

impl Found<'_> {
    fn look(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut in_function = false;
        for place in 0..tokens.len() {
            match &tokens[place] {
                TokenTree::Ident(word) if word == "fn" => in_function = true,
                TokenTree::Group(body) if in_function && body.delimiter() == Delimiter::Brace => {
                    in_function = false;
                    continue;
                }
                // A pointer to a function has no body.
                TokenTree::Punct(end) if "=;".contains(end.as_char()) => in_function = false,
                _ => {}
            }
            if in_function {
                continue;
            }
            if let TokenTree::Ident(word) = &tokens[place]
                && (word == "let" || word == "for")
            {
                self.binds(&tokens[place + 1..]);
                self.clones(&tokens[place + 1..]);
            }
            if let TokenTree::Punct(dot) = &tokens[place]
                && dot.as_char() == '.'
            {
                let before = place.checked_sub(1).and_then(|before| tokens.get(before));
                self.method(before, &tokens[place + 1..]);
            }
            if let TokenTree::Group(group) = &tokens[place] {
                self.look(group.stream());
            }
        }
    }

    /// The names in a pattern, up to its type or value.
    fn binds(&mut self, tokens: &[TokenTree]) {
        for token in tokens {
            match token {
                TokenTree::Ident(word) if word == "in" => return,
                TokenTree::Ident(name) => drop(self.variables.insert(name.to_string())),
                TokenTree::Group(group) => self.binds(&group.stream().into_iter().collect::<Vec<_>>()),
                TokenTree::Punct(end) if "=:;".contains(end.as_char()) => return,
                _ => {}
            }
        }
    }

    /// `let a = ctx.clone()` and `let (a, b) = (ctx.clone(), …)`.
    fn clones(&mut self, tokens: &[TokenTree]) {
        match tokens {
            [TokenTree::Ident(name), TokenTree::Punct(is), value @ ..]
                if is.as_char() == '=' && self.is_clone(value) =>
            {
                self.contexts.insert(name.to_string());
            }
            [TokenTree::Group(names), TokenTree::Punct(is), TokenTree::Group(values), ..]
                if is.as_char() == '=' =>
            {
                for (name, value) in parts(names).iter().zip(parts(values)) {
                    if let [TokenTree::Ident(name)] = name.as_slice()
                        && self.is_clone(&value)
                    {
                        self.contexts.insert(name.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    fn is_clone(&self, tokens: &[TokenTree]) -> bool {
        matches!(tokens, [TokenTree::Ident(name), TokenTree::Punct(dot), TokenTree::Ident(method), TokenTree::Group(_), ..]
            if dot.as_char() == '.' && method == "clone" && self.contexts.contains(&name.to_string()))
    }

    /// What follows a dot.
    fn method(&mut self, before: Option<&TokenTree>, tokens: &[TokenTree]) {
        match tokens {
            [
                TokenTree::Ident(method),
                TokenTree::Punct(a),
                TokenTree::Punct(b),
                TokenTree::Punct(open),
                rest @ ..,
            ] if a.as_char() == ':' && b.as_char() == ':' && open.as_char() == '<' => {
                let Some(sort) = Sort::of(&method.to_string()) else { return };
                let Some((named, arguments)) = first_type(rest) else { return };
                if named.iter().any(|token| matches!(token, TokenTree::Ident(name) if name == "_")) {
                    return;
                }
                // A child has a method `signal` too: that one says what it sends.
                if method == "signal" && !arguments.stream().is_empty() {
                    return;
                }
                self.uses(sort, &named);
            }
            [TokenTree::Ident(method), TokenTree::Group(arguments), ..] if method == "activity" => {
                let is_context = matches!(before, Some(TokenTree::Ident(name)) if self.contexts.contains(&name.to_string()));
                if let (true, Some(activity)) = (is_context, parts(arguments).into_iter().next())
                    && is_path(&activity)
                    && !self.is_variable(&activity)
                {
                    self.runs(&activity);
                }
            }
            _ => {}
        }
    }

    fn is_variable(&self, path: &[TokenTree]) -> bool {
        matches!(path, [TokenTree::Ident(name)] if self.variables.contains(&name.to_string()))
    }

    fn uses(&mut self, sort: Sort, named: &[TokenTree]) {
        let Declared { connectors, signals, queries, updates } = self.declared;
        let named: TokenStream = named.iter().cloned().collect();
        let (word, option) = sort.words();
        let span = first_span(&named);
        let message = message(&format!(
            "this workflow uses the {word} `{0}` and does not declare it: add {option}({0}) to #[workflow(…)]",
            spelled(&named)
        ));
        let (of, constant, list) = match sort {
            Sort::Connector => (quote! { airlock::Slot }, quote! { CONNECTOR }, connectors),
            Sort::Signal => (quote! { airlock::Signal }, quote! { NAME }, signals),
            Sort::Query => (quote! { airlock::Query }, quote! { NAME }, queries),
            Sort::Update => (quote! { airlock::Update }, quote! { NAME }, updates),
        };
        self.assertions.extend(quote_spanned! { span =>
            const _: () = ::core::assert!(
                airlock::__rt::declares(&[#(<#list as #of>::#constant),*], <#named as #of>::#constant),
                #message
            );
        });
    }

    fn runs(&mut self, activity: &[TokenTree]) {
        let activity: TokenStream = activity.iter().cloned().collect();
        let list = self.declared.connectors;
        let span = first_span(&activity);
        let message = message(&format!(
            "this workflow runs the activity `{}`, which calls a connector that the workflow does not declare: add it to \
             connectors(…) of #[workflow(…)]",
            spelled(&activity)
        ));
        self.assertions.extend(quote_spanned! { span =>
            const _: () = ::core::assert!(
                airlock::__rt::declares_all(
                    &[#(<#list as airlock::Slot>::CONNECTOR),*],
                    airlock::__rt::connectors_of(#activity),
                ),
                #message
            );
        });
    }
}

fn message(text: &str) -> LitStr {
    LitStr::new(text, Span::call_site())
}

fn spelled(tokens: &TokenStream) -> String {
    tokens.to_string().replace(' ', "")
}

fn first_span(tokens: &TokenStream) -> Span {
    tokens.clone().into_iter().next().map_or_else(Span::call_site, |token| token.span())
}

/// The parts between commas.
fn parts(group: &Group) -> Vec<Vec<TokenTree>> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
    tokens.split(is_comma).map(<[TokenTree]>::to_vec).collect()
}

/// The first type between angle brackets, and the arguments after them.
fn first_type(tokens: &[TokenTree]) -> Option<(Vec<TokenTree>, &Group)> {
    let (mut depth, mut named, mut is_first) = (1, Vec::new(), true);
    for (place, token) in tokens.iter().enumerate() {
        if let TokenTree::Punct(punct) = token {
            match punct.as_char() {
                '<' => depth += 1,
                '>' => depth -= 1,
                ',' if depth == 1 => is_first = false,
                _ => {}
            }
        }
        if depth == 0 {
            return match tokens.get(place + 1) {
                Some(TokenTree::Group(arguments)) if arguments.delimiter() == Delimiter::Parenthesis => {
                    (!named.is_empty()).then_some((named, arguments))
                }
                _ => None,
            };
        }
        if is_first {
            named.push(token.clone());
        }
    }
    None
}

/// `double` or `steps::double`.
fn is_path(tokens: &[TokenTree]) -> bool {
    !tokens.is_empty()
        && tokens.iter().all(|token| match token {
            TokenTree::Ident(_) => true,
            TokenTree::Punct(punct) => punct.as_char() == ':',
            _ => false,
        })
}
