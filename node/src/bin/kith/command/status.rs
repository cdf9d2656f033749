//! `kith status`: how the node stands, or where a message is.

use crate::app::App;
use crate::command::message::find;
use crate::render;

/// `kith status [MESSAGE]`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A message's id, or the first digits of it
    message: Option<String>,
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    let access = app.read().await?;
    let running = access.session.is_running();
    let lines = async {
        match args.message {
            Some(text) => {
                let id = find(&access.session, &text).await?.id;
                let journey = access.session.journey(id).await?;
                if app.out.json {
                    return app.out.json(&journey).map(|()| Vec::new());
                }
                Ok(render::journey(&app.out, &journey, running))
            }
            None => {
                let node = access.session.status().await?;
                if app.out.json {
                    return app.out.json(&node).map(|()| Vec::new());
                }
                Ok(render::node(&app.out, &node))
            }
        }
    };
    let lines = lines.await;
    access.close().await;
    for line in lines? {
        let hang = line.len() - line.trim_start_matches(' ').len() + 2;
        app.out.line(app.out.fold(&line, hang))?;
    }
    Ok(())
}
