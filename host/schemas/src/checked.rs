//! A compiled schema, and checks by it.

use std::sync::Arc;

use async_recursion::async_recursion as boxed;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::{
    Dialect, Difference, Limits, Outcome, Refused, Undecided,
    cost::{self, Cost},
    format,
    outline::{self, Outline},
    pattern::{COMPILED_BYTES, TRANSITION_BYTES},
    room::{Room, guarded},
};

/// Differences that are told.
const MAX_DIFFERENCES: usize = 20;

/// What is looked at on the caller's thread to know what a check costs.
const STEPS_AT_ONCE: u64 = 2_000;
const LEVELS_AT_ONCE: u32 = 128;

/// A schema that can check. Cheap to clone.
#[derive(Clone)]
pub struct Checked {
    pub(crate) ready: Arc<Ready>,
    pub(crate) room: Arc<Room>,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").field("schemas", &self.ready.outline.nodes.len()).finish_non_exhaustive()
    }
}

/// What is kept of a schema.
pub(crate) struct Ready {
    validator: Validator,
    outline: Outline,
    limits: Limits,
}

impl Ready {
    /// Reads and compiles a schema. This is for the threads of the room.
    pub(crate) fn new(schema: &Value, dialect: Dialect, limits: &Limits) -> Result<Self, Refused> {
        let outline = outline::read(schema, limits)?;
        if dialect == Dialect::Input
            && let Some(bounded) = format::bounded(schema, outline.places())
        {
            return Self::compile(&bounded, outline::read(&bounded, limits)?, dialect, limits);
        }
        Self::compile(schema, outline, dialect, limits)
    }

    fn compile(schema: &Value, outline: Outline, dialect: Dialect, limits: &Limits) -> Result<Self, Refused> {
        let options = jsonschema::options().offline().with_pattern_options(
            PatternOptions::regex().size_limit(4 * COMPILED_BYTES).dfa_size_limit(TRANSITION_BYTES),
        );
        let options = match dialect {
            Dialect::Declared => options,
            Dialect::Input => format::asserted(options),
            Dialect::WithoutFormats => options.should_validate_formats(false),
            Dialect::Draft202012 => {
                options.with_draft(jsonschema::Draft::Draft202012).should_validate_formats(false)
            }
        };
        let built = match outline.without.as_slice() {
            [] => options.build(schema),
            places => options.build(&outline::without(schema, places)),
        };
        let validator =
            built.map_err(|error| outline::broken(error.to_string(), &error.instance_path().to_string()))?;
        Ok(Self { validator, outline, limits: limits.clone() })
    }

    /// What it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.outline.bytes
    }

    /// What a check costs, where there is much time to know it.
    pub(crate) fn cost(&self, value: &Value) -> Result<Cost, Undecided> {
        is_shallow(value, self.limits.depth)?;
        cost::of(&self.outline, value, self.limits.steps, self.limits.levels)
    }

    /// The same where there is little: nothing if it is not known at once, or too much for the caller's thread.
    fn small_cost(&self, value: &Value) -> Option<Cost> {
        let depth = self.limits.depth.min(LEVELS_AT_ONCE as usize);
        is_small(value, depth, STEPS_AT_ONCE as usize).then_some(())?;
        cost::of(&self.outline, value, STEPS_AT_ONCE, LEVELS_AT_ONCE).ok()
    }

    pub(crate) fn check(&self, value: &Value, cost: Cost) -> Outcome {
        let limit = self.limits.work;
        if cost.fits > limit {
            return Outcome::Undecided(Undecided::Work);
        }
        if self.validator.is_valid(value) {
            return Outcome::Fits;
        }
        let differences: Vec<Difference> = if cost.all <= limit {
            self.validator.iter_errors(value).take(MAX_DIFFERENCES).map(difference).collect()
        } else if cost.first <= limit {
            self.validator.validate(value).err().map(difference).into_iter().collect()
        } else {
            Vec::new()
        };
        match differences.is_empty() {
            true => Outcome::Differs(vec![Difference {
                instance: String::new(),
                schema: String::new(),
                message: "value does not fit its schema; to say where would take too much work".into(),
            }]),
            false => Outcome::Differs(differences),
        }
    }
}

impl Checked {
    /// Checks a value. What is small is checked at once; else it is copied and checked on a thread of the room.
    #[boxed]
    pub async fn check(&self, value: &Value) -> Outcome {
        match self.at_once(value) {
            Some(outcome) => outcome,
            None => self.room.run(self.work(value.clone())).await.unwrap_or_else(Outcome::Undecided),
        }
    }

    /// The same for a value that nobody else needs: a large one is not copied.
    #[boxed]
    pub async fn check_owned(&self, value: Value) -> Outcome {
        match self.at_once(&value) {
            Some(outcome) => outcome,
            None => self.room.run(self.work(value)).await.unwrap_or_else(Outcome::Undecided),
        }
    }

