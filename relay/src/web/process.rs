//! What the system says of this process. Only Linux tells.

/// Figures of a process; what is unknown is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// Processor time used so far, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Open files and sockets.
    pub open_files: Option<u64>,
    /// How many may be open.
    pub max_files: Option<u64>,
}

impl Process {
    /// Of this process, now.
    #[must_use]
    pub fn current() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).ok();
        Self {
            cpu_seconds: read("stat").and_then(|stat| cpu_seconds(&stat)),
            resident_bytes: read("status").and_then(|status| resident_bytes(&status)),
            open_files: std::fs::read_dir("/proc/self/fd").ok().map(|dir| dir.count() as u64),
            max_files: read("limits").and_then(|limits| max_open_files(&limits)),
        }
    }
}

/// Linux counts processor time for programs in hundredths of a second, whatever its own clock is.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // the name of the program may hold anything, but the last `)` ends it
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / 100.0)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of open files, from a text such as `/proc/PID/limits`.
pub(crate) fn max_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_linux_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(
            max_open_files("Max open files            1024                 4096   files\n"),
            Some(1024)
        );
        assert_eq!(max_open_files("Max open files   unlimited unlimited files\n"), Some(u64::MAX));
        assert_eq!((cpu_seconds("x"), resident_bytes(""), max_open_files("")), (None, None, None));
    }
}
