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

use crate::descriptor::wait_writable;
use crate::output::write_waiting;
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
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::Read;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::time::Instant;
    use std::{env, fs, process};

    fn stdout(writer: impl Into<OwnedFd>) -> Stdout {
        Stdout::new(File::from(writer.into())).unwrap()
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
        is_closed(&stdout.file, Some(&Timespec::default())).unwrap()
    }

    /// For what comes over a connection.
    fn is_closed_soon(stdout: &Stdout) -> bool {
        let minute = Timespec::try_from(Duration::from_secs(60)).unwrap();
        is_closed(&stdout.file, Some(&minute)).unwrap()
    }

    #[test]
    fn what_is_open_for_reading_only_is_refused() {
        for (is_read, is_written) in [(true, false), (false, true), (true, true)] {
            let file = File::options().read(is_read).write(is_written).open("/dev/null").unwrap();
            assert_eq!(Stdout::new(file).is_ok(), is_written);
        }
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
                wait_closed(&stdout.file).unwrap()
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
        assert!(has_reader(&stdout.file));
        rustix::io::ioctl_fionbio(&stdout.file, true).unwrap();
        while (&*stdout.file).write(&[b'6'; 4096]).is_ok() {}
        assert!(!is_closed_now(&stdout));
        drop(reader);
        assert!(!is_closed_now(&stdout));
        drop(other_reader);
        assert!(is_closed_now(&stdout));
        assert_eq!(wait_closed(&stdout.file).unwrap().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    #[cfg(not(target_vendor = "apple"))]
    fn a_socket_is_closed_when_both_directions_are_and_not_when_one_is() {
        for direction in [Shutdown::Read, Shutdown::Write] {
            let (writer, mut reader) = UnixStream::pair().unwrap();
            let stdout = stdout(writer);
            assert!(has_reader(&stdout.file));
            reader.write_all(b"what nobody reads").unwrap();
            reader.shutdown(direction).unwrap();
            assert!(!is_closed_now(&stdout), "{direction:?}");
            drop(reader);
            assert!(is_closed_now(&stdout), "{direction:?}");
            assert_eq!(wait_closed(&stdout.file).unwrap().kind(), io::ErrorKind::BrokenPipe);
        }
        let (mut stdout, mut reader) = tcp_pair();
        assert!(has_reader(&stdout.file));
        reader.shutdown(Shutdown::Write).unwrap();
        // It has arrived when a read ends.
        assert_eq!((&*stdout.file).read(&mut [0]).unwrap(), 0);
        assert!(!is_closed_now(&stdout));
        stdout.write_all(b"6").unwrap();
        reader.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn what_has_no_reader_is_not_watched() {
        let file = |path| File::options().read(true).write(true).open(path).unwrap();
        let (datagram, _peer) = UnixDatagram::pair().unwrap();
        let path = env::temp_dir().join(format!("tcpcore-no-reader-{}", process::id()));
        File::create(&path).unwrap();
        let regular = file(path.to_str().unwrap());
        fs::remove_file(&path).unwrap();
        for file in [file("/dev/null"), regular, File::from(OwnedFd::from(datagram))] {
            assert!(!has_reader(&file), "{file:?}");
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

    const FULL: io::ErrorKind = io::ErrorKind::StorageFull;

    /// Writes to a disk that takes `step` bytes at once and `room` in all, is interrupted each second
    /// time, and lets the end be taken back or not. Returns the result and what is on the disk then.
    fn write_to_disk(
        bytes: &[u8],
        step: usize,
        room: usize,
        may_take_back: bool,
    ) -> (Result<usize, io::ErrorKind>, Vec<u8>) {
        let disk = RefCell::new(Vec::new());
        let mut is_interrupted = false;
        let write = |bytes: &[u8]| {
            is_interrupted = !is_interrupted;
            if is_interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut disk = disk.borrow_mut();
            let len = bytes.len().min(step).min(room - disk.len());
            disk.extend_from_slice(&bytes[..len]);
            if len == 0 { Err(FULL.into()) } else { Ok(len) }
        };
        let take_back = |_: u64, len: u64| {
            if may_take_back {
                let mut disk = disk.borrow_mut();
                let left = disk.len() - usize::try_from(len).unwrap();
                disk.truncate(left);
            }
            Ok(may_take_back)
        };
        let result = write_lines(bytes, write, take_back).map_err(|error| error.kind());
        (result, disk.into_inner())
    }

    #[test]
    fn a_full_disk_keeps_whole_lines() {
        let text = b"6\n12\n666\n";
        for (room, whole) in
            [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2), (5, 5), (6, 5), (8, 5), (9, 9), (20, 9)]
        {
            // Of more than the longest line, so that no write ends at the end of a line before the last.
            let (result, disk) = write_to_disk(text, 20, room, true);
            assert_eq!(disk, &text[..whole], "room for {room} bytes");
            assert_eq!(result, if whole > 0 { Ok(whole) } else { Err(FULL) }, "{room} bytes");
        }
    }

    #[test]
    fn a_line_that_is_taken_in_parts_is_written_to_its_end() {
        assert_eq!(write_to_disk(b"123456\n12\n", 2, 20, true), (Ok(10), b"123456\n12\n".into()));
        assert_eq!(write_to_disk(b"12345\n12\n", 2, 20, true), (Ok(6), b"12345\n".into()));
        assert_eq!(write_to_disk(b"123", 2, 20, true), (Ok(3), b"123".into()));
        assert_eq!(write_to_disk(b"12345\n", 2, 4, true), (Err(FULL), b"".into()));
    }

    #[test]
    fn a_part_that_cannot_be_taken_back_counts_as_written() {
        assert_eq!(write_to_disk(b"6\n12\n", 20, 3, false), (Ok(3), b"6\n1".into()));
        assert_eq!(write_to_disk(b"12\n", 20, 1, false), (Ok(1), b"1".into()));
    }

    #[test]
    fn a_write_of_nothing_is_no_error_of_ours() {
        assert_eq!(write_lines(b"6\n", |_| Ok(0), |_, _| panic!()).unwrap(), 0);
    }

    #[test]
    fn only_the_end_of_a_file_is_taken_back() {
        for options in [File::options().append(true), File::options().write(true)] {
            let path = env::temp_dir().join(format!("tcpcore-take-back-{}", process::id()));
            File::create(&path).unwrap().write_all(b"0\n").unwrap();
            let mut file = options.open(&path).unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"6\n12").unwrap();
            assert!(take_back(&file, 6, 2).unwrap());
            file.write_all(b"18\n").unwrap();
            assert!(!take_back(&file, 7, 8).unwrap(), "more than there is");
            assert!(
                !take_back(&file, 6, 1).unwrap(),
                "another shares the position and has written"
            );
            assert!(take_back(&file, 7, 7).unwrap(), "all there is");
            file.write_all(b"0\n6\n18\n").unwrap();
            let mut other = File::options().append(true).open(&path).unwrap();
            other.write_all(b"24\n").unwrap();
            assert!(!take_back(&file, 7, 1).unwrap(), "another has written");
            let text = fs::read_to_string(&path).unwrap();
            fs::remove_file(&path).unwrap();
            assert_eq!(text, "0\n6\n18\n24\n");
        }
    }
}
