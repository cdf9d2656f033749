//! A running node in another process.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use jsonrpsee::core::client::{ClientT, Error as RpcError, SubscriptionClientT};
use jsonrpsee::core::params::ObjectParams;
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::file::ApiFile;
use super::{ANSWER_MAX, REQUEST_MAX};
use crate::api::{Error, EventStream, EventView, Request};
use crate::folder::Folder;

/// Longer than the longest single wait of the API.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Further attempts to connect to a node that is there,
const ATTEMPTS: usize = 3;
/// and the pause before each.
const AGAIN: Duration = Duration::from_millis(50);
/// Events that wait for a slow reader in this process.
const EVENTS: usize = 4_096;
/// Calls under way at a time.
const CALLS: usize = 512;

/// A connection to a running node. Cheap to clone; ends when the node does.
#[derive(Debug, Clone)]
pub struct Client {
    rpc: Arc<WsClient>,
    pid: u32,
}

/// Parameters that are JSON already.
struct Params(Value);

impl ToRpcParams for Params {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        serde_json::value::to_raw_value(&self.0).map(Some)
    }
}

impl Client {
    /// Connects to the node that runs on a data folder; `None` if none does.
    ///
    /// # Errors
    /// [`Error::Remote`] if one seems to run and cannot be reached.
    pub async fn attach(folder: &Folder) -> Result<Option<Self>, Error> {
        let remote = |message: String| Error::Remote { message };
        let file = ApiFile::read(folder)
            .map_err(|error| remote(format!("{} cannot be read: {error}", folder.api().display())))?;
        let Some(file) = file else { return Ok(None) };
        let mut headers = HeaderMap::new();
        let token = HeaderValue::from_str(&format!("Bearer {}", file.token))
            .map_err(|_| remote("the token in api.json is damaged; restart the node".to_owned()))?;
        headers.insert(AUTHORIZATION, token);
        let builder = WsClientBuilder::default()
            .set_headers(headers)
            .connection_timeout(CONNECT_TIMEOUT)
            .request_timeout(ANSWER_TIMEOUT)
            .max_request_size(REQUEST_MAX)
            .max_response_size(ANSWER_MAX)
            .max_concurrent_requests(CALLS)
            .max_buffer_capacity_per_subscription(EVENTS);
        let mut connected = builder.clone().build(&file.address).await;
        // among many others a socket may be sent away before it has shown the token
        for _ in 0..ATTEMPTS {
            if connected.is_ok() || !is_alive(file.pid) || is_free(folder) {
                break;
            }
            tokio::time::sleep(AGAIN).await;
            connected = builder.clone().build(&file.address).await;
        }
        match connected {
            Ok(rpc) => Ok(Some(Self { rpc: Arc::new(rpc), pid: file.pid })),
            // the node was killed before it could take the file away; its number may be another program's by now
            Err(_) if !is_alive(file.pid) || is_free(folder) => Ok(None),
            Err(error) => Err(remote(format!(
                "process {} at {} does not answer ({error}); if it is no Kith, delete {}",
                file.pid,
                file.address,
                folder.api().display()
            ))),
        }
    }

    /// The node's process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The connection is still there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.rpc.is_connected()
    }

    /// Waits until the connection is gone.
    pub async fn disconnected(&self) {
        self.rpc.on_disconnect().await;
    }

    /// Makes one call.
    pub(crate) async fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let Ok(Value::Object(mut object)) = serde_json::to_value(request) else {
            return Err(Error::Remote { message: "the request has no JSON form".to_owned() });
        };
        let Some(Value::String(method)) = object.remove("method") else {
            return Err(Error::Remote { message: "the request has no method".to_owned() });
        };
        let params = object.remove("params").unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        self.rpc.request(&method, Params(params)).await.map_err(explain)
    }

    /// Follows the node's events. A reader that is far too slow loses the stream, and resumes after its last cursor.
    pub(crate) async fn events(&self, after: Option<u64>) -> Result<EventStream, Error> {
        let mut params = ObjectParams::new();
        params.insert("after", after).map_err(|error| Error::Remote { message: error.to_string() })?;
        let subscription = self
            .rpc
            .subscribe::<Value, _>("subscribe_events", params, "unsubscribe_events")
            .await
            .map_err(explain)?;
        // an event that this side does not know comes from a newer node: left out, the rest goes on
        Ok(EventStream::new(subscription.filter_map(|event| {
            let event = event.ok().and_then(|event| serde_json::from_value::<EventView>(event).ok());
            std::future::ready(event)
        })))
    }
}

/// The node's own error if it sent one, else what happened to the connection.
fn explain(error: RpcError) -> Error {
    match error {
        RpcError::Call(object) => {
            let own = object.data().and_then(|data| serde_json::from_str::<Error>(data.get()).ok());
            own.unwrap_or_else(|| Error::Remote { message: object.message().to_owned() })
        }
        RpcError::RestartNeeded(_) | RpcError::ServiceDisconnect => Error::Stopped,
        error => Error::Remote { message: error.to_string() },
    }
}

/// Whether no process holds the data folder's store.
fn is_free(folder: &Folder) -> bool {
    folder.has_store() && kith_store::DataLock::acquire(&folder.store()).is_ok()
}

/// Whether a process with this id exists. Where that cannot be told, it may.
fn is_alive(pid: u32) -> bool {
    !cfg!(target_os = "linux") || std::path::Path::new(&format!("/proc/{pid}")).exists()
}
