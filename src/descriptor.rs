//! Writes to a descriptor that may not block, by waiting until it accepts bytes.
//!
//! A flag of the open file says whether a descriptor blocks. Other processes share the open file of a
//! standard stream (a shell's terminal, `ssh`) and may change the flag at any time. A write to one must
//! therefore expect both.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Waits until a write would not block. May return earlier.
pub(crate) fn wait_writable(file: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Repeats `write` until it does not block, and waits with `wait` before each repetition.
///
/// `wait` returns when a write would not block, or earlier.
pub(crate) fn write_waiting(
    mut write: impl FnMut() -> io::Result<usize>,
    mut wait: impl FnMut() -> io::Result<()>,
) -> io::Result<usize> {
    loop {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait()?,
            result => return result,
        }
    }
}
