//! `kith-sim list`.

use std::io::{ErrorKind, Write as _};

use kith_sim::METRICS;
use kith_sim::scenario::{LIBRARY, find, schema};

use crate::Failure;
use crate::cli::ListArgs;

pub(crate) fn list(args: &ListArgs) -> Result<bool, Failure> {
    let mut text = String::new();
    if args.schema {
        text = schema();
    } else if args.metrics {
        for (name, what) in METRICS {
            text += &format!("{name:<28} {what}\n");
        }
        text += "bytes_by_purpose.NAME        bytes sent for link, directory, gossip, identify, ping, autonat, transport\n";
        text += "notices.CODE                 things people were told: expired, rejected, repair, fork …\n";
    } else if let Some(name) = &args.show {
        let shown = LIBRARY.iter().find(|(known, _)| known == name);
        let (_, scenario) = shown.ok_or_else(|| {
            Failure::usage(format!("no scenario is called {name:?}; `kith-sim list` names them"))
        })?;
        (*scenario).clone_into(&mut text);
    } else {
        for (name, _) in LIBRARY {
            let scenario = find(name).map_err(Failure::usage)?;
            text += &format!(
                "{name:<20} {:>5} nodes, {:>4}  {}\n",
                scenario.nodes.count,
                scenario.scenario.duration.to_string(),
                scenario.scenario.about
            );
        }
    }
    match std::io::stdout().write_all(text.as_bytes()) {
        // whoever reads has seen enough
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
        done => done.map(|()| true).map_err(Failure::from),
    }
}
