//! Parses the arguments into a [`Config`], and prints the help.
//!
//! One table of flags defines the parser, both helps, the man page and the completions of shells.

mod generate;
mod scheduler;

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser};
use log::LevelFilter;

pub use crate::text::duration::{DurationError, parse as parse_duration};
pub use scheduler::schedulers;

use crate::address::Server;
use crate::config::servers::STDIN;
use crate::config::{Config, ConfigBuilder, ConfigError, Setting};
use crate::control::ControlOptions;
use crate::format::Format;
use crate::logging::LogFormat;
use crate::partition::{Shard, ShardBy};
use crate::status::{PageOptions, Ready};
use crate::text::delimiter;
use crate::text::duration::show;
use crate::text::echo::{plain, quoted};
use crate::text::nearest::nearest;
use generate::Generated;

/// The settings of the program around the job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProgramOptions {
    /// The level that `-q` and `-v` set, counted from info. `None` without these flags.
    pub log_level: Option<LevelFilter>,
    /// The format of the log.
    pub log_format: LogFormat,
    /// The settings of the thread that carries out requests.
    pub control: ControlOptions,
    /// The address of the status server, if it is on.
    pub status_addr: Option<SocketAddr>,
    /// The settings of the pages of the status server.
    pub pages: PageOptions,
    /// The variables that say the shard, with `--shard auto`.
    pub shard_source: Vec<&'static str>,
    shard: Option<ShardFlag>,
    shard_by: Option<ShardBy>,
}

/// The value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShardFlag {
    /// The shard that the scheduler sets.
    Auto,
    /// This index of this count.
    Of(u32, u32),
}

/// The request of the arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Run a job.
    Run {
        /// The job's settings.
        config: Config,
        /// The settings of the program around the job.
        options: ProgramOptions,
    },
    /// Check these settings and the list file that they name, and end.
    Check(Config),
    /// Print this text, such as the help or the version, to stdout. It ends with a line feed.
    Print(String),
}

/// The error of bad usage.
///
/// Its `Display` is one line that begins with the program's name. It names the flag as typed and its expected
/// value, or the argument and the reason why it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl Error for UsageError {}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcpcore: {}", self.0)
    }
}

/// Parses the arguments, without the program's name.
///
/// The last value of a flag counts. `-q` and `-v` add up. `-h`, `--help`, `-V`, `--version` and `--generate` end
/// the parsing, so later arguments have no effect. A list file is not read: see [`Config::with_listed`].
///
/// # Errors
///
/// Fails at the first argument that is wrong, or else at a setting that the builder refuses.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    parse_with(args, &|name| env::var_os(name))
}

/// Parses as [`parse`] does. `lookup` returns the value of a variable of the environment.
fn parse_with(
    args: impl IntoIterator<Item = OsString>,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut parser = Parser::from_args(args);
    let mut config = Config::builder();
    let mut servers = Vec::new();
    let mut verbosity = None;
    let mut file = None;
    let mut is_check = false;
    let mut options = ProgramOptions::default();
    let mut typed = TypedValues::default();
    let mut argument = OsString::new();
    loop {
        // Within a cluster of short flags there are no raw arguments, as the argument is still the same.
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
                let text = text_of(&mut parser, &name, setting)?;
                config = apply(config, &text).map_err(|mut refusal| {
                    refusal.remedy = refusal.remedy.filter(|text| is_in_bounds(apply, text));
                    bad_value(&name, setting, &text, refusal, &argument)
                })?;
                typed.0.push((setting, name, text));
            }
            Action::File => {
                let path = value_of(&mut parser, &name, Setting::ServersFile)?;
                if file.is_some() {
                    return Err(UsageError(format!(
                        "{name}: given twice, expected one file; for several, write \
                         cat FILES | tcpcore -f {STDIN}"
                    )));
                }
                file = Some(checked_path(&name, path, &argument)?);
            }
            Action::Switch(apply) => config = apply(config),
            Action::Check => is_check = true,
            Action::Program { setting, apply, .. } => {
                let text = text_of(&mut parser, &name, setting)?;
                apply(&mut options, &text).map_err(|mut refusal| {
                    let is_allowed =
                        |text: &String| apply(&mut ProgramOptions::default(), text).is_ok();
                    refusal.remedy = refusal.remedy.filter(is_allowed);
                    bad_value(&name, setting, &text, refusal, &argument)
                })?;
            }
            Action::Generate => {
                let text = text_of(&mut parser, &name, Setting::Generate)?;
                let generated = generated(&text).map_err(|refusal| {
                    bad_value(&name, Setting::Generate, &text, refusal, &argument)
                })?;
                return Ok(Command::Print(generated.text(FLAGS)));
            }
            Action::Verbosity(step) => verbosity = Some(verbosity.unwrap_or(0) + step),
            Action::Print(text) => {
                // Fails if the flag has a value.
                parser.next().map_err(unexpected_value)?;
                return Ok(Command::Print(text(name.starts_with("--"))));
            }
        }
    }
    let shard = find_shard(&mut options, lookup)?;
    let config = config.servers(servers).servers_file(file).shard(shard);
    let config = config.build().map_err(|error| bad_setting(&error, &typed))?;
    if config.watch() && !config.has_list_to_reload() {
        let problem = match config.servers_file() {
            None => "no file to watch, expected -f FILE too",
            Some(_) => "stdin cannot be watched, expected -f with a file",
        };
        return Err(UsageError(format!("--watch: {problem}")));
    }
    if config.lines() {
        if let Some((flag, _)) = typed.last(Setting::Divisor) {
            return Err(UsageError(format!(
                "{flag}: does not go with --lines, which takes no numbers; leave out one of them"
            )));
        }
    } else {
        config.number_decoder().map_err(|error| bad_setting(&error, &typed))?;
    }
    if is_check {
        return Ok(Command::Check(config));
    }
    options.log_level = verbosity.map(log_level);
    Ok(Command::Run { config, options })
}

