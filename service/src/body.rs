//! Reading a whole body, with a limit.

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError<E> {
    /// It is longer than the limit.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// It broke off.
    #[error("the body broke off")]
    Broken(#[source] E),
}

/// Reads a body of at most `limit` bytes. A declared length beyond it is refused before a byte is read.
///
/// # Errors
///
/// [`BodyError`].
pub async fn read<B>(body: B, limit: usize) -> Result<Bytes, BodyError<B::Error>>
where
    B: Body<Data = Bytes>,
{
    let mut body = std::pin::pin!(body);
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge(limit));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() {
            if data.len() > limit - whole.len() {
                return Err(BodyError::TooLarge(limit));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_not_a_byte_further() {
        assert_eq!(read(Full::new(Bytes::from("12345")), 5).await.unwrap(), "12345");
        assert!(matches!(
            read(Full::new(Bytes::from("123456")), 5).await,
            Err(BodyError::TooLarge(5))
        ));
        let chunks = ["123", "456"]
            .map(|text| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(text))));
        let stream = StreamBody::new(futures_util::stream::iter(chunks));
        assert!(matches!(read(stream, 5).await, Err(BodyError::TooLarge(5))));
    }
}
