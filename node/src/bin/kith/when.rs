//! Spans of time as people type them, and instants as people read them.

use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;
use kith_node::api::Timestamp;

const UNITS: [(&str, u64); 6] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Reads `30s`, `5m`, `1h30m`, `7d`, `2w`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("“{text}” is no span of time; write 30s, 5m, 12h, 7d or 1h30m");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    if let Ok(seconds) = rest.parse::<u64>() {
        return seconds.checked_mul(1_000).map(Duration::from_millis).ok_or_else(wrong);
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
        let part =
            number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_millis(total))
}

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

fn zoned(at: Timestamp) -> Option<Zoned> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(at.to_zoned(TimeZone::system()))
}

fn shown(at: Timestamp, format: &str) -> String {
    zoned(at).map_or_else(|| at.to_string(), |at| at.strftime(format).to_string())
}

/// `14:03`, in this machine's time zone.
pub(crate) fn clock(at: Timestamp) -> String {
    shown(at, "%H:%M")
}

/// `14:03:07.123`
pub(crate) fn precise(at: Timestamp) -> String {
    shown(at, "%H:%M:%S%.3f")
}

/// `Tuesday 24 November 2026`
pub(crate) fn day(at: Timestamp) -> String {
    shown(at, "%A %-d %B %Y")
}

/// `24 Nov 2026 14:03`
pub(crate) fn date(at: Timestamp) -> String {
    shown(at, "%-d %b %Y %H:%M")
}

/// Whether two instants fall on one day here.
pub(crate) fn same_day(one: Timestamp, other: Timestamp) -> bool {
    match (zoned(one), zoned(other)) {
        (Some(one), Some(other)) => one.date() == other.date(),
        _ => one == other,
    }
}

/// `just now`, `5 minutes ago`, `3 days ago`
pub(crate) fn ago(at: Timestamp) -> String {
    let seconds = now().0.saturating_sub(at.0) / 1_000;
    if seconds < 60 { "just now".to_owned() } else { format!("{} ago", span(seconds)) }
}

/// `12 seconds`, `5 minutes`, `3 days`
pub(crate) fn span(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    plural(number, unit)
}

/// `1 message`, `2 messages`
pub(crate) fn plural(number: u64, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read_as_people_write_them() {
        for (text, millis) in [
            ("30s", 30_000),
            ("0s", 0),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("2w", 1_209_600_000),
            ("15", 15_000),
            (" 2h ", 7_200_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_of_time_is_refused_with_an_example() {
        for text in [
            "",
            "soon",
            "s",
            "5x",
            "-3s",
            "1.5h",
            "5 minutes",
            "99999999999999999999d",
            "9999999999999999d",
            "1h30",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("30s"), "{text}: {error}");
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(span(1), "1 second");
        assert_eq!(span(7_300), "2 hours");
        assert_eq!(span(200_000), "2 days");
    }
}
