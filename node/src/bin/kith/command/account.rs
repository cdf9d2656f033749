//! `kith account` and `kith device`.

use anyhow::bail;

use crate::app::App;
use crate::command::init::default_phrase_file;

/// `kith account …`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Account {
    /// Show the 24 words of your account, if their file is still where `kith init` put it
    Words,
}

/// `kith device …`
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Device {
    /// List your devices
    List,
}

pub(crate) fn account(app: &App, what: &Account) -> anyhow::Result<()> {
    let Account::Words = what;
    app.need_account()?;
    let file = default_phrase_file(app);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let words = zeroize::Zeroizing::new(text.trim().to_owned());
            let answer = serde_json::json!({ "words": words.as_str(), "file": file.display().to_string() });
            app.out.either(&answer, || words.to_string())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
            "the words are not kept: `kith init` wrote them once to a file ({} unless --phrase-file said otherwise), \
             and it is not there any more",
            file.display()
        ),
        Err(error) => bail!("{} cannot be read: {error}", file.display()),
    }
}

pub(crate) async fn device(app: &App, what: Device) -> anyhow::Result<()> {
    let Device::List = what;
    let access = app.read().await?;
    let profile = access.session.profile().await;
    access.close().await;
    let profile = profile?;
    let device = serde_json::json!({
        "device": profile.device.to_string(),
        "peer_id": profile.peer_id,
        "this": true,
    });
    app.out.either(&device, || format!("{}  {}  this device", profile.device.short(), profile.peer_id))
}
