//! `kith doctor`: what may keep you from being reached.

use anyhow::bail;
use kith_node::api::Session;
use kith_node::doctor::{Finding, Level, examine};
use kith_node::rpc::Client;

use crate::app::App;
use crate::out::Style;
use crate::when::plural;

pub(crate) async fn perform(app: &App) -> anyhow::Result<()> {
    let (node, unreachable) = match Client::attach(&app.folder).await {
        Ok(Some(client)) => (Some(Session::Remote(client).status().await?), None),
        Ok(None) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    // a key that cannot be looked at is among the findings
    let passphrase = if node.is_some() { None } else { app.passphrase_if_needed().unwrap_or_default() };
    let mut findings = examine(&app.folder, &app.builder_with(passphrase), node.as_ref());
    if let Some(text) = unreachable {
        findings.push(Finding { check: "node".to_owned(), level: Level::Problem, text });
    } else if node.is_none() && crate::app::has_account(&app.folder) {
        let text = "no node is running, so nobody can reach you; start one with `kith run`".to_owned();
        findings.push(Finding { check: "node".to_owned(), level: Level::Warning, text });
    }
    for finding in &findings {
        app.out.either(finding, || app.out.fold(&line(app, finding), 23))?;
    }
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count() as u64;
    if problems > 0 {
        bail!("{} found; the lines above say what to do", plural(problems, "problem"));
    }
    Ok(())
}

fn line(app: &App, finding: &Finding) -> String {
    let (mark, style) = match finding.level {
        Level::Ok => ("ok", Style::Good),
        Level::Warning => ("look", Style::Warn),
        Level::Problem => ("PROBLEM", Style::Bad),
    };
    let mark = app.out.paint(style, &crate::text::pad(mark, 7));
    format!("{mark}  {}  {}", crate::text::pad(&finding.check, 12), crate::text::clean(&finding.text))
}