/// Returns the shard of the flags, and notes which variables say it.
fn find_shard(
    options: &mut ProgramOptions,
    lookup: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Shard>, UsageError> {
    let (index, count) = match options.shard {
        Some(ShardFlag::Of(index, count)) => (index, count),
        Some(ShardFlag::Auto) => {
            let place = scheduler::detect(lookup)
                .map_err(|error| UsageError(format!("--shard auto: {error}")))?;
            options.shard_source = place.source;
            (place.index, place.count)
        }
        // The default may be written without a shard, as any default.
        None if options.shard_by.is_some_and(|by| by != ShardBy::default()) => {
            let problem = "no shard, expected --shard too";
            return Err(UsageError(format!("--shard-by: {problem}")));
        }
        None => return Ok(None),
    };
    let shard = Shard::new(index, count, options.shard_by.unwrap_or_default());
    Ok(Some(shard.expect("both sources of an index check it")))
}

/// The values of the parsed flags: the setting, and the flag and the value as typed.
#[derive(Default)]
struct TypedValues(Vec<(Setting, String, String)>);

impl TypedValues {
    /// Returns the last flag and value of a setting, which count.
    fn last(&self, setting: Setting) -> Option<(&str, &str)> {
        let (_, flag, value) = self.0.iter().rev().find(|typed| typed.0 == setting)?;
        Some((flag, value))
    }
}

/// Finds a flag and returns it with its name as typed.
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

/// Proposes the flags that are nearest to a long name.
fn meant_by(long: &str) -> Option<String> {
    let mut letters = long.chars();
    let letter = letters.next()?;
    if letters.next().is_none() {
        return find_short(letter).map(|_| format!("did you mean -{letter}?"));
    }
    let names = nearest(long, FLAGS.iter().map(|flag| flag.long));
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

/// Proposes a long flag for an argument with only one dash.
fn meant_by_one_dash(argument: &OsStr) -> Option<String> {
    let name = argument.to_str()?.strip_prefix('-').filter(|name| !name.starts_with('-'))?;
    let name = name.split('=').next().unwrap_or(name);
    // Up to three letters are more likely a cluster of short flags.
    (name.len() > 3).then(|| meant_by(name))?
}

fn parse_server(text: OsString) -> Result<Server, UsageError> {
    let text = utf8(text).map_err(|text| UsageError(format!("{text}, expected host:port")))?;
    text.parse().map_err(|error| UsageError(format!("{error}")))
}

/// Reads the value of a flag, which must not be another flag.
fn value_of(parser: &mut Parser, name: &str, setting: Setting) -> Result<OsString, UsageError> {
    let attached = parser.optional_value();
    let value = attached.or_else(|| {
        let mut rest = parser.try_raw_args()?;
        rest.next_if(|next| !is_flag(next))
    });
    let Some(value) = value else {
        let next = parser.try_raw_args().and_then(|rest| rest.peek().map(plain));
        return Err(missing_value(name, setting, next.as_deref()));
    };
    if value.is_empty() {
        let expected = setting.expected();
        return Err(UsageError(format!("{name}: the value is empty, expected {expected}")));
    }
    Ok(value)
}

/// Reads the value of a flag that takes text.
fn text_of(parser: &mut Parser, name: &str, setting: Setting) -> Result<String, UsageError> {
    let value = value_of(parser, name, setting)?;
    utf8(value)
        .map_err(|text| UsageError(format!("{name}: {text}, expected {}", setting.expected())))
}

/// Makes a path of the value of `-f`, unless it is a server before which the value is missing.
fn checked_path(name: &str, path: OsString, argument: &OsStr) -> Result<PathBuf, UsageError> {
    let is_attached = argument.to_string_lossy().ends_with(&*path.to_string_lossy());
    match path.to_str() {
        Some(text) if !is_attached && text.parse::<Server>().is_ok() => {
            Err(missing_value(name, Setting::ServersFile, Some(text)))
        }
        _ => Ok(path.into()),
    }
}

fn missing_value(name: &str, setting: Setting, next: Option<&str>) -> UsageError {
    let before = next.map_or(String::new(), |next| format!(" before {next}"));
    let expected = setting.expected();
    UsageError(format!("{name}: the value is missing{before}, expected {expected}"))
}

/// Returns whether an argument is a flag, not a value that begins with a dash, such as a number.
fn is_flag(argument: &OsStr) -> bool {
    let text = argument.to_string_lossy();
    match text.strip_prefix('-') {
        Some(name) => name.starts_with('-') || name.starts_with(|c| find_short(c).is_some()),
        None => false,
    }
}

/// The reason why a value cannot be parsed.
struct Refusal {
    /// The reason, worded to follow the value.
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
    let is_attached = argument.to_string_lossy().ends_with(text);
    // The address of the status server may look like a server.
    let is_server = setting != Setting::StatusAddr && text.parse::<Server>().is_ok();
    if !is_attached && is_server {
        return missing_value(name, setting, Some(text));
    }
    let is_word = setting.word().filter(|word| text.trim().eq_ignore_ascii_case(word));
    let remedy = is_word.map(str::to_owned).or(remedy).map(|text| format!("write {text}"));
    let remedy = meant_by_one_dash(argument).or(remedy);
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    UsageError(format!("{name}: {} {problem}, expected {expected}{remedy}", quoted(text)))
}

/// Returns whether a proposed value is within the bounds of its own setting.
fn is_in_bounds(apply: Apply, text: &str) -> bool {
    let server: Server = "localhost:1".parse().expect("it is well formed");
    let config = apply(Config::builder().servers([server]), text).map(ConfigBuilder::build);
    config.is_ok_and(|config| !config.is_err_and(|error| error.is_out_of_bounds()))
}

/// Words the error of a setting that the builder refuses. Only the servers are not a flag.
fn bad_setting(error: &ConfigError, typed: &TypedValues) -> UsageError {
    if error.setting() == Setting::Servers.name() {
        let expected = Setting::Servers.expected();
        return UsageError(format!(
            "no servers, expected {expected}, or a list of servers with -f; see tcpcore -h"
        ));
    }
    UsageError(error.describe(
        |setting| {
            let flag = typed.last(setting).map(|(flag, _)| flag.to_owned());
            flag.unwrap_or_else(|| format!("--{}", setting.name()))
        },
        |setting| typed.last(setting).map(|(_, value)| plain(value)),
    ))
}

/// Converts an argument to UTF-8, or returns the reason why it is refused.
fn utf8(text: OsString) -> Result<String, String> {
    text.into_string().map_err(|text| format!("{} is not UTF-8", quoted(text)))
}

/// Words the only error of the lexer itself: `--once=yes`.
fn unexpected_value(error: lexopt::Error) -> UsageError {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            UsageError(format!("{option}: takes no value, but was given {}", quoted(value)))
        }
        error => UsageError(plain(error.to_string())),
    }
}

