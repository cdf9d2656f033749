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

/// Makes a certificate that ends when this year begins, in a folder; what the configuration says of it.
pub fn certificate(folder: &std::path::Path, ends: i32) -> String {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(ends, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let (chain, key_file) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    format!(
        "[websocket]\ncertificate = {:?}\nkey = {:?}",
        chain.to_str().unwrap(),
        key_file.to_str().unwrap()
    )
}
