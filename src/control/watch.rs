//! Notices that the list file has changed.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time between two looks at the file.
const INTERVAL: Duration = Duration::from_secs(5);

/// The time after which a file that has changed is looked at again. If it has not changed again, its writer is done.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// The looks at a file that changes all the time, after which it is read as it is: 5 s.
const MOST_CHANGES: u32 = 10;

/// The state of the list file, as far as it was looked at.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    state: State,
}

/// Decides whether the file is to be read again, by what its looks have found.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// The file when it was last read. `None` if the last read has failed.
    read: Option<Signature>,
    /// The file at the last look.
    seen: Option<Signature>,
    /// The looks in a row that have each found another file.
    changes: u32,
}

/// The marks of a file: its device, its number, its size, and the time of its last change. They differ once it has
/// changed. Links are followed, so a link to another file is a change, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    device: u64,
    file: u64,
    size: u64,
    changed: (i64, i64),
}

impl Watch {
    /// Watches a file that is read after this. So no change is missed.
    pub fn new(path: &Path) -> Watch {
        let seen = signature(path);
        Watch { path: path.into(), state: State { read: seen, seen, changes: 0 } }
    }

    /// Looks at the file. Returns whether to read it now, and the time until the next look.
    pub(super) fn look(&mut self) -> (bool, Duration) {
        let now = signature(&self.path);
        self.state.look(now)
    }

    /// Notes that the file is read after this. So a change during the read is not missed.
    pub(super) fn begin_read(&mut self) {
        self.state.read = signature(&self.path);
    }

    /// Notes that the file could not be read. The next look asks to read it again.
    pub(super) fn read_failed(&mut self) {
        self.state.read = None;
    }
}

impl State {
    fn look(&mut self, now: Option<Signature>) -> (bool, Duration) {
        self.changes = if now == self.seen { 0 } else { self.changes + 1 };
        let is_settled = self.changes == 0 || self.changes > MOST_CHANGES;
        self.seen = now;
        // A file that is gone is about to be replaced, or it was removed by mistake. The servers stay.
        if now == self.read || now.is_none() {
            (false, INTERVAL)
        } else if is_settled {
            self.changes = 0;
            (true, INTERVAL)
        } else {
            (false, SETTLE_TIME)
        }
    }
}

fn signature(path: &Path) -> Option<Signature> {
    let metadata: Metadata = fs::metadata(path).ok()?;
    Some(Signature {
        device: metadata.dev(),
        file: metadata.ino(),
        size: metadata.len(),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> Option<Signature> {
        Some(Signature { device: 1, file: 2, size, changed: (3, 4) })
    }

    #[test]
    fn a_file_is_read_once_it_has_changed_and_then_stayed_the_same() {
        let mut state = State { read: file(1), seen: file(1), changes: 0 };
        assert_eq!(state.look(file(1)), (false, INTERVAL));
        assert_eq!(state.look(file(2)), (false, SETTLE_TIME));
        assert_eq!(state.look(file(3)), (false, SETTLE_TIME), "its writer is not done");
        assert_eq!(state.look(file(3)), (true, INTERVAL));
        state.read = file(3);
        assert_eq!(state.look(file(3)), (false, INTERVAL), "once");
    }

    #[test]
    fn a_file_that_could_not_be_read_is_read_at_the_next_look() {
        let list = std::env::temp_dir().join(format!("tcpcore-unread-{}", std::process::id()));
        fs::write(&list, "x:1\n").unwrap();
        let mut watch = Watch::new(&list);
        assert_eq!(watch.look(), (false, INTERVAL));
        watch.begin_read();
        watch.read_failed();
        assert_eq!(watch.look(), (true, INTERVAL));
        watch.begin_read();
        assert_eq!(watch.look(), (false, INTERVAL));
        fs::remove_file(&list).unwrap();
        watch.read_failed();
        assert_eq!(watch.look(), (false, INTERVAL), "there is none");
    }

    #[test]
    fn a_file_that_changes_all_the_time_is_read_after_five_seconds() {
        let mut state = State { read: file(1), seen: file(1), changes: 0 };
        let looks = (2..).take_while(|size| !state.look(file(*size)).0);
        assert_eq!(looks.count(), 10);
    }

    #[test]
    fn a_file_that_is_gone_is_read_when_another_takes_its_place() {
        let mut state = State { read: file(1), seen: file(1), changes: 0 };
        assert_eq!(state.look(None), (false, INTERVAL));
        assert_eq!(state.look(None), (false, INTERVAL));
        assert_eq!(state.look(file(1)), (false, INTERVAL), "the same one is back");
        assert_eq!(state.look(None), (false, INTERVAL));
        assert_eq!(state.look(file(2)), (false, SETTLE_TIME));
        assert_eq!(state.look(file(2)), (true, INTERVAL));
    }

    #[test]
    fn a_link_to_another_file_is_a_change() {
        let folder = std::env::temp_dir().join(format!("tcpcore-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let link = folder.join("list");
        for name in ["a", "b"] {
            fs::write(folder.join(name), "x:1\n").unwrap();
        }
        std::os::unix::fs::symlink(folder.join("a"), &link).unwrap();
        let before = signature(&link);
        fs::remove_file(&link).unwrap();
        assert_eq!(signature(&link), None);
        std::os::unix::fs::symlink(folder.join("b"), &link).unwrap();
        assert_ne!(signature(&link), before);
        fs::remove_dir_all(&folder).unwrap();
    }
}
