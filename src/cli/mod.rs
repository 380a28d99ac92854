//! The command line: a table of flags, and what is made of it: a [`Config`] and the help.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;

pub use crate::text::duration::{DurationError, parse as parse_duration};

use crate::address::Server;
use crate::config::{Config, ConfigBuilder, ConfigError, Setting};
use crate::text::duration::show;
use crate::text::echo::{plain, quoted};

mod nearest;

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run a job.
    Run {
        /// The job's settings.
        config: Config,
        /// The level that `-q` and `-v` make, starting from info. `None` without any of them.
        log_level: Option<LevelFilter>,
    },
    /// Print this, the help or the version, to stdout. It ends with a line feed.
    Print(String),
}

/// Bad usage, as one line that begins with the program's name, and names the flag as typed and what
/// it takes, or the argument and what is wrong with it.
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
    let mut verbosity = None;
    let mut typed = TypedValues::default();
    let mut argument = OsString::new();
    loop {
        // Within a cluster of short flags there is none: it is the same argument still.
        if let Some(raw) = parser.try_raw_args() {
            argument = raw.peek().map(OsStr::to_owned).unwrap_or_default();
        }
        let Some(arg) = parser.next().map_err(unexpected_value)? else {
            break;
        };
        let (flag, name) = match arg {
            Arg::Value(text) => {
                servers.push(parse_server(text)?);
                continue;
            }
            arg => find_flag(&arg, &argument)?,
        };
        match flag.action {
            Action::Value { setting, apply, .. } => {
                let text = value_of(&mut parser, &name, setting)?;
                config = apply(config, &text).map_err(|mut refusal| {
                    refusal.remedy = refusal.remedy.filter(|text| is_in_bounds(apply, text));
                    bad_value(&name, setting, &text, refusal, &argument)
                })?;
                typed.0.push((setting, name, text));
            }
            Action::Switch(apply) => config = apply(config),
            Action::Verbosity(step) => verbosity = Some(verbosity.unwrap_or(0) + step),
            Action::Print(text) => {
                // Only for the error that it was given a value.
                parser.next().map_err(unexpected_value)?;
                return Ok(Command::Print(text(name.starts_with("--"))));
            }
        }
    }
    let config = config.servers(servers).build().map_err(|error| bad_setting(&error, &typed))?;
    Ok(Command::Run { config, log_level: verbosity.map(log_level) })
}

/// The values of flags that were read: which setting, the flag and the value as typed.
#[derive(Default)]
struct TypedValues(Vec<(Setting, String, String)>);

impl TypedValues {
    /// The last one of a setting, which is the one that counts.
    fn last(&self, setting: Setting) -> Option<(&str, &str)> {
        let (_, flag, value) = self.0.iter().rev().find(|typed| typed.0 == setting)?;
        Some((flag, value))
    }
}

/// Finds a flag, and returns it with its name as typed.
fn find_flag(arg: &Arg<'_>, argument: &OsStr) -> Result<(&'static Flag, String), UsageError> {
    let (flag, name) = match *arg {
        Arg::Short(name) => (find_short(name), format!("-{name}")),
        Arg::Long(name) => (FLAGS.iter().find(|flag| flag.long == name), format!("--{name}")),
        Arg::Value(_) => (None, String::new()),
    };
    if let Some(flag) = flag {
        return Ok((flag, name));
    }
    let meant = match *arg {
        Arg::Long(name) => meant_by(name),
        _ => meant_by_one_dash(argument),
    };
    let remedy = meant.unwrap_or_else(|| "see tcpcore -h for those there are".into());
    Err(UsageError(format!("{}: no such flag; {remedy}", plain(name))))
}

fn find_short(name: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(name))
}

