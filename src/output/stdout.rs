//! Standard output as the output's thread needs it: unbuffered, and watched for its reader.

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

/// The delay from the end of the reader to that of the job. Ctrl-C reaches every program of a pipeline, and
/// the job must then end as stopped, with its totals. The signal has this long to be handled.
const GRACE: Duration = Duration::from_millis(50);

/// Standard output without a buffer: one write is one system call, and what was written is out.
///
/// std's own would look for line feeds in buffers that are made of whole lines already.
///
/// A reader that has gone is [`io::ErrorKind::BrokenPipe`], for pipes as for sockets.
#[derive(Clone, Debug)]
pub struct Stdout {
    file: Arc<File>,
    /// Whether it is a file on a disk, of which the end can be taken back.
    is_regular: bool,
}

impl Stdout {
    /// Opens it for writing by duplicating its descriptor.
    ///
    /// # Errors
    ///
    /// It is open for reading only, or there is no descriptor left.
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

    /// Ends a job as soon as its reader has gone, even while there is nothing to write.
    ///
    /// A thread waits for that, without a timeout, until then or the end of the process. It watches
    /// pipes and connected sockets. Files and terminals have no reader that leaves; the next write
    /// meets their errors.
    ///
    /// # Errors
    ///
    /// The system refuses the thread.
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
    /// Waits until something can be written, even if the descriptor does not block: that is set in
    /// the open file, which other processes share (a shell's terminal, `ssh`), so any of them may
    /// have set it, at any time.
    ///
    /// A file on a disk keeps whole lines only, if `bytes` has such: a part of a line before an error, as
    /// of a full disk, is taken back. Else the next program that appends to the file would continue it,
    /// and make one number of two.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &*self.file;
        if self.is_regular {
            // Where a file that is appended to goes on, the position tells only after a write.
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

/// Writes up to the end of a line, or all, if there is no error. Before one, takes back what was written
/// of a line, and returns how many bytes are left.
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
    // If it cannot be taken back, it stays. The error that counts is the first one.
    if part > 0 && take_back(written as u64, part).unwrap_or(false) {
        written = whole;
    }
    // The next write meets the error again.
    if written > 0 { Ok(written) } else { Err(error) }
}

/// Cuts the last `len` bytes off a file, which have just been written up to `end`. Leaves them if another
/// program has written to the file meanwhile, which may share the position with this one. Returns whether it
/// has cut them off.
fn take_back(mut file: &File, end: u64, len: u64) -> io::Result<bool> {
    if file.stream_position()? != end || end != file.metadata()?.len() || end < len {
        return Ok(false);
    }
    file.set_len(end - len)?;
    file.seek(SeekFrom::Start(end - len))?;
    Ok(true)
}

/// Whether the file is of a kind that has a reader, and tells when that has gone.
fn has_reader(file: &File) -> bool {
    let Ok(file_type) = file.metadata().map(|metadata| metadata.file_type()) else { return false };
    if file_type.is_socket() {
        // A datagram socket has no connection that could end. On macOS, poll cannot tell a peer that
        // has gone from one that has shut down its sending side.
        let is_connected = |kind| {
            [Type::STREAM, Type::SEQPACKET].contains(&kind) && !cfg!(target_vendor = "apple")
        };
        return SockRef::from(file).r#type().is_ok_and(is_connected);
    }
    file_type.is_fifo()
}

/// Waits until nothing can be written any more, and returns the error that a write would meet.
fn wait_closed(file: &File) -> io::Result<io::Error> {
    while !is_closed(file, None)? {}
    // A connection may have been lost. To ask for that takes the error away from the next write.
    let lost = SockRef::from(file).take_error().ok().flatten();
    Ok(lost.map_or_else(|| io::ErrorKind::BrokenPipe.into(), without_reset))
}

/// Whether nothing can be written any more. Waits for that up to a timeout, or until interrupted.
fn is_closed(file: &File, timeout: Option<&Timespec>) -> io::Result<bool> {
    // A hang-up is reported even if it was not asked for; macOS, however, waits for nothing then.
    match poll(&mut [PollFd::new(file, PollFlags::HUP)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes a reset for a close: a reader that closes a socket with unread data in it resets it.
fn without_reset(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests;
