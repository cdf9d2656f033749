//! Prints the events of a running node, resuming where the last run ended.
//!
//! `cargo run -p kith-node --example events -- DATA_FOLDER [CURSOR]`

use std::error::Error;

use kith_node::Folder;
use kith_node::api::Session;
use kith_node::rpc::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().map(Into::into).or_else(Folder::default_path).ok_or("name a data folder")?;
    let after = args.next().map(|cursor| cursor.parse()).transpose()?;
    let client = Client::attach(&Folder::new(folder)).await?.ok_or("no node runs there; start `kith run`")?;
    let mut events = Session::Remote(client).events(after).await?;
    while let Some(event) = events.next().await {
        println!("{}", serde_json::to_string(&event)?);
    }
    Ok(())
}
