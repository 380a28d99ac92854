//! Detects the systemd journal, and names the priorities of its lines.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;

use log::Level;
use rustix::fs::fstat;

/// Returns whether stderr is the journal. `var` reads a variable of the environment.
pub(super) fn is_stderr(var: impl Fn(&'static str) -> Option<OsString>) -> bool {
    is_named(var("JOURNAL_STREAM"), io::stderr())
}

/// Returns whether the value of `JOURNAL_STREAM` names this descriptor.
///
/// The variable is inherited by children whose stderr may be redirected. So it holds the device and the inode of
/// the journal's stream: `8:2345`.
fn is_named(journal_stream: Option<OsString>, descriptor: impl AsFd) -> bool {
    let (Some(named), Ok(stat)) = (journal_stream, fstat(descriptor)) else { return false };
    named.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Returns the priority of a line, as sd-daemon(3) defines it. The journal has none below debug.
pub(super) fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_journal_is_the_descriptor_whose_device_and_inode_the_variable_names() {
        let (stream, other) = UnixStream::pair().unwrap();
        let stat = fstat(&stream).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        let named = format!("{device}:{inode}");
        assert!(is_named(Some(named.clone().into()), &stream));
        assert!(!is_named(Some(named.into()), &other));
        for value in [
            "".into(),
            format!("{device}"),
            format!("{inode}:{device}:"),
            format!(" {device}:{inode}"),
        ] {
            assert!(!is_named(Some(value.clone().into()), &stream), "{value:?}");
        }
        assert!(!is_named(None, &stream));
    }
}
