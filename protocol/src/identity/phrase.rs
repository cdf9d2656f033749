//! The 24 words an account is restored from.

use std::fmt;

use bip39::{Language, Mnemonic};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use super::derive;
use crate::secret::Secret32;

const WORDS: usize = 24;

/// A recovery phrase: 24 English BIP39 words, 256 bits.
#[derive(Clone)]
pub struct Phrase(Mnemonic);

/// Words that are no recovery phrase. The words themselves are never repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Too few or too many words.
    #[error("a recovery phrase has 24 words; these are {0}")]
    WordCount(usize),
    /// A word is in no word list.
    #[error("word {0} is not one of the 2,048 words a recovery phrase is made of; check its spelling")]
    UnknownWord(usize),
    /// The words do not belong together.
    #[error("these words do not belong together: one is wrong or two have changed places")]
    Checksum,
}

impl Phrase {
    /// Draws a new phrase.
    #[must_use]
    pub fn generate(rng: &mut dyn rand::CryptoRng) -> Self {
        let mut entropy = Zeroizing::new([0u8; 32]);
        loop {
            rng.fill_bytes(entropy.as_mut());
            if let Ok(mnemonic) = Mnemonic::from_entropy_in(Language::English, entropy.as_ref()) {
                return Self(mnemonic);
            }
        }
    }

    /// Reads words as a person writes them: any case, any white space between.
    ///
    /// # Errors
    /// [`PhraseError`] saying which word to look at.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        let count = text.split_whitespace().count();
        if count != WORDS {
            return Err(PhraseError::WordCount(count));
        }
        let lower = Zeroizing::new(text.to_lowercase());
        let mut words = Zeroizing::new(String::with_capacity(lower.len()));
        for word in lower.split_whitespace() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        Mnemonic::parse_in_normalized(Language::English, &words).map(Self).map_err(|error| match error {
            bip39::Error::UnknownWord(index) => PhraseError::UnknownWord(index + 1),
            bip39::Error::BadWordCount(count) => PhraseError::WordCount(count),
            _ => PhraseError::Checksum,
        })
    }

    /// The words, one space between.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let mut words = Zeroizing::new(String::with_capacity(WORDS * 9));
        for word in self.0.words() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        words
    }

    /// The seed of the account's key pair.
    #[must_use]
    pub fn account_seed(&self) -> Secret32 {
        let (mut entropy, len) = self.0.to_entropy_array();
        let seed = derive(entropy.get(..len).unwrap_or_default(), "kith/account/1", &[]);
        entropy.zeroize();
        Secret32::new(seed)
    }
}

impl fmt::Debug for Phrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_survives_being_written_down_carelessly() {
        let phrase = Phrase::generate(&mut rand::rng());
        let careless = format!("  {}\n", phrase.words().to_uppercase().replace(' ', "\n\t "));
        let again = Phrase::parse(&careless).unwrap();
        assert_eq!(*again.words(), *phrase.words());
        assert_eq!(again.account_seed(), phrase.account_seed());
    }

    #[test]
    fn a_wrong_phrase_is_told_from_a_mistyped_one() {
        let art = format!("{}art", "abandon ".repeat(23));
        assert!(Phrase::parse(&art).is_ok());
        assert_eq!(Phrase::parse("abandon").unwrap_err(), PhraseError::WordCount(1));
        assert_eq!(Phrase::parse("").unwrap_err(), PhraseError::WordCount(0));
        let typo = art.replacen("abandon abandon", "abandon abandno", 1);
        assert_eq!(Phrase::parse(&typo).unwrap_err(), PhraseError::UnknownWord(2));
        assert_eq!(Phrase::parse(&"abandon ".repeat(24)).unwrap_err(), PhraseError::Checksum);
    }
}
