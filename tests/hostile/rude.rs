//! Tests the status server among rude clients, while data flows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Server};
use crate::ledger::{self, Ledger};
use crate::runner::{Form, Outcome};
use crate::subject::{Subject, memory_kib};

const SERVERS: usize = 4;

/// What a rude client does with a new connection.
type Rudeness = fn(&mut TcpStream) -> std::io::Result<()>;

const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";

const RUDENESSES: [Rudeness; 8] = [
    // A head that arrives byte by byte.
    |stream| {
        for byte in REQUEST {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(300));
        }
        Ok(())
    },
    // A head that never ends.
    |stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nX: ")?;
        (0..1000).try_for_each(|_| stream.write_all(&[b'x'; 10_000]))
    },
    // No byte at all.
    |stream| stream.read(&mut [0]).map(drop),
    // Requests without an end, whose responses are not read.
    |stream| {
        let requests = REQUEST.repeat(1000);
        (0..10_000).try_for_each(|_| stream.write_all(&requests))
    },
    // A client that has shut its sending side down, in the middle of a head.
    |stream| {
        stream.write_all(&[REQUEST, &REQUEST[..9]].concat())?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    },
    // A reset behind a request.
    |stream| {
        stream.write_all(REQUEST)?;
        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))
    },
    // A body, and requests in it.
    |stream| {
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")?;
        stream.write_all(&REQUEST.repeat(3000))
    },
    // Bytes that are no HTTP.
    |stream| {
        stream.write_all(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n\xff\0")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    },
];

/// Checks that rude clients and a thousand silent ones change nothing about the data, are bounded in memory, and leave
/// the status server as it was.
pub(crate) fn rude_clients(form: Form) -> Outcome {
    let storm = form.pick(Duration::from_secs(8), Duration::from_secs(60));
    let servers = [(); SERVERS].map(|()| Server::bind());
    let addresses: Vec<_> = servers.iter().map(Server::address).collect();
    let mut subject = Subject::start(form.mode, "-p 2 --status-addr 127.0.0.1:0", &addresses);
    let mut ledger = Ledger::new(SERVERS, form.mode);
    let line = subject.program.wait_for_log("Status on http://");
    let url = line.split("http://").nth(1).and_then(|url| url.strip_suffix('/'));
    let status: SocketAddr = url.expect("a URL").parse().expect("an address");

    let is_over = Arc::new(AtomicBool::new(false));
    let feeds: Vec<_> = servers
        .into_iter()
        .enumerate()
        .map(|(index, server)| feed(index, server, Arc::clone(&is_over)))
        .collect();
    subject.read_until(&mut ledger, |ledger| ledger.lines > 0);
    let before_kib = memory_kib(&subject.program, "VmRSS");

    let visits = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..10 * RUDENESSES.len())
        .map(|index| {
            let rudeness = RUDENESSES[index % RUDENESSES.len()];
            rude_client(status, rudeness, Arc::clone(&is_over), Arc::clone(&visits))
        })
        .collect();
    let mut silent = Vec::new();
    let end = Instant::now() + storm;
    let (mut answers, mut refusals) = (0, 0);
    while Instant::now() < end {
        match ask(status) {
            Some(200) => answers += 1,
            _ => refusals += 1,
        }
        if silent.len() < 1000 {
            silent.extend((0..50).filter_map(|_| TcpStream::connect(status).ok()));
        }
        let pause = Instant::now() + Duration::from_millis(100);
        subject.read_until(&mut ledger, |_| Instant::now() > pause);
    }
    is_over.store(true, Relaxed);
    let sent: u64 = feeds.into_iter().map(|feed| feed.join().expect("a feed does not panic")).sum();
    subject.read_until(&mut ledger, |ledger| ledger.lines == sent);

    // The rude clients that are left hold their places for the time limits of the server.
    let over = Instant::now();
    while ask(status) != Some(200) {
        assert!(over.elapsed() < Duration::from_secs(15), "the status server does not recover");
        thread::sleep(Duration::from_millis(10));
    }
    let recovered = over.elapsed();
    drop(silent);
    let ended = subject.stop(|line| ledger.enter(line));
    for client in clients {
        client.join().expect("a client does not panic");
    }
    assert_eq!((ended.total("lines"), ledger.lines), (sent, sent));
    assert_eq!((ended.total("connects"), ended.total("failures")), (SERVERS as u64, 0));
    let most_kib = ended.peak_kib;
    assert!(most_kib < before_kib + 8192, "{before_kib} KiB became {most_kib} KiB");
    let figures = format!(
        "{} rude visits and 1000 silent clients in {storm:.0?}, {sent} lines meanwhile, all printed \
         once; {answers} of {} polite requests served then, and again {recovered:.1?} later; {before_kib} \
         KiB before",
        visits.load(Relaxed),
        answers + refusals,
    );
    Outcome::Passed(figures, ended.tally())
}

/// Sends numbers until `is_over`, and keeps the connection open. Returns the number of lines.
fn feed(index: usize, server: Server, is_over: Arc<AtomicBool>) -> JoinHandle<u64> {
    const BATCH: u64 = 1000;
    let mut peer = server.accept();
    thread::spawn(move || {
        let mut sent = 0;
        while !is_over.load(Relaxed) {
            peer.send(ledger::lines(index, 1, sent, BATCH));
            sent += BATCH;
            thread::sleep(Duration::from_millis(5));
        }
        // The end of the program closes it.
        thread::spawn(move || (peer, server).0.wait_closed());
        sent
    })
}

/// Visits the server again and again until `is_over`.
fn rude_client(
    status: SocketAddr,
    rudeness: Rudeness,
    is_over: Arc<AtomicBool>,
    visits: Arc<AtomicU64>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        while !is_over.load(Relaxed) {
            if let Ok(mut stream) = TcpStream::connect(status) {
                for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
                    set(&stream, Some(DEADLINE)).expect("the deadline is not zero");
                }
                // The server may close at any time.
                let _ = rudeness(&mut stream);
                visits.fetch_add(1, Relaxed);
            }
            // Without it, this machine would do nothing else.
            thread::sleep(Duration::from_millis(20));
        }
    })
}

/// Asks politely, and returns the status of the response, if there is one.
fn ask(status: SocketAddr) -> Option<u16> {
    let mut stream = TcpStream::connect(status).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
    stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").ok()?;
    let mut text = Vec::new();
    // A reset may follow the response.
    let _ = stream.read_to_end(&mut text);
    str::from_utf8(&text).ok()?.split(' ').nth(1)?.parse().ok()
}
