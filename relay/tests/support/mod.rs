//! Real relay processes, and peers that speak the wire by hand.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests and benches only")]
#![allow(missing_debug_implementations, reason = "tests and benches only")]

pub mod http;
pub mod load;
pub mod peer;
#[cfg(all(unix, feature = "postgres"))]
pub mod postgres;
pub mod process;
#[path = "../../../node/network/tests/support/raw.rs"]
#[allow(clippy::disallowed_methods, reason = "a test's own tasks")]
pub mod raw;

use std::time::Duration;

/// No condition may take longer than this.
pub const CEILING: Duration = Duration::from_secs(60);