/// Asks whether the flags were meant that are nearest to a long name.
fn meant_by(long: &str) -> Option<String> {
    let mut letters = long.chars();
    let letter = letters.next()?;
    if letters.next().is_none() {
        return find_short(letter).map(|_| format!("did you mean -{letter}?"));
    }
    let names = nearest::nearest(long, FLAGS.iter().map(|flag| flag.long));
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

/// Asks whether a long flag was meant by an argument that has only one dash.
fn meant_by_one_dash(argument: &OsStr) -> Option<String> {
    let name = argument.to_str()?.strip_prefix('-').filter(|name| !name.starts_with('-'))?;
    let name = name.split('=').next().unwrap_or(name);
    // Fewer letters are short flags that are written together.
    (name.len() > 3).then(|| meant_by(name))?
}

fn parse_server(text: OsString) -> Result<Server, UsageError> {
    let text = utf8(text).map_err(|text| UsageError(format!("{text}, expected host:port")))?;
    text.parse().map_err(|error| UsageError(format!("{error}")))
}

/// Reads the value of a flag, which must not be another flag.
fn value_of(parser: &mut Parser, name: &str, setting: Setting) -> Result<String, UsageError> {
    let expected = setting.expected();
    let attached = parser.optional_value();
    let value = attached.or_else(|| {
        let mut rest = parser.try_raw_args()?;
        rest.next_if(|next| !is_flag(next))
    });
    let Some(value) = value else {
        let next = parser.try_raw_args().and_then(|rest| rest.peek().map(plain));
        return Err(missing_value(name, setting, next.as_deref()));
    };
    utf8(value).map_err(|text| UsageError(format!("{name}: {text}, expected {expected}")))
}

fn missing_value(name: &str, setting: Setting, next: Option<&str>) -> UsageError {
    let before = next.map_or(String::new(), |next| format!(" before {next}"));
    let expected = setting.expected();
    UsageError(format!("{name}: the value is missing{before}, expected {expected}"))
}

/// Whether an argument is a flag rather than a value that begins with a dash, such as a number.
fn is_flag(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    match text.strip_prefix('-') {
        Some(name) => name.starts_with('-') || name.starts_with(|c| find_short(c).is_some()),
        None => false,
    }
}

/// Why a value cannot be read.
struct Refusal {
    /// It stands after the value.
    problem: &'static str,
    /// A value to write instead.
    remedy: Option<String>,
}

fn bad_value(
    name: &str,
    setting: Setting,
    text: &str,
    Refusal { problem, remedy }: Refusal,
    argument: &OsStr,
) -> UsageError {
    let expected = setting.expected();
    if text.is_empty() {
        return UsageError(format!("{name}: the value is empty, expected {expected}"));
    }
    let is_attached = argument.to_string_lossy().ends_with(text);
    if !is_attached && text.parse::<Server>().is_ok() {
        return missing_value(name, setting, Some(text));
    }
    let is_word = setting.word().filter(|word| text.trim().eq_ignore_ascii_case(word));
    let remedy = is_word.map(str::to_owned).or(remedy).map(|text| format!("write {text}"));
    let remedy = meant_by_one_dash(argument).or(remedy);
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    UsageError(format!("{name}: {} {problem}, expected {expected}{remedy}", quoted(text)))
}

/// Whether a value that is proposed would be accepted, other settings aside.
fn is_in_bounds(apply: Apply, text: &str) -> bool {
    let server: Server = "localhost:1".parse().expect("it is well formed");
    let config = apply(Config::builder().servers([server]), text).map(ConfigBuilder::build);
    config.is_ok_and(|config| !config.is_err_and(|error| error.is_out_of_bounds()))
}

/// A setting that the builder refuses. Of all of them only the servers are not a flag.
fn bad_setting(error: &ConfigError, typed: &TypedValues) -> UsageError {
    if error.setting() == Setting::Servers.name() {
        let expected = Setting::Servers.expected();
        return UsageError(format!("no servers, expected {expected}; see tcpcore -h"));
    }
    UsageError(error.describe(
        |setting| {
            let flag = typed.last(setting).map(|(flag, _)| flag.to_owned());
            flag.unwrap_or_else(|| format!("--{}", setting.name()))
        },
        |setting| typed.last(setting).map(|(_, value)| plain(value)),
    ))
}

/// The text of an argument, or else the complaint about it.
fn utf8(text: OsString) -> Result<String, String> {
    text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(text)))
}

/// The only error the lexer has of its own: `--once=yes`.
fn unexpected_value(error: lexopt::Error) -> UsageError {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            UsageError(format!("{option}: takes no value, but was given {}", quoted(value)))
        }
        error => UsageError(plain(error.to_string())),
    }
}

