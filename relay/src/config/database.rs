//! Where the database is, with `store.kind = "postgres"`.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The database's address, instead of the one in the file.
pub const URL_VARIABLE: &str = "KITH_RELAY_DATABASE";
/// Its password, instead of the one in the address or in a file.
pub const PASSWORD_VARIABLE: &str = "KITH_RELAY_DATABASE_PASSWORD";
/// Longest file with a password.
const MAX_PASSWORD: u64 = 4_096;

/// The address of a database, perhaps with its password: neither shown nor logged.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(pub String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "DatabaseUrl(none)" } else { "DatabaseUrl(…)" })
    }
}

/// Where the database is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSection {
    /// `postgres://USER@HOST:PORT/DATABASE`.
    pub url: DatabaseUrl,
    /// A file with the password; empty: none, or it stands in the address.
    pub password_file: String,
    /// Certificate authorities in PEM form; empty: the system's.
    pub ca: String,
}

/// What the environment and the password's file add to the section.
#[derive(Clone, Default)]
pub struct DatabaseLogin {
    /// The address.
    pub url: DatabaseUrl,
    /// The password, if it does not stand in the address.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for DatabaseLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseLogin").field("url", &self.url).finish_non_exhaustive()
    }
}

impl DatabaseSection {
    /// The address and the password, wherever they stand.
    ///
    /// # Errors
    /// One sentence, if the password's file cannot be read or no address is given.
    pub fn login(&self) -> Result<DatabaseLogin, String> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = variable(URL_VARIABLE).map_or_else(|| self.url.clone(), DatabaseUrl);
        if url.0.is_empty() {
            return Err(format!(
                "database.url is empty: set it to postgres://USER@HOST/DATABASE, or set {URL_VARIABLE}"
            ));
        }
        let password = match variable(PASSWORD_VARIABLE) {
            Some(password) => Some(Zeroizing::new(password)),
            None if self.password_file.is_empty() => None,
            None => Some(read_password(Path::new(&self.password_file))?),
        };
        Ok(DatabaseLogin { url, password })
    }
}

fn read_password(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |error: std::io::Error| format!("database.password_file: {}: {error}", path.display());
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_PASSWORD {
        return Err(format!("database.password_file: {} is too long for a password", path.display()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(format!("database.password_file: {} is empty", path.display()));
    }
    Ok(Zeroizing::new(password.to_owned()))
}

/// What is wrong with a file, without what may be a password in it: messages show the line they complain of.
pub(super) fn redacted(message: &str) -> String {
    let lines = message.lines().map(|line| match line.split_once("://") {
        Some((before, rest)) if before.contains("postgres") => {
            let end = rest.rfind('@').map_or("", |at| rest.get(at..).unwrap_or_default());
            format!("{before}://…{end}")
        }
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_comes_from_a_file_and_is_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let section = DatabaseSection {
            url: DatabaseUrl("postgres://kith@db.example/kith".into()),
            password_file: file.display().to_string(),
            ca: String::new(),
        };
        let login = section.login().unwrap();
        assert_eq!(login.password.as_ref().map(|password| password.as_str()), Some("hunter2"));
        assert!(!format!("{login:?}").contains("hunter2"));
        std::fs::write(&file, "\n").unwrap();
        assert!(section.login().unwrap_err().contains("is empty"));
        std::fs::remove_file(&file).unwrap();
        assert!(section.login().unwrap_err().contains("database.password_file"));
        assert!(DatabaseSection::default().login().unwrap_err().contains("database.url is empty"));
    }

    #[test]
    fn a_message_about_the_address_does_not_show_it() {
        let shown =
            redacted("TOML parse error at line 3\n3 | url = \"postgres://kith:hunter2@db.example/kith\n  ^");
        assert!(
            !shown.contains("hunter2") && shown.contains("line 3") && shown.contains("@db.example"),
            "{shown}"
        );
        assert!(!redacted("url = \"postgresql://kith:hunter2").contains("hunter2"));
        assert_eq!(redacted("see https://kith.chat"), "see https://kith.chat");
    }
}
