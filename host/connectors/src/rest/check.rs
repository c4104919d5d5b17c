//! Arguments are checked by an operation's schema before anything is sent.
//!
//! What is checked here is checked by the service as well, so nothing may be refused that would reach it in a form it
//! takes. Parameters and the fields of forms travel as text: `5` and `"5"`, `true` and `"true"`, one value and a list of it
//! are the same request. Where such a value does not fit as it was given, the other ways to write the same are tried. In
//! JSON bodies a text is a text.
//!
//! A refusal says which argument, what was expected there, and that it was airlock that refused, by the document: whoever
//! reads it knows whom to ask. Values are not repeated.

use std::collections::{HashMap, HashSet};

use airlock_schemas::{Checked, Dialect, Outcome, Refused, Schemas, Undecided};
use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::{Format, Given, Operation, Style, body, document::step, request::text, schema::typed};
use crate::{ConnectorsError, error::wording::short};

/// Bytes of schemas whose compiled form is kept.
const MAX_KEPT: usize = 8 << 20;

/// Values that are written in another way, and errors that are looked at to find them.
const MAX_TURNS: usize = 16;
const MAX_ERRORS: usize = 64;

/// So many times all differences may be listed: a turn tries each other way to write a value. Where nothing can be written in
/// another way, there is one turn.
const LOOKS: u32 = 64;
const ONE_LOOK: u32 = 2;

/// Alternatives inside alternatives that an error leads through.
const MAX_LEVELS: usize = 8;

/// Characters of what was expected.
const MAX_EXPECTED: usize = 300;

/// What checks the arguments of one API's operations, kept while it is used.
#[derive(Default)]
pub(crate) struct Checks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    checked: HashMap<String, Checked>,
    bytes: usize,
}

impl Checks {
    /// Checks arguments in either form.
    pub(crate) async fn check(
        &self,
        operation: &Operation,
        arguments: &Map<String, Value>,
    ) -> Result<(), ConnectorsError> {
        let (given, format) = prepared(operation, arguments)?;
        let checked = match self.known(operation) {
            Some(checked) => Some(checked),
            None => match schema(operation) {
                Some(schema) => {
                    let compiled = Schemas::of_process().compile(&schema, Dialect::Draft202012).await;
                    self.keep(operation, compiled)
                }
                None => None,
            },
        };
        let Some(checked) = checked else { return Ok(()) };
        if !matches!(checked.check(&given).await, Outcome::Differs(_)) {
            // Nothing is refused for that it could not be looked at: the service checks as well.
            return Ok(());
        }
        let times = looks(operation, format.as_ref(), &given);
        refused(operation, checked.look(given, times, closer(operation, format)).await)
    }

    /// The same for who may wait.
    pub(crate) fn check_blocking(
        &self,
        operation: &Operation,
        arguments: &Map<String, Value>,
    ) -> Result<(), ConnectorsError> {
        let (given, format) = prepared(operation, arguments)?;
        let checked = self.known(operation).or_else(|| {
            let compiled = Schemas::of_process().compile_blocking(&schema(operation)?, Dialect::Draft202012);
            self.keep(operation, compiled)
        });
        let Some(checked) = checked else { return Ok(()) };
        if !matches!(checked.check_blocking(&given), Outcome::Differs(_)) {
            return Ok(());
        }
        let times = looks(operation, format.as_ref(), &given);
        refused(operation, checked.look_blocking(given, times, closer(operation, format)))
    }

    fn known(&self, operation: &Operation) -> Option<Checked> {
        self.0.lock().checked.get(&operation.slug).cloned()
    }

    /// Keeps what was compiled. A schema that cannot be used checks nothing: the service does.
    fn keep(&self, operation: &Operation, compiled: Result<Checked, Refused>) -> Option<Checked> {
        let checked = match compiled {
            Ok(checked) => checked,
            Err(refused) => {
                let operation = operation.slug.as_str();
                tracing::debug!(operation, reason = %refused, "arguments are not checked by the document");
                return None;
            }
        };
        let bytes = text_of_schema(operation).len();
        let mut kept = self.0.lock();
        if kept.bytes + bytes > MAX_KEPT {
            *kept = Kept::default();
        }
        kept.bytes += bytes;
        kept.checked.insert(operation.slug.clone(), checked.clone());
        Some(checked)
    }
}

fn text_of_schema(operation: &Operation) -> &str {
    operation.check_schema.as_ref().unwrap_or(&operation.input_schema).get()
}

fn schema(operation: &Operation) -> Option<Value> {
    serde_json::from_str(text_of_schema(operation)).ok()
}

/// The arguments as the schema sees them, and how the body is written.
fn prepared(
    operation: &Operation,
    arguments: &Map<String, Value>,
) -> Result<(Value, Option<Format>), ConnectorsError> {
    let flat = operation.flat(arguments)?;
    operation.check_names(&flat)?;
    let format = body::written(operation, &flat);
    let is_text = |name: &str| operation.travels(format, &place_of(name)).is_some();
    let is_there = |(name, value): &(&String, &Value)| !value.is_null() || !is_text(name);
    let given = flat.iter().filter(is_there).map(|(name, value)| (name.clone(), value.clone()));
    let given = Value::Object(given.collect());
    Ok((given, format.cloned()))
}

