//! A running node in another process.

use std::sync::Arc;

use futures::StreamExt;
use jsonrpsee::core::client::{ClientT, Error as RpcError, SubscriptionClientT};
use jsonrpsee::core::params::ObjectParams;
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::ws_client::WsClient;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::{Error, EventStream, EventView, Request};

/// A connection to a running node. Cheap to clone; ends when the node does.
#[derive(Debug, Clone)]
pub struct Client {
    rpc: Arc<WsClient>,
}

/// Parameters that are JSON already.
struct Params(Value);

impl ToRpcParams for Params {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        serde_json::value::to_raw_value(&self.0).map(Some)
    }
}

impl Client {
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

    /// Follows the node's events.
    pub(crate) async fn events(&self, after: Option<u64>) -> Result<EventStream, Error> {
        let mut params = ObjectParams::new();
        params.insert("after", after).map_err(|error| Error::Remote { message: error.to_string() })?;
        let subscription = self
            .rpc
            .subscribe::<EventView, _>("subscribe_events", params, "unsubscribe_events")
            .await
            .map_err(explain)?;
        // an event this side does not know is newer than it: left out, the rest goes on
        Ok(EventStream::new(subscription.filter_map(|event| std::future::ready(event.ok()))))
    }
}

/// The node's own error if it sent one, else what happened to the connection.
fn explain(error: RpcError) -> Error {
    if let RpcError::Call(object) = &error {
        let own = object.data().and_then(|data| serde_json::from_str::<Error>(data.get()).ok());
        return own.unwrap_or_else(|| Error::Remote { message: object.message().to_owned() });
    }
    Error::Remote { message: error.to_string() }
}
