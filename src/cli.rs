//! The command line: a table of flags, and what is made of it: a [`Config`] and the help.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;

use crate::config::{Config, ConfigBuilder, ConfigError, Setting};
use crate::server::Server;

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run a job.
    Run {
        /// The job's settings.
        config: Config,
        /// The level that `-q` and `-v` make, starting from info.
        log_level: LevelFilter,
    },
    /// Print this, the help or the version, to stdout. It ends with a line feed.
    Print(String),
}

/// Bad usage, as one line that begins with the program's name, and names the flag and what it takes
/// or the argument and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl Error for UsageError {}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcpcore: {}", self.0)
    }
}

/// Reads the arguments, without the program's name before them.
///
/// Of a flag that is given twice the last value counts, except for `-q` and `-v`, which add up.
/// `-h`, `--help` and `-V` count as soon as they are met, whatever follows them.
///
/// # Errors
///
/// The first argument that is wrong, or else the first setting.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(args);
    let mut config = Config::builder();
    let mut servers = Vec::new();
    let mut verbosity = 0;
    while let Some(arg) = parser.next().map_err(unexpected_value)? {
        let is_short = matches!(arg, Arg::Short(_));
        let flag = match arg {
            Arg::Value(text) => {
                servers.push(parse_server(text)?);
                continue;
            }
            Arg::Short(name) => find_flag(|flag| flag.short == Some(name), &format!("-{name}"))?,
            Arg::Long(name) => find_flag(|flag| flag.long == name, &format!("--{name}"))?,
        };
        match flag.action {
            Action::Value { setting, apply, .. } => {
                let text = value_of(setting, &mut parser)?;
                config = apply(config, &text).ok_or_else(|| bad_value(setting, &text))?;
            }
            Action::Switch(apply) => config = apply(config),
            Action::Verbosity(step) => verbosity += step,
            Action::Help if is_short => return Ok(Command::Print(short_help())),
            Action::Help => return Ok(Command::Print(long_help())),
            Action::Version => return Ok(Command::Print(version())),
        }
    }
    let config = config.servers(servers).build().map_err(bad_setting)?;
    Ok(Command::Run { config, log_level: log_level(verbosity) })
}

/// Reads a duration as the flags take it: numbers, each with its unit, such as `250ms`, `1s`,
/// `1.5s`, `3m` or `1h 30m`. Only `0` needs no unit.
///
/// # Errors
///
/// Anything else, and durations of more than eleven digits.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    // `humantime` panics where the seconds of its sum are the most that a `Duration` holds and the
    // rest makes one more. Eleven digits of years, its greatest unit, stay below that, and in
    // milliseconds they are enough for 365 days.
    let is_short = text.bytes().filter(u8::is_ascii_digit).count() <= 11;
    let duration = is_short.then(|| humantime::parse_duration(text).ok()).flatten();
    duration.ok_or_else(|| DurationError(text.into()))
}

/// A text that is not a duration. Its `Display` names it and says what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(Box<str>);

impl Error for DurationError {}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.escape_default();
        write!(f, "\"{text}\" is not a duration, expected one with its unit, as 250ms, 1s or 3m")
    }
}

fn find_flag(is_wanted: impl Fn(&Flag) -> bool, given: &str) -> Result<&'static Flag, UsageError> {
    FLAGS.iter().find(|flag| is_wanted(flag)).ok_or_else(|| {
        UsageError(format!(
            "{}: no such flag, see tcpcore -h for those there are",
            given.escape_default()
        ))
    })
}

fn parse_server(text: OsString) -> Result<Server, UsageError> {
    let text = utf8(text).map_err(|text| UsageError(format!("{text}, expected host:port")))?;
    text.parse().map_err(|error| UsageError(format!("{error}")))
}

fn value_of(setting: Setting, parser: &mut Parser) -> Result<String, UsageError> {
    let (flag, expected) = (setting.name(), setting.expected());
    let value = parser
        .value()
        .map_err(|_| UsageError(format!("--{flag}: the value is missing, expected {expected}")))?;
    utf8(value).map_err(|text| UsageError(format!("--{flag}: {text}, expected {expected}")))
}

fn bad_value(setting: Setting, text: &str) -> UsageError {
    let (flag, expected) = (setting.name(), setting.expected());
    let text = text.escape_default();
    UsageError(format!("--{flag}: \"{text}\" is not allowed, expected {expected}"))
}