/// How often the differences of these arguments have to be listed.
fn looks(operation: &Operation, format: Option<&Format>, given: &Value) -> u32 {
    let is_written = matches!(format, Some(Format::Form { .. } | Format::Multipart { .. }));
    let mut names = given.as_object().into_iter().flat_map(Map::keys);
    match is_written || names.any(|name| operation.travels(format, &place_of(name)).is_some()) {
        true => LOOKS,
        false => ONE_LOOK,
    }
}

/// Looks whether arguments fit in another way to write them; if not, place and reason.
fn closer(
    operation: &Operation,
    format: Option<Format>,
) -> impl FnOnce(&Validator, Value) -> Option<(String, String)> + Send + 'static {
    let operation = operation.clone();
    move |validator, given| {
        let error = refusal(validator, &operation, format.as_ref(), given)?;
        Some(told(&error, 0))
    }
}

fn refused(
    operation: &Operation,
    looked: Result<Option<(String, String)>, Undecided>,
) -> Result<(), ConnectorsError> {
    let Ok(Some((place, reason))) = looked else { return Ok(()) };
    let message = format!(
        "the arguments of '{}' do not fit the API's document: {place} {reason}. airlock checked this by itself and sent \
         nothing: if the service would take it, mend the document and import it again",
        operation.slug
    );
    Err(ConnectorsError::Invalid { pointer: format!("/arguments{place}"), message })
}

/// How a value travels, so that other ways to write the same are known.
struct Travels {
    /// As text: a number and its digits are the same then. Else it is a file.
    as_text: bool,
    /// It is a whole parameter or field: one of it and a list of it are the same then.
    is_whole: bool,
    /// What stands between the items of a list that is written as one text.
    separator: Option<char>,
}

impl Operation {
    /// How what stands at a place of the arguments travels, if not as JSON.
    fn travels(&self, format: Option<&Format>, place: &str) -> Option<Travels> {
        let steps: Vec<String> = place.split('/').skip(1).map(unescaped).collect();
        let first = steps.first()?;
        if let Some(parameter) = self.parameters.iter().find(|parameter| parameter.argument == *first) {
            let separator = match parameter.style {
                Style::Simple => Some(','),
                Style::Form if !parameter.explode => Some(','),
                Style::SpaceDelimited if !parameter.explode => Some(' '),
                Style::PipeDelimited if !parameter.explode => Some('|'),
                _ => None,
            };
            return (parameter.style != Style::Json).then_some(Travels {
                as_text: true,
                is_whole: steps.len() == 1,
                separator,
            });
        }
        let (field, below) = match &self.body.as_ref()?.given {
            Given::Whole(argument) if argument == first => (steps.get(1)?, 2),
            Given::Whole(_) => return None,
            Given::Fields { .. } => (first, 1),
        };
        let is_whole = steps.len() == below;
        match format? {
            Format::Form { joined, .. } => {
                let separator = joined.contains(field).then_some(',');
                Some(Travels { as_text: true, is_whole, separator })
            }
            written @ Format::Multipart { parts, .. } => {
                let is_joined = parts.get(field).is_some_and(|part| part.joined);
                let as_text = written.file(field).is_none();
                Some(Travels { as_text, is_whole, separator: (is_joined && as_text).then_some(',') })
            }
            _ => None,
        }
    }
}

/// The place of an argument.
fn place_of(argument: &str) -> String {
    format!("/{}", step(argument))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// Why arguments are refused, if they are in every way to write them.
fn refusal(
    validator: &Validator,
    operation: &Operation,
    format: Option<&Format>,
    mut given: Value,
) -> Option<ValidationError<'static>> {
    let mut tried = HashSet::new();
    for _ in 0..MAX_TURNS {
        if validator.is_valid(&given) {
            return None;
        }
        let errors = validator.iter_errors(&given).take(MAX_ERRORS).map(|error| error.to_owned());
        let errors: Vec<ValidationError<'static>> = errors.collect();
        let mut all = Vec::new();
        errors.iter().for_each(|error| places(error, 0, &mut all));
        let mut all = all.into_iter().filter(|place| !tried.contains(place));
        let place = all.find_map(|place| Some((operation.travels(format, &place)?, place)));
        let Some((travels, place)) = place else { return errors.into_iter().next() };
        let as_given = given.pointer(&place).cloned().unwrap_or_default();
        for other in rewritten(&as_given, &travels) {
            set(&mut given, &place, other);
            let mut left = Vec::new();
            validator.iter_errors(&given).take(MAX_ERRORS).for_each(|error| places(&error, 0, &mut left));
            if !left.iter().any(|left| left.starts_with(&place)) {
                break;
            }
            set(&mut given, &place, as_given.clone());
        }
        tried.insert(place);
    }
    validator.validate(&given).err().map(|error| error.to_owned())
}

