//! The server: every method of a session under its own name, and `subscribe_events`.

use std::io;
use std::net::SocketAddr;

use futures::future::{BoxFuture, TryFutureExt};
use jsonrpsee::server::{
    BatchRequestConfig, HttpResponse, Methods, PendingSubscriptionSink, Server as RpcServer, ServerConfig,
    ServerHandle, StopHandle, SubscriptionMessage, TowerService, serve_with_graceful_shutdown, stop_channel,
};
use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{Extensions, RpcModule};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error as ThisError;
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;
use tower::layer::util::Identity;

use super::door::{self, Door, Place};
use super::file::ApiFile;
use super::guard::Guard;
use super::{ANSWER_MAX, REQUEST_MAX};
use crate::api::{Error, Handle, Request};
use crate::folder::Folder;

/// Programs connected at a time.
const CONNECTIONS: u32 = 64;
/// Event streams of one program.
const SUBSCRIPTIONS: u32 = 8;
/// Answers and events that wait for a slow program; then it waits for itself, nobody else.
const BUFFER: u32 = 256;
/// Our own errors carry their form as data; this number says so.
const OWN_ERROR: i32 = -32_001;

/// What answers the requests of one socket.
type Program = TowerService<Identity, Identity>;
/// Its answer. With a boxed error in it the compiler could not see that the whole may move between threads.
type Answer = BoxFuture<'static, io::Result<HttpResponse>>;

/// Why the API is not served.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ServeError {
    /// Anybody could connect.
    #[error("the API is for this machine only: {0} is no loopback address; use --api 127.0.0.1:0")]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error("the API cannot listen on {address}: {source}; choose another with --api")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// `api.json` could not be written.
    #[error("api.json cannot be written into {folder}: {source}")]
    File {
        /// The data folder.
        folder: String,
        /// The system's reason.
        source: io::Error,
    },
    /// No random numbers.
    #[error("the system has no random numbers: {0}")]
    Random(String),
}

/// A served API. Dropping it stops serving.
#[derive(Debug)]
pub struct Server {
    handle: ServerHandle,
    file: ApiFile,
    folder: Folder,
}

/// Serves a node's API at a loopback address and writes `api.json`.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(handle: &Handle, folder: &Folder, address: SocketAddr) -> Result<Server, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| ServeError::Random(error.to_string()))?;
    let token = data_encoding::HEXLOWER.encode(&secret);
    let listen = |source| ServeError::Listen { address, source };
    let listener = std::net::TcpListener::bind(address).map_err(listen)?;
    listener.set_nonblocking(true).map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;

    let config = ServerConfig::builder()
        .max_request_body_size(REQUEST_MAX)
        .max_response_body_size(ANSWER_MAX)
        .max_connections(CONNECTIONS)
        .max_subscriptions_per_connection(SUBSCRIPTIONS)
        .set_message_buffer_capacity(BUFFER)
        .set_batch_request_config(BatchRequestConfig::Disabled)
        .set_tcp_no_delay(true)
        .ws_only()
        .build();
    let programs = RpcServer::builder().set_config(config).to_service_builder();
    let listener = TcpListener::from_std(listener).map_err(listen)?;
    let (stop, running) = stop_channel();
    let (methods, guard, door) =
        (Methods::from(module(handle)), Guard::new(token.clone(), bound), Door::default());
    let spawner = handle.clone();
    handle.spawn("kith-api-accept", async move {
        loop {
            let socket = tokio::select! {
                socket = door::accept(&listener) => socket,
                () = stop.clone().shutdown() => return,
            };
            let program = programs.clone().build(methods.clone(), stop.clone());
            spawner.spawn(
                "kith-api-program",
                attend(socket, guard.clone(), door.take_place(), program, stop.clone()),
            );
        }
    });
    let file = ApiFile { address: format!("ws://{bound}"), token, pid: std::process::id() };
    file.write(folder)
        .map_err(|source| ServeError::File { folder: folder.path().display().to_string(), source })?;
    // when the node stops by another's wish, nobody shall find its address any more
    let (watched, own_file, own_folder, stopper) =
        (handle.clone(), file.clone(), folder.clone(), running.clone());
    handle.spawn("kith-api", async move {
        tokio::select! {
            () = watched.stopping() => {
                own_file.remove(&own_folder);
                // an error says that it has stopped already
                let _ = stopper.stop();
            }
            () = stopper.clone().stopped() => {}
        }
    });
    Ok(Server { handle: running, file, folder: folder.clone() })
}