/// Parses a whole number.
fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: ParseIntError| {
        let is_too_large = *error.kind() == IntErrorKind::PosOverflow;
        let problem = if is_too_large { "is too large" } else { "is not allowed" };
        Refusal { problem, remedy: reword_whole(text.trim()) }
    })
}

/// Rewrites a whole number from a form such as `6.0` or `1e3`.
fn reword_whole(text: &str) -> Option<String> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(text.into());
    }
    let number: f64 = text.parse().ok()?;
    // From 2^53 on, a float may differ from the number in the text.
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

fn format(text: &str) -> Result<Format, Refusal> {
    named(text, &[("ndjson", "json"), ("jsonl", "json"), ("tab", "tsv"), ("flink", "task")])
}

fn parse_log_format(text: &str) -> Result<LogFormat, Refusal> {
    named(text, &[("ndjson", "json"), ("jsonl", "json"), ("plain", "text")])
}

fn shard_by(text: &str) -> Result<ShardBy, Refusal> {
    named(text, &[])
}

fn generated(text: &str) -> Result<Generated, Refusal> {
    named(text, &[("pwsh", "powershell")])
}

/// Parses a name. The remedy is the name in lower case, or that of a synonym.
fn named<T: FromStr>(text: &str, synonyms: &[(&str, &str)]) -> Result<T, Refusal> {
    text.parse().map_err(|_| {
        let meant = text.trim().to_ascii_lowercase();
        let synonym = synonyms.iter().find(|(synonym, _)| *synonym == meant);
        let meant = synonym.map_or(meant.as_str(), |(_, name)| name);
        let is_name = meant.parse::<T>().is_ok();
        Refusal { problem: "is not allowed", remedy: is_name.then(|| meant.to_owned()) }
    })
}

