//! Waiting for a descriptor that may not block.
//!
//! Whether a descriptor blocks is set in the open file, which other processes share (a shell's terminal,
//! `ssh`). So any of them may change it at any time, and the standard streams have to expect both.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Returns when a write would succeed or fail but not block, or for no reason.
pub(crate) fn wait_writable(file: &impl AsFd) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