    /// The same for callers that may block, for [`Limits::deadline`] at most.
    pub fn check_blocking(&self, value: &Value) -> Outcome {
        match self.at_once(value) {
            Some(outcome) => outcome,
            None => self.room.run_blocking(self.work(value.clone())).unwrap_or_else(Outcome::Undecided),
        }
    }

    /// Looks at a value with the compiled schema, for who asks more than whether it fits: all that `look` does must cost
    /// no more than `times` that all differences are listed.
    ///
    /// # Errors
    ///
    /// It was not looked at.
    pub async fn look<T: Send + 'static>(
        &self,
        value: Value,
        times: u32,
        look: impl FnOnce(&Validator, Value) -> T + Send + 'static,
    ) -> Result<T, Undecided> {
        match self.look_at_once(value, times, look) {
            Ok(looked) => looked,
            Err(work) => self.room.run(work).await.and_then(|looked| looked),
        }
    }

    /// The same for callers that may block.
    ///
    /// # Errors
    ///
    /// It was not looked at.
    pub fn look_blocking<T: Send + 'static>(
        &self,
        value: Value,
        times: u32,
        look: impl FnOnce(&Validator, Value) -> T + Send + 'static,
    ) -> Result<T, Undecided> {
        match self.look_at_once(value, times, look) {
            Ok(looked) => looked,
            Err(work) => self.room.run_blocking(work).and_then(|looked| looked),
        }
    }

    /// Places of regular expressions that are not checked: they look around or back, or are too costly. Nothing is
    /// refused for that they are left out.
    pub fn unchecked(&self) -> &[String] {
        &self.ready.outline.without
    }

    /// What is known on the caller's thread.
    fn at_once(&self, value: &Value) -> Option<Outcome> {
        let limit = self.ready.limits.work_at_once;
        if let Some(cost) = self.ready.small_cost(value).filter(|cost| cost.all <= limit) {
            let checked = guarded(|| self.ready.check(value, cost));
            return Some(checked.unwrap_or_else(Outcome::Undecided));
        }
        // A value that is too deep is not even copied.
        is_shallow(value, self.ready.limits.depth).err().map(Outcome::Undecided)
    }

    /// The rest, for a thread of the room.
    fn work(&self, value: Value) -> impl FnOnce() -> Outcome + Send + 'static + use<> {
        let ready = Arc::clone(&self.ready);
        move || match ready.cost(&value) {
            Ok(cost) => ready.check(&value, cost),
            Err(undecided) => Outcome::Undecided(undecided),
        }
    }

    fn look_at_once<T, L: FnOnce(&Validator, Value) -> T + Send + 'static>(
        &self,
        value: Value,
        times: u32,
        look: L,
    ) -> Result<Result<T, Undecided>, impl FnOnce() -> Result<T, Undecided> + Send + 'static + use<T, L>>
    {
        let times = u64::from(times);
        let limit = self.ready.limits.work_at_once;
        let is_small = |cost: &Cost| cost.all.saturating_mul(times) <= limit;
        if self.ready.small_cost(&value).is_some_and(|cost| is_small(&cost)) {
            return Ok(guarded(|| look(&self.ready.validator, value)));
        }
        let ready = Arc::clone(&self.ready);
        Err(move || {
            let cost = ready.cost(&value)?;
            match cost.all.saturating_mul(times) > ready.limits.work {
                true => Err(Undecided::Work),
                false => Ok(look(&ready.validator, value)),
            }
        })
    }
}

fn difference(error: ValidationError<'_>) -> Difference {
    Difference {
        instance: error.instance_path().to_string(),
        schema: error.schema_path().to_string(),
        message: outline::short(&error.masked().to_string()),
    }
}

/// Whether a value has no more than so many levels, whatever its depth.
fn is_shallow(value: &Value, depth: usize) -> Result<(), Undecided> {
    let mut waiting = vec![(value, 1_usize)];
    while let Some((value, level)) = waiting.pop() {
        if level > depth {
            return Err(Undecided::Depth);
        }
        match value {
            Value::Array(items) => {
                let nested = items.iter().filter(|item| item.is_array() || item.is_object());
                waiting.extend(nested.map(|item| (item, level + 1)));
            }
            Value::Object(fields) => {
                let nested = fields.values().filter(|field| field.is_array() || field.is_object());
                waiting.extend(nested.map(|field| (field, level + 1)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a value has few parts and levels; stops where it has not.
fn is_small(value: &Value, depth: usize, mut parts: usize) -> bool {
    fn look(value: &Value, depth: usize, parts: &mut usize) -> bool {
        let Some(left) = parts.checked_sub(1) else { return false };
        *parts = left;
        match value {
            Value::Array(items) => depth > 0 && items.iter().all(|item| look(item, depth - 1, parts)),
            Value::Object(fields) => depth > 0 && fields.values().all(|field| look(field, depth - 1, parts)),
            _ => true,
        }
    }
    look(value, depth, &mut parts)
}