fn stats_interval(text: &str) -> Result<Duration, Refusal> {
    let every = duration(text)?;
    let is_allowed = (Duration::from_millis(100)..=Config::MAX_DURATION).contains(&every);
    is_allowed.then_some(every).ok_or(Refusal { problem: "is not allowed", remedy: None })
}

fn duration(text: &str) -> Result<Duration, Refusal> {
    parse_duration(text)
        .map_err(|error| Refusal { problem: error.problem(), remedy: error.remedy() })
}

/// Parses the byte that ends a line.
fn byte(text: &str) -> Result<u8, Refusal> {
    delimiter::parse(text)
        .ok_or_else(|| Refusal { problem: "is not allowed", remedy: reword_byte(text) })
}

/// Rewrites a byte from another usual form: `\n`, `CRLF`, `tab`, `\x1e`, `0XA`, or the character itself.
fn reword_byte(text: &str) -> Option<String> {
    let text = if text.len() > 1 { text.trim() } else { text };
    let word = match text.to_ascii_lowercase().as_str() {
        "lf" | "\\n" | "\n" | "crlf" | "\\r\\n" | "newline" => "lf",
        "cr" | "\\r" | "\r" => "cr",
        "nul" | "null" | "\\0" | "0" => "nul",
        "tab" | "\\t" => "0x09",
        "space" => "0x20",
        _ => "",
    };
    if !word.is_empty() {
        return Some(word.into());
    }
    let hex = ["0x", "0X", "\\x"].into_iter().find_map(|prefix| text.strip_prefix(prefix));
    let byte = match (hex, text.as_bytes()) {
        (Some(hex), _) => u8::from_str_radix(hex, 16).ok()?,
        // A digit is more likely a number than a character.
        (None, [byte]) if byte.is_ascii() && !byte.is_ascii_digit() => *byte,
        _ => return None,
    };
    Some(format!("{byte:#04x}"))
}

/// Parses the word for the default of a setting as `None`, and any other text as a value.
fn word_or<T>(
    setting: Setting,
    text: &str,
    read: fn(&str) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    if setting.word() == Some(text) { Ok(None) } else { read(text).map(Some) }
}

fn status_addr(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| {
        let text = text.trim();
        let host_port = text.rsplit_once(':').unwrap_or(("", text));
        let meant = match host_port {
            ("" | "localhost", port) => format!("127.0.0.1:{port}"),
            ("*", port) => format!("0.0.0.0:{port}"),
            _ => text.trim_start_matches("http://").trim_end_matches('/').to_owned(),
        };
        let is_address = meant.parse::<SocketAddr>().is_ok();
        Refusal { problem: "is not allowed", remedy: is_address.then_some(meant) }
    })
}

fn ready(text: &str) -> Result<Ready, Refusal> {
    text.parse().map_err(|_| {
        let meant = text.trim().to_ascii_lowercase();
        let meant = [meant.clone(), format!("{meant}%")];
        let remedy = meant.into_iter().find(|text| text.parse::<Ready>().is_ok());
        Refusal { problem: "is not allowed", remedy }
    })
}

