//! A PostgreSQL server of a test's own, in a temporary folder, gone at the end.
//!
//! `KITH_TEST_POSTGRES` is a folder with the server's programs, or `1` if there must be some; without it tests that find
//! none are left out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::CEILING;

pub const PASSWORD: &str = "hunter2-never-shown";

/// The server's programs.
pub fn programs() -> Option<PathBuf> {
    let wanted = std::env::var_os("KITH_TEST_POSTGRES").filter(|wanted| !wanted.is_empty());
    let fits = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(folder) = wanted.clone().map(PathBuf::from).filter(fits) {
        return Some(folder);
    }
    // Debian keeps each version by itself
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| fits(folder))
        .collect();
    found.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = found.pop().map(|(_, folder)| folder).or_else(|| std::env::split_paths(&path).find(fits));
    if found.is_none() {
        let required = wanted.is_some_and(|wanted| wanted != "0");
        assert!(
            !required,
            "KITH_TEST_POSTGRES is set and there is no PostgreSQL: apt-get install postgresql"
        );
        eprintln!("left out: no PostgreSQL here (Debian: apt-get install postgresql)");
    }
    found
}

/// A server.
pub struct Server {
    programs: PathBuf,
    folder: tempfile::TempDir,
    child: Option<Child>,
    /// Appended to the command line.
    pub options: Vec<String>,
    pub port: u16,
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

/// A command that is not run as root, and ends with this process.
fn unprivileged(program: &Path) -> Command {
    if Command::new("setpriv").arg("--version").output().is_err() {
        assert!(
            !is_root(),
            "PostgreSQL does not run as root, and there is no setpriv (util-linux) to become another"
        );
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.arg(program).stdin(Stdio::null());
    command
}

fn succeeded(output: &Output) {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

impl Server {
    /// A server that runs; `None` if there are no programs for one.
    pub fn started() -> Option<Self> {
        let mut server = Self::made()?;
        server.start();
        server.sql("postgres", "CREATE DATABASE kith");
        Some(server)
    }

    /// A server that does not run yet.
    pub fn made() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("kith-pg-").tempdir().unwrap();
        if is_root() {
            let id = |what| {
                let output = Command::new("id").args([what, "postgres"]).output().unwrap();
                String::from_utf8_lossy(&output.stdout).trim().parse().expect("Debian's user postgres")
            };
            std::os::unix::fs::chown(folder.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.arg("-D").arg(folder.path().join("data")).arg("--pwfile").arg(&password);
        initdb.args(["-U", "kith", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "-k"]);
        succeeded(&initdb.output().unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Some(Self { programs, folder, child: None, options: Vec::new(), port })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file with nothing but the password.
    pub fn password_file(&self) -> PathBuf {
        self.folder().join("password")
    }

    /// The address of a database, without the password.
    pub fn url(&self, database: &str) -> String {
        let socket = self.folder().display().to_string().replace('/', "%2F");
        format!("postgres://kith@{socket}:{}/{database}", self.port)
    }

    /// What a relay's configuration needs.
    pub fn config(&self, database: &str) -> String {
        format!(
            "[store]\nkind = \"postgres\"\n[database]\nurl = \"{}\"\npassword_file = \"{}\"\n",
            self.url(database),
            self.password_file().display()
        )
    }

    pub fn start(&mut self) {
        // of a server that was killed, processes may be left for a moment: then the next one does not start
        for _ in 0..100 {
            let mut command = unprivileged(&self.programs.join("postgres"));
            command.arg("-D").arg(self.folder().join("data")).arg("-k").arg(self.folder());
            command.args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=64MB",
            ]);
            command.args(["-c", "max_connections=90"]);
            for option in &self.options {
                command.args(["-c", option]);
            }
            let log =
                std::fs::File::options().create(true).append(true).open(self.folder().join("log")).unwrap();
            let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
            self.child = Some(child);
            if self.answers() {
                return;
            }
        }
        panic!("the server does not start: {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Waits until it answers; `false` if it ended.
    fn answers(&mut self) -> bool {
        for _ in 0..CEILING.as_millis() / 20 {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            let ready = Command::new(self.programs.join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(self.folder())
                .args(["-p", &self.port.to_string()])
                .status()
                .unwrap();
            if ready.success() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server does not answer: {}", self.log());
    }

    fn psql(&self, database: &str, sql: &str) -> Output {
        Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "kith", "-h"])
            .arg(self.folder())
            .args(["-p", &self.port.to_string(), "-d", database, "-c", sql])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap()
    }

    /// Statements that must succeed; what they return.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        succeeded(&output);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// SIGKILL: it has no time to do anything.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends without a checkpoint, as after a power cut.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let signalled = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
        for _ in 0..500 {
            if !signalled.as_ref().is_ok_and(std::process::ExitStatus::success) {
                break;
            }
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a file the server's alone.
pub fn give_to_the_server(path: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let folder = path.parent().unwrap().metadata().unwrap();
    std::os::unix::fs::chown(path, Some(folder.uid()), Some(folder.gid())).unwrap();
}
