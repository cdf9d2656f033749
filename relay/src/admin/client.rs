//! The command's side.

use std::io;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Ask, Entrance, LINE, Request, Response, TAKEN};
use crate::folder::Folder;

/// How long the relay may take to take the call,
const CALL: Duration = Duration::from_secs(5);
/// to carry out what is done in a moment,
const SOON: Duration = Duration::from_secs(20);
/// and what takes as long as there is much stored.
const ANSWER: Duration = Duration::from_secs(600);
/// Longest answer.
const ANSWER_LEN: u64 = 64 * 1024 * 1024;

/// Why an order was not carried out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody answers.
    #[error("no relay is running on {0}; start it with `kith-relay run --data {0}`")]
    NotRunning(String),
    /// The relay refused.
    #[error("{0}")]
    Refused(String),
    /// It has taken the call, and nothing more came.
    #[error(
        "the relay (process {pid}) did not answer within {seconds} s: it hangs, or its disk or machine is overloaded; look \
         at its log, and at the machine. It can be killed: what it acknowledged is safe"
    )]
    Late {
        /// The process.
        pid: u32,
        /// How long it was waited.
        seconds: u64,
    },
    /// The talk broke off.
    #[error("the relay did not answer: {0}")]
    Broken(String),
}

/// Reaches the relay that runs on a folder.
#[derive(Debug)]
pub struct Client {
    entrance: Entrance,
    folder: String,
}

impl Client {
    /// Looks how to reach it.
    ///
    /// # Errors
    /// [`AdminError::NotRunning`].
    pub fn new(folder: &Folder) -> Result<Self, AdminError> {
        let name = folder.path().display().to_string();
        let text = std::fs::read(folder.admin()).map_err(|_| AdminError::NotRunning(name.clone()))?;
        let entrance = serde_json::from_slice(&text).map_err(|_| AdminError::NotRunning(name.clone()))?;
        Ok(Self { entrance, folder: name })
    }

    /// The relay's process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.entrance.pid
    }

    /// Asks for a backup.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn backup(&self) -> Result<BackupStream, AdminError> {
        let mut stream = BufReader::new(self.ask(Ask::Backup).await?);
        let mut line = String::new();
        let read = (&mut stream).take(LINE as u64).read_line(&mut line).await;
        read.map_err(|error| AdminError::Broken(error.to_string()))?;
        match serde_json::from_str(&line) {
            Ok(Response::Done(_)) => Ok(BackupStream(stream)),
            Ok(Response::Error(error)) => Err(AdminError::Refused(error)),
            Err(error) => Err(AdminError::Broken(error.to_string())),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<TcpStream, AdminError> {
        let call = tokio::time::timeout(CALL, TcpStream::connect(self.entrance.address)).await;
        let Ok(Ok(mut stream)) = call else { return Err(AdminError::NotRunning(self.folder.clone())) };
        let request = Request { token: self.entrance.token.clone(), ask };
        let mut line =
            serde_json::to_string(&request).map_err(|error| AdminError::Broken(error.to_string()))?;
        line.push('\n');
        stream.write_all(line.as_bytes()).await.map_err(|error| AdminError::Broken(error.to_string()))?;
        Ok(stream)
    }

    /// Gives an order.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn order(&self, ask: Ask) -> Result<Value, AdminError> {
        let broken = |error: io::Error| AdminError::Broken(error.to_string());
        let patience = match ask {
            Ask::Audit | Ask::Backup | Ask::MailboxList { .. } | Ask::TokenList | Ask::TokenRevoke { .. } => {
                ANSWER
            }
            _ => SOON,
        };
        let late = |_| AdminError::Late { pid: self.entrance.pid, seconds: patience.as_secs() };
        let stream = self.ask(ask).await?;
        let mut answer = Vec::new();
        let mut limited = stream.take(ANSWER_LEN);
        tokio::time::timeout(patience, limited.read_to_end(&mut answer))
            .await
            .map_err(late)?
            .map_err(broken)?;
        match serde_json::from_slice(&answer) {
            Ok(Response::Done(value)) => Ok(value),
            Ok(Response::Error(error)) => Err(AdminError::Refused(error)),
            Err(error) => Err(AdminError::Broken(error.to_string())),
        }
    }
}

/// A backup under way.
#[derive(Debug)]
pub struct BackupStream(BufReader<TcpStream>);

impl BackupStream {
    /// Writes all of it to a file.
    ///
    /// # Errors
    /// [`AdminError::Broken`] if the relay says nothing for ten minutes, or the file cannot be written.
    pub async fn write_to(&mut self, file: &mut std::fs::File) -> Result<u64, AdminError> {
        let broken = |error: io::Error| AdminError::Broken(error.to_string());
        let mut buffer = vec![0; 256 * 1024];
        let mut bytes = 0;
        loop {
            let read = tokio::time::timeout(ANSWER, self.0.read(&mut buffer)).await;
            let read = read.map_err(|_| AdminError::Broken("it took too long".into()))?.map_err(broken)?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else { return Ok(bytes) };
            io::Write::write_all(file, part).map_err(broken)?;
            bytes += read as u64;
        }
    }

    /// Says that the backup was checked and is safe.
    ///
    /// # Errors
    /// [`AdminError::Broken`] if the relay is gone.
    pub async fn taken(mut self) -> Result<(), AdminError> {
        self.0.write_all(TAKEN).await.map_err(|error| AdminError::Broken(error.to_string()))
    }
}
