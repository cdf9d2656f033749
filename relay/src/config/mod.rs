//! The configuration file: commented TOML, in which every key has a default and an unknown key is an error.

mod bytes;
mod database;
mod nearest;
mod sections;
mod show;

use std::path::Path;

use kith_network::{Circuits, Limits, Options, Role, WssCertificate};
use kith_protocol::crypto::envelope::SIZE_KINDS;
use kith_protocol::mailbox::{Policy, Usage};
use kith_protocol::secret::Secret32;
use kith_protocol::wire::relay::AccessMode;
use kith_protocol::{DeviceId, limits};
use kith_store::EngineKind;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::rate::Rates;
use crate::relay::Settings;
pub use bytes::Bytes;
pub use database::{DatabaseLogin, DatabaseSection, DatabaseUrl, PASSWORD_VARIABLE, URL_VARIABLE};
use nearest::nearest;
pub use sections::{
    CircuitsSection, ConnectionsSection, MailboxSection, StoreSection, TotalSection, WebsocketSection,
};
pub use show::{OperatorSection, WebSection};

/// What `init` writes.
pub const TEMPLATE: &str = include_str!("template.toml");
/// Longest configuration file.
const MAX_LEN: u64 = 1024 * 1024;
/// Longest list in it.
const MAX_LIST: usize = 10_000;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("{path}: {}", told(source))]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a value of a wrong kind.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{path}: there is no `{key}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// The file.
        path: String,
        /// The key.
        key: String,
        /// The one with the most similar name.
        near: Option<String>,
    },
    /// A value that makes no sense.
    #[error("{path}: {key}: {reason}")]
    Value {
        /// The file.
        path: String,
        /// The key.
        key: &'static str,
        /// Why.
        reason: String,
    },
}

/// What the system said about a file, and what to do.
fn told(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no such file: put it back; an empty relay.toml sets every default".into()
        }
        ErrorKind::IsADirectory => "this is a folder where a file belongs".into(),
        ErrorKind::InvalidData => "this is not text in UTF-8: put the right file there".into(),
        _ => format!("{error}{}", crate::folder::advice(error)),
    }
}

/// Who may open a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Everybody.
    Open,
    /// Who has a token.
    Token,
    /// Who is listed.
    AllowList,
    /// Nobody; nothing new is taken.
    Closed,
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreKind {
    /// One file, the default.
    Redb,
    /// sled with guards.
    Sled,
    /// Nothing survives a restart.
    Memory,
    /// A database that several processes share.
    Postgres,
}

impl StoreKind {
    /// The engine behind it; `None` for a database.
    #[must_use]
    pub const fn engine(self) -> Option<EngineKind> {
        match self {
            Self::Redb => Some(EngineKind::Redb),
            Self::Sled => Some(EngineKind::Sled),
            Self::Memory => Some(EngineKind::Memory),
            Self::Postgres => None,
        }
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Who may open a mailbox.
    pub mode: Mode,
    /// Devices that may, with `mode = "allow-list"`: their peer ids.
    pub allow: Vec<String>,
    /// Where to listen.
    pub listen: Vec<String>,
    /// Where others reach it, if that is not where it listens.
    pub external: Vec<String>,
    /// Other nodes of the directory.
    pub bootstrap: Vec<String>,
    /// `error`, `warn`, `info` or `debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// Who runs it.
    pub operator: OperatorSection,
    /// Where metrics, health and the status page are.
    pub web: WebSection,
    /// One mailbox.
    pub mailbox: MailboxSection,
    /// All of them.
    pub total: TotalSection,
    /// Where they are kept.
    pub store: StoreSection,
    /// Where the database is, if they are kept in one.
    pub database: DatabaseSection,
    /// How much one peer and one network may ask.
    pub rate: Rates,
    /// Connections.
    pub connections: ConnectionsSection,
    /// Circuits through this relay.
    pub circuits: CircuitsSection,
    /// Secure WebSocket.
    pub websocket: WebsocketSection,
}

