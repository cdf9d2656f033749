//! Run options, remembered in `config.json` of the data folder: plain, readable, checked when read.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use kith_store::private;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::folder::{Folder, read_small};

/// Version of the file.
const VERSION: u32 = 1;
/// Most addresses of one kind.
const ADDRESSES: usize = 64;
/// Longest address in text form.
const ADDRESS: usize = 512;

/// How a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    version: u32,
    /// Where to listen, as multiaddrs; empty: every interface.
    pub listen: Vec<String>,
    /// Directory nodes to start from.
    pub bootstrap: Vec<String>,
    /// Addresses others can reach us at although we do not listen there.
    pub external: Vec<String>,
    /// Serve the directory even if nobody confirmed that we can be reached.
    pub serve: bool,
    /// Announce and discover on the local network.
    pub mdns: bool,
    /// Where programs of this machine reach the node; a loopback address.
    pub api: SocketAddr,
    /// Where the node listened last, with the ports the system chose; they are taken again.
    pub chosen: Vec<String>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            version: VERSION,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            external: Vec::new(),
            serve: false,
            mdns: true,
            api: SocketAddr::from(([127, 0, 0, 1], 0)),
            chosen: Vec::new(),
        }
    }
}

/// What a start changes in the remembered options; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunChanges {
    /// See [`RunOptions::listen`].
    pub listen: Option<Vec<String>>,
    /// See [`RunOptions::bootstrap`].
    pub bootstrap: Option<Vec<String>>,
    /// See [`RunOptions::external`].
    pub external: Option<Vec<String>>,
    /// See [`RunOptions::serve`].
    pub serve: Option<bool>,
    /// See [`RunOptions::mdns`].
    pub mdns: Option<bool>,
    /// See [`RunOptions::api`].
    pub api: Option<SocketAddr>,
}

/// Options that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("{path} cannot be used: {source}; is the data folder yours to write in?")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not what we wrote.
    #[error("{path} is damaged ({reason}); correct it, or delete it to start with the defaults")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An address that cannot be used.
    #[error("{0}")]
    Address(String),
    /// Anybody could use the API.
    #[error("the API is for this machine only: {0} is no loopback address; use --api 127.0.0.1:0")]
    NotLoopback(SocketAddr),
}

impl RunOptions {
    /// Reads the remembered options; the defaults if there are none.
    ///
    /// # Errors
    /// [`ConfigError`] if the file is damaged.
    pub fn read(folder: &Folder) -> Result<Self, ConfigError> {
        let path = folder.config();
        let bytes = read_small(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let options: Self = serde_json::from_slice(&bytes)
            .map_err(|error| ConfigError::Damaged { path: path.clone(), reason: error.to_string() })?;
        if options.version != VERSION {
            let reason = format!("its version is {}, this Kith knows {VERSION}", options.version);
            return Err(ConfigError::Damaged { path, reason });
        }
        options.check()?;
        Ok(options)
    }

    /// Writes the options, whole or not at all.
    ///
    /// # Errors
    /// [`ConfigError::Io`].
    pub fn write(&self, folder: &Folder) -> Result<(), ConfigError> {
        let path = folder.config();
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| ConfigError::Io { path: path.clone(), source: io::Error::other(error) })?;
        private::write(&path, &bytes).map_err(|source| ConfigError::Io { path, source })
    }

    /// These options with changes.
    ///
    /// # Errors
    /// [`ConfigError`] naming the address that cannot be used.
    pub fn with(mut self, changes: RunChanges) -> Result<Self, ConfigError> {
        let RunChanges { listen, bootstrap, external, serve, mdns, api } = changes;
        self.listen = listen.unwrap_or(self.listen);
        self.bootstrap = bootstrap.unwrap_or(self.bootstrap);
        self.external = external.unwrap_or(self.external);
        self.serve = serve.unwrap_or(self.serve);
        self.mdns = mdns.unwrap_or(self.mdns);
        self.api = api.unwrap_or(self.api);
        self.check()?;
        Ok(self)
    }

    /// Listen addresses with the ports of the last start where the choice is the system's.
    #[must_use]
    pub fn listen_again(&self) -> Vec<String> {
        if self.listen.is_empty() {
            return match wildcards(&self.chosen) {
                none if none.is_empty() => none,
                chosen => with_the_rest(chosen),
            };
        }
        self.listen
            .iter()
            .map(|wanted| {
                let shape = Shape::of(wanted);
                let again = self
                    .chosen
                    .iter()
                    .find(|chosen| shape.is_some_and(|shape| shape.port == "0" && shape.fits(chosen)));
                match (again.and_then(|again| Shape::of(again)), shape) {
                    (Some(again), Some(shape)) => shape.with_port(again.port),
                    _ => wanted.clone(),
                }
            })
            .collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.api.ip().is_loopback() {
            return Err(ConfigError::NotLoopback(self.api));
        }
        for (what, list) in
            [("listen", &self.listen), ("bootstrap", &self.bootstrap), ("external", &self.external)]
        {
            if list.len() > ADDRESSES {
                let message = format!("{} {what} addresses; at most {ADDRESSES} are allowed", list.len());
                return Err(ConfigError::Address(message));
            }
            for address in list {
                check_address(what, address)?;
            }
        }
        Ok(())
    }
}

