//! `demo`: the whole story in half a minute and one process. Four servers, a job that reads them, one
//! server that goes down and comes back.

mod feed;

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use feed::{Feed, Misbehaviour, Settings};
use log::{error, info};
use tcpcore::internals::logging::{self, Options};
use tcpcore::internals::output::stdout::Stdout;
use tcpcore::internals::signals::CaughtSignals;
use tcpcore::{Config, Job, Server};

const SERVERS: u64 = 4;

/// Brisk enough that the numbers of three servers are seen to go on, slow enough to read.
const INTERVAL: Duration = Duration::from_millis(200);

const ALL_UP: Duration = Duration::from_secs(5);

/// With the default back-off the attempts come 1, 3 and 7 seconds after the loss, and find nobody.
const ONE_DOWN: Duration = Duration::from_secs(10);

/// The next attempt comes 15 seconds after the loss, or 16.5 if every delay has its full jitter: 5 to
/// 7 seconds into this.
const ALL_UP_AGAIN: Duration = Duration::from_secs(12);

fn main() -> io::Result<ExitCode> {
    // The targets tell the servers' lines from those of the job.
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
    let signals = CaughtSignals::catch()?;
    let job = Job::start(config, Stdout::open()?)?;
    signals.stop(job.stop_handle());

    let (job_ended, ending) = mpsc::channel();
    let stop = job.stop_handle();
    let story = thread::spawn(move || {
        // `None` is a job that ended before the story, by Ctrl-C say.
        let _ = tell(&mut feeds, &ending);
        stop.stop();
        feeds
    });
    let report = job.wait()?;
    drop(job_ended);
    // The servers go last, so that the job is not seen to lose them.
    drop(story.join());
    info!("In all: {}", report.totals);
    Ok(())
}

/// Takes the last server down and brings it back, with time to watch. `None` if the job ended before.
fn tell(feeds: &mut Vec<Feed>, job_ended: &Receiver<()>) -> Option<()> {
    info!("Four servers, two workers, and of their numbers those that 6 divides; Ctrl-C ends it");
    watch(ALL_UP, job_ended)?;

    let feed = feeds.pop()?;
    let address = feed.address();
    info!("Now {address} goes down: its delays grow, the other three go on");
    drop(feed);
    watch(ONE_DOWN, job_ended)?;

    info!("Now {address} comes back: the next attempt will find it");
    match Feed::start(address, settings(SERVERS)) {
        Ok(feed) => feeds.push(feed),
        Err(error) => error!("It does not: {error}"),
    }
    watch(ALL_UP_AGAIN, job_ended)?;

    info!("That was the demo");
    Some(())
}

/// Lets `time` pass. `None` if the job ended before.
fn watch(time: Duration, job_ended: &Receiver<()>) -> Option<()> {
    (job_ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout)).then_some(())
}

fn settings(seed: u64) -> Settings {
    Settings { interval: INTERVAL, seed, count: None, misbehaviour: Misbehaviour::default() }
}
