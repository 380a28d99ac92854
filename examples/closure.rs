//! Passes the lines of a job to a closure instead of writing them: counts the lines and bytes of each server.
//!
//! ```text
//! cargo run --example closure -- localhost:8001 localhost:8002
//! ```

#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::env;
use std::error::Error;
use std::sync::mpsc;

use tcpcore::{Config, Job, Server};

/// The number of lines of a server, and of their bytes.
type Counts = (u64, usize);

fn main() -> Result<(), Box<dyn Error>> {
    let servers = env::args().skip(1).map(|argument| argument.parse());
    let servers: Vec<Server> = servers.collect::<Result<_, _>>()?;
    for (server, (lines, bytes)) in servers.iter().zip(count(servers.clone())?) {
        println!("{server}: {lines} lines of {bytes} bytes");
    }
    Ok(())
}

/// Reads each server once, to its end, and returns the counts of each.
fn count(servers: Vec<Server>) -> Result<Vec<Counts>, Box<dyn Error>> {
    let mut counts = vec![Counts::default(); servers.len()];
    let config = Config::builder().servers(servers).once(true).build()?;
    // The closure runs on a thread of the job. A channel takes what it finds from there.
    let (sender, receiver) = mpsc::channel();
    let job = Job::builder(config).lines().for_each_line(move |origin, line| {
        // The receiver ends only after the job.
        _ = sender.send((origin.server(), line.len()));
    })?;
    for (server, bytes) in receiver {
        counts[server].0 += 1;
        counts[server].1 += bytes;
    }
    job.wait()?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn lines_and_bytes_are_counted_for_each_server() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let servers = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string());
        let servers = servers.map(|server| server.parse().unwrap()).collect();
        let feeds = listeners.into_iter().zip(["a\r\n\nlong line\n", "b\nno end"]);
        let feeds = feeds.map(|(listener, text)| {
            thread::spawn(move || listener.accept().unwrap().0.write_all(text.as_bytes()))
        });
        let feeds: Vec<_> = feeds.collect();
        assert_eq!(count(servers).unwrap(), [(3, 10), (1, 1)]);
        feeds.into_iter().for_each(|feed| feed.join().unwrap().unwrap());
    }
}
