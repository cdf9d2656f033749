//! `kith events`: everything that happens, as JSON lines.

use anyhow::bail;

use crate::app::App;

/// `kith events`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keep the last `cursor` and give it with --after to go on where you stopped, with nothing\n\
    missing and nothing twice. A line of type `resync` says that the cursor is too old: read lists and history anew."
)]
pub(crate) struct Args {
    /// Go on after this cursor; 0: from the oldest event that is kept. Without it, only what comes from now on
    #[arg(long, value_name = "CURSOR")]
    after: Option<u64>,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    let session = app.running().await?;
    let mut events = session.events(args.after).await?;
    let mut last = args.after;
    while let Some(event) = events.next().await {
        last = Some(event.cursor);
        app.out.json(&event)?;
    }
    match last {
        Some(cursor) => {
            bail!("the node has stopped; start it with `kith run`, then go on with --after {cursor}")
        }
        None => bail!("the node has stopped; start it with `kith run`"),
    }
}
