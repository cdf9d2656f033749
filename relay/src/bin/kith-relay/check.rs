//! `kith-relay check`.

use std::sync::Arc;

use kith_network::{Environment as _, ProductEnvironment};
use kith_relay::admin::{Ask, Client};
use kith_relay::check::{Finding, Level, Subject, check};
use kith_relay::config::RelayConfig;
use kith_relay::count::count;
use kith_relay::folder::Folder;

use crate::cli::CheckArgs;
use crate::out::Out;
use crate::store::{lock, open_store};

/// Exit codes beside 0.
const WRONG: u8 = 1;
const ADVICE: u8 = 3;

pub(crate) async fn perform(folder: &Folder, out: &Out, args: &CheckArgs) -> anyhow::Result<u8> {
    if !folder.is_made() {
        folder.read_key()?;
    }
    let config = RelayConfig::read(&folder.config());
    let host = Arc::new(ProductEnvironment::current()?.without_lan());
    let (running, doubts_clock) = running(folder).await.unzip();
    let subject = Subject {
        folder,
        config: config.as_ref(),
        running,
        doubts_clock: doubts_clock.unwrap_or_default(),
        now: host.wall(),
        host: &host,
    };
    let mut findings = check(&subject).await;
    if let (true, Ok(config)) = (args.store, &config) {
        findings.push(stored(folder, config, &host).await);
    }
    for finding in &findings {
        if out.json {
            out.json(&serde_json::to_value(finding)?)?;
        } else {
            let mark = match finding.level {
                Level::Fit => "  ok     ",
                Level::Advice => "  advice ",
                Level::Wrong => "  WRONG  ",
            };
            out.line(&format!("{mark}{:13} {}", finding.what, finding.found))?;
            if let Some(advice) = &finding.advice {
                out.line(&format!("{:23} → {advice}", ""))?;
            }
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (wrong, advice) = (count(Level::Wrong), count(Level::Advice));
    if !out.json {
        out.line(&match (wrong, advice) {
            (0, 0) => "\nAll is fit for a relay.".to_owned(),
            (0, 1) => "\nFit for a relay; one thing could be better.".to_owned(),
            (0, advice) => format!("\nFit for a relay; {advice} things could be better."),
            (1, _) => "\nOne thing must be changed.".to_owned(),
            (wrong, _) => format!("\n{wrong} things must be changed."),
        })?;
    }
    Ok(match (wrong, advice) {
        (1.., _) => WRONG,
        (0, 1..) if args.strict => ADVICE,
        _ => 0,
    })
}

/// The relay's process, if one answers, and whether it doubts the clock.
async fn running(folder: &Folder) -> Option<(u32, bool)> {
    let client = Client::new(folder).ok()?;
    let status = client.order(Ask::Status).await.ok()?;
    Some((
        client.pid(),
        status.get("clock_in_doubt").and_then(serde_json::Value::as_bool).unwrap_or_default(),
    ))
}

/// Counts what is stored, of a relay that does not run.
async fn stored(folder: &Folder, config: &RelayConfig, host: &Arc<ProductEnvironment>) -> Finding {
    let look = async {
        let _lock = lock(folder)?;
        let store = open_store(folder, config, host, &folder.read_key()?).await?;
        let counted = count(store.as_ref()).await;
        store.close().await?;
        anyhow::Ok(counted?)
    };
    let (level, found, advice) = match look.await {
        Ok(counted) if counted.faults.is_empty() => (
            Level::Fit,
            format!(
                "{} mailboxes, {} envelopes, all counted right",
                counted.totals.mailboxes, counted.totals.envelopes
            ),
            None,
        ),
        Ok(counted) => (
            Level::Wrong,
            counted.faults.join("; "),
            Some("restore the last backup into a new folder, and keep this one to be looked at".into()),
        ),
        Err(error) => (
            Level::Wrong,
            format!("{error:#}"),
            Some("a running relay is counted by `kith-relay audit`".into()),
        ),
    };
    Finding { what: "store", level, found, advice }
}