/// Serves one socket, which must show the token soon.
async fn attend(socket: TcpStream, guard: Guard, place: Place, program: Program, stop: StopHandle) {
    let pass = place.pass();
    let service = tower::service_fn(move |request| -> Answer {
        match guard.admit(&request) {
            Ok(()) => {
                pass.let_in();
                Box::pin(program.clone().call(request).map_err(io::Error::other))
            }
            Err(refusal) => Box::pin(std::future::ready(Ok(door::refuse(&request, refusal.reason())))),
        }
    });
    tokio::select! {
        served = serve_with_graceful_shutdown(socket, service, stop.shutdown()) => {
            if let Err(error) = served {
                tracing::debug!(%error, "a program's connection failed");
            }
        }
        () = place.sent_away(door::TO_SHOW) => tracing::debug!("a socket did not show the token in time"),
    }
}

impl Server {
    /// `ws://127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> &str {
        &self.file.address
    }

    /// Removes `api.json`, closes all connections and waits until they are closed.
    pub async fn stop(self) {
        self.file.remove(&self.folder);
        // an error says that it has stopped already
        let _ = self.handle.stop();
        self.handle.clone().stopped().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.file.remove(&self.folder);
        // an error says that it has stopped already
        let _ = self.handle.stop();
    }
}

fn module(handle: &Handle) -> RpcModule<Handle> {
    let mut module = RpcModule::new(handle.clone());
    for name in Request::METHODS {
        let registered =
            module.register_async_method(name, move |params, handle, _: Extensions| async move {
                let request = parse(name, &params)?;
                request.perform(&handle).await.map_err(|error| to_object(&error))
            });
        if let Err(error) = registered {
            tracing::error!(name, %error, "a method is missing from the API");
        }
    }
    let registered = module.register_subscription(
        "subscribe_events",
        "event",
        "unsubscribe_events",
        |params, sink, handle, _| async move { follow(&params, sink, &handle).await },
    );
    if let Err(error) = registered {
        tracing::error!(%error, "events are missing from the API");
    }
    module
}

fn parse(name: &str, params: &Params<'_>) -> Result<Request, ErrorObjectOwned> {
    let params = match params.parse::<Option<Value>>()? {
        None => Value::Object(Map::new()),
        // an empty list is how many programs say "nothing"
        Some(Value::Array(list)) if list.is_empty() => Value::Object(Map::new()),
        Some(params) => params,
    };
    serde_json::from_value(json!({ "method": name, "params": params }))
        .map_err(|error| ErrorObjectOwned::owned(-32_602, format!("{name}: {error}"), None::<()>))
}

#[derive(Deserialize, Default)]
struct Follow {
    #[serde(default)]
    after: Option<u64>,
}

/// Sends events until the program or the node goes away. A slow program holds up its own stream only: what it misses
/// live is read from the store.
async fn follow(params: &Params<'_>, pending: PendingSubscriptionSink, handle: &Handle) {
    let after = match params.parse::<Option<Follow>>() {
        Ok(follow) => follow.unwrap_or_default().after,
        Err(error) => return pending.reject(error).await,
    };
    let mut events = match handle.events(after) {
        Ok(events) => events,
        Err(error) => return pending.reject(to_object(&error)).await,
    };
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sink.closed() => None,
        };
        let Some(event) = event else { return };
        let Ok(message) = serde_json::value::to_raw_value(&event).map(SubscriptionMessage::from) else {
            return;
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

fn to_object(error: &Error) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(OWN_ERROR, error.to_string(), Some(error))
}
