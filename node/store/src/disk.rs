//! What the store asks of the file system beside reading and writing.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes names made, changed or removed in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // a folder cannot be opened as a file on Windows, where names are durable with their files
    if cfg!(unix) {
        // the parent of a relative name of one part is the empty path
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Bytes free to us where `path` lies; `None` where that cannot be told.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    #[allow(unsafe_code, reason = "the standard library has no statvfs")]
    // SAFETY: `path` ends with a zero byte and `answer` is a writable statvfs; zeroed, it is a valid value also if
    // the call fails.
    let answer = unsafe {
        if libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) != 0 {
            return None;
        }
        answer.assume_init()
    };
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the width differs between systems"
    )]
    let (blocks, size) = (u64::from(answer.f_bavail), answer.f_frsize as u64);
    Some(blocks.saturating_mul(size))
}

/// Bytes free to us where `path` lies; `None` where that cannot be told.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Bytes of all files in a folder and below.
pub(crate) fn used_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => used_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .fold(0, u64::saturating_add)
}
