//! Reads what the system says of this process.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The figures that the system gives of this process, in the units of the metrics `process_*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: u64,
    /// Infinite without a limit.
    pub(super) max_fds: f64,
    /// Since 1970.
    pub(super) start_seconds: f64,
}

impl Process {
    /// Reads `/proc`. Returns `None` where there is none.
    pub fn read() -> Option<Process> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let figures = parse(&stat, &system, clock_ticks_per_second(), page_size() as u64)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a limit is shorter than 53 bits, or no limit"
        )]
        let max_fds = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |max| max as f64);
        Some(Process { open_fds: open_fds()?, max_fds, ..figures })
    }
}

/// Parses `/proc/self/stat` and `/proc/stat`. Descriptors are left out.
#[expect(clippy::cast_precision_loss, reason = "times in ticks are shorter than 53 bits")]
fn parse(stat: &str, system: &str, ticks_per_second: u64, page_size: u64) -> Option<Process> {
    // The name of the program is in parentheses, and may have blanks and parentheses. State is the third field.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.trim().parse().ok() };
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Process {
        cpu_seconds: seconds(field(14)? + field(15)?),
        resident_bytes: field(24)? * page_size,
        virtual_bytes: field(23)?,
        open_fds: 0,
        max_fds: 0.0,
        start_seconds: boot.trim().parse::<f64>().ok()? + seconds(field(22)?),
    })
}

/// Counts the open descriptors.
fn open_fds() -> Option<u64> {
    // From Linux 6.2 the size of the folder is their number. Before, it is 0.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        // That of the folder itself is one of them.
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_no_field() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b) (c) S {}\n", fields.join(" "));
        let system = "cpu  1 2 3\nbtime 1000\nprocesses 3\n";
        let expected = Process {
            cpu_seconds: 0.29,
            resident_bytes: 24 * 4096,
            virtual_bytes: 23,
            open_fds: 0,
            max_fds: 0.0,
            start_seconds: 1000.22,
        };
        assert_eq!(parse(&stat, system, 100, 4096), Some(expected));
        for (stat, system) in [("", system), ("7 (a) S 1 2", system), (&stat, "cpu 1\n")] {
            assert_eq!(parse(stat, system, 100, 4096), None);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_started_in_the_past_and_opens_a_descriptor_more() {
        let before = Process::read().unwrap();
        let file = fs::File::open("/proc/self/stat").unwrap();
        let after = Process::read().unwrap();
        drop(file);
        // Other tests open and close theirs at the same time.
        assert!(before.open_fds >= 3 && after.open_fds >= 4, "{before:?} {after:?}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now - 86_400.0..now + 2.0).contains(&after.start_seconds), "{after:?} at {now}");
        // An emulator reports no resident memory.
        assert!(after.resident_bytes > 100_000 || after.resident_bytes == 0);
        assert!(after.virtual_bytes >= after.resident_bytes);
        assert!(after.cpu_seconds >= before.cpu_seconds && after.max_fds >= 16.0);
    }
}