impl Default for RelayConfig {
    fn default() -> Self {
        let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self {
            mode: Mode::Open,
            allow: Vec::new(),
            listen: strings(&[
                "/ip4/0.0.0.0/tcp/4190",
                "/ip4/0.0.0.0/udp/4190/quic-v1",
                "/ip4/0.0.0.0/tcp/4191/ws",
                "/ip6/::/tcp/4190",
                "/ip6/::/udp/4190/quic-v1",
                "/ip6/::/tcp/4191/ws",
            ]),
            external: Vec::new(),
            bootstrap: Vec::new(),
            log: "info".into(),
            log_format: "text".into(),
            operator: OperatorSection::default(),
            web: WebSection::default(),
            mailbox: MailboxSection::default(),
            total: TotalSection::default(),
            store: StoreSection::default(),
            database: DatabaseSection::default(),
            rate: Rates::default(),
            connections: ConnectionsSection::default(),
            circuits: CircuitsSection::default(),
            websocket: WebsocketSection::default(),
        }
    }
}

impl RelayConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigFileError`] naming the key and what to write instead.
    pub fn read(path: &Path) -> Result<Self, ConfigFileError> {
        let name = path.display().to_string();
        let failed = |source| ConfigFileError::Read { path: name.clone(), source };
        let len = std::fs::metadata(path).map_err(failed)?.len();
        if len > MAX_LEN {
            return Err(ConfigFileError::Syntax { path: name, reason: format!("{len} bytes are too many") });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text, &name)
    }

    /// Reads a text; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigFileError`] naming the key and what to write instead.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigFileError> {
        let syntax = |error: toml::de::Error| ConfigFileError::Syntax {
            path: path.to_owned(),
            reason: database::redacted(error.to_string().trim_end()),
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        if let Some((key, near)) = nearest(&table, &Self::default()) {
            return Err(ConfigFileError::Unknown { path: path.to_owned(), key, near });
        }
        let mut config: Self = toml::from_str(text).map_err(syntax)?;
        config.web.listen_chosen = table.get("web").and_then(|web| web.get("listen")).is_some();
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &str) -> Result<(), ConfigFileError> {
        let wrong = |key, reason: String| Err(ConfigFileError::Value { path: path.to_owned(), key, reason });
        let most = limits::RELAY_TTL / limits::DAY;
        if !(1..=most).contains(&self.mailbox.days) {
            return wrong("mailbox.days", format!("{}; 1 to {most} are possible", self.mailbox.days));
        }
        if !(256..=limits::ENVELOPE as u64).contains(&self.mailbox.envelope.0) {
            let most = limits::ENVELOPE;
            return wrong(
                "mailbox.envelope",
                format!("{} bytes; 256 to {most} are possible", self.mailbox.envelope.0),
            );
        }
        if self.mailbox.rights == 0 || self.mailbox.rights > limits::MAILBOX_RIGHTS as u64 {
            return wrong("mailbox.rights", format!("1 to {} are possible", limits::MAILBOX_RIGHTS));
        }
        for (key, list) in [
            ("allow", &self.allow),
            ("listen", &self.listen),
            ("external", &self.external),
            ("bootstrap", &self.bootstrap),
        ] {
            if list.len() > MAX_LIST {
                return wrong(key, format!("{} entries; at most {MAX_LIST} are possible", list.len()));
            }
        }
        if self.listen.is_empty() {
            return wrong(
                "listen",
                "at least one address is needed; without `listen` it has its defaults".into(),
            );
        }
        if let Some(address) = self.bootstrap.iter().find(|address| !address.contains("/p2p/")) {
            return wrong("bootstrap", format!("{address:?} ends in no /p2p/ and the node's peer id"));
        }
        if self.circuits.reservations > 0 && (self.circuits.minutes == 0 || self.circuits.bytes.0 == 0) {
            return wrong(
                "circuits",
                "minutes and bytes must be at least 1; reservations = 0 turns circuits off".into(),
            );
        }
        if self.connections.total == 0 || self.connections.per_network == 0 || self.connections.per_peer == 0
        {
            return wrong("connections", "at least 1 is needed".into());
        }
        let secure = self.listen.iter().any(|address| address.contains("/wss") || address.contains("/tls"));
        if self.websocket.certificate.is_empty() != self.websocket.key.is_empty() {
            return wrong("websocket", "a certificate needs its key, and a key its certificate".into());
        }
        if secure && self.websocket.certificate.is_empty() {
            return wrong("websocket.certificate", "listening on a /wss address needs one".into());
        }
        if self.store.kind == StoreKind::Postgres
            && let Err(reason) = self.check_database()
        {
            return wrong("database", reason);
        }
        if !["error", "warn", "info", "debug"].contains(&self.log.as_str()) {
            return wrong("log", format!("{:?}; error, warn, info or debug is possible", self.log));
        }
        if !["text", "json"].contains(&self.log_format.as_str()) {
            return wrong("log_format", format!("{:?}; text or json is possible", self.log_format));
        }
        if let Some((key, reason)) = self.web.wrong().or_else(|| self.operator.wrong()) {
            return wrong(key, reason);
        }
        if let Some(peer) = self.allow.iter().find(|peer| kith_network::device_of(peer).is_none()) {
            return wrong("allow", format!("{peer:?} is not the peer id of a device"));
        }
        Ok(())
    }

    /// Whether the address can be used, as far as that can be told without trying.
    #[cfg(feature = "postgres")]
    fn check_database(&self) -> Result<(), String> {
        crate::postgres::check_url(&self.database.login()?.url)
    }

    #[cfg(not(feature = "postgres"))]
    #[allow(clippy::unused_self, reason = "as with the feature")]
    fn check_database(&self) -> Result<(), String> {
        Err("this kith-relay was built without PostgreSQL: build it with the feature `postgres`".into())
    }

    /// What differs from the configuration a relay was started with and is not changed while it runs, by its name in the
    /// file.
    #[must_use]
    pub fn waits_for_restart(&self, started: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != started.listen),
            ("external", self.external != started.external),
            ("bootstrap", self.bootstrap != started.bootstrap),
            ("log", self.log != started.log),
            ("log_format", self.log_format != started.log_format),
            ("[web]", self.web != started.web),
            ("total.reserve", self.total.reserve != started.total.reserve),
            ("[store]", self.store != started.store),
            ("[database]", self.database != started.database),
            ("[connections]", self.connections != started.connections),
            ("[circuits]", self.circuits != started.circuits),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }

    /// What the relay allows. A drained relay takes nothing new, whatever the file says.
    #[must_use]
    pub fn policy(&self, draining: bool) -> Policy {
        let mailbox = &self.mailbox;
        let mut kinds = [Usage::default(); SIZE_KINDS];
        for (kind, items) in kinds.iter_mut().zip(mailbox.items_by_size) {
            kind.items = items;
        }
        let allowed: std::collections::BTreeSet<DeviceId> =
            self.allow.iter().filter_map(|peer| kith_network::device_of(peer)).collect();
        Policy {
            mode: match self.mode {
                _ if draining => AccessMode::Closed,
                Mode::Open => AccessMode::Open,
                Mode::Token => AccessMode::Token,
                Mode::AllowList => AccessMode::AllowList,
                Mode::Closed => AccessMode::Closed,
            },
            allowed,
            mailbox: Usage { bytes: mailbox.bytes.0, items: mailbox.items },
            right: Usage { bytes: mailbox.right_bytes.0, items: mailbox.right_items },
            kinds,
            rights: mailbox.rights,
            tombstones: mailbox.tombstones,
            ttl: mailbox.days.saturating_mul(limits::DAY / limits::SECOND),
            envelope: mailbox.envelope.0,
            total_bytes: self.total.bytes.0,
            mailboxes: self.total.mailboxes,
            ..Policy::default()
        }
    }

    /// Loads the certificate of secure WebSocket addresses, if one is set.
    ///
    /// # Errors
    /// [`ConfigFileError`] naming the file.
    pub fn load_certificate(&self, certificate: &WssCertificate) -> Result<(), ConfigFileError> {
        let WebsocketSection { certificate: chain, key } = &self.websocket;
        if chain.is_empty() {
            return Ok(());
        }
        let read = |path: &String| {
            std::fs::read(path).map_err(|source| ConfigFileError::Read { path: path.clone(), source })
        };
        let (chain_bytes, key_bytes) = (read(chain)?, Zeroizing::new(read(key)?));
        certificate.set(&chain_bytes, &key_bytes).map_err(|error| ConfigFileError::Value {
            path: chain.clone(),
            key: "websocket",
            reason: error.to_string(),
        })
    }

    /// What the relay is started with.
    #[must_use]
    pub fn settings(&self, key: Secret32, draining: bool) -> Settings {
        let connections = &self.connections;
        let mut network = Options::new(key);
        network.listen.clone_from(&self.listen);
        network.listen_explicit = true;
        network.external.clone_from(&self.external);
        network.bootstrap.clone_from(&self.bootstrap);
        network.serve = true;
        network.mdns = false;
        network.role = Role::Relay(Circuits {
            reservations: self.circuits.reservations,
            circuits: self.circuits.total,
            per_peer: self.circuits.per_peer,
            seconds: self.circuits.minutes.saturating_mul(60),
            bytes: self.circuits.bytes.0,
        });
        network.limits = Limits {
            connections: connections.total,
            connections_per_network: connections.per_network,
            connections_per_peer: connections.per_peer,
            memory: usize::try_from(connections.memory.0).ok(),
            ..Limits::default()
        };
        let mut settings = Settings::new(network);
        settings.policy = self.policy(draining);
        settings.rates = self.rate;
        settings.reserve_bytes = self.total.reserve.0;
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        RelayConfig::parse(text, "relay.toml").unwrap_err().to_string()
    }

    #[test]
    fn what_is_in_force_only_after_a_restart_is_named_and_nothing_else() {
        let started = RelayConfig::default();
        let changed =
            |text: &str| RelayConfig::parse(text, "relay.toml").unwrap().waits_for_restart(&started);
        assert_eq!(changed("mode = \"token\"\n[mailbox]\nitems = 5\n[total]\nmailboxes = 7"), [""; 0]);
        assert_eq!(changed("[total]\nreserve = \"3 GiB\""), ["total.reserve"]);
        assert_eq!(changed("log = \"debug\"\n[circuits]\ntotal = 1"), ["log", "[circuits]"]);
    }

    #[test]
    fn the_template_holds_every_default_and_nothing_else() {
        assert_eq!(RelayConfig::parse(TEMPLATE, "relay.toml").unwrap(), RelayConfig::default());
        // every key stands there as a comment that can be taken away
        let uncommented: String = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let mut chosen = RelayConfig::parse(&uncommented, "relay.toml").unwrap();
        assert!(std::mem::take(&mut chosen.web.listen_chosen));
        assert_eq!(chosen, RelayConfig::default());
        let keys = |table: &toml::Table| -> Vec<String> {
            let mut keys: Vec<String> = table.keys().cloned().collect();
            for (name, value) in table {
                if let toml::Value::Table(inner) = value {
                    keys.extend(inner.keys().map(|key| format!("{name}.{key}")));
                }
            }
            keys.sort();
            keys
        };
        let all = toml::Table::try_from(RelayConfig::default()).unwrap();
        assert_eq!(keys(&toml::from_str(&uncommented).unwrap()), keys(&all));
    }

    #[test]
    fn a_mistyped_key_is_an_error_that_names_the_right_one() {
        assert!(error("mod = \"open\"").ends_with("there is no `mod`; did you mean `mode`?"));
        let text = error("[mailbox]\nitem = 5");
        assert!(text.ends_with("there is no `mailbox.item`; did you mean `mailbox.items`?"), "{text}");
        assert!(error("[mailboxes]\nbytes = 5").contains("did you mean `mailbox`?"));
        assert!(error("zzzzzzzzzzzzz = 1").ends_with("there is no `zzzzzzzzzzzzz`"));
    }

    #[test]
    fn values_are_checked_and_sizes_may_have_units() {
        let config = RelayConfig::parse("[mailbox]\nbytes = \"1.5 MiB\"\nenvelope = 4096", "x").unwrap();
        assert_eq!((config.mailbox.bytes, config.mailbox.envelope), (Bytes(1_572_864), Bytes(4096)));
        assert!(error("[mailbox]\nbytes = \"5 parsecs\"").contains("parsecs"));
        assert!(error("[mailbox]\ndays = 61").contains("1 to 60"));
        assert!(error("[mailbox]\nenvelope = 100").contains("256"));
        assert!(error("allow = [\"somebody\"]").contains("somebody"));
        assert!(error("mode = \"opened\"").contains("open"));
        assert!(error("log = \"loud\"").contains("loud"));
        assert!(error("mode = ").contains("relay.toml"));
        assert!(error("listen = []").contains("at least one"));
        assert!(error("bootstrap = [\"/ip4/192.0.2.1/tcp/1\"]").contains("/p2p/"));
        assert!(error("[circuits]\nminutes = 0").contains("reservations = 0"));
    }

    #[test]
    fn a_drained_relay_is_closed_whatever_the_file_says() {
        let config = RelayConfig::default();
        assert_eq!(config.policy(false), Policy::default());
        assert_eq!(config.policy(true).mode, AccessMode::Closed);
        assert_eq!(config.settings(Secret32::new([1; 32]), true).policy.mode, AccessMode::Closed);
    }
}
