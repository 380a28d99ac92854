//! Runs `demo-server`: servers of made-up feeds for trying `tcpcore`.

mod feed;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use feed::{Feed, Kind, Lines, Misbehavior, Settings};
use log::info;
use rand::TryRng;
use rand::rngs::SysRng;
use tcpcore::internals::logging;

const HELP: &str = "\
Listens on each PORT and sends every client a line each second.

Usage: demo-server [OPTIONS] PORT...

  PORT              0 to 65535; 0 is any free port, and the log names it

      --feed FEED        the lines to send [default: numbers]
                           numbers     random numbers from 1 to 666
                           lines FILE  the lines of a file as they are, again from the first one
                                       after the last; read at the start, at most 1 GiB
                           nmea        NMEA 0183 sentences of a made-up ship, one for each port
                           sbs         SBS-1 (BaseStation) messages of eight made-up aircraft,
                                       other ones for each port
                         Except for numbers, all clients of a port get the same lines, and each
                         connection gets them from the first one.
      --listen ADDR      IP address to listen on [default: 127.0.0.1]
      --interval D       from one line to the next: 250ms, 1s, 3m, at most 1d; 0 is as fast as
                         possible, of numbers the first 65536 repeatedly [default: 1s]
      --count N          close a connection after N lines [default: never]
      --seed N           numbers: the n-th client of a port gets the same ones in every run with
                         the same seed; the second port counts from N + 1, and so on
                         [default: random, and the log names it]
                         nmea, sbs: a port has the same ship or aircraft in every run with the
                         same seed [default: 1]
      --misbehave MODES  a comma-separated list, or the flag several times:
                           split    each byte is a write of its own, 1ms after the one before
                                    unless --interval is 0
                           junk     a line of junk, never a number, after each line
                         and at most one of
                           cut      after --count lines (10 by default), half a line and a close
                           endless  after as many lines, an endless line
                           hangup   accept, then close at once
                           silence  accept, then send nothing
  -h, --help             this text

The log goes to stderr; RUST_LOG sets its level. Exit status: 1 if a port cannot be bound, 2 for bad
usage.
";

const FEED_TAKES: &str = "numbers, lines FILE, nmea or sbs";
const FILE_TAKES: &str = "a readable file of at least one byte and at most 1 GiB";
const INTERVAL_TAKES: &str = "a duration such as 250ms, 1s or 3m, at most 1d, or 0";
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const COUNT_TAKES: &str = "a whole number from 1 to 18446744073709551615";
const SEED_TAKES: &str = "a whole number from 0 to 18446744073709551615";
/// The seed of made-up ships and aircraft. It is fixed, so that a port has the same ones in every run.
const SEED_DEFAULT: u64 = 1;
const LISTEN_TAKES: &str = "an IP address such as 127.0.0.1 or ::1";
const MISBEHAVE_TAKES: &str = "split, junk and at most one of cut, endless, hangup and silence";
const PORT_TAKES: &str = "a number from 0 to 65535";

fn main() -> ExitCode {
    let request = match Request::parse(lexopt::Parser::from_env()) {
        Ok(request) => request,
        Err(message) => return fail(2, &message),
    };
    let arguments = match request {
        Request::Help => {
            // A reader that has closed stdout needs no more of the help.
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Request::Serve(arguments) => arguments,
    };
    let _flushed_at_the_end = match logging::init(logging::Options::default()) {
        Ok(log) => log,
        Err(error) => return fail(1, &format!("cannot start the log: {error}")),
    };
    match serve(&arguments) {
        Ok(never) => match never {},
        Err(message) => fail(1, &message),
    }
}

/// The request of the command line.
enum Request {
    Help,
    Serve(Arguments),
}

struct Arguments {
    kind: Kind,
    listen: IpAddr,
    /// Never empty.
    ports: Vec<u16>,
    interval: Duration,
    count: Option<u64>,
    seed: Option<u64>,
    misbehavior: Misbehavior,
}

impl Request {
    /// Parses the arguments. The error is one line that names the argument and its allowed values.
    fn parse(mut parser: lexopt::Parser) -> Result<Request, String> {
        use lexopt::Arg::{Long, Short, Value};

        let mut arguments = Arguments {
            kind: Kind::Numbers,
            listen: Ipv4Addr::LOCALHOST.into(),
            ports: Vec::new(),
            interval: Duration::from_secs(1),
            count: None,
            seed: None,
            misbehavior: Misbehavior::default(),
        };
        let mut modes: Vec<String> = Vec::new();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Short('h') | Long("help") => return Ok(Request::Help),
                Long("feed") => arguments.kind = feed_kind(&mut parser)?,
                Long("listen") => {
                    arguments.listen = value(&mut parser, "--listen", LISTEN_TAKES, parsed)?;
                }
                Long("interval") => {
                    arguments.interval =
                        value(&mut parser, "--interval", INTERVAL_TAKES, |text| {
                            tcpcore::internals::cli::parse_duration(text)
                                .ok()
                                .filter(|d| *d <= INTERVAL_MAX)
                        })?;
                }
                Long("count") => {
                    arguments.count = Some(value(&mut parser, "--count", COUNT_TAKES, |text| {
                        parsed(text).filter(|count| *count > 0)
                    })?);
                }
                Long("seed") => {
                    arguments.seed = Some(value(&mut parser, "--seed", SEED_TAKES, parsed)?);
                }
                Long("misbehave") => {
                    let list = |text: &str| Some(text.to_owned());
                    modes.push(value(&mut parser, "--misbehave", MISBEHAVE_TAKES, list)?);
                }
                Value(port) => {
                    arguments.ports.push(checked(Some(port), "PORT", PORT_TAKES, parsed)?);
                }
                Short(_) | Long(_) => {
                    return Err(format!("{}; --help lists the options", argument.unexpected()));
                }
            }
        }
        if arguments.ports.is_empty() {
            return checked(None, "PORT", PORT_TAKES, |_| None);
        }
        if arguments.seed.is_some() && matches!(arguments.kind, Kind::Lines(_)) {
            let why = "the lines of a file are the same with any seed; leave --seed out";
            return Err(format!("--seed does not go with --feed lines: {why}"));
        }
        if !modes.is_empty() {
            arguments.misbehavior = modes
                .join(",")
                .parse()
                .map_err(|wrong| format!("--misbehave takes {MISBEHAVE_TAKES}, {wrong}"))?;
        }
        Ok(Request::Serve(arguments))
    }
}

