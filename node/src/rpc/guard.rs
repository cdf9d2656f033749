//! Who gets a socket: programs that hold the token, and no web page.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Version};
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use tower::{Layer, Service};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
pub(super) struct GuardLayer(Arc<Rules>);

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
    const fn reason(self) -> &'static str {
        match self {
            Self::Origin => "web pages may not use this API\n",
            Self::Host => "this API answers to its loopback address only\n",
            Self::Token => "the token in api.json is missing or wrong\n",
        }
    }
}

impl GuardLayer {
    pub(super) fn new(token: String, address: SocketAddr) -> Self {
        Self(Arc::new(Rules { token, address }))
    }

    /// The rules, apart from HTTP's own types.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
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

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;
    fn layer(&self, inner: S) -> Guard<S> {
        Guard { inner, rules: self.clone() }
    }
}

/// Passes on what the rules let through.
#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    rules: GuardLayer,
}

impl<S, B> Service<HttpRequest<B>> for Guard<S>
where
    S: Service<HttpRequest<B>, Response = HttpResponse>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send + 'static>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let checked = match request.version() {
            // later versions carry the host elsewhere; the one client there is speaks 1.1
            Version::HTTP_11 => self.rules.check(request.headers()),
            _ => Err(Refusal::Host),
        };
        match checked {
            Ok(()) => {
                let answer = self.inner.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            Err(refusal) => {
                tracing::debug!(?refusal, "API request refused");
                let mut answer = HttpResponse::new(HttpBody::from(refusal.reason()));
                *answer.status_mut() = StatusCode::FORBIDDEN;
                Box::pin(std::future::ready(Ok(answer)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn guard() -> GuardLayer {
        GuardLayer::new("secret".to_owned(), "127.0.0.1:4100".parse().unwrap())
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
