//! Who gets a socket: programs that hold the token, and no web page.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Version};
use jsonrpsee::server::HttpRequest;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Guard(Arc<Rules>);

struct Rules {
    token: String,
    address: SocketAddr,
}

/// Why a request got no socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Origin,
    Host,
    Token,
}

impl Refusal {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Origin => "web pages may not use this API\n",
            Self::Host => "this API answers to its loopback address only\n",
            Self::Token => "the token in api.json is missing or wrong\n",
        }
    }
}

impl Guard {
    pub(super) fn new(token: String, address: SocketAddr) -> Self {
        Self(Arc::new(Rules { token, address }))
    }

    /// Whether a request may have a socket.
    pub(super) fn admit<B>(&self, request: &HttpRequest<B>) -> Result<(), Refusal> {
        match request.version() {
            // later versions carry the host elsewhere; the one client there is speaks 1.1
            Version::HTTP_11 => self.check(request.headers()),
            _ => Err(Refusal::Host),
        }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::Origin);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let known = host.is_some_and(|host| {
            host == self.0.address.to_string() || host == format!("localhost:{}", self.0.address.port())
        });
        if !known || hosts.next().is_some() {
            return Err(Refusal::Host);
        }
        let mut tokens = headers.get_all(AUTHORIZATION).iter();
        let token = tokens.next().and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        match token {
            Some(token) if tokens.next().is_none() && equal(token, self.0.token.as_bytes()) => Ok(()),
            _ => Err(Refusal::Token),
        }
    }
}

/// Compares without telling by time how much was right.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn guard() -> Guard {
        Guard::new("secret".to_owned(), "127.0.0.1:4100".parse().unwrap())
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_the_token_at_the_loopback_address_without_an_origin_passes() {
        let good = [("host", "127.0.0.1:4100"), ("authorization", "Bearer secret")];
        assert_eq!(guard().check(&headers(&good)), Ok(()));
        let local = [("host", "localhost:4100"), ("authorization", "Bearer secret")];
        assert_eq!(guard().check(&headers(&local)), Ok(()));
        let page = [good[0], good[1], ("origin", "null")];
        assert_eq!(guard().check(&headers(&page)), Err(Refusal::Origin));
        let rebound = [("host", "evil.example:4100"), good[1]];
        assert_eq!(guard().check(&headers(&rebound)), Err(Refusal::Host));
        assert_eq!(guard().check(&headers(&good[1..])), Err(Refusal::Host));
        assert_eq!(guard().check(&headers(&good[..1])), Err(Refusal::Token));
        for wrong in ["Bearer secre", "Bearer secrets", "bearer secret", "secret", "Bearer ", ""] {
            assert_eq!(guard().check(&headers(&[good[0], ("authorization", wrong)])), Err(Refusal::Token));
        }
        let twice = [good[0], good[1], good[1]];
        assert_eq!(guard().check(&headers(&twice)), Err(Refusal::Token));
    }
}
