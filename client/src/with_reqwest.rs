//! Requests that were built with `reqwest`, sent on attested connections. None of reqwest's own connections is used.

use http::{Request, Response};
use reqwest::ResponseBuilderExt as _;

use crate::attested::{AttestedClient, CallError};

impl AttestedClient {
    /// Sends what a [`reqwest::RequestBuilder`] built. The client that built it only lends its headers: its proxies,
    /// redirects, pool and certificates are never used. The request's own timeout holds until the answer begins.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, CallError> {
        let (url, timeout) = (request.url().clone(), request.timeout().copied());
        let request: Request<reqwest::Body> = request
            .try_into()
            .map_err(|error: reqwest::Error| CallError::Malformed(error.into()))?;
        let answer = self.send(request);
        let answer = match timeout {
            None => answer.await,
            Some(timeout) => {
                tokio::time::timeout(timeout, answer).await.unwrap_or(Err(CallError::TimedOut))
            }
        }?;
        let (parts, body) = answer.into_parts();
        // The one way to say which URL an answer is of.
        let named = Response::builder().url(url).body(reqwest::Body::wrap(body));
        let mut response = named.map_err(|error| CallError::Malformed(error.into()))?;
        *response.status_mut() = parts.status;
        *response.version_mut() = parts.version;
        *response.headers_mut() = parts.headers;
        response.extensions_mut().extend(parts.extensions);
        Ok(response.into())
    }
}
