//! Reading request and response bodies up to a stated limit.
//!
//! Must not know: what is in them.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// A body that was not read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Longer than the limit.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The peer went away.
    #[error("the body ended early")]
    Broken,
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_is_not() {
        let body = axum::body::Body::from("12345678");
        assert_eq!(read(body, 8).await.unwrap(), "12345678");
        let body = axum::body::Body::from("123456789");
        assert_eq!(read(body, 8).await, Err(BodyError::TooLarge { limit: 8 }));
    }
}
