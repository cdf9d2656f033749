//! Times, shares, rates and sizes as people write them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::trace::{MILLI, SECOND};

/// A span of time: `"250ms"`, `"10s"`, `"5m"`, `"2h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub(crate) u64);

const TIMES: [(&str, u64); 5] =
    [("ms", MILLI), ("s", SECOND), ("m", 60 * SECOND), ("h", 3_600 * SECOND), ("d", 86_400 * SECOND)];
/// Longest span: a year.
const LONGEST: f64 = 366.0 * 86_400.0 * 1e9;

impl Time {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(millis.saturating_mul(MILLI))
    }

    /// Nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Seconds.
    #[must_use]
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    fn parse(text: &str) -> Option<Self> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = text.split_at(split);
        let (_, nanos) = TIMES.iter().find(|(name, _)| *name == unit)?;
        let nanos = number.parse::<f64>().ok()? * *nanos as f64;
        (nanos <= LONGEST).then_some(Self(nanos.round() as u64))
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
            .ok_or_else(|| format!("{text:?} is no time; write for example 250ms, 10s, 5m, 2h or 7d"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = TIMES.iter().rev().find(|(_, nanos)| self.0 >= *nanos && self.0.is_multiple_of(*nanos));
        match fitting {
            Some((unit, nanos)) => write!(f, "{}{unit}", self.0 / nanos),
            None => write!(f, "{}ms", self.0 as f64 / MILLI as f64),
        }
    }
}

/// A share of a whole: a number from 0 to 1, or `"30%"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Share(pub(crate) f64);

impl Share {
    /// Of a number from 0 to 1; others are brought into that range.
    #[must_use]
    pub const fn of(share: f64) -> Self {
        Self(share.clamp(0.0, 1.0))
    }

    fn parse(text: &str) -> Option<Self> {
        let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
        (0.0..=100.0).contains(&percent).then_some(Self(percent / 100.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

/// Bits a second: `"20mbit"`, `"500kbit"`, `"1gbit"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Bandwidth(pub(crate) f64);

const BITS: [(&str, f64); 3] = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3)];

impl Bandwidth {
    /// So many million bits a second.
    #[must_use]
    pub const fn mbit(mbit: f64) -> Self {
        Self(mbit * 1e6)
    }

    /// Bytes a second.
    pub(crate) fn bytes(self) -> f64 {
        self.0 / 8.0
    }

    fn parse(text: &str) -> Option<Self> {
        let (unit, bits) = BITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        (number > 0.0 && number.is_finite()).then_some(Self(number * bits))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bits) = BITS.into_iter().find(|(_, bits)| self.0 >= *bits).unwrap_or(("kbit", 1e3));
        write!(f, "{}{unit}", self.0 / bits)
    }
}

/// Bytes: a number, or `"256KiB"`, `"1MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub(crate) u64);

const SIZES: [(&str, u64); 3] = [("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Bytes {
    fn parse(text: &str) -> Option<Self> {
        let (unit, bytes) = SIZES.iter().find(|(unit, _)| text.ends_with(unit))?;
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(*bytes).map(Self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SIZES.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = fitting.copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// What a unit reads from a file.
struct Reading<T> {
    expecting: &'static str,
    text: fn(&str) -> Option<T>,
    number: Option<fn(f64) -> Option<T>>,
}

impl<T> Visitor<'_> for Reading<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        let value = self.number.and_then(|read| read(number as f64));
        value.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let value = self.number.and_then(|read| read(number));
        value.ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

macro_rules! unit {
    ($name:ident, $expecting:literal, $number:expr, $schema:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Reading {
                    expecting: $expecting,
                    text: Self::parse,
                    number: $number,
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

unit!(Time, "a time like \"250ms\", \"10s\", \"5m\", \"2h\" or \"7d\"", None, {
    "type": "string", "pattern": "^[0-9.]+(ms|s|m|h|d)$",
    "description": "A time: 250ms, 10s, 5m, 2h, 7d."
});
unit!(Share, "a share: a number from 0 to 1, or a text like \"30%\"",
    Some(|n| (0.0..=1.0).contains(&n).then_some(Self(n))), {
    "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, { "type": "string", "pattern": "^[0-9.]+%$" }],
    "description": "A share: a number from 0 to 1, or 30%."
});
unit!(Bandwidth, "a bandwidth like \"20mbit\", \"500kbit\" or \"1gbit\"", None, {
    "type": "string", "pattern": "^[0-9.]+(k|m|g)bit$",
    "description": "Bits a second: 500kbit, 20mbit, 1gbit."
});
unit!(Bytes, "a size: a number of bytes, or a text like \"256KiB\" or \"1MiB\"",
    Some(|n| (n >= 0.0 && n.fract() == 0.0).then_some(Self(n as u64))), {
    "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB)$" }],
    "description": "Bytes: a number, 256KiB, 1MiB."
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_shown_as_people_write_them() {
        for text in ["250ms", "10s", "5m", "2h", "7d"] {
            assert_eq!(Time::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Time::parse("1.5s"), Some(Time::millis(1_500)));
        for wrong in ["", "5", "s", "5 parsecs", "-1s", "1e9s", "1.2.3s", "9999d"] {
            assert_eq!(Time::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Share::parse("30%"), Some(Share(0.3)));
        assert_eq!(Share::parse("130%"), None);
        assert_eq!(Bandwidth::parse("20mbit").unwrap().bytes(), 2.5e6);
        assert_eq!(Bandwidth::parse("0mbit"), None);
        assert_eq!(Bytes::parse("256KiB"), Some(Bytes(262_144)));
        assert_eq!(Bytes(262_144).to_string(), "256KiB");
    }
}
