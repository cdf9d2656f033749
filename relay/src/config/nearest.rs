//! The most similar name.

use super::RelayConfig;

/// The first key of the file that does not exist, and the one that was probably meant.
pub(super) fn nearest(given: &toml::Table, all: &RelayConfig) -> Option<(String, Option<String>)> {
    let all = toml::Table::try_from(all).ok()?;
    unknown(given, &all, "")
}

fn unknown(given: &toml::Table, all: &toml::Table, prefix: &str) -> Option<(String, Option<String>)> {
    for (key, value) in given {
        match (all.get(key), value) {
            (None, _) => {
                let near = all
                    .keys()
                    .map(|name| (distance(key, name), name))
                    .filter(|(distance, name)| *distance <= name.len().max(3) / 2)
                    .min()
                    .map(|(_, name)| format!("{prefix}{name}"));
                return Some((format!("{prefix}{key}"), near));
            }
            (Some(toml::Value::Table(all)), toml::Value::Table(given)) => {
                let found = unknown(given, all, &format!("{prefix}{key}."));
                if found.is_some() {
                    return found;
                }
            }
            _ => {}
        }
    }
    None
}

/// How many letters are to be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let changed = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("mode", "mod", 1),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
