//! Runs `demo`: four servers and a job that reads them, in one process and half a minute. One server goes
//! down and comes back.

#[allow(dead_code, reason = "The demo's servers send numbers alone.")]
mod feed;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use feed::{Feed, Kind, Misbehavior, Settings};
use log::{error, info};
use tcpcore::internals::logging::{self, Options};
use tcpcore::internals::output::stdout::Stdout;
use tcpcore::internals::signals::CaughtSignals;
use tcpcore::internals::status::{Bound, JobPages, PageOptions};
use tcpcore::{Config, Job, Server};

const SERVERS: u64 = 4;

/// The time between two numbers of a server. It is short enough to show that three servers go on, and long
/// enough to read.
const INTERVAL: Duration = Duration::from_millis(200);

/// The time before a server goes down.
const ALL_UP: Duration = Duration::from_secs(5);

/// The time in which one server is down. With the default back-off, the attempts 1, 3 and 7 seconds after
/// the loss fail.
const ONE_DOWN: Duration = Duration::from_secs(10);

/// The time after the server is back. The next attempt comes 15 seconds after the loss, or 16.5 if every
/// delay has its full jitter. That is 5 to 7 seconds into this time.
const ALL_UP_AGAIN: Duration = Duration::from_secs(12);

fn main() -> io::Result<ExitCode> {
    // The targets distinguish the servers' lines from those of the job.
    let _flushed_at_the_end = logging::init(Options { show_target: true, ..Options::default() })?;
    match run() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            error!("{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut feeds = Vec::new();
    let mut servers = Vec::new();
    for seed in 1..=SERVERS {
        let feed = Feed::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), settings(seed))?;
        servers.push(feed.address().to_string().parse::<Server>()?);
        feeds.push(feed);
    }
    let config = Config::builder().servers(servers).parallelism(2).build()?;
    let signals = CaughtSignals::catch(false, mpsc::channel().0)?;
    let job = Job::start(config, Stdout::open()?)?;
    signals.stop(job.stop_handle());
    let bound = Bound::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let pages = JobPages::new(job.stats(), PageOptions::default(), job.stop_handle(), || 0);
    // Its address is in the log. It ends with the demo.
    let _status = bound.start(pages)?;

    let (job_ended, has_ended) = mpsc::channel();
    let stop = job.stop_handle();
    let script = thread::spawn(move || {
        // `None` means that the job ended first, for example by Ctrl-C.
        let _ = run_script(&mut feeds, &has_ended);
        stop.stop();
        feeds
    });
    let report = job.wait()?;
    drop(job_ended);
    // The servers end last, so that the log shows no lost connections at the end.
    drop(script.join());
    info!("In all: {}", report.totals);
    Ok(())
}

/// Takes the last server down and brings it back, with time to watch. Returns `None` if the job ended
/// first.
fn run_script(feeds: &mut Vec<Feed>, job_ended: &Receiver<()>) -> Option<()> {
    info!("Four servers, two workers, and the multiples of 6 among their numbers; Ctrl-C ends it");
    watch(ALL_UP, job_ended)?;

    let feed = feeds.pop()?;
    let address = feed.address();
    info!("Now {address} goes down: its delays grow, the other three go on");
    drop(feed);
    watch(ONE_DOWN, job_ended)?;

    info!("Now {address} comes back: the next attempt will succeed");
    match Feed::start(address, settings(SERVERS)) {
        Ok(feed) => feeds.push(feed),
        Err(error) => error!("The server does not come back: {error}"),
    }
    watch(ALL_UP_AGAIN, job_ended)?;

    info!("That was the demo");
    Some(())
}

/// Waits for `time`. Returns `None` if the job ended first.
fn watch(time: Duration, job_ended: &Receiver<()>) -> Option<()> {
    (job_ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout)).then_some(())
}

fn settings(seed: u64) -> Settings {
    Settings {
        kind: Kind::Numbers,
        interval: INTERVAL,
        seed,
        count: None,
        misbehavior: Misbehavior::default(),
    }
}
