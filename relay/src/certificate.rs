//! The end of a certificate's time, told early enough to do something.

use kith_protocol::{Wall, limits};

/// A certificate that ends sooner than this should have been renewed: ACME clients do it 30 days before.
pub const SOON: u64 = 14 * limits::DAY;

/// What there is to say of a certificate that ends soon, or has ended; `None` if there is time.
#[must_use]
pub fn warning(expires: Wall, now: Wall) -> Option<String> {
    let left = expires.since(now);
    if expires <= now {
        return Some(format!(
            "the certificate of the /wss addresses expired {} ago: nobody can connect there",
            span(now.since(expires))
        ));
    }
    (left < SOON).then(|| format!("the certificate of the /wss addresses expires in {}", span(left)))
}

/// What to do then.
pub const ADVICE: &str = "renew it (see why your ACME client did not), then `kith-relay reload`";

/// Milliseconds in the unit that fits.
pub(crate) fn span(millis: u64) -> String {
    let (count, unit) = match (millis / limits::DAY, millis / limits::HOUR) {
        (0, hours) => (hours, "hour"),
        (days, _) => (days, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_two_weeks_before_its_end_and_after_it() {
        let expires = Wall(100 * limits::DAY);
        let told = |before: u64| warning(expires, Wall(expires.0 - before)).unwrap_or_default();
        assert_eq!(told(SOON), "");
        assert_eq!(told(SOON - 1), "the certificate of the /wss addresses expires in 13 days");
        assert_eq!(told(limits::DAY), "the certificate of the /wss addresses expires in 1 day");
        assert_eq!(told(5 * limits::HOUR), "the certificate of the /wss addresses expires in 5 hours");
        assert!(told(0).contains("expired 0 hours ago"));
        let late = warning(expires, Wall(expires.0 + 2 * limits::DAY)).unwrap();
        assert!(late.contains("expired 2 days ago"), "{late}");
    }
}
