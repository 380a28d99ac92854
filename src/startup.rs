//! Checks whether standard output was open when the program started.
//!
//! Before `main`, Rust's runtime opens /dev/null in place of a closed standard descriptor. A closed stdout
//! then equals one that was redirected to /dev/null, even in its access mode. The check therefore runs
//! before any runtime, from the system's list of initializers.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::{Errno, fcntl_getfd};

/// Whether stdout was closed. [`check`] sets it before `main`. If a system skips the check, stdout counts as
/// open.
static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Fails if stdout was closed when the program started.
pub(crate) fn stdout_was_open() -> io::Result<()> {
    if WAS_CLOSED.load(Relaxed) {
        let message =
            "stdout is closed, expected a file or a pipe, or /dev/null to discard the numbers";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "an entry in the list of initializers has the type that the system expects; the \
              function needs no runtime, as it makes one system call and stores one atomic"
)]
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static CHECK: extern "C" fn() = check;

extern "C" fn check() {
    if fcntl_getfd(rustix::stdio::stdout()) == Err(Errno::BADF) {
        WAS_CLOSED.store(true, Relaxed);
    }
}
