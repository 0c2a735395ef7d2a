//! `/v1/audio/transcriptions` and `/v1/audio/translations`.
//!
//! Must not know: faults. The file is read piece by piece and never held: what counts is how
//! many bytes came, and which.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::record::Watch;
use super::reply::{ApiError, Reply};

/// Largest file.
pub(super) const MAX_FILE: u64 = 64 * 1024 * 1024;
const MAX_FIELD: u64 = 64 * 1024;

pub(super) async fn transcribe(
    headers: &HeaderMap,
    body: Body,
    watch: &Watch,
    models: &[String],
) -> Result<Reply, ApiError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default())
        .map_err(|_| ApiError::invalid("the body must be multipart/form-data"))?;
    let limits = SizeLimit::new()
        .whole_stream(MAX_FILE + 16 * MAX_FIELD)
        .per_field(MAX_FIELD)
        .for_field("file", MAX_FILE);
    let constraints = Constraints::new().size_limit(limits);
    let mut multipart = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let (mut file, mut model, mut format) = (None, None, None);
    while let Some(field) = multipart.next_field().await.map_err(|error| refused(&error))? {
        match field.name() {
            Some("file") => file = Some(count(field).await?),
            Some("model") => model = Some(text(field).await?),
            Some("response_format") => format = Some(text(field).await?),
            _ => {
                text(field).await?;
            }
        }
    }
    let (bytes, sha256) = file.ok_or_else(|| ApiError::invalid("file is missing"))?;
    watch.multipart(bytes, bytes, sha256.clone());
    let model = model.ok_or_else(|| ApiError::invalid("you must provide a model parameter"))?;
    if !models.contains(&model) {
        return Err(ApiError::no_model(&model));
    }
    let transcript = format!("{bytes} bytes of audio {}", sha256.get(..8).unwrap_or_default());
    match format.as_deref() {
        None | Some("json") => Ok(Reply::json(json!({
            "text": transcript,
            "usage": {"type": "duration", "seconds": seconds(bytes)},
        }))),
        Some("verbose_json") => Ok(Reply::json(json!({
            "task": "transcribe",
            "language": "english",
            "duration": seconds(bytes),
            "text": transcript,
            "segments": [],
            "usage": {"type": "duration", "seconds": seconds(bytes)},
        }))),
        Some("text") => Ok(Reply::Text { text: format!("{transcript}\n") }),
        Some(_) => Err(ApiError::invalid("response_format must be json, verbose_json or text")),
    }
}

/// The file's length and SHA-256.
async fn count(mut field: Field<'_>) -> Result<(u64, String), ApiError> {
    let (mut bytes, mut digest) = (0_u64, Sha256::new());
    while let Some(chunk) = field.chunk().await.map_err(|error| refused(&error))? {
        bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        digest.update(&chunk);
    }
    Ok((bytes, hex::encode(digest.finalize())))
}

async fn text(field: Field<'_>) -> Result<String, ApiError> {
    field.text().await.map_err(|error| refused(&error))
}

fn refused(error: &multer::Error) -> ApiError {
    match error {
        multer::Error::FieldSizeExceeded { limit, .. }
        | multer::Error::StreamSizeExceeded { limit } => {
            ApiError::too_large(usize::try_from(*limit).unwrap_or(usize::MAX))
        }
        _ => ApiError::invalid("the multipart body is malformed"),
    }
}

/// As if every file were 16 kHz mono PCM of 16 bits.
fn seconds(bytes: u64) -> u64 {
    bytes.div_ceil(32_000)
}
