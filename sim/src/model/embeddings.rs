//! `/v1/embeddings`.
//!
//! Must not know: faults or records. A vector derives from its text, has length one, and comes
//! as numbers or as base64 of little-endian 32-bit floats.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Question;
use super::prompt::tokens;
use super::reply::{ApiError, Reply};
use crate::encoding::b64;

const DEFAULT_DIMENSIONS: usize = 64;
const MAX_DIMENSIONS: usize = 4096;
const MAX_INPUTS: usize = 2048;
/// Most numbers in one answer.
const MAX_NUMBERS: usize = 1 << 20;

pub(super) fn embed(question: &Question) -> Result<Reply, ApiError> {
    let inputs = inputs(question.body.get("input"))?;
    let dimensions = question.number(&["dimensions"]).unwrap_or(DEFAULT_DIMENSIONS);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(ApiError::invalid("dimensions must be between 1 and 4096"));
    }
    if inputs.len() * dimensions > MAX_NUMBERS {
        return Err(ApiError::invalid("inputs times dimensions must not exceed 1048576"));
    }
    let base64 = match question.body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::invalid("encoding_format must be float or base64")),
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, (text, _))| {
            let vector = vector(text, dimensions);
            let embedding =
                if base64 { json!(b64(&little_endian(&vector))) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let count: usize = inputs.iter().map(|(_, tokens)| tokens).sum();
    Ok(Reply::json(json!({
        "object": "list",
        "data": data,
        "model": question.model,
        "usage": {"prompt_tokens": count, "total_tokens": count},
    })))
}

/// Texts with their token counts; a list of numbers is one text of so many tokens.
fn inputs(input: Option<&Value>) -> Result<Vec<(String, usize)>, ApiError> {
    let one = |value: &Value| match value {
        Value::String(text) => Some((text.clone(), tokens(text))),
        Value::Array(ids) if ids.iter().all(Value::is_u64) => Some((value.to_string(), ids.len())),
        _ => None,
    };
    let inputs = match input {
        Some(Value::Array(items)) if !items.iter().all(Value::is_u64) => {
            items.iter().map(one).collect()
        }
        Some(value) => one(value).map(|input| vec![input]),
        None => None,
    };
    inputs
        .filter(|inputs: &Vec<_>| !inputs.is_empty() && inputs.len() <= MAX_INPUTS)
        .ok_or_else(|| ApiError::invalid("input must be a text, or a list of up to 2048 texts"))
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut rng = ChaCha20Rng::from_seed(Sha256::digest(text).into());
    let mut vector: Vec<f32> = (0..dimensions).map(|_| rng.gen_range(-1.0_f32..1.0)).collect();
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|number| *number /= length);
    vector
}

fn little_endian(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|number| number.to_le_bytes()).collect()
}
