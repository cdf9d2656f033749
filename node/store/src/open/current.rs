//! The small file that says which folder holds the rows: replaced in one step when a store is restored, migrated or
//! compacted.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{EngineKind, OpenError};
use crate::disk;
use crate::private;

const FILE: &str = "current";
/// Version of the layout of the store's folder.
const LAYOUT: u16 = 1;

/// Which engine, in which folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) engine: EngineKind,
    pub(crate) number: u32,
    pub(crate) key_check: [u8; 8],
}

/// The engine folders there are, and whether one is named as the current one.
#[derive(Debug)]
pub(crate) enum Found {
    /// Named by the file.
    Named(Current),
    /// The file is missing or damaged; this is the newest folder, or nothing if there is none.
    Guessed(Option<(EngineKind, u32)>),
}

pub(crate) fn folder_name(engine: EngineKind, number: u32) -> String {
    format!("{engine}-{number}")
}

fn parse_folder(name: &str) -> Option<(EngineKind, u32)> {
    let (engine, number) = name.split_once('-')?;
    Some((engine.parse().ok()?, number.parse().ok()?))
}

impl Current {
    pub(crate) fn folder(&self, store: &Path) -> PathBuf {
        store.join(folder_name(self.engine, self.number))
    }

    pub(crate) fn write(&self, store: &Path) -> io::Result<()> {
        let check = data_encoding::HEXLOWER.encode(&self.key_check);
        let text = format!("kith-store {LAYOUT}\n{}\n{check}\n", folder_name(self.engine, self.number));
        let sum = crc32fast::hash(text.as_bytes());
        private::write(&store.join(FILE), format!("{text}{sum:08x}\n").as_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next()?;
        let (engine, number) = parse_folder(lines.next()?)?;
        let key_check = data_encoding::HEXLOWER.decode(lines.next()?.as_bytes()).ok()?.try_into().ok()?;
        Some(Self { engine, number, key_check })
    }
}

/// Reads the file, or looks which folders there are.
pub(crate) fn find(store: &Path) -> Result<Found, OpenError> {
    let path = store.join(FILE);
    match std::fs::read(&path) {
        Ok(bytes) => {
            if let Some(current) = intact(&bytes)? {
                return Ok(Found::Named(current));
            }
            tracing::error!(path = %path.display(), "this file is damaged; the newest folder is taken");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("cannot read", &path)(error)),
    }
    Ok(Found::Guessed(folders(store)?.into_iter().max_by_key(|(_, number)| *number)))
}

fn intact(bytes: &[u8]) -> Result<Option<Current>, OpenError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Ok(None) };
    let Some((body, sum)) = text.trim_end().rsplit_once('\n') else { return Ok(None) };
    if format!("{:08x}", crc32fast::hash(format!("{body}\n").as_bytes())) != sum {
        return Ok(None);
    }
    let layout = body.lines().next().and_then(|line| line.strip_prefix("kith-store ")?.parse::<u16>().ok());
    match layout {
        Some(found) if found > LAYOUT => Err(OpenError::Newer { found, known: LAYOUT }),
        Some(_) => Ok(Current::parse(body)),
        None => Ok(None),
    }
}

/// All engine folders.
pub(crate) fn folders(store: &Path) -> Result<Vec<(EngineKind, u32)>, OpenError> {
    let entries = std::fs::read_dir(store).map_err(OpenError::io("cannot read", store))?;
    Ok(entries.filter_map(Result::ok).filter_map(|entry| parse_folder(entry.file_name().to_str()?)).collect())
}

/// The first number above those of all folders, whatever they are called.
pub(crate) fn next_number(store: &Path) -> Result<u32, OpenError> {
    let entries = std::fs::read_dir(store).map_err(OpenError::io("cannot read", store))?;
    let highest = entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.rsplit_once('-')?.1.parse::<u32>().ok())
        .max();
    Ok(highest.map_or(1, |highest| highest.saturating_add(1)))
}

/// Removes what an interrupted restore or migration had begun: copies only, never an original.
pub(crate) fn remove_drafts(store: &Path) -> Result<(), OpenError> {
    let entries = std::fs::read_dir(store).map_err(OpenError::io("cannot read", store))?;
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("new-") || name.starts_with("salvage-")) {
            std::fs::remove_dir_all(entry.path()).map_err(OpenError::io("cannot remove", entry.path()))?;
        }
    }
    Ok(())
}

/// Where [`set_aside`] would put a folder.
pub(crate) fn aside(store: &Path) -> Result<PathBuf, OpenError> {
    Ok(store.join(format!("damaged-{}", next_number(store)?)))
}

/// Moves a folder out of the way under a name that nothing touches again.
pub(crate) fn set_aside(store: &Path, folder: &Path) -> Result<Option<PathBuf>, OpenError> {
    if !folder.exists() {
        return Ok(None);
    }
    let target = aside(store)?;
    std::fs::rename(folder, &target).map_err(OpenError::io("cannot set aside", folder))?;
    disk::sync_folder(store).map_err(OpenError::io("cannot sync", store))?;
    Ok(Some(target))
}