/// The places of an error: its own, and those in the alternatives that it is about.
fn places(error: &ValidationError<'_>, level: usize, found: &mut Vec<String>) {
    let context = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => context,
        _ => &Vec::new(),
    };
    found.push(error.instance_path().to_string());
    if level < MAX_LEVELS {
        let inner = context.iter().flat_map(|errors| errors.iter().take(MAX_ERRORS)).take(MAX_ERRORS);
        inner.for_each(|error| places(error, level + 1, found));
    }
}

fn set(given: &mut Value, place: &str, value: Value) {
    if let Some(old) = given.pointer_mut(place) {
        *old = value;
    }
}

/// Other values that are the same when they travel so.
fn rewritten(value: &Value, travels: &Travels) -> Vec<Value> {
    let both = |value: &Value| match travels.as_text {
        true => vec![value.clone(), as_typed(value), as_text(value)],
        false => vec![value.clone()],
    };
    let mut found = both(value);
    match value {
        _ if !travels.is_whole => {}
        Value::Array(items) => {
            if let [only] = items.as_slice() {
                found.extend(both(only));
            }
            if let Some(separator) = travels.separator {
                let texts: Vec<_> = items.iter().filter_map(text).collect();
                found.push(texts.join(&separator.to_string()).into());
            }
        }
        Value::Object(_) if travels.as_text => {}
        single => {
            found.extend(both(&Value::Array(vec![single.clone()])));
            if let Some((text, separator)) = single.as_str().zip(travels.separator) {
                found.extend(both(&text.split(separator).map(Value::from).collect()));
            }
        }
    }
    found.retain(|other| other != value);
    found
}

/// Texts that are numbers or truth values become those.
fn as_typed(value: &Value) -> Value {
    match value {
        Value::String(text) => typed(text).unwrap_or_else(|| value.clone()),
        Value::Array(items) => items.iter().map(as_typed).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), as_typed(field))).collect())
        }
        other => other.clone(),
    }
}

fn as_text(value: &Value) -> Value {
    match value {
        Value::Number(_) | Value::Bool(_) => value.to_string().into(),
        Value::Array(items) => items.iter().map(as_text).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, field)| (name.clone(), as_text(field))).collect())
        }
        other => other.clone(),
    }
}

/// Where an error is and what it says, of the alternative that was meant if there are several.
fn told(error: &ValidationError<'_>, level: usize) -> (String, String) {
    let place = error.instance_path().to_string();
    let context = match error.kind() {
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => context,
        _ => return (place, short(&error.masked().to_string(), MAX_EXPECTED)),
    };
    let meant = context.iter().filter(|errors| !errors.iter().any(|error| tells_apart(error, &place)));
    // The one with the fewest faults.
    let nearest = meant.filter(|errors| !errors.is_empty()).min_by_key(|errors| errors.len());
    if let Some(first) = nearest.and_then(|errors| errors.first()).filter(|_| level < MAX_LEVELS) {
        return told(first, level + 1);
    }
    // None was meant: what would choose one?
    let choosing: Vec<_> =
        context.iter().filter_map(|errors| errors.iter().find(|error| tells_apart(error, &place))).collect();
    let mut places: Vec<_> = choosing.iter().map(|error| error.instance_path().to_string()).collect();
    places.dedup();
    let mut expected: Vec<String> = choosing.iter().flat_map(|error| expected(error)).collect();
    expected.sort();
    expected.dedup();
    match places.as_slice() {
        [only] if !expected.is_empty() => {
            let expected = short(&expected.join(", "), MAX_EXPECTED);
            (only.clone(), format!("is none of what its alternatives expect: {expected}"))
        }
        _ => (place, format!("fits none of its {} alternatives", context.len())),
    }
}

/// Whether an alternative is refused because another one was meant: by its kind, or by a field that has one value in each.
fn tells_apart(error: &ValidationError<'_>, place: &str) -> bool {
    let at = error.instance_path().to_string();
    let is_field = at.strip_prefix(place).is_some_and(|rest| rest.matches('/').count() == 1);
    match error.kind() {
        ValidationErrorKind::Type { .. } => at == place,
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => at == place || is_field,
        ValidationErrorKind::FalseSchema => at == place,
        _ => false,
    }
}

fn expected(error: &ValidationError<'_>) -> Vec<String> {
    match error.kind() {
        ValidationErrorKind::Enum { options } => {
            options.as_array().into_iter().flatten().map(Value::to_string).collect()
        }
        ValidationErrorKind::Constant { expected_value } => vec![expected_value.to_string()],
        ValidationErrorKind::Type { kind: TypeKind::Single(kind) } => vec![format!("type {kind}")],
        ValidationErrorKind::Type { kind: TypeKind::Multiple(kinds) } => {
            kinds.iter().map(|kind| format!("type {kind}")).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
