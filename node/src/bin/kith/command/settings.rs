//! `kith profile` and `kith settings`.

use kith_node::api::{ContactView, ProfileView, SettingsView};

use crate::app::App;
use crate::failure::usage;
use crate::out::Style;
use crate::text::clean_line;

/// `kith profile`
#[derive(Debug, clap::Args)]
pub(crate) struct Profile {
    /// A new name
    #[arg(long)]
    name: Option<String>,
    /// A new line about yourself; empty takes it away
    #[arg(long, value_name = "LINE")]
    about: Option<String>,
}

/// `kith settings`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Whether people are told that you have read their messages
    Receipts {
        /// on, off; with WHO also default: as for everyone
        choice: Choice,
        /// Only for this person
        who: Option<String>,
    },
    /// Whether people are told while you type
    Typing {
        /// on, off
        choice: Switch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    On,
    Off,
    Default,
}

pub(crate) async fn profile(app: &App, args: Profile) -> anyhow::Result<()> {
    let change = args.name.is_some() || args.about.is_some();
    let access = if change { app.change().await? } else { app.read().await? };
    let profile = match change {
        true => access.session.set_profile(args.name, args.about).await,
        false => access.session.profile().await,
    };
    access.close().await;
    let profile = profile?;
    app.out.either(&profile, || readable(app, &profile))
}

fn readable(app: &App, profile: &ProfileView) -> String {
    let mut text = app.out.paint(Style::Bold, &clean_line(&profile.name));
    if !profile.about.is_empty() {
        text.push_str(&format!("\n{}", clean_line(&profile.about)));
    }
    text.push_str(&format!(
        "\naccount {}\ndevice  {}\npeer id {}",
        profile.account, profile.device, profile.peer_id
    ));
    text
}

pub(crate) async fn perform(app: &App, args: Args) -> anyhow::Result<()> {
    match args.what {
        None => show(app).await,
        Some(What::Receipts { choice, who }) => receipts(app, choice, who).await,
        Some(What::Typing { choice }) => typing(app, choice).await,
    }
}

async fn typing(app: &App, choice: Switch) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        access.session.set_typing(choice == Switch::On).await?;
        access.session.settings().await
    };
    let done = done.await;
    access.close().await;
    let settings = done?;
    app.out.either(&settings, || for_all(settings))
}

async fn receipts(app: &App, choice: Choice, who: Option<String>) -> anyhow::Result<()> {
    let on = match choice {
        Choice::On => Some(true),
        Choice::Off => Some(false),
        Choice::Default if who.is_none() => {
            return Err(usage("say on or off; default is for one person (WHO)"));
        }
        Choice::Default => None,
    };
    let access = app.change().await?;
    let done = async {
        let account = match who {
            Some(who) => Some(access.session.resolve(who).await?.account),
            None => None,
        };
        access.session.set_receipts(account, on).await?;
        let settings = access.session.settings().await?;
        let contact = match account {
            Some(account) => Some(access.session.contact(account).await?),
            None => None,
        };
        anyhow::Ok((settings, contact))
    };
    let done = done.await;
    access.close().await;
    let (settings, contact) = done?;
    match contact {
        Some(contact) => app.out.either(&contact, || for_one(&contact, settings)),
        None => app.out.either(&settings, || for_all(settings)),
    }
}

async fn show(app: &App) -> anyhow::Result<()> {
    let access = app.read().await?;
    let settings = access.session.settings().await;
    let contacts = access.session.contacts().await;
    access.close().await;
    let settings = settings?;
    app.out.either(&settings, || for_all(settings))?;
    if !app.out.json {
        for contact in contacts?.iter().filter(|contact| contact.read_receipts.is_some()) {
            app.out.line(for_one(contact, settings))?;
        }
    }
    Ok(())
}

fn for_all(settings: SettingsView) -> String {
    let receipts = if settings.read_receipts { "are told" } else { "are not told" };
    let typing = if settings.typing { "are told" } else { "are not told" };
    format!("People {receipts} that you have read their messages.\nPeople {typing} while you type.")
}

fn for_one(contact: &ContactView, settings: SettingsView) -> String {
    let name = clean_line(&contact.name);
    match contact.read_receipts {
        Some(true) => format!("{name} is told that you have read their messages."),
        Some(false) => format!("{name} is not told that you have read their messages."),
        None => format!(
            "{name} is treated like everyone: read receipts are {}.",
            if settings.read_receipts { "on" } else { "off" }
        ),
    }
}
