//! A text as people write it, for tests that send a lot: short and long lines, empty ones, repeated ones, several
//! scripts, blanks at the ends, and things that look like commands.

const OPENINGS: &[&str] = &[
    "When the rain stopped,",
    "Nobody had told her that",
    "By the old harbour",
    "On the third morning",
    "It was said that",
    "Между тем",
    "その朝、",
    "في المساء",
    "Als het licht uitging,",
    "Après tout,",
    "Y sin embargo",
    "Als der Wind drehte,",
];
const SUBJECTS: &[&str] = &[
    "the ferryman",
    "a girl with a lantern",
    "my grandmother's clock",
    "the last tram",
    "two brothers from the hills",
    "the baker’s apprentice",
    "an unsigned letter",
    "the lighthouse keeper",
    "that stubborn mule",
    "the whole village",
];
const VERBS: &[&str] = &[
    "waited for",
    "quietly mended",
    "never forgot",
    "carried home",
    "argued about",
    "sold, then bought back,",
    "painted over",
    "listened to",
    "counted — twice —",
    "dreamt of",
];
const OBJECTS: &[&str] = &[
    "the tide.",
    "a broken umbrella.",
    "seven blue plates…",
    "the road to the mill!",
    "what the river had left.",
    "a song without words.",
    "the key under the stone?",
    "every name on the list.",
    "tomorrow’s bread 🥖.",
    "the sea 🌊.",
];
const ASIDES: &[&str] = &[
    "",
    "    ",
    "* * *",
    "\"No,\" she said.",
    "CHAPTER",
    "/quit",
    "-",
    "--",
    "{\"text\": \"not a command\"}",
    "\ttab first",
    "trailing blank ",
    "0",
    "…",
    "👩‍👩‍👧‍👦",
    "e\u{301} is é",
    "KITH:NOTANINVITE",
    "'; drop table messages; --",
    "\u{202e}right to left",
];

/// `lines` lines of prose, the same each time.
#[must_use]
pub fn real_text(lines: usize) -> Vec<String> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    (0..lines).map(|number| line(&mut dice, number)).collect()
}

fn line(dice: &mut Dice, number: usize) -> String {
    match dice.roll(20) {
        // About one line in seven is an aside: these repeat, so nothing may be taken for a copy by its text.
        0..3 => dice.pick(ASIDES).to_owned(),
        // Now and then a long paragraph on one line.
        3 if dice.roll(10) == 0 => {
            let sentences: Vec<String> = (0..40 + dice.roll(60)).map(|_| sentence(dice)).collect();
            format!("{number}. {}", sentences.join(" "))
        }
        _ => {
            let sentences: Vec<String> = (0..1 + dice.roll(2)).map(|_| sentence(dice)).collect();
            format!("{number}. {}", sentences.join(" "))
        }
    }
}

fn sentence(dice: &mut Dice) -> String {
    format!("{} {} {} {}", dice.pick(OPENINGS), dice.pick(SUBJECTS), dice.pick(VERBS), dice.pick(OBJECTS))
}

/// xorshift64: the same text on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let index = self.roll(from.len() as u64);
        from[usize::try_from(index).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_varied_and_always_the_same() {
        let text = real_text(10_000);
        assert_eq!(text, real_text(10_000));
        assert!(text.iter().any(String::is_empty));
        assert!(text.iter().any(|line| line.len() > 4096));
        assert!(text.iter().all(|line| line.len() <= 16 * 1024 && !line.contains('\n')));
        let distinct: std::collections::HashSet<_> = text.iter().collect();
        assert!(distinct.len() > 8_000 && distinct.len() < 9_500, "{}", distinct.len());
    }
}
