//! Who is meant by what a person typed.
//!
//! In this order: an account id; at least eight of its first hex digits; `@name` or `name` as we call the person;
//! `name` as the person calls themselves (compared after NFKC and case folding). A name that was once used for a
//! person goes on to mean that person: another contact who takes the name makes it ambiguous, never redirects it.

use std::collections::BTreeMap;

use kith_protocol::AccountId;
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Fewest hex digits that may stand for an account id.
pub const PREFIX: usize = 8;

/// One person who can be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The account.
    pub account: AccountId,
    /// The name we gave.
    pub own_name: Option<String>,
    /// The name they gave themselves.
    pub profile_name: String,
}

/// Names in use: folded profile name to the account it was used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pins(BTreeMap<String, String>);

/// How a name was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// This person.
    One(AccountId),
    /// This person, by the name they gave themselves: remember that with [`Pins::pin`].
    ByProfileName(AccountId),
    /// Any of these.
    Several(Vec<AccountId>),
    /// Nobody.
    Nobody,
}

/// Names are compared in this form.
#[must_use]
pub fn fold(name: &str) -> String {
    // upper, then lower case comes close to Unicode's full case folding (ß = SS)
    name.trim().nfkc().collect::<String>().to_uppercase().to_lowercase().nfkc().collect()
}

impl Pins {
    /// The account a profile name was used for.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<AccountId> {
        self.0.get(&fold(name)).and_then(|account| account.parse().ok())
    }

    /// Takes over names that are not known here.
    pub fn add(&mut self, others: Self) {
        for (name, account) in others.0 {
            self.0.entry(name).or_insert(account);
        }
    }

    /// Remembers that a profile name means an account. True if that was new.
    pub fn pin(&mut self, name: &str, account: AccountId) -> bool {
        let folded = fold(name);
        if self.0.contains_key(&folded) {
            return false;
        }
        self.0.insert(folded, account.to_string());
        true
    }
}

/// Finds out who is meant.
#[must_use]
pub fn resolve(who: &str, people: &[Person], pins: &Pins) -> Meaning {
    let who = who.trim();
    if let Some(name) = who.strip_prefix('@') {
        return one_of(matching(people, |person| own_name_is(person, name)));
    }
    if let Some(meaning) = by_id(who, people) {
        return meaning;
    }
    let own = matching(people, |person| own_name_is(person, who));
    if !own.is_empty() {
        return one_of(own);
    }
    by_profile_name(who, people, pins)
}

fn by_id(who: &str, people: &[Person]) -> Option<Meaning> {
    let digits = who.len() >= PREFIX && who.len() <= 64 && who.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits {
        return None;
    }
    let prefix = who.to_ascii_lowercase();
    let hits = matching(people, |person| person.account.to_string().starts_with(&prefix));
    // eight hex digits may also be somebody's name
    (!hits.is_empty()).then(|| one_of(hits))
}

fn by_profile_name(who: &str, people: &[Person], pins: &Pins) -> Meaning {
    let wanted = fold(who);
    if wanted.is_empty() {
        return Meaning::Nobody;
    }
    let mut hits = matching(people, |person| fold(&person.profile_name) == wanted);
    let pinned = pins.get(who).filter(|account| people.iter().any(|person| person.account == *account));
    if let Some(pinned) = pinned
        && !hits.contains(&pinned)
    {
        hits.push(pinned);
    }
    match hits.as_slice() {
        [] => Meaning::Nobody,
        [account] => Meaning::ByProfileName(*account),
        _ => Meaning::Several(hits),
    }
}

fn own_name_is(person: &Person, name: &str) -> bool {
    person.own_name.as_deref().is_some_and(|own| own == name.trim())
}

fn matching(people: &[Person], test: impl Fn(&Person) -> bool) -> Vec<AccountId> {
    people.iter().filter(|person| test(person)).map(|person| person.account).collect()
}

fn one_of(hits: Vec<AccountId>) -> Meaning {
    match hits.as_slice() {
        [] => Meaning::Nobody,
        [account] => Meaning::One(*account),
        _ => Meaning::Several(hits),
    }
}

#[cfg(test)]
mod tests;
