//! A small HTTP server: a few pages to read, nothing to send. Whatever is asked of it, memory, connections and time are
//! bounded.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tracing::debug;

use kith_network::{Environment as _, ProductEnvironment};

use super::sample::Source;
use super::{health, metrics, page};

/// Connections served at a time; more are closed at once.
const CONNECTIONS: usize = 64;
/// Of one address. A proxy on this machine is no single reader.
const PER_ADDRESS: usize = 8;
/// How long a request may take to arrive,
const HEAD: Duration = Duration::from_secs(5);
/// and a connection to be over.
const WHOLE: Duration = Duration::from_secs(20);
/// Bytes of a request line with its headers; hyper takes no less.
const HEAD_BYTES: usize = 8 * 1024;
/// Header lines.
const HEADERS: usize = 64;
/// The page needs its own style sheet, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// What a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shows {
    /// The page, metrics and health: for the operator.
    All,
    /// The page alone: for everybody.
    Page,
}

struct Server {
    source: Arc<Source>,
    shows: Shows,
    /// On a loopback address only names of this machine are answered to: a web page elsewhere could otherwise have a
    /// name of its own lead here, and read.
    local_names: bool,
    places: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// Serves on this listener until told to stop.
pub(super) fn serve(
    environment: &Arc<ProductEnvironment>,
    listener: TcpListener,
    shows: Shows,
    source: Arc<Source>,
    stop: Arc<Notify>,
) -> io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let server = Arc::new(Server {
        source,
        shows,
        local_names: address.ip().is_loopback() && shows == Shows::All,
        places: Arc::new(Semaphore::new(CONNECTIONS)),
        by_address: Mutex::default(),
    });
    let of_task = Arc::clone(environment);
    let accept = async move {
        loop {
            let (stream, from) = tokio::select! {
                () = stop.notified() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // no more files, for example: others may end meanwhile
                        debug!("web: {error}");
                        of_task.sleep(100).await;
                        continue;
                    }
                },
            };
            let Ok(place) = Arc::clone(&server.places).try_acquire_owned() else { continue };
            let Some(visit) = Visit::begin(&server, from.ip()) else { continue };
            let one = async move {
                let server = Arc::clone(&visit.server);
                if let Ok(Err(error)) = tokio::time::timeout(WHOLE, connection(server, stream)).await {
                    // what strangers send is no news
                    debug!("web: {error}");
                }
                drop((visit, place));
            };
            of_task.spawn("web", one.boxed());
        }
    };
    environment.spawn("web", accept.boxed());
    Ok(address)
}

/// Counts the connections of one address.
struct Visit {
    server: Arc<Server>,
    from: IpAddr,
}

impl Visit {
    fn begin(server: &Arc<Server>, from: IpAddr) -> Option<Self> {
        let mut visits = server.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = visits.entry(from).or_default();
        if *count >= PER_ADDRESS && !from.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Self { server: Arc::clone(server), from })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut visits = self.server.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = visits.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                visits.remove(&self.from);
            }
        }
    }
}

async fn connection(server: Arc<Server>, stream: TcpStream) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(server.answer(&request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

impl Server {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if self.local_names && !is_local(request) {
            let text = "Only this machine is served here: ask for http://127.0.0.1 or http://localhost.\n";
            return plain(StatusCode::MISDIRECTED_REQUEST, text.into());
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "There is only something to read here.\n".into());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match (request.uri().path(), self.shows) {
            ("/", _) => self.page().await,
            ("/style.css", _) => {
                let mut response = respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE.into());
                response
                    .headers_mut()
                    .insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
                response
            }
            ("/robots.txt", _) => plain(StatusCode::OK, "User-agent: *\nDisallow: /\n".into()),
            ("/metrics", Shows::All) => match self.source.sample().await {
                Ok(sample) => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics::encode(&sample).into()),
                Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
            },
            ("/healthz", Shows::All) => verdict(health::alive(&self.source.sample().await)),
            ("/readyz", Shows::All) => verdict(health::ready(&self.source.sample().await)),
            _ => plain(StatusCode::NOT_FOUND, "There is nothing here; the status page is at /\n".into()),
        }
    }

    async fn page(&self) -> Response<Full<Bytes>> {
        const HTML: &str = "text/html; charset=utf-8";
        match self.source.sample().await {
            Ok(sample) => respond(StatusCode::OK, HTML, page::page(&sample).into()),
            Err(error) => {
                let text = page::unwell(&self.source.config(), &error);
                respond(StatusCode::SERVICE_UNAVAILABLE, HTML, text.into())
            }
        }
    }
}

fn is_local(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn verdict(verdict: Result<String, String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(text) => plain(StatusCode::OK, text),
        Err(text) => plain(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", text.into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
