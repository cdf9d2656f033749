//! The certificate of secure WebSocket addresses: whether it can be used, and for how long.

use kith_network::WssCertificate;
use kith_protocol::Wall;

use super::{Finding, Subject};
use crate::certificate::{ADVICE, span, warning};
use crate::config::RelayConfig;

const WHAT: &str = "certificate";

pub(super) fn check(subject: &Subject<'_>, config: &RelayConfig) -> Option<Finding> {
    if config.websocket.certificate.is_empty() {
        return None;
    }
    let certificate = WssCertificate::default();
    if let Err(error) = config.load_certificate(&certificate) {
        return Some(Finding::wrong(
            WHAT,
            error.to_string(),
            "set websocket.certificate and websocket.key to files in PEM form that the relay's user may read",
        ));
    }
    Some(time(certificate.expires(), subject.now))
}

fn time(expires: Option<Wall>, now: Wall) -> Finding {
    let Some(expires) = expires else {
        return Finding::advice(
            WHAT,
            "it does not say how long it is valid",
            "look at it with `openssl x509`",
        );
    };
    match warning(expires, now) {
        None => Finding::fit(WHAT, format!("valid for {}", span(expires.since(now)))),
        Some(found) if expires > now => Finding::advice(WHAT, found, ADVICE),
        Some(found) => Finding::wrong(WHAT, found, ADVICE),
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::limits;

    use super::*;
    use crate::check::Level;

    #[test]
    fn a_certificate_is_wrong_only_once_it_has_expired() {
        let now = Wall(1_000 * limits::DAY);
        let level = |expires: u64| time(Some(Wall(expires)), now).level;
        assert_eq!(level(now.0 + 60 * limits::DAY), Level::Fit);
        assert_eq!(level(now.0 + 5 * limits::DAY), Level::Advice);
        assert_eq!(level(now.0), Level::Wrong);
        assert_eq!(time(None, now).level, Level::Advice);
    }
}
