//! `kith-relay init`: a key and a configuration.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use kith_protocol::DeviceId;
use kith_protocol::identity::KeyPair;
use kith_protocol::secret::Secret32;
use kith_relay::config::{RelayConfig, TEMPLATE};
use kith_relay::folder::Folder;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::InitArgs;
use crate::out::Out;

pub(crate) fn perform(folder: &Folder, out: &Out, args: &InitArgs) -> anyhow::Result<()> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    let key = Secret32::new(*seed);
    let text = configured(TEMPLATE, args);
    let config = RelayConfig::parse(&text, "the new configuration")?;
    // wrong addresses are told now, not at the first start
    kith_network::Config::new(config.settings(key.clone(), false).network)?;
    folder.check_is_free()?;
    folder.create(&key, &text)?;
    let public = KeyPair::from_seed(&key).public();
    let peer = DeviceId(public).peer_id().context("the new key is no Ed25519 key; try again")?;
    let told = if config.external.is_empty() { &config.listen } else { &config.external };
    let addresses: Vec<String> = told.iter().map(|address| format!("{address}/p2p/{peer}")).collect();
    let fingerprint = fingerprint(&public);
    if out.json {
        out.json(&json!({
            "peer_id": peer.to_string(), "addresses": addresses, "fingerprint": fingerprint,
            "config": folder.config(),
        }))?;
        return Ok(());
    }
    out.line(&format!("A relay was made in {}.", folder.path().display()))?;
    out.line(&format!("\n  Name         {peer}\n  Fingerprint  {fingerprint}\n"))?;
    for address in &addresses {
        out.line(&format!("  {address}"))?;
    }
    if config.external.is_empty() {
        out.line(
            "\nThese are the addresses it listens on. Once you know where others reach it, set `external` in\n\
             relay.toml, or make it with --external /dns4/NAME/tcp/4190.",
        )?;
    }
    // a code for an address that leads nowhere would help nobody
    let leads_here = |address: &&String| !address.contains("/0.0.0.0/") && !address.starts_with("/ip6/::/");
    if let Some(address) = addresses.iter().find(leads_here) {
        out.qr(address)?;
    }
    out.line(&format!("\nWhat it allows is in {}.", folder.config().display()))?;
    out.line(&format!("Start it with: kith-relay run --data {}", folder.path().display()))?;
    out.line(&format!("Ask whether this host is fit: kith-relay check --data {}", folder.path().display()))?;
    out.line("Keep a copy of relay.key: with it the relay can move, without it every mailbox here is lost.")?;
    Ok(())
}

/// The template with what was given on the command line.
fn configured(template: &str, args: &InitArgs) -> String {
    let list = |given: &[String]| {
        let quoted: Vec<String> =
            given.iter().map(|text| format!("\"{}\"", text.replace(['"', '\\', '\n'], ""))).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = String::new();
    // sections have keys of the same names
    let mut in_section = false;
    for line in template.lines() {
        in_section |= line.starts_with('[');
        let line = match line.split_once(" = ") {
            Some(("#listen", _)) if !in_section && !args.listen.is_empty() => {
                format!("listen = {}", list(&args.listen))
            }
            Some(("#external", _)) if !in_section && !args.external.is_empty() => {
                format!("external = {}", list(&args.external))
            }
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// For comparing by eye or by voice: the key in eight groups.
fn fingerprint(public: &[u8; 32]) -> String {
    let mut text = String::new();
    for (n, group) in public.chunks(4).enumerate() {
        if n > 0 {
            text.push(' ');
        }
        for byte in group {
            // writing to a string does not fail
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_addresses_replace_the_templates() {
        let args = InitArgs {
            listen: vec!["/ip4/127.0.0.1/tcp/0".into(), "/ip4/127.0.0.1/tcp/0/ws".into()],
            external: vec!["/dns4/a\"b/tcp/1".into()],
        };
        let config = RelayConfig::parse(&configured(TEMPLATE, &args), "x").unwrap();
        assert_eq!(config.listen, args.listen);
        assert_eq!(config.external, ["/dns4/ab/tcp/1"]);
        assert_eq!(fingerprint(&[0xab; 32]).len(), 71);
    }
}
