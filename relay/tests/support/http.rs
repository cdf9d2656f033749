//! One HTTP request, byte by byte.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// Sends these bytes to `http://HOST:PORT` and reads until the end.
pub fn raw(web: &str, request: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(web.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // a server that had enough may have closed already
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (line, headers) = head.split_once("\r\n")?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    Some(Reply { status, headers: headers.to_lowercase(), body: body.into() })
}

pub fn get(web: &str, path: &str) -> Reply {
    raw(web, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("an answer")
}

/// The value of a metric, with its labels in braces if it has any.
pub fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name}")).rsplit(' ').next().unwrap().parse().unwrap()
}
