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
        assert!(!take_back(&file, 6, 1).unwrap(), "another shares the position and has written");
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
