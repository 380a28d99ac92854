//! Collects multiples of 6 from servers and writes them to stdout.
//!
//! ```text
//! cargo run --example collect -- localhost:8001 localhost:8002
//! ```

#![expect(clippy::print_stderr, reason = "stdout has the records")]

use std::env;
use std::error::Error;
use std::io::{self, Write};

use tcpcore::{Config, Job, Report, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let servers = env::args().skip(1).map(|argument| argument.parse());
    let report = collect(servers.collect::<Result<_, _>>()?, io::stdout())?;
    eprintln!("{}", report.totals);
    Ok(())
}

/// Reads each server once, to its end, and writes the multiples of 6 to `output`.
fn collect(
    servers: Vec<Server>,
    output: impl Write + Send + 'static,
) -> Result<Report, Box<dyn Error>> {
    let config = Config::builder().servers(servers).once(true).build()?;
    let job = Job::start(config, output)?;
    // From any thread, at any time: `job.stop_handle().stop()`.
    Ok(job.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn multiples_of_6_are_written_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let feed = thread::spawn(move || {
            listener.accept().unwrap().0.write_all(b"1\n6\n7\n12\n").unwrap();
        });
        let (output, writer) = io::pipe().unwrap();
        let report = collect(vec![server], writer).unwrap();
        feed.join().unwrap();
        assert_eq!(io::read_to_string(output).unwrap(), "6\n12\n");
        assert_eq!((report.totals.counters.lines, report.totals.printed), (4, 2));
    }
}