/// A setting that the builder refuses. Of all of them only the servers are not a flag.
fn bad_setting(error: ConfigError) -> UsageError {
    if error.setting() == Setting::Servers.name() {
        return UsageError(format!("no servers, expected {}", Setting::Servers.expected()));
    }
    UsageError(format!("--{error}"))
}

/// The text of an argument, or else the complaint about it.
fn utf8(text: OsString) -> Result<String, String> {
    text.into_string().map_err(|text| format!("{text:?} is not UTF-8"))
}

/// The only error the lexer has of its own: `--once=yes`.
fn unexpected_value(error: lexopt::Error) -> UsageError {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => {
            UsageError(format!("{option}: takes no value"))
        }
        error => UsageError(error.to_string()),
    }
}

fn log_level(verbosity: i32) -> LevelFilter {
    match verbosity {
        2.. => LevelFilter::Trace,
        1 => LevelFilter::Debug,
        0 => LevelFilter::Info,
        -1 => LevelFilter::Warn,
        -2 => LevelFilter::Error,
        _ => LevelFilter::Off,
    }
}

/// A flag: its names, what it says of itself and what it does.
struct Flag {
    long: &'static str,
    short: Option<char>,
    /// A few words for `-h`, which has room for one line a flag.
    brief: &'static str,
    /// Whole sentences for `--help`: meaning, unit and cost. Bounds and default are added from the
    /// setting itself.
    doc: &'static str,
    action: Action,
}

enum Action {
    /// Takes a value for a setting.
    Value {
        setting: Setting,
        /// What stands for the value in the help.
        placeholder: &'static str,
        default: fn() -> String,
        /// Hands the value to the builder, which checks its bounds; `None` if it cannot be read.
        apply: fn(ConfigBuilder, &str) -> Option<ConfigBuilder>,
    },
    Switch(fn(ConfigBuilder) -> ConfigBuilder),
    /// Adds to the log level, which is info at 0.
    Verbosity(i32),
    /// The short help for the short name, the long one for the long name.
    Help,
    Version,
}

