//! What two accounts make together: the safety number people compare, and their conversation.

use sha2::{Digest as _, Sha512};

use super::hash;
use crate::id::{AccountId, ConversationId};

/// Makes the search for a key with a similar number as slow as for Signal's.
const ROUNDS: usize = 5200;
const VERSION: [u8; 2] = [0, 1];

/// The 60 digits two people compare, in twelve groups of five. Equal on both sides; depends on the accounts only, so a new
/// device does not change it.
#[must_use]
pub fn safety_number(a: &AccountId, b: &AccountId) -> String {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    let mut digits = fingerprint(first);
    digits.push(' ');
    digits.push_str(&fingerprint(second));
    digits
}

/// 30 digits of one account.
fn fingerprint(account: &AccountId) -> String {
    let key = account.as_bytes();
    let mut hash = Sha512::new().chain_update(VERSION).chain_update(key).finalize();
    for _ in 1..ROUNDS {
        hash = Sha512::new().chain_update(hash).chain_update(key).finalize();
    }
    let groups: Vec<String> = hash
        .chunks_exact(5)
        .take(6)
        .map(|chunk| {
            let number = chunk.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
            format!("{:05}", number % 100_000)
        })
        .collect();
    groups.join(" ")
}

/// The conversation of two people; with oneself: notes.
#[must_use]
pub fn direct_conversation(a: &AccountId, b: &AccountId) -> ConversationId {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    ConversationId(hash("kith/direct-conversation/1", &[first.as_bytes(), second.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_number_and_conversation() {
        let (a, b, c) = (AccountId([1; 32]), AccountId([2; 32]), AccountId([3; 32]));
        let number = safety_number(&a, &b);
        assert_eq!(number, safety_number(&b, &a));
        assert_ne!(number, safety_number(&a, &c));
        assert_eq!(number.len(), 60 + 11);
        assert!(number.split(' ').all(|g| g.len() == 5 && g.bytes().all(|d| d.is_ascii_digit())));
        assert_eq!(direct_conversation(&a, &b), direct_conversation(&b, &a));
        assert_ne!(direct_conversation(&a, &b), direct_conversation(&a, &a));
    }
}