/// Reads a whole number.
fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: ParseIntError| {
        let is_too_large = *error.kind() == IntErrorKind::PosOverflow;
        let problem = if is_too_large { "is too large" } else { "is not allowed" };
        Refusal { problem, remedy: reword_whole(text.trim()) }
    })
}

/// Writes a whole number in the form that is read, if `6.0` and `1e3` are what it is written like.
fn reword_whole(text: &str) -> Option<String> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.into());
    }
    let number: f64 = text.parse().ok()?;
    // Beyond that a float may be another number than the text.
    let is_exact = number.fract() == 0.0 && number.abs() < (1_u64 << f64::MANTISSA_DIGITS) as f64;
    is_exact.then(|| number.to_string())
}

fn number(text: &str) -> Result<f64, Refusal> {
    text.parse().map_err(|_| {
        let remedy = text.trim().replace(',', ".");
        let is_number = remedy.parse::<f64>().is_ok();
        Refusal { problem: "is not allowed", remedy: is_number.then_some(remedy) }
    })
}

fn duration(text: &str) -> Result<Duration, Refusal> {
    parse_duration(text)
        .map_err(|error| Refusal { problem: error.problem(), remedy: error.remedy() })
}

/// Reads the word for the default of a setting as `None`, and any other text as a value.
fn word_or<T>(
    setting: Setting,
    text: &str,
    read: fn(&str) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    if setting.word() == Some(text) { Ok(None) } else { read(text).map(Some) }
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

/// Reads a value and hands it to the builder.
type Apply = fn(ConfigBuilder, &str) -> Result<ConfigBuilder, Refusal>;

enum Action {
    /// Takes a value for a setting.
    Value {
        setting: Setting,
        /// What stands for the value in the help.
        placeholder: &'static str,
        default: fn() -> String,
        /// Hands the value to the builder, which checks its bounds.
        apply: Apply,
    },
    Switch(fn(ConfigBuilder) -> ConfigBuilder),
    /// Adds to the log level, which is info at 0.
    Verbosity(i32),
    /// Prints a text, which may depend on whether the long name of the flag was typed.
    Print(fn(bool) -> String),
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
beyond the number of servers are not started. With auto there is one per
core, at most one per server. Each costs a thread and a buffer; more of
them than cores gain nothing.",
        action: Action::Value {
            setting: Setting::Parallelism,
            placeholder: "N",
            default: || "auto".into(),
            apply: |config, text| {
                Ok(config.parallelism(word_or(Setting::Parallelism, text, whole::<usize>)?))
            },
        },
    },
    Flag {
        long: "divisor",
        short: Some('d'),
        brief: "Print the multiples of N",
        doc: "\
Print the multiples of N. 0 is a multiple of every N, and every number
is one of 1. Other numbers are read and counted, but not printed.",
        action: Action::Value {
            setting: Setting::Divisor,
            placeholder: "N",
            default: || Config::DEFAULT_DIVISOR.to_string(),
            apply: |config, text| Ok(config.divisor(whole(text)?)),
        },
    },
    Flag {
        long: "initial-backoff",
        short: None,
        brief: "First delay before a reconnect",
        doc: "\
The first delay before a failed server is tried again. Each server has
its own back-off, which never delays another server. A short delay finds
a server sooner, but each attempt resolves the name and logs a line.",
        action: Action::Value {
            setting: Setting::InitialBackoff,
            placeholder: "D",
            default: || show(Config::DEFAULT_INITIAL_BACKOFF),
            apply: |config, text| Ok(config.initial_backoff(duration(text)?)),
        },
    },
    Flag {
        long: "max-backoff",
        short: None,
        brief: "Longest delay before a reconnect",
        doc: "\
The longest delay, before jitter. A server that is back is noticed after
about this time at the latest.",
        action: Action::Value {
            setting: Setting::MaxBackoff,
            placeholder: "D",
            default: || show(Config::DEFAULT_MAX_BACKOFF),
            apply: |config, text| Ok(config.max_backoff(duration(text)?)),
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
            apply: |config, text| Ok(config.backoff_multiplier(number(text)?)),
        },
    },
    Flag {
        long: "jitter-factor",
        short: None,
        brief: "Part of a delay that is random",
        doc: "\
The part of a delay by which it is made shorter or longer at random, so
that servers that failed together are not all tried at the same moment.
With 0.1 a delay of 10s becomes one of 9s to 11s.",
        action: Action::Value {
            setting: Setting::JitterFactor,
            placeholder: "X",
            default: || Config::DEFAULT_JITTER_FACTOR.to_string(),
            apply: |config, text| Ok(config.jitter_factor(number(text)?)),
        },
    },
    Flag {
        long: "reset-backoff-threshold",
        short: None,
        brief: "Connection time that resets it",
        doc: "\
How long a connection has to stand for the server's back-off to start
over at the initial delay. With 0s every connection does it, and a
server that accepts and closes immediately is then tried at the initial
delay forever.",
        action: Action::Value {
            setting: Setting::ResetBackoffThreshold,
            placeholder: "D",
            default: || show(Config::DEFAULT_RESET_BACKOFF_THRESHOLD),
            apply: |config, text| Ok(config.reset_backoff_threshold(duration(text)?)),
        },
    },
    Flag {
        long: "give-up-after",
        short: None,
        brief: "Failing time that gives a server up",
        doc: "\
How long a server may fail without a break before it is given up. A
connection is a break once it has brought a byte, or stood for the reset
threshold. When all servers are given up, the program ends with status
1. With never, no server is.",
        action: Action::Value {
            setting: Setting::GiveUpAfter,
            placeholder: "D",
            default: || "never".into(),
            apply: |config, text| {
                Ok(config.give_up_after(word_or(Setting::GiveUpAfter, text, duration)?))
            },
        },
    },
    Flag {
        long: "connect-timeout",
        short: None,
        brief: "Time to look up, and to connect",
        doc: "\
How long the lookup of a name may take, and then again how long it may
take to connect. The addresses of a name are tried 250ms apart, or as
soon as the last one has failed, and the first to connect wins. An
answer that comes too late serves the next attempt.",
        action: Action::Value {
            setting: Setting::ConnectTimeout,
            placeholder: "D",
            default: || show(Config::DEFAULT_CONNECT_TIMEOUT),
            apply: |config, text| Ok(config.connect_timeout(duration(text)?)),
        },
    },
    Flag {
        long: "idle-timeout",
        short: None,
        brief: "Silence that ends a connection",
        doc: "\
How long a connection may bring nothing before it counts as lost and is
made again. It is off by default because quiet feeds are normal, and TCP
keepalive notices within about 35 s that a server is gone. It costs a
timer per connection.",
        action: Action::Value {
            setting: Setting::IdleTimeout,
            placeholder: "D",
            default: || "off".into(),
            apply: |config, text| {
                Ok(config.idle_timeout(word_or(Setting::IdleTimeout, text, duration)?))
            },
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
            apply: |config, text| Ok(config.max_line(whole(text)?)),
        },
    },
    Flag {
        long: "once",
        short: None,
        brief: "Read each server once, then end",
        doc: "\
Try each server once, at all its addresses, read it to its end, then
end. The status is 1 if any could not be connected, ended by an error,
or sent nothing but malformed lines. Off unless given.",
        action: Action::Switch(|config| config.once(true)),
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        brief: "Log less: warnings, errors, nothing",
        doc: "\
Log less on stderr, by one level each time it is given: warn, error,
off. The environment variable RUST_LOG has no effect then.",
        action: Action::Verbosity(-1),
    },
    Flag {
        long: "verbose",
        short: Some('v'),
        brief: "Log more: debug, trace",
        doc: "\
Log more on stderr, by one level each time it is given: debug, trace.
The default is info. The environment variable RUST_LOG has no effect
then.",
        action: Action::Verbosity(1),
    },
    Flag {
        long: "help",
        short: Some('h'),
        brief: "Print this; --help explains each flag",
        doc: "\
Print a short help with -h, and this one with --help.",
        action: Action::Print(|is_long| if is_long { long_help() } else { short_help() }),
    },
    Flag {
        long: "version",
        short: Some('V'),
        brief: "Print the version",
        doc: "\
Print the version.",
        action: Action::Print(|_| version()),
    },
];

