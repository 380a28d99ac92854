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
mod tests;