fn parse_shard(text: &str) -> Result<ShardFlag, Refusal> {
    let of = |text: &str, separator: &str| {
        let (index, count) = text.split_once(separator)?;
        Some((scheduler::digits(index.trim())?, scheduler::digits(count.trim())?))
    };
    match of(text, "/") {
        _ if text == "auto" => return Ok(ShardFlag::Auto),
        Some((index, count)) if index < count && !text.contains(' ') => {
            return Ok(ShardFlag::Of(index, count));
        }
        _ => {}
    }
    let meant = ["/", "of", ":", ",", "-"].iter().find_map(|separator| of(text, separator));
    let remedy = match meant {
        // The last one of those that count from 1.
        Some((index, count)) if index == count && count > 0 => {
            Some(format!("{}/{count}", index - 1))
        }
        Some((index, count)) => Some(format!("{index}/{count}")),
        None => text.trim().eq_ignore_ascii_case("auto").then(|| "auto".to_owned()),
    };
    Err(Refusal { problem: "is not allowed", remedy })
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

/// A flag: its names, its docs and its action.
struct Flag {
    long: &'static str,
    short: Option<char>,
    /// A few words for `-h`, which has one line for each flag.
    brief: &'static str,
    /// Whole sentences for `--help`: meaning, unit and cost. The setting adds its bounds and default.
    doc: &'static str,
    action: Action,
}

/// Parses a value and sets it in the builder.
type Apply = fn(ConfigBuilder, &str) -> Result<ConfigBuilder, Refusal>;

enum Action {
    /// Takes a value for a setting.
    Value {
        setting: Setting,
        /// The name of the value in the help.
        placeholder: &'static str,
        default: fn() -> String,
        /// Sets the value in the builder, which checks its bounds.
        apply: Apply,
    },
    /// Takes the path of the list file.
    File,
    Switch(fn(ConfigBuilder) -> ConfigBuilder),
    /// Checks instead of running.
    Check,
    /// Takes a value that it sets in the options of the program.
    Program {
        setting: Setting,
        placeholder: &'static str,
        /// `None` if the flag is off without a value.
        default: Option<&'static str>,
        apply: fn(&mut ProgramOptions, &str) -> Result<(), Refusal>,
    },
    /// Takes the name of a text, which it makes of the table and prints.
    Generate,
    /// Adds to the log level, which is info at 0.
    Verbosity(i32),
    /// Prints a text. The argument is whether the long name of the flag was typed.
    Print(fn(bool) -> String),
}

/// The flags, in the order of the help.
const FLAGS: &[Flag] = &[
    Flag {
        long: "servers-file",
        short: Some('f'),
        brief: "Servers, one a line; - is stdin",
        doc: "\
Read servers from a file, after those of the arguments. Each line is a
server, which may be followed by name=NAME. The log, the formats and the
metrics show the name. It has no blanks and stands for one server. No
address may be listed twice. A # at the start or after a blank begins a
comment. Empty lines are skipped.",
        action: Action::File,
    },
    Flag {
        long: "watch",
        short: None,
        brief: "Read the file again when it changes",
        doc: "\
Look every 5 s whether the file of -f has changed, and read it again
then. A file that cannot be read is tried again at the next look. Links
are followed. Off unless given.",
        action: Action::Switch(|config| config.watch(true)),
    },
    Flag {
        long: "check",
        short: None,
        brief: "Check flags and servers, then end",
        doc: "\
Check the flags, the servers and the file of -f, print how many servers
and workers there are, and end without dialing. The status is 0 if all
is well, else 2. Off unless given.",
        action: Action::Check,
    },
    Flag {
        long: "parallelism",
        short: Some('p'),
        brief: "Workers, at most one per server",
        doc: "\
The number of workers. Each is a thread that polls one contiguous slice
of the servers. The sizes of the slices differ by at most one. Workers
beyond the number of servers are not started. With auto there is one per
core, at most one per server. Each costs a thread and a buffer. More
workers than cores gain nothing.",
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
        long: "shard",
        short: None,
        brief: "Part of the list that is read here",
        doc: "\
The part of the servers that this process reads, such as 0/4, 1/4, 2/4
and 3/4 for four processes with the same list. The workers cut the part
further. With auto the index comes from TCPCORE_SHARD or the scheduler:
Kubernetes, Docker Swarm, Slurm, Nomad, AWS Batch or Open MPI. The
number comes from TCPCORE_SHARDS, or else from the scheduler if it sets
one. A process without a server ends with status 0, unless -f may get
one later. Off unless given.",
        action: Action::Program {
            setting: Setting::Shard,
            placeholder: "I/N",
            default: None,
            apply: |options, text| {
                options.shard = Some(parse_shard(text)?);
                Ok(())
            },
        },
    },
    Flag {
        long: "shard-by",
        short: None,
        brief: "slice or hash",
        doc: "\
The rule of --shard. With slice the parts are contiguous, and their
sizes differ by at most one. An edit of the list then moves other
servers from one process to the next. With hash, host and port alone say
the part. An edit then moves nothing else, and one process more takes
one of N servers. The sizes of the parts differ at random. All processes
need the same list, number and rule.",
        action: Action::Program {
            setting: Setting::ShardBy,
            placeholder: "RULE",
            default: Some("slice"),
            apply: |options, text| {
                options.shard_by = Some(shard_by(text)?);
                Ok(())
            },
        },
    },
    Flag {
        long: "divisor",
        short: Some('d'),
        brief: "Print the multiples of N",
        doc: "\
Print the multiples of N. 0 is a multiple of every N. Every number is a
multiple of 1. Other numbers are read and counted, but not printed.",
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
The delay before the first reconnect to a failed server. Each server has
its own back-off, which never delays another server. With a short delay
a server is reached sooner, but each attempt looks up the name and logs
a line.",
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
The longest delay, before jitter. It is about the longest time from the
return of a server to the next attempt.",
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
The factor from one delay to the next in an outage. With 1 all delays
are the initial one.",
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
The part of a delay that is added or taken away at random. It spreads
the reconnects to servers that failed together. With 0.1 a delay of 10s
becomes one of 9s to 11s.",
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
The age of a connection that resets the server's back-off to the initial
delay. With 0s every connection resets it. The delays then do not grow
for a server that accepts and closes immediately.",
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
The length of an outage after which a server is given up. A connection
ends the outage once it has received a byte or reached the reset
threshold. When all servers are given up, the program ends with status
1. With never, no server is given up.",
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
The time limit of the lookup of a name, and again of connecting. The
addresses of a name are tried 250ms apart, or as soon as the last one
has failed. The first to connect wins. The next attempt uses the answer
of a lookup that took longer.",
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
The time without data after which a connection counts as lost. The
server is then dialed again. It is off by default because quiet feeds
are normal. TCP keepalive detects a lost server within about 35 s. It
costs a timer per connection.",
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
The longest line that is read, in bytes, without its delimiter. A longer
line is skipped and counted once as oversized. Its connection stays
open. The limit also bounds the memory of a connection that has sent a
part of a line.",
        action: Action::Value {
            setting: Setting::MaxLine,
            placeholder: "BYTES",
            default: || Config::DEFAULT_MAX_LINE.to_string(),
            apply: |config, text| Ok(config.max_line(whole(text)?)),
        },
    },
    Flag {
        long: "delimiter",
        short: None,
        brief: "Byte that ends a line",
        doc: "\
The byte that ends a line: a line feed (lf), a carriage return (cr), a
zero (nul) or another one, such as 0x3b for a semicolon. With lf, one
carriage return in front of it is dropped. A digit, + or - is refused,
as numbers may contain it. A number on stdout always ends with lf.",
        action: Action::Value {
            setting: Setting::Delimiter,
            placeholder: "BYTE",
            default: || delimiter::show(Config::DEFAULT_DELIMITER),
            apply: |config, text| Ok(config.delimiter(byte(text)?)),
        },
    },
    Flag {
        long: "lines",
        short: None,
        brief: "Write whole lines instead of numbers",
        doc: "\
Write every whole line, byte for byte with its delimiter, instead of the
numbers that are multiples of the divisor. Empty lines are kept. In the
other formats than plain, a line is written without its delimiter. It
does not go with -d. Off unless given.",
        action: Action::Switch(|config| config.lines(true)),
    },
    Flag {
        long: "format",
        short: None,
        brief: Format::NAMES,
        doc: "\
The format in which records are written, each as one line: plain is the
record alone, task adds the worker as Flink does (2> 216), tsv adds the
server and a tab, json is an object with server, time (when it was read)
and number or line. In tsv, a tab, CR, LF and backslash in a line are
written as \\t \\r \\n \\\\. In task, LF and backslash are, too, if lines end
with another delimiter than LF. In json, a line that is not UTF-8 is
line_base64 instead of line.",
        action: Action::Value {
            setting: Setting::Format,
            placeholder: "FORMAT",
            default: || Format::default().to_string(),
            apply: |config, text| Ok(config.format(format(text)?)),
        },
    },
    Flag {
        long: "keep-truncated",
        short: None,
        brief: "Read the end of a stream as a line",
        doc: "\
Read the bytes after the last delimiter as a line if the server closes
its connection in good order. Off unless given: they are dropped, as a
server that is killed in the middle of 1266 must not print 126. After an
error, a timeout or a stop they are always dropped.",
        action: Action::Switch(|config| config.keep_truncated(true)),
    },
    Flag {
        long: "once",
        short: None,
        brief: "Read each server once, then end",
        doc: "\
Try each server once, at all its addresses, read it to its end, then
exit. The status is 1 if a server could not be connected, ended by an
error, or sent only malformed or oversized lines. Servers that a reload
of the file of -f adds are read once, too. Off unless given.",
        action: Action::Switch(|config| config.once(true)),
    },
    Flag {
        long: "status-addr",
        short: None,
        brief: "Serve the status over HTTP",
        doc: "\
The address on which the status is served over HTTP, such as
127.0.0.1:9464. With port 0 the system selects a port, and the log names
it. / is a page for a browser, /metrics is for Prometheus, /status.json
is for scripts. /livez is 200 while the program runs, and --ready sets
when /readyz is. There is no password, so other hosts should reach it
only in a network that you trust. It costs a thread, at most 64
connections, and a wake-up every 5 s for the rates.",
        action: Action::Program {
            setting: Setting::StatusAddr,
            placeholder: "ADDR",
            default: Some("off"),
            apply: |program, text| {
                program.status_addr = word_or(Setting::StatusAddr, text, status_addr)?;
                Ok(())
            },
        },
    },
    Flag {
        long: "ready",
        short: None,
        brief: "When /readyz is 200",
        doc: "\
The condition under which /readyz of --status-addr is 200 instead of
503. With started each server must have been tried once. With any one
server must be connected, with all each of them, with N% so many of
them. After a signal to stop it is always 503.",
        action: Action::Program {
            setting: Setting::Ready,
            placeholder: "WHEN",
            default: Some("started"),
            apply: |program, text| {
                program.pages.ready = ready(text)?;
                Ok(())
            },
        },
    },
    Flag {
        long: "metrics-servers",
        short: None,
        brief: "Servers with metrics of their own",
        doc: "\
The most servers that have metrics of their own in /metrics. With more
servers than that, /metrics has only the sums of all servers. A server
has about 1800 bytes of metrics.",
        action: Action::Program {
            setting: Setting::MetricsServers,
            placeholder: "N",
            default: Some("1000"),
            apply: |program, text| {
                program.pages.metrics_servers = whole(text)?;
                Ok(())
            },
        },
    },
    Flag {
        long: "quiet",
        short: Some('q'),
        brief: "Log less: warnings, errors, nothing",
        doc: "\
Log less on stderr. Each -q lowers the level by one: warn, error, off.
The environment variable RUST_LOG then has no effect.",
        action: Action::Verbosity(-1),
    },
    Flag {
        long: "verbose",
        short: Some('v'),
        brief: "Log more: debug, trace",
        doc: "\
Log more on stderr. Each -v raises the level by one: debug, trace. The
default is info. The environment variable RUST_LOG then has no effect.",
        action: Action::Verbosity(1),
    },
    Flag {
        long: "stats",
        short: None,
        brief: "Log a line of totals every so often",
        doc: "\
Log a line of totals after each such time: the connected servers, the
rates since the last line, and the counts since the start. The level is
info. On a terminal, if the records go elsewhere, it is one line at the
bottom that renews itself.",
        action: Action::Program {
            setting: Setting::Stats,
            placeholder: "D",
            default: Some("off"),
            apply: |options, text| {
                options.control.stats_every = match text {
                    "off" => None,
                    _ => Some(stats_interval(text)?),
                };
                Ok(())
            },
        },
    },
    Flag {
        long: "log-format",
        short: None,
        brief: "text or json",
        doc: "\
The format of the log on stderr: text for a reader, or json with one
object a line. The object has time, level, target, message, the shard
with --shard, and what the message says as fields, such as server and
delay_ms. If stderr is the systemd journal, a line of text begins with
its priority instead of the time, as sd-daemon(3) says.",
        action: Action::Program {
            setting: Setting::LogFormat,
            placeholder: "FORMAT",
            default: Some("text"),
            apply: |options, text| {
                options.log_format = parse_log_format(text)?;
                Ok(())
            },
        },
    },
    Flag {
        long: "generate",
        short: None,
        brief: "Print the man page or a completion",
        doc: "\
Print the man page (man), or the completion of flags for a shell, and
end. The Debian package installs them.",
        action: Action::Generate,
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

const USAGE: &str = "\
Usage: tcpcore [FLAGS] HOST:PORT...
       tcpcore [FLAGS] -f FILE [HOST:PORT...]
";
const SUMMARY: &str =
    "Reads lines from TCP servers: prints multiples of 6, or whole lines (--lines).\n";

const INTRODUCTION: &str = "
When the connection to a server fails or ends, tcpcore reconnects after growing
delays. Numbers go to stdout, and all other text goes to stderr.

HOST is a name, an IPv4 address, or an IPv6 address in brackets:
localhost:8001, 192.0.2.1:8001, [2001:db8::1]:8001, [fe80::1%eth0]:8001.
A duration D is one or more numbers, each with a unit: ms, s, m, h or d.
Examples are 250ms, 1.5s and 1h30m.
";

const ENDING: &str = "\
SIGINT, SIGTERM and SIGHUP stop reading, print all numbers read so far, and
end the program. A second signal, 0.5 s or more after the first, ends it
immediately. An earlier one counts as a repeat, as timeout sends it. Signals
ignored at the start stay ignored, as under nohup. SIGUSR1 logs a table of all
servers. SIGUSR2 tries all waiting servers now. With -f FILE, SIGHUP reads the
file again instead.

Exit status:
  0        stopped by a signal, stdout closed by its reader, or --once succeeded
  1        stdout or --status-addr failed, all servers were given up, or --once
           failed
  2        bad usage or a bad list file, before any server was dialed
  128 + N  ended immediately by a second signal, number N

Environment:
  RUST_LOG        which log lines go to stderr, such as debug or tcpcore=trace,
                  unless -q or -v is given
  TCPCORE_SHARD   the index for --shard auto, from 0
  TCPCORE_SLOT    the same from 1, as the slots of Docker Swarm
  TCPCORE_SHARDS  the number of processes for --shard auto
";

fn version() -> String {
    format!("tcpcore {}\n", env!("CARGO_PKG_VERSION"))
}

fn short_help() -> String {
    let mut help = format!("{USAGE}{SUMMARY}\n");
    for flag in FLAGS {
        help += &format!("  {:33}{}", flag.names(), flag.brief);
        if let Some(Taken { default, .. }) = flag.takes() {
            help += &default.map_or(String::new(), |default| format!(" [{default}]"));
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
        if let Some(Taken { setting, default, .. }) = flag.takes() {
            help += &format!("        Takes {}.\n", setting.expected());
            if let Some(default) = default {
                help += &format!("        Default: {default}.\n");
            }
        }
        help.push('\n');
    }
    help + ENDING
}

/// The value that a flag takes, as the help shows it.
struct Taken {
    setting: Setting,
    placeholder: &'static str,
    /// `None` if the flag is off without a value.
    default: Option<String>,
}

impl Flag {
    /// Returns what the flag takes, if it takes a value.
    fn takes(&self) -> Option<Taken> {
        match self.action {
            Action::Value { setting, placeholder, default, .. } => {
                Some(Taken { setting, placeholder, default: Some(default()) })
            }
            Action::Program { setting, placeholder, default, .. } => {
                Some(Taken { setting, placeholder, default: default.map(Into::into) })
            }
            Action::File => {
                let setting = Setting::ServersFile;
                Some(Taken { setting, placeholder: "FILE", default: None })
            }
            Action::Generate => {
                let setting = Setting::Generate;
                Some(Taken { setting, placeholder: "KIND", default: None })
            }
            Action::Check | Action::Switch(_) | Action::Verbosity(_) | Action::Print(_) => None,
        }
    }

    /// Shows the names and the value's placeholder as in both helps: `-d, --divisor N`.
    fn names(&self) -> String {
        let short = self.short.map_or("    ".into(), |short| format!("-{short}, "));
        let placeholder =
            self.takes().map_or(String::new(), |taken| format!(" {}", taken.placeholder));
        format!("{short}--{}{placeholder}", self.long)
    }
}

#[cfg(test)]
mod tests;
