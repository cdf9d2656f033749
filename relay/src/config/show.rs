//! What is shown, where, and who runs the relay.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Longest name and contact, in characters.
const LINE: usize = 200;
/// Longest text about the relay, in characters.
const ABOUT: usize = 4_000;

/// Where metrics, health and the status page are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSection {
    /// Metrics, health and the page; empty: nowhere.
    pub listen: String,
    /// Whether the file says so: what an operator chose must be there, while the default may be taken.
    #[serde(skip)]
    pub listen_chosen: bool,
    /// The page alone, for everybody; empty: nowhere.
    pub page: String,
}

impl Default for WebSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:4192".into(), listen_chosen: false, page: String::new() }
    }
}

/// Who runs the relay, for the status page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorSection {
    /// A name.
    pub name: String,
    /// How to reach them.
    pub contact: String,
    /// Anything else; an empty line begins a new paragraph.
    pub about: String,
}

impl WebSection {
    pub(super) fn wrong(&self) -> Option<(&'static str, String)> {
        [("web.listen", &self.listen), ("web.page", &self.page)]
            .into_iter()
            .find(|(_, text)| !text.is_empty() && text.parse::<SocketAddr>().is_err())
            .map(|(key, text)| {
                (key, format!("{text:?}; an address with a port is possible, such as 127.0.0.1:4192"))
            })
    }
}

impl OperatorSection {
    pub(super) fn wrong(&self) -> Option<(&'static str, String)> {
        [
            ("operator.name", &self.name, LINE),
            ("operator.contact", &self.contact, LINE),
            ("operator.about", &self.about, ABOUT),
        ]
        .into_iter()
        .find(|(_, text, max)| text.chars().count() > *max)
        .map(|(key, _, max)| (key, format!("at most {max} characters are possible")))
    }
}