const USAGE: &str = "Usage: tcpcore [FLAGS] HOST:PORT...\n";
const SUMMARY: &str =
    "Reads whole numbers, one a line, from TCP servers and prints multiples of 6.\n";

const INTRODUCTION: &str = "
Whenever the connection to a server fails or ends, it is made again, after ever
longer delays. Numbers go to stdout, everything else to stderr.

HOST is a name, an IPv4 address, or an IPv6 address in brackets:
localhost:8001, 192.0.2.1:8001, [2001:db8::1]:8001, [fe80::1%eth0]:8001.
A duration D is one or more numbers, each with its unit, ms, s, m, h or d:
250ms, 1.5s, 1h30m.
";

const ENDING: &str = "\
SIGINT, SIGTERM and SIGHUP end it once what was read is printed. A second one,
0.5 s or more after the first, ends it at once; sooner ones are repeats, as
timeout sends them. SIGUSR1 and SIGUSR2 are ignored, and so is what was ignored
at the start, as under nohup.

Exit status:
  0        ended by a signal or because stdout was closed, or --once went well
  1        stdout failed, all servers were given up, or --once met a failure
  2        bad usage; nothing was dialed
  128 + N  ended at once by a second signal, of number N

Environment:
  RUST_LOG  which log lines go to stderr, such as debug or tcpcore=trace,
            unless -q or -v is given
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
    help + "\nA duration D is in ms, s, m, h or d: 250ms, 1.5s, 1h30m.\n"
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: &str = "localhost:8001";

    fn parse_strs(args: &[&str]) -> Result<Command, UsageError> {
        parse(args.iter().map(OsString::from))
    }

    /// What a valid line makes, with one server added to it.
    fn run(args: &[&str]) -> (Config, Option<LevelFilter>) {
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
    fn parallelism_is_a_count_from_1_or_auto() {
        assert_eq!(config(&["-p", "4"]), built(|c| c.parallelism(4)));
        assert_eq!(config(&["-p1"]), built(|c| c.parallelism(1)));
        assert_eq!(config(&["--parallelism=4"]), built(|c| c.parallelism(4)));
        assert_eq!(config(&["-p", "4", "-p", "auto"]), built(|c| c));
        let expected = "expected a whole number of at least 1, or auto";
        assert_eq!(message(&["-p0"]), format!("tcpcore: -p: 0 is not allowed, {expected}"));
        for bad in ["-1", "four", "1.5", "cores", "off"] {
            assert_eq!(
                message(&["--parallelism", bad]),
                format!("tcpcore: --parallelism: \"{bad}\" is not allowed, {expected}")
            );
        }
        let huge = "99999999999999999999";
        assert_eq!(
            message(&["-p", huge]),
            format!("tcpcore: -p: \"{huge}\" is too large, {expected}")
        );
    }

    #[test]
    fn divisor_is_a_number_from_1_to_the_greatest_i64() {
        assert_eq!(config(&["-d", "1"]), built(|c| c.divisor(1)));
        let greatest = "9223372036854775807";
        assert_eq!(config(&["--divisor", greatest]), built(|c| c.divisor(Config::MAX_DIVISOR)));
        let expected = "expected a whole number from 1 to 9223372036854775807";
        for bad in ["0", "00", "9223372036854775808"] {
            assert_eq!(
                message(&["--divisor", bad]),
                format!("tcpcore: --divisor: {bad} is not allowed, {expected}")
            );
        }
        for bad in ["-6", "six", "0x6", "6.5", "inf", "-1e3", "1e99", "0.0", "9007199254740993.0"] {
            assert_eq!(
                message(&["-d", bad]),
                format!("tcpcore: -d: \"{bad}\" is not allowed, {expected}")
            );
        }
        for (bad, remedy) in [
            ("6.0", "6"),
            ("1e3", "1000"),
            (" 6", "6"),
            ("6\t", "6"),
            // No float is this number.
            (" 9007199254740993", "9007199254740993"),
            ("9007199254740991.0", "9007199254740991"),
        ] {
            assert_eq!(
                message(&["-d", bad]),
                format!("tcpcore: -d: {} is not allowed, {expected}; write {remedy}", quoted(bad))
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
        assert_eq!(config(&["--jitter-factor", "1e-3"]), built(|c| c.jitter_factor(0.001)));
        assert_eq!(
            config(&["--reset-backoff-threshold", "0"]),
            built(|c| c.reset_backoff_threshold(Duration::ZERO))
        );
        for (flag, bad) in [
            ("--backoff-multiplier", "0.90"),
            ("--backoff-multiplier", "inf"),
            ("--jitter-factor", "1.10"),
            ("--jitter-factor", "nan"),
            ("--jitter-factor", "-0.1"),
        ] {
            let start = format!("tcpcore: {flag}: {bad} is not allowed, expected a number from ");
            assert!(message(&[flag, bad]).starts_with(&start), "{flag} {bad}");
        }
        for (bad, remedy) in
            [("10%", ""), ("1,1", ""), ("0,1", "; write 0.1"), (" 0.1", "; write 0.1")]
        {
            assert_eq!(
                message(&["--jitter-factor", bad]),
                format!(
                    "tcpcore: --jitter-factor: \"{bad}\" is not allowed, \
                     expected a number from 0 to 1{remedy}"
                )
            );
        }
    }

    #[test]
    fn of_two_delays_that_contradict_each_other_those_that_were_typed_are_named_as_typed() {
        for (args, expected) in [
            (
                &["--initial-backoff", "120s"][..],
                "--initial-backoff: 120s is longer than the longest delay, which is 1m; \
                 raise it with --max-backoff",
            ),
            (
                &["--max-backoff=0.5s"],
                "--max-backoff: 0.5s is shorter than the first delay, which is 1s; \
                 lower it with --initial-backoff",
            ),
            (
                &["--max-backoff", "60s", "--initial-backoff", "1h 0m"],
                "--initial-backoff: 1h 0m is longer than --max-backoff, which is 60s",
            ),
        ] {
            assert_eq!(message(args), format!("tcpcore: {expected}"));
        }
    }

    #[test]
    fn limits_of_time_are_durations_or_the_word_in_the_help() {
        let ms = Duration::from_millis;
        assert_eq!(config(&["--give-up-after", "3m"]), built(|c| c.give_up_after(ms(180_000))));
        assert_eq!(config(&["--give-up-after=3m", "--give-up-after=never"]), built(|c| c));
        assert_eq!(config(&["--connect-timeout", "1ms"]), built(|c| c.connect_timeout(ms(1))));
        assert_eq!(
            config(&["--idle-timeout", "365d"]),
            built(|c| c.idle_timeout(Config::MAX_DURATION))
        );
        assert_eq!(config(&["--idle-timeout", "1s", "--idle-timeout", "off"]), built(|c| c));
        // Each word has its flag.
        for (flag, bad, remedy) in [
            ("--give-up-after", "off", ""),
            ("--idle-timeout", "never", ""),
            ("--connect-timeout", "off", ""),
            ("--give-up-after", "Never", "; write never"),
            ("--idle-timeout", " OFF", "; write off"),
            ("--idle-timeout", "-0s", ""),
        ] {
            let message = message(&[flag, bad]);
            let start =
                format!("tcpcore: {flag}: \"{bad}\" is not a duration, expected a duration");
            assert!(message.starts_with(&start), "{message}");
            assert_eq!(message.split_once("; ").map_or("", |(_, remedy)| remedy), {
                remedy.trim_start_matches("; ")
            });
        }
    }

    #[test]
    fn a_proposed_value_is_within_the_bounds_of_its_flag() {
        for (args, remedy) in [
            (["--idle-timeout", "0 s"], None),
            (["--idle-timeout", "53 weeks"], None),
            (["--idle-timeout", "52 weeks"], Some("write 364d")),
            (["--reset-backoff-threshold", "0 s"], Some("write 0s")),
            (["--backoff-multiplier", "0,5"], None),
            // It takes another flag as well, which the next message says.
            (["--initial-backoff", "2 min"], Some("write 2m")),
        ] {
            assert_eq!(message(&args).split_once("; ").map(|(_, remedy)| remedy), remedy);
        }
    }

    #[test]
    fn each_flag_with_a_duration_wants_a_unit_and_keeps_its_bounds() {
        let durations = FLAGS.iter().filter(|flag| flag.names().ends_with(" D"));
        assert_eq!(durations.clone().count(), 6);
        for flag in durations {
            let flag = format!("--{}", flag.long);
            for (bad, problem, remedy) in [
                ("10", "lacks a unit", "; write 10s"),
                ("10x", "has an unknown unit", ""),
                ("1y", "has an unknown unit", ""),
                ("2days", "has an unknown unit", "; write 2d"),
                ("1w", "has an unknown unit", "; write 7d"),
                ("1M", "has a unit in upper case", "; write 1m"),
                ("s", "is not a duration", ""),
                ("-1s", "is not a duration", ""),
                ("1..5s", "is not a duration", ""),
                ("1.0000000001s", "is finer than a nanosecond", ""),
                ("999999999999999999999d", "is too long", ""),
            ] {
                let message = message(&[&flag, bad]);
                let start =
                    format!("tcpcore: {flag}: \"{bad}\" {problem}, expected a duration in ");
                assert!(message.starts_with(&start), "{message}");
                assert_eq!(message.contains("; "), !remedy.is_empty(), "{message}");
                assert!(message.ends_with(remedy), "{message}");
            }
            for bad in ["31536001s", "366d"] {
                let start =
                    format!("tcpcore: {flag}: {bad} is not allowed, expected a duration in ");
                assert!(message(&[&flag, bad]).starts_with(&start), "{flag}");
            }
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
    fn switches_take_no_value() {
        assert_eq!(config(&["--once"]), built(|c| c.once(true)));
        for (arg, flag) in [
            ("--once=yes", "--once"),
            ("--quiet=yes", "--quiet"),
            ("-q=yes", "-q"),
            ("--help=yes", "--help"),
            ("-h=yes", "-h"),
            ("--version=yes", "--version"),
            ("-V=yes", "-V"),
        ] {
            let expected = format!("tcpcore: {flag}: takes no value, but was given \"yes\"");
            assert_eq!(message(&[arg]), expected);
        }
    }

    #[test]
    fn a_flag_is_named_and_its_value_shown_as_typed() {
        for (args, start) in [
            (&["-d", "0"][..], "-d: 0 is"),
            (&["--divisor", "000"], "--divisor: 000 is"),
            (&["-qd0"], "-d: 0 is"),
            (&["--divisor=0", "-d00"], "-d: 00 is"),
            (&["--connect-timeout", "0"], "--connect-timeout: 0 is"),
            (&["--connect-timeout", "0.50ms"], "--connect-timeout: 0.50ms is"),
            (&["--idle-timeout", "366d"], "--idle-timeout: 366d is"),
            (&["--jitter-factor", "1e3"], "--jitter-factor: 1e3 is"),
            (&["-d", "f\u{fc}nf"], "-d: \"f\u{fc}nf\" is"),
            (&["-d", "\u{202e}6\n"], "-d: \"\\u{202e}6\\n\" is"),
        ] {
            let message = message(args);
            assert!(message.starts_with(&format!("tcpcore: {start}")), "{message}");
        }
        let long = "x".repeat(1000);
        let shown =
            format!("tcpcore: -d: \"{}\"... (1000 characters) is not allowed,", &long[..60]);
        assert!(message(&["-d", &long]).starts_with(&shown));
        let zeros = "0".repeat(1000);
        let shown = format!("tcpcore: -d: {}... (1000 characters) is not allowed,", &zeros[..60]);
        assert!(message(&["-d", &zeros]).starts_with(&shown));
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
            assert_eq!(run(&[args]).1, Some(level), "{args}");
        }
        assert_eq!(run(&[]).1, None, "RUST_LOG or the default decides");
        assert_eq!(run(&["--quiet", "--verbose", "--quiet"]).1, Some(LevelFilter::Warn));
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
        assert_eq!(
            message(&[]),
            "tcpcore: no servers, expected at least one server, as host:port; see tcpcore -h"
        );
        assert_eq!(
            message(&["a:1", "localhost"]),
            "tcpcore: \"localhost\": no port, expected host:port"
        );
        assert_eq!(message(&["--", "-d"]), "tcpcore: \"-d\": no port, expected host:port");
    }

    #[test]
    fn an_unknown_flag_is_named_with_the_nearest_one() {
        for (arg, name, remedy) in [
            ("--divizor=3", "--divizor", "did you mean --divisor?"),
            ("--paralelism", "--paralelism", "did you mean --parallelism?"),
            ("--Once", "--Once", "did you mean --once?"),
            ("--timeout", "--timeout", "did you mean --connect-timeout or --idle-timeout?"),
            ("--d=3", "--d", "did you mean -d?"),
            ("--x", "--x", ""),
            ("--servers", "--servers", ""),
            ("-x", "-x", ""),
            ("-qx", "-x", ""),
            ("-once", "-o", "did you mean --once?"),
            ("-onse=3", "-o", "did you mean --once?"),
            // Too short to be sure that it is not three flags.
            ("-onc", "-o", ""),
            ("-version", "-e", "did you mean --version?"),
            ("--a\nb", "--a\\nb", ""),
            ("--\u{fc}", "--\u{fc}", ""),
        ] {
            let remedy =
                if remedy.is_empty() { "see tcpcore -h for those there are" } else { remedy };
            assert_eq!(message(&[arg]), format!("tcpcore: {name}: no such flag; {remedy}"));
        }
    }

    #[test]
    fn a_long_flag_with_one_dash_is_noticed_where_its_letters_are_a_value() {
        for (args, start, remedy) in [
            (&["-divisor", "6"][..], "-d: \"ivisor\" is not allowed", "; did you mean --divisor?"),
            (&["-paralelism=4"], "-p: \"aralelism=4\" is", "; did you mean --parallelism?"),
            (&["-d6.0"], "-d: \"6.0\" is", "; write 6"),
            (&["-d", "divisor"], "-d: \"divisor\" is", " to 9223372036854775807"),
        ] {
            let message = message(args);
            assert!(message.starts_with(&format!("tcpcore: {start}")), "{message}");
            assert!(message.ends_with(remedy), "{message}");
        }
    }

    /// The settings that are flags, each with its long flag.
    fn flags_with_values() -> impl Iterator<Item = (String, Setting)> {
        FLAGS.iter().filter_map(|flag| match flag.action {
            Action::Value { setting, .. } => Some((format!("--{}", flag.long), setting)),
            _ => None,
        })
    }

    #[test]
    fn a_missing_value_is_named_with_what_it_should_be() {
        for (flag, setting) in flags_with_values() {
            let expected = setting.expected();
            let message = |args: &[&str]| parse_strs(args).unwrap_err().to_string();
            assert_eq!(
                message(&[SERVER, &flag]),
                format!("tcpcore: {flag}: the value is missing, expected {expected}")
            );
            for next in ["--once", "-q", "-p4", "--", "--x", SERVER] {
                assert_eq!(
                    message(&[&flag, next, SERVER]),
                    format!(
                        "tcpcore: {flag}: the value is missing before {next}, expected {expected}"
                    )
                );
            }
            for args in [&[&format!("{flag}="), SERVER], &[flag.as_str(), ""]] {
                assert_eq!(
                    message(args),
                    format!("tcpcore: {flag}: the value is empty, expected {expected}")
                );
            }
        }
        assert!(
            message(&["-d", "-p4"]).starts_with("tcpcore: -d: the value is missing before -p4,")
        );
        assert!(
            message(&["-qd", "-v"]).starts_with("tcpcore: -d: the value is missing before -v,")
        );
        // Of a flag or a number only the number may be a value.
        assert!(message(&["-d", "-6"]).starts_with("tcpcore: -d: \"-6\" is not allowed,"));
        assert!(message(&["-d", "-"]).starts_with("tcpcore: -d: \"-\" is not allowed,"));
        assert!(message(&["-da:1"]).starts_with("tcpcore: -d: \"a:1\" is not allowed,"));
        assert!(message(&["-d=--once"]).starts_with("tcpcore: -d: \"--once\" is not allowed,"));
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
            assert_eq!(config(&[&format!("--{}={default}", flag.long)]), built(|c| c));
            assert_eq!(setting.word().unwrap_or(&default), default);
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
                prop_assert!(!message.contains(char::is_control), "{message}");
                prop_assert!(message.len() < 4000, "{message}");
            }
        }
    }
}
