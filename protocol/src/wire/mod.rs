//! The wire format: protobuf messages as generated, and their size-checked forms.

#[allow(missing_docs, unreachable_pub, clippy::all)]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/kith.v1.rs"));
}
