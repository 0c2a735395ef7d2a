//! What a browser sends of a form: `application/x-www-form-urlencoded` or `multipart/form-data`, within bounds.
//!
//! Values are zeroed when dropped, since passwords are among them. Must not know what any field means.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use service::body::BodyError;
use zeroize::Zeroizing;

use super::error::AdminError;
use crate::upload::Upload;

/// The longest body.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// How long a body may take to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Fields of one form.
const MAX_FIELDS: usize = 64;

/// The fields of a form, in their order. Has no `Debug`.
#[derive(Default)]
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// The first value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Its text without space around it; empty if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default().trim()
    }

    /// Fields of a body.
    pub(super) fn urlencoded(body: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(body).take(MAX_FIELDS);
        Self(pairs.map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into()))).collect())
    }

    async fn multipart(body: Bytes, boundary: String) -> Result<Self, AdminError> {
        let broken = |_| AdminError::Malformed("This form cannot be read");
        let stream = futures_util::stream::iter([Ok::<_, Infallible>(body)]);
        let mut parts = multer::Multipart::new(stream, boundary);
        let mut form = Self::default();
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            // Nothing here is a file: one in the place of a text is as good as nothing.
            let name = part.name().filter(|_| part.file_name().is_none()).map(ToOwned::to_owned);
            let value = part.bytes().await.map_err(broken)?;
            if let Some(name) = name
                && form.0.len() < MAX_FIELDS
            {
                form.0.push((name, Zeroizing::new(String::from_utf8_lossy(&value).into_owned())));
            }
        }
        Ok(form)
    }

    /// The fields of a request. A body of another kind has none.
    pub(super) async fn read(headers: &HeaderMap, body: Upload) -> Result<Self, AdminError> {
        let body = read(body).await?;
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        match kind.map(multer::parse_boundary) {
            Some(Ok(boundary)) => Self::multipart(body, boundary).await,
            _ => Ok(Self::urlencoded(&body)),
        }
    }
}

/// A whole body, within its bounds.
pub(super) async fn read(body: Upload) -> Result<Bytes, AdminError> {
    let body = tokio::time::timeout(PATIENCE, service::body::read(body, MAX_BODY)).await;
    let late = |_| AdminError::Malformed("The body did not arrive within 10 seconds");
    body.map_err(late)?.map_err(|error| match error {
        BodyError::TooLarge(limit) => AdminError::TooLarge(limit),
        BodyError::Broken(_) => AdminError::Malformed("The body broke off"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_have_a_bound() {
        let form = Form::urlencoded(b"password=p%C3%A4ss+word&a=1&a=2&broken=%ff");
        assert_eq!(form.get("password"), Some("päss word"));
        assert_eq!(form.get("a"), Some("1"), "the first counts");
        assert_eq!(form.get("broken"), Some("\u{fffd}"));
        assert_eq!((form.get("b"), form.text("b")), (None, ""));
        let many: String = (0..1000).map(|n| format!("f{n}=x&")).collect();
        assert_eq!(Form::urlencoded(many.as_bytes()).0.len(), MAX_FIELDS);
    }

    #[tokio::test]
    async fn case_109_a_file_in_the_place_of_a_text_is_nothing() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"password\"; filename=\"f\"\r\n\r\nsecret\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nx\r\n--b--\r\n";
        let form = Form::multipart(body.into(), "b".to_owned()).await.ok().unwrap();
        assert_eq!((form.get("password"), form.get("text")), (None, Some("x")));
        assert!(Form::multipart("--b\r\nbroken".into(), "b".to_owned()).await.is_err());
    }
}
