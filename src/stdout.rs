//! Standard output as the output's thread needs it: unbuffered, and watched for its reader.

use std::fs::File;
use std::io::{self, Write};
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

use crate::output::write_waiting;
use crate::run::StopHandle;

/// The time between the leave of the reader and the end of the job. Ctrl-C ends all programs of a pipeline,
/// and this one as stopped, not as left: the signal has that long to be noticed.
const GRACE: Duration = Duration::from_millis(50);

/// Standard output without a buffer: one write is one system call, and what was written is out.
///
/// std's own would look for line feeds in buffers that are made of whole lines already.
///
/// A reader that has gone is [`io::ErrorKind::BrokenPipe`], for pipes as for sockets.
#[derive(Clone, Debug)]
pub struct Stdout(Arc<File>);

impl Stdout {
    /// Opens it for writing by duplicating its descriptor.
    ///
    /// # Errors
    ///
    /// It is open for reading only, or there is no descriptor left.
    pub fn open() -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if fcntl_getfl(&file)? & OFlags::RWMODE == OFlags::RDONLY {
            let message = "stdout is open for reading only, \
                expected a file or a pipe to write to, or /dev/null to discard the numbers";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self(Arc::new(file)))
    }

    /// Ends a job as soon as no more can be written, even while it has nothing to write: by a thread
    /// that waits for it. The thread lives until then, or as long as the process.
    ///
    /// This works for pipes and connected sockets. Files and terminals have no reader that leaves; what
    /// befalls them is the error of the next write.
    ///
    /// # Errors
    ///
    /// The system refuses the thread.
    pub fn stop_when_closed(self, stop: StopHandle) -> io::Result<()> {
        if !has_reader(&self.0) {
            return Ok(());
        }
        thread::Builder::new().name("stdout".into()).spawn(move || match wait_closed(&self.0) {
            Ok(error) => {
                thread::sleep(GRACE);
                stop.output_failed(error);
            }
            Err(error) => warn!("A reader of stdout that leaves is noticed late: poll: {error}"),
        })?;
        Ok(())
    }
}

