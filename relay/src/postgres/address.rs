//! Where the database is, and what of that may be shown.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::config::{DatabaseLogin, DatabaseUrl};

/// How long one address of the server may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unconfirmed, and when a silent connection is looked after.
const SILENT: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// A checked address.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    /// User, hosts and database, for people.
    pub(super) shown: String,
    pub(super) tls: bool,
}

const FORM: &str = "expected postgres://USER@HOST:PORT/DATABASE, with the password in database.password_file; in a \
                    password that stands in the address write /, @, ?, # and % as %2F, %40, %3F, %23 and %25";

impl Address {
    /// Reads an address, and adds a password that stands elsewhere.
    pub(super) fn new(login: &DatabaseLogin) -> Result<Self, String> {
        let mut address = Self::parse(&login.url)?;
        if let Some(password) = &login.password {
            address.config.password(password.as_bytes());
        }
        Ok(address)
    }

    /// Reads an address. Unless it says otherwise, TLS is required for every host but this one. A certificate is always
    /// verified, so `verify-full`, `verify-ca` and `require` are the same.
    pub(super) fn parse(url: &DatabaseUrl) -> Result<Self, String> {
        let url = url.0.trim();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(format!("not the address of a PostgreSQL database: {FORM}"));
        }
        // the password ends with the first @, and may hold what begins the options elsewhere
        let host = url.find('@').unwrap_or(0);
        let options =
            url.get(host..).and_then(|rest| rest.split_once('?')).map_or("", |(_, options)| options);
        let base = url.strip_suffix(options).map_or(url, |base| base.trim_end_matches('?'));
        let known = options
            .replace("sslmode=verify-full", "sslmode=require")
            .replace("sslmode=verify-ca", "sslmode=require");
        let url = if known.is_empty() { base.to_owned() } else { format!("{base}?{known}") };
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            // with an unescaped @ in the password its rest may look like an option, and is named
            if options.contains('@') {
                return format!("not the address of a PostgreSQL database: {FORM}");
            }
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("not the address of a PostgreSQL database ({cause}): {FORM}")
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("no host: {FORM}"));
        }
        if config.get_user().is_none() {
            return Err(format!("no user: {FORM}"));
        }
        let Some(database) = config.get_dbname() else { return Err(format!("no database: {FORM}")) };
        let hosts = config.get_hosts().iter().map(name).collect::<Vec<_>>().join(",");
        let shown = format!("{database} at {hosts} as {}", config.get_user().unwrap_or_default());
        let local =
            config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        if !options.contains("sslmode=") {
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("kith-relay");
        }
        config.keepalives_idle(SILENT).keepalives_interval(PROBE).keepalives_retries(PROBES);
        config.tcp_user_timeout(SILENT);
        let tls = config.get_ssl_mode() != SslMode::Disable;
        Ok(Self { config, shown, tls })
    }
}

fn name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        Address::parse(&DatabaseUrl(url.to_owned()))
    }

    #[test]
    fn other_hosts_are_reached_by_tls_unless_the_address_says_otherwise() {
        let mode = |url: &str| parse(url).map(|address| (address.config.get_ssl_mode(), address.tls));
        assert_eq!(mode("postgres://u@db.example/x"), Ok((SslMode::Require, true)));
        assert_eq!(mode("postgres://u@localhost/x"), Ok((SslMode::Disable, false)));
        assert_eq!(mode("postgres://u@[::1]/x").map(|mode| mode.1), Ok(false));
        assert_eq!(mode("postgres://u@%2Frun%2Fpostgresql/x"), Ok((SslMode::Disable, false)));
        assert_eq!(mode("postgres://u@localhost,db.example/x"), Ok((SslMode::Require, true)));
        assert_eq!(mode("postgres://u@db.example/x?sslmode=disable"), Ok((SslMode::Disable, false)));
        assert_eq!(mode("postgres://u@localhost/x?sslmode=verify-full"), Ok((SslMode::Require, true)));
    }

    #[test]
    fn the_password_is_never_shown() {
        let url = DatabaseUrl("postgres://kith:hunter2@db.example/x".into());
        assert_eq!(Address::parse(&url).map(|address| address.shown), Ok("x at db.example as kith".into()));
        let odd = DatabaseUrl("postgres://kith:a?sslmode=verify-full@db.example/x?sslmode=verify-ca".into());
        let address = Address::parse(&odd).unwrap();
        assert_eq!(address.shown, "x at db.example as kith");
        assert_eq!(address.config.get_password(), Some(b"a?sslmode=verify-full".as_slice()));
        for wrong in [
            "hunter2",
            "mysql://kith:hunter2@db.example/x",
            "postgres://kith:a@b?hunter2=1@db.example/x",
            "postgres://kith:a@b?hunter2@db.example/x",
            "postgres://kith:hunter2@db.example:port/x",
            "postgres://kith:hunter2@db.example",
            "postgres://kith:hunter2@/x",
            "postgres://kith:hunter2@db.example/x?sslrootcert=/a",
        ] {
            let Err(error) = parse(wrong) else { panic!("{wrong} was taken") };
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("expected postgres://USER"), "{error}");
        }
        assert!(parse("postgres://u@h/x?sslrootcert=a").is_err_and(|error| error.contains("sslrootcert")));
    }
}
