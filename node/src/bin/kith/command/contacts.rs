//! `kith contacts`: the people you know.

use anyhow::bail;
use kith_node::api::{ContactView, SafetyView};

use crate::app::App;
use crate::failure::usage;
use crate::out::Style;
use crate::text::{clean_line, width};
use crate::{render, terminal};

/// `kith contacts`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List them
    List,
    /// Give somebody a name of your own
    Rename {
        /// Whom
        who: String,
        /// The name; leave it out to go back to theirs
        name: Option<String>,
    },
    /// Take nothing from somebody any more; they are not told
    Block {
        /// Whom
        who: String,
    },
    /// Take a block back
    Unblock {
        /// Whom
        who: String,
    },
    /// Forget somebody's keys; the history stays
    Remove {
        /// Whom
        who: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Compare safety numbers with somebody
    Verify {
        /// Whom
        who: String,
        /// The numbers are the same on both sides: remember that
        #[arg(long, conflicts_with = "forget")]
        same: bool,
        /// Take a comparison back
        #[arg(long)]
        forget: bool,
    },
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    match args.what {
        None | Some(What::List) => list(app).await,
        Some(What::Rename { who, name }) => {
            let access = app.change().await?;
            let done = async {
                let contact = access.session.resolve(who).await?;
                access.session.rename(contact.account, name).await
            };
            let done = done.await;
            access.close().await;
            tell(app, &done?, "is what this contact is called here")
        }
        Some(What::Block { who }) => {
            let access = app.change().await?;
            let done = async {
                let contact = access.session.resolve(who).await?;
                access.session.block(contact.account).await
            };
            let done = done.await;
            access.close().await;
            tell(app, &done?, "is blocked; they are not told")
        }
        Some(What::Unblock { who }) => {
            let access = app.change().await?;
            let done = async {
                let contact = access.session.resolve(who).await?;
                access.session.unblock(contact.account).await
            };
            let done = done.await;
            access.close().await;
            tell(app, &done?, "is no longer blocked")
        }
        Some(What::Remove { who, yes }) => remove(app, who, yes).await,
        Some(What::Verify { who, same, forget }) => verify(app, who, same, forget).await,
    }
}

async fn list(app: &App) -> anyhow::Result<()> {
    let access = app.read().await?;
    let contacts = access.session.contacts().await;
    let running = access.session.is_running();
    access.close().await;
    let contacts = contacts?;
    if contacts.is_empty() {
        app.out.note("Nobody yet. `kith invite` makes a link for somebody, `kith accept LINK` uses one.");
    }
    let columns = contacts.iter().map(|contact| width(&clean_line(&contact.name))).max().unwrap_or(0);
    for contact in &contacts {
        app.out.either(contact, || render::contact(&app.out, contact, columns))?;
    }
    if !running && !contacts.is_empty() {
        app.out.note("No node is running, so nobody is seen on-line; `kith run` starts one.");
    }
    Ok(())
}

fn tell(app: &App, contact: &ContactView, what: &str) -> anyhow::Result<()> {
    app.out.either(contact, || format!("{} {what}.", clean_line(&contact.name)))
}

async fn remove(app: &App, who: String, yes: bool) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let contact = access.session.resolve(who).await?;
        let question =
            format!("Forget the keys of {}? To talk again you need a new invite.", clean_line(&contact.name));
        if !yes {
            if app.out.json || !terminal::can_ask() {
                return Err(usage("this cannot be taken back, and nobody can be asked here: add --yes"));
            }
            if !terminal::confirm(&question)? {
                bail!("nothing was changed");
            }
        }
        Ok(access.session.remove(contact.account).await?)
    };
    let done = done.await;
    access.close().await;
    tell(app, &done?, "is no contact any more; the history stays")
}

async fn verify(app: &App, who: String, same: bool, forget: bool) -> anyhow::Result<()> {
    let access = if same || forget || terminal::can_ask() { app.change().await? } else { app.read().await? };
    let done = async {
        let contact = access.session.resolve(who).await?;
        let mut number = access.session.safety_number(contact.account).await?;
        show(app, &number)?;
        let ask = !same && !forget && !number.verified && !app.out.json && terminal::can_ask();
        let verdict = match (same, forget) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ if ask && terminal::confirm("Do both of you see the same number?")? => Some(true),
            _ => None,
        };
        if let Some(verdict) = verdict {
            access.session.verify(contact.account, verdict).await?;
            number.verified = verdict;
            app.out.note(if verdict { "Remembered as verified." } else { "Not verified any more." });
        }
        anyhow::Ok(number)
    };
    let done = done.await;
    access.close().await;
    let number = done?;
    if app.out.json {
        app.out.json(&number)?;
    }
    Ok(())
}

fn show(app: &App, number: &SafetyView) -> anyhow::Result<()> {
    if app.out.json {
        return Ok(());
    }
    let name = clean_line(&number.name);
    app.out.line(format!("Safety number with {name}:\n"))?;
    let groups: Vec<_> = number.number.split_whitespace().collect();
    for row in groups.chunks(4) {
        app.out.line(format!("  {}", app.out.paint(Style::Bold, &row.join("  "))))?;
    }
    app.out.line("")?;
    app.out.note(format!(
        "Read it to each other, face to face or by a call. If {name} sees the same, nobody sits between you:\n\
         kith contacts verify {} --same",
        number.account.short()
    ));
    if number.verified {
        app.out.note("You have compared it before.");
    }
    Ok(())
}
