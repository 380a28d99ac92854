//! Writes to standard output without a buffer, and detects that its reader has closed it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::warn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::Errno;
use socket2::{SockRef, Type};

use crate::descriptor::{wait_writable, write_waiting};
use crate::stop::StopHandle;
use crate::threads;

/// The time from the end of the reader to the end of the job: 50 ms, in which a signal is handled.
///
/// Ctrl-C reaches all programs of a pipeline, and the job must then end as stopped, with its totals.
const GRACE: Duration = Duration::from_millis(50);

/// Standard output without a buffer: each write is one system call.
///
/// The stdout of std would search for line feeds in buffers that are whole lines already.
///
/// After its reader has closed it, a write fails with [`io::ErrorKind::BrokenPipe`], for pipes and sockets.
#[derive(Clone, Debug)]
pub struct Stdout {
    file: Arc<File>,
    /// Whether it is a file on a disk, whose end can be cut off.
    is_regular: bool,
}

impl Stdout {
    /// Opens stdout for writing by duplicating its descriptor.
    ///
    /// # Errors
    ///
    /// Fails if stdout is open for reading only, or no descriptor is left.
    pub fn open() -> io::Result<Self> {
        Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn new(file: File) -> io::Result<Self> {
        if fcntl_getfl(&file)? & OFlags::RWMODE == OFlags::RDONLY {
            let message = "stdout is open for reading only, \
                expected a file or a pipe to write to, or /dev/null to discard the numbers";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Ok(Self { file: Arc::new(file), is_regular })
    }

    /// Stops a job as soon as the reader closes stdout, even while there is nothing to write.
    ///
    /// A thread waits for the close of a pipe or a connected socket, without a timeout. Files and terminals
    /// have no reader that closes them. The next write gets their errors.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the thread.
    pub fn stop_when_closed(self, stop: StopHandle) -> io::Result<()> {
        if !has_reader(&self.file) {
            return Ok(());
        }
        threads::spawn("stdout", move || match wait_closed(&self.file) {
            Ok(error) => {
                thread::sleep(GRACE);
                stop.output_failed(error);
            }
            Err(error) => {
                warn!("A reader of stdout that leaves is noticed late: poll: {error}")
            }
        })?;
        Ok(())
    }
}

impl Write for Stdout {
    /// Writes bytes. If the descriptor does not block, waits until it accepts some: the module `descriptor`
    /// explains why both must be expected.
    ///
    /// If a write to a file fails, as on a full disk, the part of a line before the error is cut off. Otherwise
    /// the next program that appends to the file would continue the line and join two numbers.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &*self.file;
        if self.is_regular {
            // In append mode, the position is at the end of the file only after a write.
            let is_append = fcntl_getfl(file)?.contains(OFlags::APPEND);
            let start = if is_append { file.metadata()?.len() } else { file.stream_position()? };
            let take_back = |written, part| take_back(&self.file, start + written, part);
            return write_lines(bytes, |bytes| file.write(bytes), take_back);
        }
        write_waiting(|| file.write(bytes), || wait_writable(&*self.file)).map_err(without_reset)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes up to the end of a line, or all bytes, and returns the number of bytes written.
///
/// If an error leaves a part of a line, `take_back` cuts it off, and it does not count as written. Its
/// arguments are the number of bytes written and the length of the part.
fn write_lines(
    bytes: &[u8],
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    take_back: impl FnOnce(u64, u64) -> io::Result<bool>,
) -> io::Result<usize> {
    let mut written = 0;
    let error = loop {
        match write(&bytes[written..]) {
            Ok(0) => return Ok(written),
            Ok(len) => written += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error,
        }
        if written == bytes.len() || bytes[..written].ends_with(b"\n") {
            return Ok(written);
        }
    };
    let whole = memchr::memrchr(b'\n', &bytes[..written]).map_or(0, |end| end + 1);
    let part = (written - whole) as u64;
    // If it cannot be cut off, it stays. The first error is the one to report.
    if part > 0 && take_back(written as u64, part).unwrap_or(false) {
        written = whole;
    }
    // The next write gets the error again.
    if written > 0 { Ok(written) } else { Err(error) }
}

/// Cuts the last `len` bytes, which end at `end`, off a file. Returns whether it did.
///
/// It does not if another program has written to the file since. That program may share the position.
fn take_back(mut file: &File, end: u64, len: u64) -> io::Result<bool> {
    if file.stream_position()? != end || end != file.metadata()?.len() || end < len {
        return Ok(false);
    }
    file.set_len(end - len)?;
    file.seek(SeekFrom::Start(end - len))?;
    Ok(true)
}

/// Returns whether the file is of a kind that has a reader and reports its close.
fn has_reader(file: &File) -> bool {
    let Ok(file_type) = file.metadata().map(|metadata| metadata.file_type()) else { return false };
    if file_type.is_socket() {
        // A datagram socket has no connection that can end. On macOS, poll reports a closed connection as it
        // reports a peer that has only shut down its sending side.
        let is_connected = |kind| {
            [Type::STREAM, Type::SEQPACKET].contains(&kind) && !cfg!(target_vendor = "apple")
        };
        return SockRef::from(file).r#type().is_ok_and(is_connected);
    }
    file_type.is_fifo()
}

/// Waits until the reader closes the file, and returns the error that a write would get.
fn wait_closed(file: &File) -> io::Result<io::Error> {
    while !is_closed(file, None)? {}
    // A lost connection has an error. Reading it takes it away from the next write.
    let lost = SockRef::from(file).take_error().ok().flatten();
    Ok(lost.map_or_else(|| io::ErrorKind::BrokenPipe.into(), without_reset))
}

/// Waits until the reader closes the file, for a timeout, or until a signal. Returns whether it is closed.
fn is_closed(file: &File, timeout: Option<&Timespec>) -> io::Result<bool> {
    // Other systems report a hang-up without a request for it. macOS does not.
    match poll(&mut [PollFd::new(file, PollFlags::HUP)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Converts a reset to a close, as a reader that closes a socket with unread data resets it.
fn without_reset(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
