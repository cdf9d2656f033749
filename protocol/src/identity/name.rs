//! Names and lines people give themselves.

use thiserror::Error;

use crate::limits;

/// A name that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing to see.
    #[error("a name needs at least one visible character")]
    Empty,
    /// Too long.
    #[error("the name has {len} bytes; at most {max} fit (some characters take several)")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Characters that change what surrounds them.
    #[error("a name cannot hold line breaks, control characters or marks that reverse the writing direction")]
    Control,
}

/// The trimmed name, if it can be shown in a list without harm.
///
/// # Errors
/// [`NameError`] saying what to change.
pub fn check_name(name: &str) -> Result<String, NameError> {
    let name = name.trim();
    if name.len() > limits::NAME {
        return Err(NameError::TooLong { len: name.len(), max: limits::NAME });
    }
    check_line(name)?;
    if name.chars().all(is_invisible) {
        return Err(NameError::Empty);
    }
    Ok(name.to_owned())
}

/// One line of text without characters that change what surrounds it. It may be empty.
///
/// # Errors
/// [`NameError::TooLong`] above [`limits::ABOUT`], [`NameError::Control`].
pub fn check_line(line: &str) -> Result<(), NameError> {
    if line.len() > limits::ABOUT {
        return Err(NameError::TooLong { len: line.len(), max: limits::ABOUT });
    }
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    if line.chars().any(harmful) { Err(NameError::Control) } else { Ok(()) }
}

/// Takes no ink: a name of nothing else would look empty.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(check_name("  Ana Maria ").unwrap(), "Ana Maria");
        assert_eq!(check_name("👩‍👩‍👧 شبنم 山田").unwrap(), "👩‍👩‍👧 شبنم 山田");
        assert_eq!(check_name(&"x".repeat(48)).unwrap().len(), 48);
        assert_eq!(check_name(&"é".repeat(25)), Err(NameError::TooLong { len: 50, max: 48 }));
    }

    #[test]
    fn a_name_nobody_can_see_or_that_turns_the_line_is_refused() {
        for name in ["", "   ", "\u{200B}\u{200D}", "\u{3164}", "\u{206A}", "\u{FFF9}\u{2800}"] {
            assert_eq!(check_name(name), Err(NameError::Empty), "{name:?}");
        }
        for name in ["a\nb", "a\u{202E}b", "a\u{2066}b", "\u{7}a", "a\u{2028}b"] {
            assert_eq!(check_name(name), Err(NameError::Control), "{name:?}");
        }
    }
}
