//! `kith store`, `export`, `import`: the files of an account.

use std::path::PathBuf;

use anyhow::bail;
use kith_node::Builder;
use kith_node::keys;
use kith_node::maintenance::{self, CheckView, TransferView};
use kith_node::rpc::Client;
use zeroize::Zeroizing;

use crate::app::{App, Busy, passphrase_file};
use crate::command::init::{Engine, Key};
use crate::out::Style;
use crate::terminal;
use crate::text::clean_line;
use crate::when::plural;

/// `kith store …`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Store {
    /// Read everything, to see whether it is sound
    Check,
    /// Move everything into another engine
    Migrate {
        /// Which
        #[arg(long, value_enum)]
        to: Engine,
    },
    /// Give back the disk space of what was deleted
    Compact,
    /// Say that you have taken note of what a restore of damaged data lost: it is not shown any more
    Acknowledge,
}

/// `kith export FILE`
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// A file that does not exist yet
    file: PathBuf,
    /// Read the passphrase that seals the file from the first line of this one; else it is asked for, or is that of
    /// --passphrase-file or KITH_PASSPHRASE
    #[arg(long, value_name = "FILE")]
    seal: Option<PathBuf>,
}

/// `kith import FILE`
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// What `kith export` wrote
    file: PathBuf,
    /// Read the passphrase that seals the file from the first line of this one; else it is asked for, or is that of
    /// --passphrase-file or KITH_PASSPHRASE
    #[arg(long, value_name = "FILE")]
    seal: Option<PathBuf>,
    /// Where the key of your data is kept here
    #[arg(long, value_enum, default_value_t = Key::Auto)]
    key: Key,
}

pub(crate) async fn perform(app: &App, what: Store) -> anyhow::Result<()> {
    if matches!(what, Store::Acknowledge) {
        return acknowledge(app).await;
    }
    let builder = at_rest(app).await?;
    match what {
        Store::Acknowledge => Ok(()),
        Store::Check => check(app, &builder),
        Store::Migrate { to } => {
            let busy = Busy::start(app, "Moving your data");
            let done = maintenance::migrate(&builder, to.kind());
            busy.end();
            moved(app, &done?)
        }
        Store::Compact => {
            let busy = Busy::start(app, "Writing your data anew");
            let done = maintenance::compact(&builder);
            busy.end();
            moved(app, &done?)
        }
    }
}

/// Ends the reminder of what a restore lost.
async fn acknowledge(app: &App) -> anyhow::Result<()> {
    let access = app.change().await?;
    let done = async {
        let restored = access.session.status().await?.restored;
        access.session.acknowledge_restored().await?;
        anyhow::Ok(restored)
    };
    let done = done.await;
    access.close().await;
    let restored = done?;
    app.out.either(&serde_json::json!({ "acknowledged": restored.is_some() }), || {
        match restored {
            Some(_) => "Noted: what the restore lost is not shown any more. What was asked for still comes.",
            None => "There is nothing to take note of: no restore of this data has lost anything.",
        }
        .to_owned()
    })
}

/// The data folder while nobody uses it.
async fn at_rest(app: &App) -> anyhow::Result<Builder> {
    app.need_account()?;
    if let Ok(Some(client)) = Client::attach(&app.folder).await {
        bail!("a node uses this data (process {}); stop it first with `kith stop`", client.pid());
    }
    Ok(app.builder_with(app.passphrase_if_needed()?))
}

fn check(app: &App, builder: &Builder) -> anyhow::Result<()> {
    let busy = Busy::start(app, "Reading everything");
    let done = maintenance::check(builder);
    busy.end();
    let view = done?;
    if app.out.json {
        app.out.json(&view)?;
    } else {
        for line in readable(app, &view) {
            app.out.line(app.out.fold(&line, 2))?;
        }
    }
    if !view.sound {
        bail!(
            "{} found in the store; the next `kith run` restores what is damaged from the export log and keeps the original",
            plural(view.problem_count, "problem")
        );
    }
    Ok(())
}

fn readable(app: &App, view: &CheckView) -> Vec<String> {
    let mut lines: Vec<_> =
        view.notice.iter().map(|notice| app.out.paint(Style::Warn, &clean_line(notice))).collect();
    let verdict = match view.sound {
        true => app.out.paint(Style::Good, "sound"),
        false => app.out.paint(Style::Bad, "damaged"),
    };
    lines.push(format!(
        "{verdict}: {} in {}, {}, {} in the export log",
        plural(view.rows, "row"),
        view.engine,
        plural(view.indexes, "index row"),
        plural(view.log_commits, "commit")
    ));
    lines.extend(view.problems.iter().map(|problem| format!("  {}", clean_line(problem))));
    lines
}

fn moved(app: &App, view: &TransferView) -> anyhow::Result<()> {
    app.out.either(view, || {
        let mib = |bytes: u64| format!("{:.1} MB", bytes as f64 / (1024.0 * 1024.0));
        format!(
            "{} to {}: {}, {} before, {} now",
            view.from,
            view.to,
            plural(view.pairs, "stored pair"),
            mib(view.bytes_before),
            mib(view.bytes_after)
        )
    })
}

/// The passphrase of an exported file.
fn seal(app: &App, file: Option<&PathBuf>, fresh: bool) -> anyhow::Result<Zeroizing<String>> {
    if let Some(file) = file {
        return passphrase_file(file);
    }
    if !terminal::can_ask() {
        return match app.given_passphrase()? {
            Some(given) => Ok(given),
            None => bail!(
                "a passphrase seals the file; give it with --seal FILE, --passphrase-file FILE or KITH_PASSPHRASE"
            ),
        };
    }
    let first = terminal::ask_passphrase("Passphrase of the exported file")?;
    if fresh && *terminal::ask_passphrase("The same again")? != *first {
        bail!("the two were not the same; nothing was written");
    }
    Ok(first)
}

pub(crate) async fn export(app: &App, args: Export) -> anyhow::Result<()> {
    let builder = at_rest(app).await?;
    if args.file.exists() {
        bail!("{} exists already; name a new file", args.file.display());
    }
    let passphrase = seal(app, args.seal.as_ref(), true)?;
    let busy = Busy::start(app, "Exporting");
    let done = maintenance::export(&builder, &args.file, &passphrase);
    busy.end();
    let rows = done?;
    app.out.either(&serde_json::json!({ "file": args.file, "rows": rows }), || {
        format!(
            "{} written to {}. Without its passphrase nobody can read it, nor can you.",
            plural(rows, "row"),
            args.file.display()
        )
    })
}

pub(crate) fn import(app: &App, args: &Import) -> anyhow::Result<()> {
    if !args.file.exists() {
        bail!("there is no file {}", args.file.display());
    }
    let passphrase = seal(app, args.seal.as_ref(), false)?;
    let own = match args.key {
        Key::Passphrase => Some(app.new_passphrase()?),
        _ => app.given_passphrase()?,
    };
    app.folder.create()?;
    // a key without an account is what an interrupted import leaves
    if keys::kind(app.folder.path())?.is_none() {
        keys::create(app.folder.path(), args.key.kind(), own.as_deref().map(String::as_str))?;
    }
    let busy = Busy::start(app, "Importing");
    let done = maintenance::import(&app.builder_with(own), &args.file, &passphrase);
    busy.end();
    let rows = done?;
    app.out.either(&serde_json::json!({ "file": args.file, "rows": rows }), || {
        format!(
            "{} restored into {}. Do not use the old copy any more. Next: `kith run`",
            plural(rows, "row"),
            app.folder.path().display()
        )
    })
}