/// Parses the value of `--feed`, and reads the file that one of the kinds has.
fn feed_kind(parser: &mut lexopt::Parser) -> Result<Kind, String> {
    let without_file = value(parser, "--feed", FEED_TAKES, |name| match name {
        "numbers" => Some(Some(Kind::Numbers)),
        "lines" => Some(None),
        "nmea" => Some(Some(Kind::Nmea)),
        "sbs" => Some(Some(Kind::Sbs)),
        _ => None,
    })?;
    match without_file {
        Some(kind) => Ok(kind),
        None => Ok(Kind::Lines(file_of_lines(parser)?)),
    }
}

fn file_of_lines(parser: &mut lexopt::Parser) -> Result<Lines, String> {
    let Ok(path) = parser.value() else {
        return Err(format!("--feed lines takes {FILE_TAKES}, and none is given"));
    };
    Lines::read(Path::new(&path)).map_err(|problem| {
        let path = path.to_string_lossy();
        format!("--feed lines takes {FILE_TAKES}, not '{}': {problem}", path.escape_debug())
    })
}

/// Serves until the process is killed. Returns only if a server cannot start.
fn serve(arguments: &Arguments) -> Result<std::convert::Infallible, String> {
    let seed = seed(arguments)?;
    let mut feeds = Vec::new();
    let mut port_seed = seed;
    for &port in &arguments.ports {
        let address = SocketAddr::new(arguments.listen, port);
        let settings = Settings {
            kind: arguments.kind.clone(),
            interval: arguments.interval,
            seed: port_seed,
            count: arguments.count,
            misbehavior: arguments.misbehavior,
        };
        let feed = Feed::start(address, settings)
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        feeds.push(feed);
        // The other kinds mix the port into the seed. So a port has the same ship in a process of its own.
        if matches!(arguments.kind, Kind::Numbers) {
            port_seed = port_seed.wrapping_add(1);
        }
    }
    loop {
        thread::park();
    }
}

/// Returns the seed, and logs it if the kind of feed depends on it.
fn seed(arguments: &Arguments) -> Result<u64, String> {
    match arguments.kind {
        Kind::Numbers => {
            let seed = match arguments.seed {
                Some(seed) => seed,
                None => SysRng.try_next_u64().map_err(|error| {
                    format!("cannot draw a seed ({error}); give one with --seed")
                })?,
            };
            info!("The seed is {seed}: --seed {seed} repeats the numbers");
            Ok(seed)
        }
        Kind::Lines(_) => Ok(SEED_DEFAULT),
        Kind::Nmea | Kind::Sbs => {
            let seed = arguments.seed.unwrap_or(SEED_DEFAULT);
            info!("The seed is {seed}: with it, a port sends the same lines in every run");
            Ok(seed)
        }
    }
}

/// Parses the value of an option with `read`.
fn value<T>(
    parser: &mut lexopt::Parser,
    name: &str,
    takes: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    checked(parser.value().ok(), name, takes, read)
}

fn checked<T>(
    given: Option<OsString>,
    name: &str,
    takes: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, String> {
    let Some(given) = given else {
        return Err(format!("{name} takes {takes}, and none is given"));
    };
    given.to_str().and_then(read).ok_or_else(|| {
        format!("{name} takes {takes}, not '{}'", given.to_string_lossy().escape_debug())
    })
}

fn parsed<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// Reports the reason in one line on stderr. Without a log there is no other place for it.
fn fail(status: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "demo-server: {message}");
    ExitCode::from(status)
}