/// The network checks addresses in full; here what would not even be one.
fn check_address(what: &str, address: &str) -> Result<(), ConfigError> {
    if address.len() <= ADDRESS && address.starts_with('/') {
        return Ok(());
    }
    let shown: String = address.chars().take(120).collect();
    Err(ConfigError::Address(format!(
        "\"{shown}\" is not a {what} address (example: /ip4/192.0.2.7/tcp/4001)"
    )))
}

/// The parts of `/ip4/1.2.3.4/tcp/4001/ws` that matter here.
#[derive(Clone, Copy)]
struct Shape<'a> {
    family: &'a str,
    ip: &'a str,
    transport: &'a str,
    port: &'a str,
    rest: &'a str,
}

impl<'a> Shape<'a> {
    fn of(address: &'a str) -> Option<Self> {
        let address = address.split("/p2p/").next()?;
        let mut parts = address.strip_prefix('/')?.splitn(5, '/');
        let (family, ip, transport, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self { family, ip, transport, port, rest: parts.next().unwrap_or_default() })
    }

    fn fits(self, other: &str) -> bool {
        let any = self.ip == "0.0.0.0" || self.ip == "::";
        Shape::of(other).is_some_and(|other| {
            self.family == other.family
                && self.transport == other.transport
                && self.rest == other.rest
                && (any || self.ip == other.ip)
        })
    }

    fn with_port(self, port: &str) -> String {
        let Self { family, ip, transport, rest, .. } = self;
        let tail = if rest.is_empty() { String::new() } else { format!("/{rest}") };
        format!("/{family}/{ip}/{transport}/{port}{tail}")
    }
}

/// Addresses of single interfaces, as the wildcards they came from.
fn wildcards(chosen: &[String]) -> Vec<String> {
    let mut list: Vec<String> = Vec::new();
    for shape in chosen.iter().filter_map(|address| Shape::of(address)) {
        let ip = match shape.family {
            "ip4" => "0.0.0.0",
            "ip6" => "::",
            _ => continue,
        };
        let wildcard = Shape { ip, ..shape };
        // one port for each kind of transport
        if list.iter().all(|known| !wildcard.fits(known)) {
            list.push(wildcard.with_port(shape.port));
        }
    }
    list
}

/// What is listened on by default and the last start did not listen on, as where there was no IPv6 or another `--listen`,
/// with a port of the system's choice.
fn with_the_rest(mut chosen: Vec<String>) -> Vec<String> {
    for default in kith_network::DEFAULT_LISTEN {
        let known = Shape::of(default).is_some_and(|shape| chosen.iter().any(|chosen| shape.fits(chosen)));
        if !known {
            chosen.push(default.to_owned());
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn ports_chosen_by_the_system_are_taken_again() {
        let chosen = strings(&[
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/192.168.1.5/tcp/4001",
            "/ip4/127.0.0.1/udp/4002/quic-v1",
            "/ip4/127.0.0.1/tcp/4003/ws",
            "/ip6/::1/tcp/4004",
        ]);
        let options = RunOptions { chosen: chosen.clone(), ..RunOptions::default() };
        assert_eq!(
            options.listen_again(),
            strings(&[
                "/ip4/0.0.0.0/tcp/4001",
                "/ip4/0.0.0.0/udp/4002/quic-v1",
                "/ip4/0.0.0.0/tcp/4003/ws",
                "/ip6/::/tcp/4004",
                // a start without them is no reason to be without them for ever
                "/ip6/::/udp/0/quic-v1",
                "/ip6/::/tcp/0/ws"
            ])
        );
        assert!(RunOptions::default().listen_again().is_empty(), "the first start");
        let listen = strings(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/10.0.0.1/tcp/9"]);
        let options = RunOptions { chosen, listen, ..RunOptions::default() };
        assert_eq!(
            options.listen_again(),
            strings(&["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4003/ws", "/ip4/10.0.0.1/tcp/9"])
        );
    }

    #[test]
    fn options_are_remembered_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(RunOptions::read(&folder).unwrap(), RunOptions::default());
        let changes = RunChanges {
            listen: Some(strings(&["/ip4/127.0.0.1/tcp/0"])),
            mdns: Some(false),
            ..RunChanges::default()
        };
        let options = RunOptions::default().with(changes).unwrap();
        options.write(&folder).unwrap();
        assert_eq!(RunOptions::read(&folder).unwrap(), options);

        let bad = RunChanges { listen: Some(strings(&["127.0.0.1:80"])), ..RunChanges::default() };
        let error = RunOptions::default().with(bad).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:80"), "{error}");
        let open = RunChanges { api: Some("0.0.0.0:0".parse().unwrap()), ..RunChanges::default() };
        assert!(matches!(RunOptions::default().with(open), Err(ConfigError::NotLoopback(_))));

        for text in ["", "{", "7", r#"{"version":9}"#, r#"{"listne":[]}"#, r#"{"version":1,"listen":["x"]}"#]
        {
            std::fs::write(folder.config(), text).unwrap();
            assert!(RunOptions::read(&folder).is_err(), "{text}");
        }
    }
}
