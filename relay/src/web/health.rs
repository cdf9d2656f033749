//! Whether the relay is alive, and whether it is ready for more.

use super::sample::Taken;

/// Alive: its one task answers. If it does not, a restart is the only help.
pub(super) fn alive(sample: &Taken) -> Result<String, String> {
    match sample {
        Ok(_) => Ok("ok\n".into()),
        Err(error) => Err(format!("{error}\n")),
    }
}

/// Ready: deposits are taken. A drained relay is ready for what it still does, and says so.
pub(super) fn ready(sample: &Taken) -> Result<String, String> {
    let sample = sample.as_ref().map_err(|error| format!("{error}\n"))?;
    let mut reasons = Vec::new();
    if sample.status.load == "critical" {
        reasons.push("no deposits are taken: overloaded, the disk is nearly full, or the store fails");
    }
    if sample.network.listening.is_empty() {
        reasons.push("it listens nowhere");
    }
    if !reasons.is_empty() {
        return Err(format!("{}\n", reasons.join("\n")));
    }
    Ok(if sample.status.mode == "closed" { "ready, but closed: nothing new is taken\n" } else { "ready\n" }
        .into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::web::sample::{Sample, full_sample};

    #[test]
    fn a_relay_that_refuses_deposits_is_alive_but_not_ready() {
        let mut sample = full_sample();
        let taken = |sample: &Sample| Ok(Arc::new(sample.clone()));
        assert!(ready(&taken(&sample)).unwrap_err().contains("listens nowhere"));
        sample.network.listening.push("/ip4/127.0.0.1/tcp/1".into());
        assert_eq!(ready(&taken(&sample)).unwrap(), "ready\n");
        sample.status.mode = "closed".into();
        assert!(ready(&taken(&sample)).unwrap().contains("closed"));
        sample.status.load = "critical".into();
        assert!(ready(&taken(&sample)).unwrap_err().contains("no deposits"));
        assert!(alive(&taken(&sample)).is_ok());
    }
}
