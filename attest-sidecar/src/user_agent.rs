//! What this role calls itself at MAA. Azure counts callers by it; nothing is decided by it.

use std::str::FromStr;

use http::HeaderValue;

/// The longest, in bytes.
const LONGEST: usize = 256;

/// The value of a `User-Agent` header (RFC 9110 section 10.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserAgent(pub(crate) HeaderValue);

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {LONGEST} printable ASCII characters")]
pub(crate) struct NotAUserAgent;

impl FromStr for UserAgent {
    type Err = NotAUserAgent;

    fn from_str(text: &str) -> Result<Self, NotAUserAgent> {
        let fits = (1..=LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let value = HeaderValue::from_str(text).ok().filter(|_| fits);
        value.map(Self).ok_or(NotAUserAgent)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use service::roots::Roots;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::maa::Maa;

    #[test]
    fn it_is_one_line_of_a_header() {
        assert!("ConfidentialSkrContainer subscription_id=0".parse::<UserAgent>().is_ok());
        for bad in ["", "a\r\nAuthorization: b", "ä", "a\tb", &"a".repeat(257)] {
            assert_eq!(bad.parse::<UserAgent>(), Err(NotAUserAgent), "{bad:?}");
        }
    }

    /// The header's lines of the request that an instance gets, by what is configured and what the caller says.
    async fn heard(configured: Option<&str>, asked: Option<&str>) -> Vec<String> {
        let agent = |text: Option<&str>| text.map(|text| text.parse::<UserAgent>().unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let instance = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let maa = Maa::new(&Roots::public(), instance, Vec::new(), agent(configured));
        let instance = maa.instance("").unwrap();
        let asking = maa.ask(&instance, Bytes::from_static(b"{}"), agent(asked));
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"\r\n\r\n{}") {
                let read = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..read]);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"token\":\"t\"}";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(request).unwrap().to_ascii_lowercase()
        };
        let (token, request) = tokio::join!(asking, answering);
        assert_eq!(token.unwrap(), "t");
        let lines = request.lines().filter(|line| line.starts_with("user-agent:"));
        lines.map(ToOwned::to_owned).collect()
    }

    #[tokio::test]
    async fn an_instance_hears_what_the_caller_says_or_else_what_is_configured() {
        assert_eq!(heard(None, None).await, [""; 0]);
        assert_eq!(heard(Some("ours"), None).await, ["user-agent: ours"]);
        assert_eq!(heard(Some("ours"), Some("theirs/1 x")).await, ["user-agent: theirs/1 x"]);
    }
}
