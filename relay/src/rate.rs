//! How much one peer and one network may ask.

use std::collections::HashMap;

use kith_network::Origin;
use kith_protocol::Mono;
use serde::{Deserialize, Serialize};

/// Networks remembered; beyond it those that asked for nothing lately are forgotten.
const MAX_NETWORKS: usize = 16_384;

/// What one peer and one network may ask; 0: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Requests a second on one link; ten seconds' worth may come at once.
    pub requests_per_link: u32,
    /// Requests a second from one network (/24 or /48); ten seconds' worth may come at once.
    pub requests_per_network: u32,
    /// New mailboxes an hour from one network.
    pub mailboxes_per_network: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests_per_link: 500, requests_per_network: 2_000, mailboxes_per_network: 60 }
    }
}

/// A bucket that fills with time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// In thousandths.
    level: u64,
    at: Mono,
}

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
struct Fill {
    amount: u64,
    per: u64,
    holds: u64,
}

impl Fill {
    const fn per_second(amount: u32) -> Self {
        Self { amount: amount as u64, per: 1_000, holds: amount as u64 * 10 }
    }

    const fn per_hour(amount: u32) -> Self {
        Self { amount: amount as u64, per: 3_600_000, holds: amount as u64 }
    }
}

impl Bucket {
    const fn full(fill: Fill, now: Mono) -> Self {
        Self { level: fill.holds * 1_000, at: now }
    }

    fn fill(&mut self, fill: Fill, now: Mono) {
        let gained = now.since(self.at).saturating_mul(fill.amount).saturating_mul(1_000) / fill.per;
        if gained > 0 {
            self.level = self.level.saturating_add(gained).min(fill.holds * 1_000);
            self.at = now;
        }
    }

    const fn has_one(&self) -> bool {
        self.level >= 1_000
    }

    fn take(&mut self) -> bool {
        let has = self.has_one();
        if has {
            self.level -= 1_000;
        }
        has
    }
}

#[derive(Debug)]
struct Network {
    requests: Bucket,
    mailboxes: Bucket,
    links: usize,
}

/// All buckets.
#[derive(Debug)]
pub(crate) struct RateLimits {
    rates: Rates,
    networks: HashMap<Origin, Network>,
}

impl RateLimits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { rates, networks: HashMap::new() }
    }

    pub(crate) fn set(&mut self, rates: Rates) {
        self.rates = rates;
    }

    /// The bucket of a new link.
    pub(crate) fn connected(&mut self, origin: Origin, now: Mono) -> Bucket {
        if self.networks.len() >= MAX_NETWORKS {
            let (requests, mailboxes) = (self.requests(), self.mailboxes());
            self.networks.retain(|_, network| {
                network.requests.fill(requests, now);
                network.mailboxes.fill(mailboxes, now);
                // one whose buckets are full is as good as a new one
                network.links > 0
                    || network.requests.level < requests.holds * 1_000
                    || network.mailboxes.level < mailboxes.holds * 1_000
            });
        }
        let (requests, mailboxes) = (self.requests(), self.mailboxes());
        let network = self.networks.entry(origin).or_insert_with(|| Network {
            requests: Bucket::full(requests, now),
            mailboxes: Bucket::full(mailboxes, now),
            links: 0,
        });
        network.links += 1;
        Bucket::full(Fill::per_second(self.rates.requests_per_link), now)
    }

    pub(crate) fn disconnected(&mut self, origin: Origin) {
        if let Some(network) = self.networks.get_mut(&origin) {
            network.links = network.links.saturating_sub(1);
        }
    }

    fn requests(&self) -> Fill {
        Fill::per_second(self.rates.requests_per_network)
    }

    fn mailboxes(&self) -> Fill {
        Fill::per_hour(self.rates.mailboxes_per_network)
    }

    /// Whether a request may be taken.
    pub(crate) fn request(&mut self, origin: Origin, link: &mut Bucket, now: Mono) -> bool {
        let of_link = Fill::per_second(self.rates.requests_per_link);
        let of_network = self.requests();
        if of_link.amount != 0 {
            link.fill(of_link, now);
            if !link.has_one() {
                return false;
            }
        }
        if of_network.amount != 0
            && let Some(network) = self.networks.get_mut(&origin)
        {
            network.requests.fill(of_network, now);
            if !network.requests.take() {
                return false;
            }
        }
        of_link.amount == 0 || link.take()
    }

    /// Whether a mailbox may be made.
    pub(crate) fn may_make_mailbox(&mut self, origin: Origin, now: Mono) -> bool {
        let fill = self.mailboxes();
        if fill.amount == 0 {
            return true;
        }
        self.networks.get_mut(&origin).is_none_or(|network| {
            network.mailboxes.fill(fill, now);
            network.mailboxes.has_one()
        })
    }

    /// A mailbox was made.
    pub(crate) fn mailbox_made(&mut self, origin: Origin) {
        if let Some(network) = self.networks.get_mut(&origin) {
            network.mailboxes.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin = Origin::V4([1, 2, 3]);

    #[test]
    fn a_burst_is_allowed_then_only_the_rate() {
        let rates = Rates { requests_per_link: 10, requests_per_network: 0, mailboxes_per_network: 2 };
        let mut limits = RateLimits::new(rates);
        let mut link = limits.connected(HERE, Mono(0));
        let taken = |limits: &mut RateLimits, link: &mut Bucket, now| {
            (0..1_000).filter(|_| limits.request(HERE, link, Mono(now))).count()
        };
        assert_eq!(taken(&mut limits, &mut link, 0), 100);
        assert_eq!(taken(&mut limits, &mut link, 99), 0);
        assert_eq!(taken(&mut limits, &mut link, 1_100), 11);
        for made in [true, true, false] {
            assert_eq!(limits.may_make_mailbox(HERE, Mono(0)), made);
            limits.mailbox_made(HERE);
        }
        assert!(limits.may_make_mailbox(HERE, Mono(1_800_000)));
    }

    #[test]
    fn all_links_of_a_network_share_what_it_may_ask_and_nothing_is_no_limit() {
        let rates = Rates { requests_per_link: 0, requests_per_network: 1, mailboxes_per_network: 0 };
        let mut limits = RateLimits::new(rates);
        let mut links = [limits.connected(HERE, Mono(0)), limits.connected(HERE, Mono(0))];
        let taken: usize = links
            .iter_mut()
            .map(|link| (0..100).filter(|_| limits.request(HERE, link, Mono(0))).count())
            .sum();
        assert_eq!(taken, 10);
        let mut other = limits.connected(Origin::Loopback, Mono(0));
        assert!(limits.request(Origin::Loopback, &mut other, Mono(0)));
        limits.set(Rates { requests_per_link: 0, requests_per_network: 0, mailboxes_per_network: 0 });
        let mut link = limits.connected(HERE, Mono(0));
        assert!((0..10_000).all(|_| limits.request(HERE, &mut link, Mono(0))));
    }
}
