//! The running relay's side.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use kith_network::Environment;
use kith_store::private;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tracing::{debug, info, warn};

use super::{Ask, Control, Entrance, LINE, Request, Response, TAKEN};
use crate::folder::Folder;

/// Commands served at a time.
const SERVED: usize = 8;
/// How long a command may take to check a backup it was given.
const TAKING: Duration = Duration::from_secs(3_600);
/// How long a command may take to say what it wants.
const ASKING: Duration = Duration::from_secs(10);

/// Serves orders until it is stopped or dropped.
#[derive(Debug)]
pub struct AdminServer {
    folder: Folder,
    stop: Arc<Notify>,
}

impl AdminServer {
    /// Takes no more orders.
    pub fn stop(&self) {
        self.stop.notify_one();
        // left behind it does no harm: nobody answers there
        let _ = std::fs::remove_file(self.folder.admin());
    }
}

/// Opens the entrance and writes down where it is.
///
/// # Errors
/// What the system said, and where.
pub async fn serve(
    control: Control,
    folder: Folder,
    environment: Arc<dyn Environment>,
) -> io::Result<AdminServer> {
    let failed = |what: &str, error: io::Error| {
        let advice = crate::folder::advice(&error);
        io::Error::new(error.kind(), format!("{what}: {error}{advice}"))
    };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .map_err(|error| failed("no port on 127.0.0.1 can be opened for orders", error))?;
    let mut secret = [0; 32];
    environment.rng().fill_bytes(&mut secret);
    let token = data_encoding::HEXLOWER.encode(&secret);
    let entrance =
        Entrance { address: listener.local_addr()?, token: token.clone(), pid: std::process::id() };
    let path = folder.admin();
    private::write(&path, serde_json::to_string(&entrance)?.as_bytes())
        .map_err(|error| failed(&format!("{} cannot be written", path.display()), error))?;
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let of_task = Arc::clone(&environment);
    let accept = async move {
        let places = Arc::new(Semaphore::new(SERVED));
        loop {
            let stream = tokio::select! {
                () = stopped.notified() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!("admin: {error}");
                        of_task.sleep(100).await;
                        continue;
                    }
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (control, token) = (control.clone(), token.clone());
            let serve = async move {
                if let Err(error) = one(stream, &control, &token).await {
                    debug!("admin: {error}");
                }
                drop(place);
            };
            of_task.spawn("admin", serve.boxed());
        }
    };
    environment.spawn("admin", accept.boxed());
    Ok(AdminServer { folder, stop })
}

async fn one(stream: TcpStream, control: &Control, token: &str) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(LINE as u64));
    tokio::time::timeout(ASKING, reader.read_line(&mut line)).await??;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(Request { token: given, ask: Ask::Backup }) if same(&given, token) => {
            return backup(reader.into_inner(), &mut write, control).await;
        }
        Ok(request) if same(&request.token, token) => {
            let name = format!("{:?}", request.ask);
            let done = control.carry_out(request.ask).await;
            match &done {
                // an order of the operator, in the operator's own log
                Ok(_) => info!(order = name.split([' ', '{']).next(), "carried out"),
                Err(error) => warn!(order = name.split([' ', '{']).next(), "not carried out: {error}"),
            }
            done.map_or_else(Response::Error, Response::Done)
        }
        Ok(_) => Response::Error("the token in admin.json is another one; was the relay restarted?".into()),
        Err(error) => Response::Error(format!("not an order: {error}")),
    };
    let mut text = serde_json::to_string(&response)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

/// One line, then the backup, until the stream ends; then the other side says that it has it.
async fn backup(
    mut read: tokio::io::Take<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    control: &Control,
) -> io::Result<()> {
    let mut line = serde_json::to_string(&Response::Done(serde_json::json!({ "stream": "backup" })))?;
    line.push('\n');
    write.write_all(line.as_bytes()).await?;
    let made = control.backup(write).await;
    write.shutdown().await?;
    match made {
        Ok(summary) => {
            let mut taken = [0; TAKEN.len()];
            tokio::time::timeout(TAKING, read.read_exact(&mut taken)).await??;
            if taken == *TAKEN {
                control.backup_taken(summary.made);
                info!(bytes = summary.bytes, damaged = summary.damaged.len(), "a backup was made");
            }
        }
        Err(error) => warn!("no backup was made: {error}"),
    }
    Ok(())
}

/// Takes the same time for every wrong token of the right length.
fn same(given: &str, token: &str) -> bool {
    given.len() == token.len()
        && given.bytes().zip(token.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