impl Write for Stdout {
    /// Waits until something can be written, even if the descriptor does not block: that is set in
    /// the open file, which other processes share (a shell's terminal, `ssh`), so any of them may
    /// have set it, at any time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &*self.0;
        write_waiting(|| { file }.write(bytes), || wait_writable(file)).map_err(without_reset)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns when a write would succeed or fail but not block, or for no reason.
fn wait_writable(file: &File) -> io::Result<()> {
    match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
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

/// A reader that closes a socket with unread data in it resets it. That makes it a closed one.
fn without_reset(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset => io::ErrorKind::BrokenPipe.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::time::Instant;

    fn stdout(writer: impl Into<OwnedFd>) -> Stdout {
        Stdout(Arc::new(File::from(writer.into())))
    }

    fn nonblocking_pair() -> (Stdout, UnixStream) {
        let (writer, reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        (stdout(writer), reader)
    }

    fn tcp_pair() -> (Stdout, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stdout(writer), listener.accept().unwrap().0)
    }

    fn is_closed_now(stdout: &Stdout) -> bool {
        is_closed(&stdout.0, Some(&Timespec::default())).unwrap()
    }

    /// For what comes over a connection.
    fn is_closed_soon(stdout: &Stdout) -> bool {
        let minute = Timespec::try_from(Duration::from_secs(60)).unwrap();
        is_closed(&stdout.0, Some(&minute)).unwrap()
    }

    #[test]
    fn more_than_a_nonblocking_descriptor_holds_is_written_in_the_end() {
        let (mut stdout, mut reader) = nonblocking_pair();
        let sent: Vec<u8> = (0..4 << 20).map(|i: u32| i.to_le_bytes()[1]).collect();
        thread::scope(|scope| {
            let received = scope.spawn(move || {
                let mut received = Vec::new();
                reader.read_to_end(&mut received).map(|_| received)
            });
            stdout.write_all(&sent).unwrap();
            drop(stdout);
            assert!(received.join().unwrap().unwrap() == sent);
        });
    }

    #[test]
    fn a_reader_that_leaves_while_a_write_waits_is_a_broken_pipe() {
        let (mut stdout, reader) = nonblocking_pair();
        let error = thread::scope(|scope| {
            let writer = scope.spawn(move || stdout.write_all(&vec![b'6'; 4 << 20]));
            drop(reader);
            writer.join().unwrap().unwrap_err()
        });
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_resets_its_connection_is_a_broken_pipe_to_a_write_and_to_the_watch() {
        for is_watched in [false, true] {
            let (mut stdout, reader) = tcp_pair();
            SockRef::from(&reader).set_linger(Some(Duration::ZERO)).unwrap();
            drop(reader);
            assert!(is_closed_soon(&stdout));
            let error = if is_watched {
                wait_closed(&stdout.0).unwrap()
            } else {
                stdout.write(b"6\n").unwrap_err()
            };
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[test]
    fn a_pipe_is_closed_when_its_last_reader_has_gone_and_not_while_it_is_full() {
        let (reader, writer) = io::pipe().unwrap();
        let other_reader = reader.try_clone().unwrap();
        let stdout = stdout(writer);
        assert!(has_reader(&stdout.0));
        rustix::io::ioctl_fionbio(&stdout.0, true).unwrap();
        while (&*stdout.0).write(&[b'6'; 4096]).is_ok() {}
        assert!(!is_closed_now(&stdout));
        drop(reader);
        assert!(!is_closed_now(&stdout));
        drop(other_reader);
        assert!(is_closed_now(&stdout));
        assert_eq!(wait_closed(&stdout.0).unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    #[cfg(not(target_vendor = "apple"))]
    fn a_socket_is_closed_when_both_directions_are_and_not_when_one_is() {
        for direction in [Shutdown::Read, Shutdown::Write] {
            let (writer, mut reader) = UnixStream::pair().unwrap();
            let stdout = stdout(writer);
            assert!(has_reader(&stdout.0));
            reader.write_all(b"what nobody reads").unwrap();
            reader.shutdown(direction).unwrap();
            assert!(!is_closed_now(&stdout), "{direction:?}");
            drop(reader);
            assert!(is_closed_now(&stdout), "{direction:?}");
            assert_eq!(wait_closed(&stdout.0).unwrap().kind(), io::ErrorKind::BrokenPipe);
        }
        let (mut stdout, mut reader) = tcp_pair();
        assert!(has_reader(&stdout.0));
        reader.shutdown(Shutdown::Write).unwrap();
        // It has arrived when a read ends.
        assert_eq!((&*stdout.0).read(&mut [0]).unwrap(), 0);
        assert!(!is_closed_now(&stdout));
        stdout.write_all(b"6").unwrap();
        reader.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn what_has_no_reader_is_not_watched() {
        let file = |path| File::options().read(true).write(true).open(path).unwrap();
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        let executable = File::open(std::env::current_exe().unwrap()).unwrap();
        for file in
            [file("/dev/null"), file("/dev/ptmx"), executable, File::from(OwnedFd::from(datagram))]
        {
            assert!(!has_reader(&file), "{file:?}");
            // No thread is left behind that would be heard of.
            stdout(file).stop_when_closed(StopHandle::new(vec![])).unwrap();
        }
    }

    #[test]
    fn a_job_is_stopped_when_the_reader_leaves() {
        let (reader, writer) = io::pipe().unwrap();
        let stop = StopHandle::new(vec![]);
        stdout(writer).stop_when_closed(stop.clone()).unwrap();
        assert!(!stop.is_stopped());
        let start = Instant::now();
        drop(reader);
        while !stop.is_stopped() {
            assert!(start.elapsed() < Duration::from_secs(60), "it was not noticed");
            thread::yield_now();
        }
        assert!(start.elapsed() >= GRACE, "a signal had no time to come first");
    }
}
