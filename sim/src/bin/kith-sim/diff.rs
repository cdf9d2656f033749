//! `kith-sim diff`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;

use crate::Failure;
use crate::cli::DiffArgs;

struct Trace {
    name: String,
    lines: Lines<BufReader<File>>,
}

impl Trace {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        Ok(Self { name, lines: BufReader::new(file).lines() })
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        self.lines.next().transpose().map_err(|error| Failure::usage(format!("{}: {error}", self.name)))
    }

    fn show(&mut self, first: Option<String>, more: usize) -> Result<(), Failure> {
        println!("--- {}", self.name);
        let Some(first) = first else {
            println!("> (ends here)");
            return Ok(());
        };
        println!("> {first}");
        for _ in 0..more {
            let Some(line) = self.next()? else { break };
            println!("  {line}");
        }
        Ok(())
    }
}

pub(crate) fn diff(args: &DiffArgs) -> Result<bool, Failure> {
    let (mut first, mut second) = (Trace::open(&args.first)?, Trace::open(&args.second)?);
    let mut before = VecDeque::new();
    for number in 1_u64.. {
        match (first.next()?, second.next()?) {
            (None, None) => {
                println!("no difference in {} events", number - 1);
                return Ok(true);
            }
            (Some(a), Some(b)) if a == b => {
                before.push_back(a);
                if before.len() > args.context {
                    before.pop_front();
                }
            }
            (a, b) => {
                println!("event {number} is the first that differs; before it:");
                before.iter().for_each(|line| println!("  {line}"));
                first.show(a, args.context)?;
                second.show(b, args.context)?;
                return Ok(false);
            }
        }
    }
    Ok(true)
}
