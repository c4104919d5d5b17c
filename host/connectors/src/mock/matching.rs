//! Which mock a call means.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Whether a value has everything that is asked for: of objects each key that is asked for, of anything else an equal
/// value. Numbers are equal by value: 1 is 1.0.
pub(super) fn contains(value: &Value, asked: &Value) -> bool {
    match (value, asked) {
        (Value::Object(fields), Value::Object(asked)) => {
            asked.iter().all(|(name, asked)| fields.get(name).is_some_and(|field| contains(field, asked)))
        }
        (Value::Array(items), Value::Array(asked)) => {
            items.len() == asked.len() && items.iter().zip(asked).all(|(item, asked)| contains(item, asked))
        }
        (Value::Number(number), Value::Number(asked)) => {
            number == asked || (number.is_f64() != asked.is_f64() && number.as_f64() == asked.as_f64())
        }
        (value, asked) => value == asked,
    }
}

/// How much is asked for: the number of keys, at any depth.
pub(super) fn weight(asked: &Value) -> usize {
    match asked {
        Value::Object(fields) => fields.len() + fields.values().map(weight).sum::<usize>(),
        Value::Array(items) => items.iter().map(weight).sum(),
        _ => 0,
    }
}

/// One of so many, always the same for the same arguments.
pub(super) fn choice(arguments: &Value, count: usize) -> Option<usize> {
    if count <= 1 {
        return (count == 1).then_some(0);
    }
    let digest = Sha256::digest(arguments.to_string());
    let number = digest[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number % count as u64).ok()
}
