//! Files and folders that only their owner may read.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use crate::disk::sync_folder;

/// Makes a folder, with its parents, that only its owner may enter. One that is there is left as it is.
///
/// # Errors
/// The system's reason.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes (or empties) a file that only its owner may read.
pub(crate) fn make_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        // `mode` counts only for a new file
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Replaces a file's content so that after a power cut either the old or the new one is there, and only its owner may
/// read it.
///
/// # Errors
/// The system's reason; the file is then as it was.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // two programs at once must not write one draft
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let written = (|| {
        let mut file = make_file(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        sync_folder(path.parent().unwrap_or_else(|| Path::new("")))
    })();
    if written.is_err() {
        // the first error is the one to tell
        let _ = std::fs::remove_file(&draft);
    }
    written
}
