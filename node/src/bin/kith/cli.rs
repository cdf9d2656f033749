//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::app::App;
use crate::command::{
    accept, account, contacts, demo, doctor, events, history, init, invite, message, relay, run, send,
    settings, status, store,
};
use crate::out::{Out, Style};
use crate::{app, chat};

const EXAMPLES: &str = "\
Examples:
  kith init --name Ana                   make an account on this machine
  kith run                               be on-line (leave it running)
  kith invite                            a link for one person, to send by any other way
  kith accept KITH:…                     use the link somebody sent you
  kith chat Ben                          talk
  kith relay add /ip4/…/p2p/12D3Koo…     keep a mailbox there for when you are off-line
  kith send Ben \"on my way\" --wait delivered
  kith history Ben --limit 20
  kith status a1b2c3d4                   where a message is, and what happens next
  kith events --json                     follow everything, for scripts
  kith demo                              see it all at work in this terminal

WHO is an account id or its first 8 digits, @NAME for the name you gave, or a name.
MESSAGE is a message id or its first digits, as `kith history` shows them.
With --json each line of output is one JSON object. Exit codes: 0 done, 1 failed or not reached, 2 wrong usage.";

/// Peer-to-peer chat with no central server, that tells the truth about delivery.
#[derive(Debug, Parser)]
#[command(name = "kith", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where your account, contacts and messages are kept [default: the user's data folder, kith]
    #[arg(long, value_name = "DIR", env = "KITH_DATA", global = true, hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,
    /// One JSON object a line, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tell more on standard error (-v, -vv, -vvv); RUST_LOG says it in detail
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Read the passphrase from the first line of this file (or set KITH_PASSPHRASE)
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an account on this machine
    Init(init::Args),
    /// Be on-line: run the node until it is stopped
    Run(run::Args),
    /// Stop the running node
    Stop,
    /// Make a link by which somebody becomes a contact; list or revoke links
    Invite(invite::Args),
    /// Become a contact of whoever made this link
    Accept(accept::Args),
    /// List the people you know; rename, block, unblock, remove, verify them
    #[command(visible_alias = "contact")]
    Contacts(contacts::Args),
    /// Your relays: they keep what is sent to you while you are off-line
    #[command(visible_alias = "relays")]
    Relay(relay::Args),
    /// Talk with somebody in this terminal
    Chat(chat::Args),
    /// Send a message, or each line of standard input
    Send(send::Args),
    /// Change the text of a message of yours
    Edit(message::Edit),
    /// Take a message of yours back, for everyone
    Delete(message::Delete),
    /// Answer a message
    Reply(message::Reply),
    /// React to a message with an emoji; without one take your reaction back
    React(message::React),
    /// Show a conversation
    History(history::Args),
    /// Mark messages as read
    Read(history::Read),
    /// How the node stands; with a message: where it is
    Status(status::Args),
    /// Follow what happens, as JSON lines
    Events(events::Args),
    /// Show or change how contacts see you
    Profile(settings::Profile),
    /// Show or change what contacts are told
    Settings(settings::Args),
    /// About your account
    #[command(subcommand)]
    Account(account::Account),
    /// About your devices
    #[command(subcommand)]
    Device(account::Device),
    /// Find messages that hold all these words
    Search(history::Search),
    /// Look for what may keep you from being reached
    Doctor,
    /// Look after the files of this account
    #[command(subcommand)]
    Store(store::Store),
    /// Write everything to one sealed file
    Export(store::Export),
    /// Restore such a file into an empty data folder
    Import(store::Import),
    /// See two nodes meet, chat, part and meet again, in this terminal
    Demo,
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether warnings of the node are of use to the person at the terminal.
    pub(crate) const fn logs_to_people(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    /// Does it.
    pub(crate) async fn perform(self, app: &App) -> anyhow::Result<()> {
        match self {
            Self::Init(args) => init::perform(app, args),
            Self::Run(args) => Box::pin(run::perform(app, args)).await,
            Self::Stop => Box::pin(run::stop(app)).await,
            Self::Invite(args) => Box::pin(invite::perform(app, args)).await,
            Self::Accept(args) => Box::pin(accept::perform(app, args)).await,
            Self::Contacts(args) => Box::pin(contacts::perform(app, args)).await,
            Self::Relay(args) => Box::pin(relay::perform(app, args)).await,
            Self::Chat(args) => Box::pin(chat::perform(app, args)).await,
            Self::Send(args) => Box::pin(send::perform(app, args)).await,
            Self::Edit(args) => Box::pin(message::edit(app, args)).await,
            Self::Delete(args) => Box::pin(message::delete(app, args)).await,
            Self::Reply(args) => Box::pin(message::reply(app, args)).await,
            Self::React(args) => Box::pin(message::react(app, args)).await,
            Self::History(args) => Box::pin(history::perform(app, args)).await,
            Self::Read(args) => Box::pin(history::read(app, args)).await,
            Self::Status(args) => Box::pin(status::perform(app, args)).await,
            Self::Events(args) => Box::pin(events::perform(app, args)).await,
            Self::Profile(args) => Box::pin(settings::profile(app, args)).await,
            Self::Settings(args) => Box::pin(settings::perform(app, args)).await,
            Self::Account(what) => account::account(app, &what),
            Self::Device(what) => Box::pin(account::device(app, what)).await,
            Self::Search(args) => Box::pin(history::search(app, args)).await,
            Self::Doctor => Box::pin(doctor::perform(app)).await,
            Self::Store(what) => Box::pin(store::perform(app, what)).await,
            Self::Export(args) => Box::pin(store::export(app, args)).await,
            Self::Import(args) => store::import(app, &args),
            Self::Demo => Box::pin(demo::perform(app)).await,
            Self::Completions { shell } => completions(shell),
        }
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kith", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
}

/// What `kith` alone says: what to type first.
pub(crate) fn start_page(global: &Global) -> anyhow::Result<()> {
    let out = Out::new(global.json);
    let known = app::folder(global).is_ok_and(|folder| app::has_account(&folder));
    if out.json {
        return out.json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "account": known }));
    }
    let show = |command: &str, what: &str| {
        format!("  {}{what}", out.paint(Style::Bold, &crate::text::pad(command, 28)))
    };
    out.line("Kith: chat with no server between you, that tells the truth about delivery.\n")?;
    if known {
        out.line("You have an account here. What next?\n")?;
        out.line(show("kith run", "be on-line (leave it running, here or in the background)"))?;
        out.line(show("kith invite", "make a link for somebody you want to talk to"))?;
        out.line(show("kith accept LINK", "use a link somebody gave you"))?;
        out.line(show("kith contacts", "whom you know, and who is on-line"))?;
        out.line(show("kith chat NAME", "talk"))?;
        out.line(show("kith status", "how your node stands"))?;
    } else {
        out.line("Begin with:\n")?;
        out.line(show("kith init --name YOU", "make an account on this machine; a name is all it needs"))?;
        out.line(show("kith run", "be on-line (leave it running, use another terminal for the rest)"))?;
        out.line(show("kith invite", "make a link and send it to a friend, who types `kith accept LINK`"))?;
        out.line(show("kith chat FRIEND", "talk"))?;
        out.line("")?;
        out.line(show("kith demo", "or first see two nodes chat in this terminal; it changes nothing"))?;
    }
    out.line("\nAll commands, with examples: kith --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_every_command_may_stand_before_or_after_it() {
        for line in [["kith", "--json", "contacts"], ["kith", "contacts", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.json);
        }
    }

    #[test]
    fn wrong_values_are_refused_while_parsing() {
        for line in [
            ["kith", "send", "Ana", "hi", "--wait", "whenever"],
            ["kith", "send", "Ana", "hi", "--timeout", "soon"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
        assert!(Cli::try_parse_from(["kith", "invite", "--uses", "many"]).is_err());
        assert!(Cli::try_parse_from(["kith", "send"]).is_err());
        assert!(Cli::try_parse_from(["kith", "history"]).is_err());
    }

    #[test]
    fn a_text_may_begin_with_a_dash_after_two_dashes_and_may_be_empty() {
        let parsed = Cli::try_parse_from(["kith", "send", "Ana", "--", "--help"]).unwrap();
        assert!(
            matches!(parsed.command, Some(Command::Send(args)) if args.text.as_deref() == Some("--help"))
        );
        let parsed = Cli::try_parse_from(["kith", "send", "Ana", ""]).unwrap();
        assert!(matches!(parsed.command, Some(Command::Send(args)) if args.text.as_deref() == Some("")));
    }
}
