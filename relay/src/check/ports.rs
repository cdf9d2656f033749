//! Ports: whether they can be listened on, and whether others find the relay where it is said to be.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};

use super::{Finding, Level, Subject};
use crate::config::RelayConfig;

/// How long a name or a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of an address matters here.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    udp: bool,
}

pub(super) async fn check(subject: &Subject<'_>, config: &RelayConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = kith_network::Config::new(network(config)) {
        findings.push(Finding::wrong(
            "addresses",
            error.to_string(),
            "write addresses such as /ip4/0.0.0.0/tcp/4190",
        ));
        return findings;
    }
    let mut places: Vec<(String, Place, bool)> =
        config.listen.iter().filter_map(|address| Some((address.clone(), place(address)?, true))).collect();
    for (address, chosen) in [(&config.web.listen, config.web.listen_chosen), (&config.web.page, true)] {
        if let Ok(address) = address.parse::<SocketAddr>() {
            let place = Place { host: address.ip().to_string(), port: address.port(), udp: false };
            places.push((format!("http://{address}"), place, chosen));
        }
    }
    // which port the system has chosen is not in the configuration
    let told = |place: &Place| place.port != 0 || subject.running.is_none();
    for (address, place, chosen) in places.into_iter().filter(|(_, place, _)| told(place)) {
        findings.push(match (subject.running, chosen) {
            (Some(_), _) => answers("port", &address, &place).await,
            (None, true) => free(&address, &place),
            (None, false) => default_web(free(&address, &place)),
        });
    }
    if config.external.is_empty()
        && config.listen.iter().any(|address| address.contains("/0.0.0.0/") || address.contains("/::/"))
    {
        findings.push(Finding::advice(
            "reachability",
            "no external address is set",
            "set `external` to the name or address others use, for example \"/dns4/relay.example.org/tcp/4190\"",
        ));
    }
    for address in &config.external {
        if let Some(place) = place(address) {
            findings.push(match (subject.running, place.udp) {
                (Some(_), false) => answers("reachability", address, &place).await,
                _ => resolves(address, &place).await,
            });
        }
    }
    findings
}

fn network(config: &RelayConfig) -> kith_network::Options {
    config.settings(kith_protocol::secret::Secret32::new([1; 32]), false).network
}

fn place(address: &str) -> Option<Place> {
    let mut parts = address.split('/').skip(1);
    let (mut host, mut found) = (String::new(), None);
    while let Some(part) = parts.next() {
        match part {
            "ip4" | "ip6" | "dns" | "dns4" | "dns6" => host = parts.next()?.to_owned(),
            "tcp" | "udp" => found = Some((parts.next()?.parse().ok()?, part == "udp")),
            _ => {}
        }
    }
    let (port, udp) = found?;
    (!host.is_empty()).then_some(Place { host, port, udp })
}

/// Takes the port for a moment.
fn free(address: &str, place: &Place) -> Finding {
    let Ok(ip) = place.host.parse::<IpAddr>() else {
        return Finding::advice(
            "port",
            format!("{address} is a name"),
            "listen on an address; names are for `external`",
        );
    };
    let taken = if place.udp {
        UdpSocket::bind((ip, place.port)).map(drop)
    } else {
        TcpListener::bind((ip, place.port)).map(drop)
    };
    match taken {
        Ok(()) => Finding::fit("port", format!("{address} is free")),
        // a second family on the same port is not an obstacle: the relay listens on each by itself
        Err(error) if ip.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            Finding::advice(
                "port",
                format!("{address}: this machine has no IPv6"),
                "take it out of `listen`, or leave it",
            )
        }
        Err(error) => Finding::wrong(
            "port",
            format!("{address}: {error}"),
            match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program has this port: end it (`ss -lptn` names it) or choose another port"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit: use that, or a higher port"
                }
                _ => "choose an address of this machine",
            },
        ),
    }
}

/// The relay starts without its default web address, too.
fn default_web(found: Finding) -> Finding {
    if found.level != Level::Wrong {
        return found;
    }
    Finding::advice(
        found.what,
        found.found,
        "the relay will have no metrics, health and status page: set web.listen to a port of its own, or to \"\"",
    )
}

/// The relay runs: somebody must answer.
async fn answers(what: &'static str, address: &str, place: &Place) -> Finding {
    if place.udp {
        return Finding::fit(what, format!("{address} is not tried: UDP does not answer"));
    }
    let host = match place.host.as_str() {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        other => other,
    };
    match tokio::time::timeout(PATIENCE, TcpStream::connect((host, place.port))).await {
        Ok(Ok(_)) => Finding::fit(what, format!("{address} answers")),
        Ok(Err(error)) => Finding::wrong(what, format!("{address}: {error}"), advice(what)),
        Err(_) => Finding::wrong(what, format!("{address} has not answered for {PATIENCE:?}"), advice(what)),
    }
}

fn advice(what: &str) -> &'static str {
    if what == "reachability" {
        "open the port in the firewall and forward it; some routers do not let a machine reach itself from inside: try from elsewhere"
    } else {
        "look at the log of the relay: it should listen here"
    }
}

async fn resolves(address: &str, place: &Place) -> Finding {
    let found = tokio::time::timeout(PATIENCE, lookup_host((place.host.as_str(), place.port))).await;
    match found.map(|found| found.map(Iterator::count)) {
        Ok(Ok(1..)) => {
            Finding::fit("reachability", format!("{address} has an address; it is tried when the relay runs"))
        }
        Ok(Ok(0)) | Err(_) => {
            Finding::wrong("reachability", format!("{address}: the name has no address"), "set it in the DNS")
        }
        Ok(Err(error)) => Finding::wrong("reachability", format!("{address}: {error}"), "set it in the DNS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_address_that_matter_are_found() {
        let found = |text| place(text).map(|place| (place.host, place.port, place.udp));
        assert_eq!(found("/ip4/0.0.0.0/tcp/4191/ws"), Some(("0.0.0.0".into(), 4191, false)));
        assert_eq!(found("/ip6/::/udp/4190/quic-v1"), Some(("::".into(), 4190, true)));
        assert_eq!(
            found("/dns4/relay.example.org/tcp/443/wss"),
            Some(("relay.example.org".into(), 443, false))
        );
        assert_eq!((found("/ip4/1.2.3.4"), found("x"), found("/ip4/1.2.3.4/tcp/99999")), (None, None, None));
    }

    #[tokio::test]
    async fn a_taken_port_is_wrong_before_the_start_and_right_after_it() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let place = Place { host: "127.0.0.1".into(), port, udp: false };
        let finding = free("x", &place);
        assert_eq!(finding.level, Level::Wrong);
        assert!(finding.advice.unwrap().contains("another program"));
        assert_eq!(default_web(free("x", &place)).level, Level::Advice);
        assert_eq!(answers("port", "x", &place).await.level, Level::Fit);
        drop(other);
        assert_eq!(free("x", &place).level, Level::Fit);
        assert_eq!(answers("port", "x", &place).await.level, Level::Wrong);
    }
}
