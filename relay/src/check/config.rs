//! The configuration: what is wrong, and what is allowed but unwise.

use std::net::SocketAddr;

use super::{Finding, Subject};
use crate::config::{Mode, RelayConfig, StoreKind};

pub(super) fn file(subject: &Subject<'_>) -> Finding {
    match subject.config {
        Ok(_) => Finding::fit("configuration", subject.folder.config().display().to_string()),
        Err(error) => Finding::wrong(
            "configuration",
            error.to_string(),
            "correct the file; every key is in the one that `init` wrote",
        ),
    }
}

pub(super) fn values(config: &RelayConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.store.kind == StoreKind::Memory {
        findings.push(Finding::wrong(
            "store",
            "everything is kept in memory",
            "receipts promise days: set store.kind = \"redb\"",
        ));
    }
    if config.store.kind == StoreKind::Postgres && config.total.bytes.0 == 0 {
        findings.push(Finding::advice(
            "total.bytes",
            "nothing keeps the database's disk from filling up",
            "set total.bytes to less than half of that disk: the relay cannot see how much is free there",
        ));
    }
    if config.operator.name.trim().is_empty() || config.operator.contact.trim().is_empty() {
        findings.push(Finding::advice(
            "operator",
            "the status page does not say who runs this",
            "set operator.name and operator.contact: people trust whom they can reach",
        ));
    }
    let of_all = config.web.listen.parse::<SocketAddr>();
    if of_all.is_ok_and(|address| !address.ip().is_loopback()) {
        findings.push(Finding::advice(
            "web.listen",
            format!("{} can be reached from other machines", config.web.listen),
            "metrics are for the operator: use 127.0.0.1, and web.page for the page alone; in a container, \
             publish the port to 127.0.0.1 only",
        ));
    }
    if config.mode == Mode::Open && config.total.mailboxes == 0 && config.rate.mailboxes_per_network == 0 {
        findings.push(Finding::advice(
            "mode",
            "anybody may open any number of mailboxes",
            "set total.mailboxes, rate.mailboxes_per_network or mode = \"token\"",
        ));
    }
    if config.mode == Mode::AllowList && config.allow.is_empty() {
        findings.push(Finding::wrong(
            "allow",
            "nobody may open a mailbox",
            "list the devices' peer ids in `allow`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn unwise_values_are_named() {
        let mut config = RelayConfig::default();
        assert_eq!(values(&config).iter().map(|finding| finding.what).collect::<Vec<_>>(), ["operator"]);
        config.operator.name = "A".into();
        config.operator.contact = "a@b".into();
        assert!(values(&config).is_empty());
        config.web.listen = "0.0.0.0:4192".into();
        config.rate.mailboxes_per_network = 0;
        assert!(values(&config).iter().all(|finding| finding.level == Level::Advice));
        assert_eq!(values(&config).len(), 2);
        config.store.kind = StoreKind::Memory;
        config.mode = Mode::AllowList;
        let wrong = values(&config).into_iter().filter(|finding| finding.level == Level::Wrong);
        assert_eq!(wrong.map(|finding| finding.what).collect::<Vec<_>>(), ["store", "allow"]);
    }
}