/// The flags in the order of the help.
const FLAGS: &[Flag] = &[
    Flag {
        long: "parallelism",
        short: Some('p'),
        brief: "Workers, at most one per server",
        doc: "\
The number of workers. Each is a thread that polls one contiguous slice
of the servers; the sizes of the slices differ by at most one. Workers
beyond the number of servers are not started. Each costs a thread and a
buffer; more of them than cores gain nothing.",
        action: Action::Value {
            setting: Setting::Parallelism,
            placeholder: "N",
            default: || "cores".into(),
            apply: |config, text| Some(config.parallelism(text.parse::<usize>().ok()?)),
        },
    },
    Flag {
        long: "divisor",
        short: Some('d'),
        brief: "Print the numbers that N divides",
        doc: "\
Print the numbers that N divides; 0 is one of them, and 1 prints every
number. The other numbers are read and counted, but not printed.",
        action: Action::Value {
            setting: Setting::Divisor,
            placeholder: "N",
            default: || Config::DEFAULT_DIVISOR.to_string(),
            apply: |config, text| Some(config.divisor(text.parse().ok()?)),
        },
    },
    Flag {
        long: "initial-backoff",
        short: None,
        brief: "First delay before dialling again",
        doc: "\
The delay before a server that failed is dialled again. Each server has
its own back-off: it never delays another. A short one finds a server
sooner, and costs an attempt, with a resolved name and a line in the
log, each time.",
        action: Action::Value {
            setting: Setting::InitialBackoff,
            placeholder: "D",
            default: || show(Config::DEFAULT_INITIAL_BACKOFF),
            apply: |config, text| Some(config.initial_backoff(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "max-backoff",
        short: None,
        brief: "Longest delay before dialling again",
        doc: "\
The delay that the growing delays of a server that stays down end at,
before jitter. It is about how long a server may be back before that is
noticed.",
        action: Action::Value {
            setting: Setting::MaxBackoff,
            placeholder: "D",
            default: || show(Config::DEFAULT_MAX_BACKOFF),
            apply: |config, text| Some(config.max_backoff(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "backoff-multiplier",
        short: None,
        brief: "Factor from one delay to the next",
        doc: "\
What a delay is multiplied by for each further failure. With 1 all
delays are the initial one.",
        action: Action::Value {
            setting: Setting::BackoffMultiplier,
            placeholder: "X",
            default: || Config::DEFAULT_BACKOFF_MULTIPLIER.to_string(),
            apply: |config, text| Some(config.backoff_multiplier(text.parse().ok()?)),
        },
    },
    Flag {
        long: "jitter-factor",
        short: None,
        brief: "Part of a delay that is random",
        doc: "\
The part of a delay by which it is made shorter or longer at random, so
that servers that failed together are not all dialled at the same
moment. With 0.1 a delay of 10s becomes one of 9s to 11s.",
        action: Action::Value {
            setting: Setting::JitterFactor,
            placeholder: "X",
            default: || Config::DEFAULT_JITTER_FACTOR.to_string(),
            apply: |config, text| Some(config.jitter_factor(text.parse().ok()?)),
        },
    },
    Flag {
        long: "reset-backoff-threshold",
        short: None,
        brief: "Connection time that resets it",
        doc: "\
How long a connection has to stand for the server's back-off to start
over at the initial delay. With 0s every connection does it, and a
server that accepts and closes at once is then dialled at the initial
delay for ever.",
        action: Action::Value {
            setting: Setting::ResetBackoffThreshold,
            placeholder: "D",
            default: || show(Config::DEFAULT_RESET_BACKOFF_THRESHOLD),
            apply: |config, text| Some(config.reset_backoff_threshold(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "give-up-after",
        short: None,
        brief: "Failing time that gives a server up",
        doc: "\
How long a server may fail without a break before it is no longer
dialled. A connection is a break once it has brought a byte, or stood
for the reset threshold. When all servers are given up, the program ends
with status 1.",
        action: Action::Value {
            setting: Setting::GiveUpAfter,
            placeholder: "D",
            default: || "never".into(),
            apply: |config, text| Some(config.give_up_after(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "connect-timeout",
        short: None,
        brief: "Time an attempt may take",
        doc: "\
How long an attempt may take, from looking the name up to being
connected. The addresses of a name are tried one after the other, each
within its share of the time that is left, so that a dead one does not
keep the next from being tried.",
        action: Action::Value {
            setting: Setting::ConnectTimeout,
            placeholder: "D",
            default: || show(Config::DEFAULT_CONNECT_TIMEOUT),
            apply: |config, text| Some(config.connect_timeout(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "idle-timeout",
        short: None,
        brief: "Silence that ends a connection",
        doc: "\
How long a connection may bring nothing before it counts as lost and the
server is dialled again. Off, because quiet feeds are normal: a peer
that is gone is noticed by TCP keepalive within about 35 s. It costs a
timer per connection.",
        action: Action::Value {
            setting: Setting::IdleTimeout,
            placeholder: "D",
            default: || "off".into(),
            apply: |config, text| Some(config.idle_timeout(parse_duration(text).ok()?)),
        },
    },
    Flag {
        long: "max-line",
        short: None,
        brief: "Longest line that is read",
        doc: "\
The length in bytes, without the line feed, of the longest line that is
read. The rest of a longer one is skipped, and it is counted once; the
connection stays. It is also the most memory that a connection holds for
a line of which only a part has come.",
        action: Action::Value {
            setting: Setting::MaxLine,
            placeholder: "BYTES",
            default: || Config::DEFAULT_MAX_LINE.to_string(),
            apply: |config, text| Some(config.max_line(text.parse().ok()?)),
        },
    },
    Flag {
        long: "once",
        short: None,
        brief: "Dial each server once, then end",
        doc: "\
Dial each server once, at all its addresses, and read it to its end,
then end. The status is 1 if any could not be connected or ended by an
error. Off unless given.",
        action: Action::Switch(|config| config.once(true)),
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        brief: "Log less: warnings, errors, nothing",
        doc: "\
Log less on stderr, by one level each time it is given: warn, error,
off. The environment variable RUST_LOG wins over it.",
        action: Action::Verbosity(-1),
    },
    Flag {
        long: "verbose",
        short: Some('v'),
        brief: "Log more: debug, trace",
        doc: "\
Log more on stderr, by one level each time it is given: debug, trace.
The default is info. The environment variable RUST_LOG wins over it.",
        action: Action::Verbosity(1),
    },
    Flag {
        long: "help",
        short: Some('h'),
        brief: "Print this; --help explains each flag",
        doc: "\
Print a short help with -h, and this one with --help.",
        action: Action::Help,
    },
    Flag {
        long: "version",
        short: Some('V'),
        brief: "Print the version",
        doc: "\
Print the version.",
        action: Action::Version,
    },
];

const USAGE: &str = "Usage: tcpcore [FLAGS] HOST:PORT...\n";
const SUMMARY: &str =
    "Reads numbers, one a line, from TCP servers and prints those that 6 divides.\n";

const INTRODUCTION: &str = "
Each server is dialled, and dialled again, after ever longer delays, whenever
its connection fails or ends. Numbers go to stdout, everything else to stderr.

HOST is a name, an IPv4 address, or an IPv6 address in brackets:
localhost:8001, 192.0.2.1:8001, [2001:db8::1]:8001, [fe80::1%eth0]:8001.
A duration D is one or more numbers with their units, of which there are ms, s,
m, h and d: 250ms, 1.5s, 1h30m.
";

const ENDING: &str = "\
SIGINT and SIGTERM end it once what was read is printed; a second one ends it
at once.

Exit status:
  0        ended by a signal or because stdout was closed, or --once went well
  1        stdout failed, all servers were given up, or --once met a failure
  2        bad usage; nothing was dialled
  128 + N  ended at once by a second signal, of number N

Environment:
  RUST_LOG  which log lines go to stderr, such as debug or tcpcore=trace
";

fn version() -> String {
    format!("tcpcore {}\n", env!("CARGO_PKG_VERSION"))
}

fn short_help() -> String {
    let mut help = format!("{USAGE}{SUMMARY}\n");
    for flag in FLAGS {
        help += &format!("  {:33}{}", flag.names(), flag.brief);
        if let Action::Value { default, .. } = flag.action {
            help += &format!(" [{}]", default());
        }
        help.push('\n');
    }
    help + "\nA duration D has its unit: 250ms, 1s, 3m.\n"
}

fn long_help() -> String {
    let mut help = format!("{}\n{USAGE}{SUMMARY}{INTRODUCTION}\nFlags:\n", version());
    for flag in FLAGS {
        help += &format!("  {}\n", flag.names());
        for line in flag.doc.lines() {
            help += &format!("        {line}\n");
        }
        if let Action::Value { setting, default, .. } = flag.action {
            let (expected, default) = (setting.expected(), default());
            help += &format!("        Takes {expected}.\n        Default: {default}.\n");
        }
        help.push('\n');
    }
    help + ENDING
}

impl Flag {
    /// The names and the value's placeholder, as both helps show them: `-d, --divisor N`.
    fn names(&self) -> String {
        let short = self.short.map_or("    ".into(), |short| format!("-{short}, "));
        match self.action {
            Action::Value { placeholder, .. } => format!("{short}--{} {placeholder}", self.long),
            _ => format!("{short}--{}", self.long),
        }
    }
}

fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: &str = "localhost:8001";

    fn parse_strs(args: &[&str]) -> Result<Command, UsageError> {
        parse(args.iter().map(OsString::from))
    }

    /// What a valid line makes, with one server added to it.
    fn run(args: &[&str]) -> (Config, LevelFilter) {
        match parse_strs(&[args, &[SERVER]].concat()) {
            Ok(Command::Run { config, log_level }) => (config, log_level),
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn config(args: &[&str]) -> Config {
        run(args).0
    }

    fn message(args: &[&str]) -> String {
        match parse_strs(&[args, &[SERVER]].concat()) {
            Err(error) => error.to_string(),
            other => panic!("{args:?}: {other:?}"),
        }
    }

    /// What a builder makes of one server and these settings.
    fn built(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Config {
        set(Config::builder().servers([SERVER.parse().unwrap()])).build().unwrap()
    }

    fn help(arg: &str) -> String {
        match parse_strs(&[arg]) {
            Ok(Command::Print(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parallelism_is_a_count_from_1() {
        assert_eq!(config(&["-p", "4"]), built(|c| c.parallelism(4)));
        assert_eq!(config(&["-p1"]), built(|c| c.parallelism(1)));
        assert_eq!(config(&["--parallelism=4"]), built(|c| c.parallelism(4)));
        let expected = "expected a whole number of at least 1";
        assert_eq!(
            message(&["-p0"]),
            format!("tcpcore: --parallelism: 0 is not allowed, {expected}")
        );
        for bad in ["-1", "four", "1.5", "", "99999999999999999999"] {
            assert_eq!(
                message(&["-p", bad]),
                format!("tcpcore: --parallelism: \"{bad}\" is not allowed, {expected}")
            );
        }
    }

    #[test]
    fn divisor_is_a_number_from_1_to_the_greatest_i64() {
        assert_eq!(config(&["-d", "1"]), built(|c| c.divisor(1)));
        let greatest = "9223372036854775807";
        assert_eq!(config(&["--divisor", greatest]), built(|c| c.divisor(Config::MAX_DIVISOR)));
        let expected = "expected a whole number from 1 to 9223372036854775807";
        for bad in ["0", "9223372036854775808"] {
            assert_eq!(
                message(&["--divisor", bad]),
                format!("tcpcore: --divisor: {bad} is not allowed, {expected}")
            );
        }
        for bad in ["-6", "six", "6.0"] {
            assert_eq!(
                message(&["-d", bad]),
                format!("tcpcore: --divisor: \"{bad}\" is not allowed, {expected}")
            );
        }
    }

    #[test]
    fn the_back_off_is_set_by_five_flags() {
        let secs = Duration::from_secs;
        assert_eq!(config(&["--initial-backoff", "2s"]), built(|c| c.initial_backoff(secs(2))));
        assert_eq!(config(&["--max-backoff", "1h"]), built(|c| c.max_backoff(secs(3600))));
        assert_eq!(config(&["--backoff-multiplier=1.5"]), built(|c| c.backoff_multiplier(1.5)));
        assert_eq!(config(&["--jitter-factor", "0"]), built(|c| c.jitter_factor(0.0)));
        assert_eq!(
            config(&["--reset-backoff-threshold", "0"]),
            built(|c| c.reset_backoff_threshold(Duration::ZERO))
        );
        assert_eq!(
            message(&["--initial-backoff", "2m"]),
            "tcpcore: --max-backoff: 60s with an initial back-off of 120s is not allowed, \
             expected a duration with its unit, from the initial back-off to 365d"
        );
        for (flag, bad) in [
            ("--backoff-multiplier", "0.9"),
            ("--backoff-multiplier", "inf"),
            ("--jitter-factor", "1.1"),
            ("--jitter-factor", "NaN"),
            ("--jitter-factor", "-0.1"),
        ] {
            let start = format!("tcpcore: {flag}: {bad} is not allowed, expected a number from ");
            assert!(message(&[flag, bad]).starts_with(&start), "{flag} {bad}");
        }
        assert_eq!(
            message(&["--jitter-factor", "10%"]),
            "tcpcore: --jitter-factor: \"10%\" is not allowed, expected a number from 0 to 1"
        );
    }

    #[test]
    fn limits_of_time_are_durations() {
        let ms = Duration::from_millis;
        assert_eq!(config(&["--give-up-after", "3m"]), built(|c| c.give_up_after(ms(180_000))));
        assert_eq!(config(&["--connect-timeout", "1ms"]), built(|c| c.connect_timeout(ms(1))));
        assert_eq!(
            config(&["--idle-timeout", "365d"]),
            built(|c| c.idle_timeout(Config::MAX_DURATION))
        );
    }

    #[test]
    fn each_flag_with_a_duration_wants_a_unit_and_keeps_its_bounds() {
        let durations = FLAGS.iter().filter(|flag| flag.names().ends_with(" D"));
        assert_eq!(durations.clone().count(), 6);
        for flag in durations {
            let flag = format!("--{}", flag.long);
            for bad in ["10", "10x", "s", "", "-1s", "1..5s"] {
                let start = format!(
                    "tcpcore: {flag}: \"{bad}\" is not allowed, expected a duration with its unit, from "
                );
                assert!(message(&[&flag, bad]).starts_with(&start), "{}", message(&[&flag, bad]));
            }
            let start = format!("tcpcore: {flag}: 31536001s ");
            assert!(message(&[&flag, "31536001s"]).starts_with(&start), "{flag}");
        }
    }

    #[test]
    fn max_line_is_bytes_from_1_to_16_mib() {
        assert_eq!(config(&["--max-line", "1"]), built(|c| c.max_line(1)));
        assert_eq!(config(&["--max-line=16777216"]), built(|c| c.max_line(Config::MAX_MAX_LINE)));
        let expected = "expected a whole number of bytes from 1 to 16777216";
        for bad in ["0", "16777217"] {
            assert_eq!(
                message(&["--max-line", bad]),
                format!("tcpcore: --max-line: {bad} is not allowed, {expected}")
            );
        }
        assert_eq!(
            message(&["--max-line", "4k"]),
            format!("tcpcore: --max-line: \"4k\" is not allowed, {expected}")
        );
    }

    #[test]
    fn once_is_a_switch_and_takes_no_value() {
        assert_eq!(config(&["--once"]), built(|c| c.once(true)));
        assert_eq!(message(&["--once=yes"]), "tcpcore: --once: takes no value");
    }

    #[test]
    fn quiet_and_verbose_move_the_level_by_one_each() {
        for (args, level) in [
            ("-qqqq", LevelFilter::Off),
            ("-qqq", LevelFilter::Off),
            ("-qq", LevelFilter::Error),
            ("-q", LevelFilter::Warn),
            ("-qv", LevelFilter::Info),
            ("-v", LevelFilter::Debug),
            ("-vv", LevelFilter::Trace),
            ("-vvv", LevelFilter::Trace),
        ] {
            assert_eq!(run(&[args]).1, level, "{args}");
        }
        assert_eq!(run(&[]).1, LevelFilter::Info);
        assert_eq!(run(&["--quiet", "--verbose", "--quiet"]).1, LevelFilter::Warn);
    }

    #[test]
    fn no_flag_means_the_default_of_the_builder() {
        assert_eq!(config(&[]), built(|c| c));
    }

    #[test]
    fn of_a_repeated_flag_the_last_value_counts() {
        assert_eq!(config(&["-d", "0", "--divisor=3", "-d7"]), built(|c| c.divisor(7)));
    }

    #[test]
    fn servers_keep_their_order_among_the_flags() {
        let Ok(Command::Run { config, .. }) = parse_strs(&["b:2", "-d", "3", "a:1", "--", "c:3"])
        else {
            panic!("the line is valid");
        };
        let servers: Vec<String> = config.servers().iter().map(Server::to_string).collect();
        assert_eq!(servers, ["b:2", "a:1", "c:3"]);
    }

    #[test]
    fn no_server_and_a_bad_one_are_named() {
        let message = |args: &[&str]| parse_strs(args).unwrap_err().to_string();
        assert_eq!(message(&[]), "tcpcore: no servers, expected at least one server, as host:port");
        assert_eq!(
            message(&["a:1", "localhost"]),
            "tcpcore: \"localhost\": no port, expected host:port"
        );
        assert_eq!(message(&["--", "-d"]), "tcpcore: \"-d\": no port, expected host:port");
    }

    #[test]
    fn an_unknown_flag_is_named() {
        for (arg, name) in [("--divizor=3", "--divizor"), ("-x", "-x"), ("--a\nb", "--a\\nb")] {
            assert_eq!(
                message(&[arg]),
                format!("tcpcore: {name}: no such flag, see tcpcore -h for those there are")
            );
        }
    }

    #[test]
    fn a_missing_value_is_named_with_what_it_should_be() {
        let values = FLAGS.iter().filter_map(|flag| match flag.action {
            Action::Value { setting, .. } => Some((flag, setting)),
            _ => None,
        });
        for (flag, setting) in values {
            let expected = setting.expected();
            let message = parse_strs(&[SERVER, &format!("--{}", flag.long)]).unwrap_err();
            assert_eq!(
                message.to_string(),
                format!("tcpcore: --{}: the value is missing, expected {expected}", flag.long)
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_argument_that_is_not_utf8_is_named_escaped() {
        use std::os::unix::ffi::OsStringExt;
        let bytes = || OsString::from_vec(b"a\xff\n:80".to_vec());
        let message = |args: Vec<OsString>| parse(args).unwrap_err().to_string();
        assert_eq!(
            message(vec![bytes()]),
            "tcpcore: \"a\\xFF\\n:80\" is not UTF-8, expected host:port"
        );
        assert_eq!(
            message(vec!["--max-line".into(), bytes()]),
            "tcpcore: --max-line: \"a\\xFF\\n:80\" is not UTF-8, \
             expected a whole number of bytes from 1 to 16777216"
        );
    }

    #[test]
    fn help_and_version_count_at_once() {
        assert_eq!(help("-h"), short_help());
        assert_eq!(help("--help"), long_help());
        assert_eq!(help("-V"), format!("tcpcore {}\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(help("--version"), help("-V"));
        assert_eq!(parse_strs(&["nonsense", "-h"]), parse_strs(&["nonsense"]));
        assert_eq!(parse_strs(&["a:1", "-h", "nonsense"]), parse_strs(&["-h"]));
    }

    #[test]
    fn both_helps_have_every_flag_and_fit_80_columns() {
        for text in [short_help(), long_help()] {
            for flag in FLAGS {
                assert!(text.contains(&format!("  {}", flag.names())), "{}", flag.long);
            }
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    #[test]
    fn the_short_help_fits_a_screen() {
        // The prompt after it needs the last of the 24 lines.
        assert!(short_help().lines().count() < 24, "{}", short_help());
    }

    #[test]
    fn every_default_in_the_help_is_the_default_of_the_builder() {
        for flag in FLAGS {
            let Action::Value { setting, default, .. } = flag.action else {
                continue;
            };
            let default = default();
            match setting {
                Setting::Parallelism => {
                    assert_eq!((default.as_str(), built(|c| c).parallelism()), ("cores", None))
                }
                Setting::GiveUpAfter => {
                    assert_eq!((default.as_str(), built(|c| c).give_up_after()), ("never", None))
                }
                Setting::IdleTimeout => {
                    assert_eq!((default.as_str(), built(|c| c).idle_timeout()), ("off", None))
                }
                _ => assert_eq!(config(&[&format!("--{}={default}", flag.long)]), built(|c| c)),
            }
            assert!(short_help().contains(&format!("{} [{default}]\n", flag.brief)));
            assert!(long_help().contains(&format!("Default: {default}.\n")));
        }
    }

    #[test]
    fn names_in_the_table_are_unique_and_those_of_the_settings() {
        for (i, flag) in FLAGS.iter().enumerate() {
            if let Action::Value { setting, .. } = flag.action {
                assert_eq!(flag.long, setting.name());
            }
            for other in &FLAGS[..i] {
                assert_ne!(flag.long, other.long);
                assert!(flag.short.is_none() || flag.short != other.short, "-{:?}", flag.short);
            }
        }
    }

    #[test]
    fn durations_are_numbers_with_units_or_0() {
        for (text, millis) in [
            ("250ms", 250),
            ("1s", 1000),
            ("1.5s", 1500),
            ("3m", 180_000),
            ("1h 30m", 5_400_000),
            ("365d", 31_536_000_000),
            ("31536000000ms", 31_536_000_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", " ", "1", "00", "s", "1x", "-1s", "+1s", "1,5s", "1.s", "\u{661}s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_duration("10\n").unwrap_err().to_string(),
            "\"10\\n\" is not a duration, expected one with its unit, as 250ms, 1s or 3m"
        );
    }

    #[test]
    fn a_duration_beyond_what_can_be_held_is_an_error_and_no_panic() {
        // The seconds are the most that a `Duration` holds, and the milliseconds one more.
        assert!(parse_duration("18446744073709551615s1000ms").is_err());
        assert!(parse_duration("99999999999y").is_ok());
        assert!(parse_duration("100000000000y").is_err());
    }

    proptest! {
        #[test]
        fn any_arguments_are_a_command_or_a_one_line_error(
            args in prop::collection::vec(
                prop_oneof![
                    "-{0,2}[a-z]{0,3}(=.{0,4})?",
                    "[0-9]{1,20}(ms|s|m|y|)([0-9]{1,4}(ms|s))?",
                    (0..FLAGS.len()).prop_map(|i| format!("--{}", FLAGS[i].long)),
                    Just(SERVER.to_owned()),
                    any::<String>(),
                ],
                0..6,
            ),
        ) {
            if let Err(error) = parse(args.into_iter().map(OsString::from)) {
                let message = error.to_string();
                prop_assert!(message.starts_with("tcpcore: "), "{message}");
                prop_assert!(message.bytes().all(|b| (b' '..=b'~').contains(&b)), "{message}");
            }
        }
    }
}
