//! Standard output as the output's thread needs it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::output::write_waiting;

/// Standard output without a buffer: one write is one system call, and what was written is out.
///
/// std's own would look for line feeds in buffers that are made of whole lines already.
#[derive(Debug)]
pub struct Stdout(File);

impl Stdout {
    /// Opens it for writing by duplicating its descriptor.
    ///
    /// # Errors
    ///
    /// There is no descriptor left.
    pub fn open() -> io::Result<Self> {
        Ok(Self(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }
}

impl Write for Stdout {
    /// Waits until something can be written, even if the descriptor does not block: that is set in
    /// the open file, which other processes share (a shell's terminal, `ssh`), so any of them may
    /// have set it, at any time.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &self.0;
        write_waiting(|| { file }.write(bytes), || wait_writable(file))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn nonblocking_pair() -> (Stdout, UnixStream) {
        let (writer, reader) = UnixStream::pair().unwrap();
        writer.set_nonblocking(true).unwrap();
        (Stdout(File::from(OwnedFd::from(writer))), reader)
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
}
