//! Collects the settings of a job and checks their bounds once.

mod policy;
pub mod servers;

use std::error::Error;
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Server;
use crate::codec::Framing;
use crate::codec::number::{DecoderPath, Divisor, NumberDecoder, PathError};
use crate::format::Format;
use crate::partition::Shard;
use crate::proto::backoff::{Backoff, BackoffError};
use crate::text::duration::show;

/// The settings of a job.
///
/// [`Config::builder`] is the only way to make one. It checks every bound, so every `Config` can be run.
///
/// ```
/// use std::time::Duration;
/// use tcpcore::Config;
///
/// let config = Config::builder()
///     .servers(["localhost:8001".parse()?, "localhost:8002".parse()?])
///     .divisor(3)
///     .idle_timeout(Some(Duration::from_secs(30)))
///     .build()?;
/// assert_eq!(config.servers().len(), 2);
/// assert_eq!(config.divisor().get(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The whole list. Invariant: at least one, unless there is a list file. The servers of the list file come last.
    list: Box<[Server]>,
    /// The shard and its part of the list; `None` is the whole list.
    shard: Option<(Shard, Box<[Server]>)>,
    /// The number of servers that do not come from the list file.
    arguments: usize,
    servers_file: Option<PathBuf>,
    watch: bool,
    parallelism: Option<NonZeroUsize>,
    /// Invariant: at most [`Config::MAX_DIVISOR`].
    divisor: NonZeroU64,
    backoff: Backoff,
    /// Invariant: at most [`Config::MAX_DURATION`].
    reset_backoff_threshold: Duration,
    /// Invariant of this and the next two: from [`Config::MIN_DURATION`] to [`Config::MAX_DURATION`].
    give_up_after: Option<Duration>,
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    /// Invariant: at most [`Config::MAX_MAX_LINE`].
    max_line: NonZeroUsize,
    delimiter: u8,
    keep_truncated: bool,
    lines: bool,
    format: Format,
    once: bool,
    waits_for_servers: bool,
    /// `None` is the fastest. Invariant: the machine has it.
    decoder_path: Option<DecoderPath>,
}

impl Config {
    /// The default of [`ConfigBuilder::divisor`]: 6.
    pub const DEFAULT_DIVISOR: u64 = 6;
    /// The greatest [`ConfigBuilder::divisor`]: [`i64::MAX`], as numbers are read as `i64`.
    pub const MAX_DIVISOR: u64 = i64::MAX.unsigned_abs();
    /// The default of [`ConfigBuilder::initial_backoff`]: 1 s.
    pub const DEFAULT_INITIAL_BACKOFF: Duration = Duration::from_secs(1);
    /// The default of [`ConfigBuilder::max_backoff`]: 60 s.
    pub const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(60);
    /// The default of [`ConfigBuilder::backoff_multiplier`]: 2, which doubles each delay.
    pub const DEFAULT_BACKOFF_MULTIPLIER: f64 = 2.0;
    /// The default of [`ConfigBuilder::jitter_factor`]: 0.1, a tenth of a delay.
    pub const DEFAULT_JITTER_FACTOR: f64 = 0.1;
    /// The default of [`ConfigBuilder::reset_backoff_threshold`]: 3 minutes.
    pub const DEFAULT_RESET_BACKOFF_THRESHOLD: Duration = Duration::from_secs(3 * 60);
    /// The default of [`ConfigBuilder::connect_timeout`]: 10 s.
    pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
    /// The default of [`ConfigBuilder::max_line`]: 4096 bytes.
    pub const DEFAULT_MAX_LINE: usize = 4096;
    /// The greatest [`ConfigBuilder::max_line`]: 16 MiB. It bounds the memory of each connection.
    pub const MAX_MAX_LINE: usize = 16 << 20;
    /// The default of [`ConfigBuilder::delimiter`]: a line feed.
    pub const DEFAULT_DELIMITER: u8 = Framing::DEFAULT_DELIMITER;
    /// The shortest duration of a setting: 1 ms, the precision of the timers.
    pub const MIN_DURATION: Duration = Duration::from_millis(1);
    /// The longest duration of a setting: 365 days. A longer delay would amount to giving a server up.
    pub const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    /// Returns a builder with each setting at its default and without servers.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Returns the servers to dial, at least one, in the order in which they were given.
    ///
    /// With a [`shard`](ConfigBuilder::shard) they are its part of the list, which may be empty.
    pub fn servers(&self) -> &[Server] {
        self.shard.as_ref().map_or(&self.list, |(_, part)| part)
    }

    /// Returns the shard of the list that the job dials; `None` is the whole list.
    pub fn shard(&self) -> Option<Shard> {
        self.shard.as_ref().map(|(shard, _)| *shard)
    }

    /// Returns the whole list, of which [`servers`](Self::servers) may be a part.
    #[doc(hidden)]
    pub fn list(&self) -> &[Server] {
        &self.list
    }

    /// Returns the path of the program's list file, or [`servers::STDIN`].
    #[doc(hidden)]
    pub fn servers_file(&self) -> Option<&Path> {
        self.servers_file.as_deref()
    }

    /// Returns whether the program looks for changes of its list file.
    #[doc(hidden)]
    pub fn watch(&self) -> bool {
        self.watch
    }

    /// Returns the servers that do not come from the list file. They are the first of the [`list`](Self::list).
    #[doc(hidden)]
    pub fn argument_servers(&self) -> &[Server] {
        &self.list[..self.arguments]
    }

    /// Replaces the servers of the list file, which come after those of the arguments.
    #[doc(hidden)]
    #[must_use]
    pub fn with_listed(self, listed: Vec<Server>) -> Config {
        let mut list = self.list.into_vec();
        list.truncate(self.arguments);
        list.extend(listed);
        let shard = self.shard.map(|(shard, _)| with_part(shard, &list));
        Config { list: list.into(), shard, ..self }
    }

    /// Returns the settings with only those servers that a reload needs: the ones that do not come from the list file,
    /// if it can be read again. A long list then is not in memory twice.
    #[doc(hidden)]
    #[must_use]
    pub fn without_list(&self) -> Config {
        let arguments = if self.has_list_to_reload() { self.arguments } else { 0 };
        let list = self.list[..arguments].into();
        let shard = self.shard.as_ref().map(|(shard, _)| (*shard, Box::default()));
        Config { list, shard, arguments, ..self.clone() }
    }

    /// Returns the requested number of workers, at least 1; `None` is one per core, at most one per server.
    pub fn parallelism(&self) -> Option<NonZeroUsize> {
        self.parallelism
    }

    /// Returns the divisor of the numbers to print, from 1 to [`Config::MAX_DIVISOR`].
    pub fn divisor(&self) -> NonZeroU64 {
        self.divisor
    }

    /// Returns the delay before the first reconnect, from 1 ms to 365 days.
    pub fn initial_backoff(&self) -> Duration {
        self.backoff.initial()
    }

    /// Returns the longest delay before a reconnect, without its jitter, up to 365 days.
    pub fn max_backoff(&self) -> Duration {
        self.backoff.max()
    }

    /// Returns the factor from one delay to the next, from 1 to 1000000.
    pub fn backoff_multiplier(&self) -> f64 {
        self.backoff.multiplier()
    }

    /// Returns the part of a delay by which jitter shortens or lengthens it, from 0 to 1.
    pub fn jitter_factor(&self) -> f64 {
        self.backoff.jitter()
    }

    /// Returns the settings of the delays before a reconnect.
    pub(crate) fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// Returns the age of a connection that resets its server's back-off, from 0 to 365 days.
    pub fn reset_backoff_threshold(&self) -> Duration {
        self.reset_backoff_threshold
    }

    /// Returns the length of an outage after which a server is given up; `None` is never.
    pub fn give_up_after(&self) -> Option<Duration> {
        self.give_up_after
    }

    /// Returns the time limit of a lookup, and again of a connect, from 1 ms to 365 days.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns the time without data after which a connection counts as lost; `None` is no limit.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Returns the longest line that is decoded, in bytes, without its delimiter.
    pub fn max_line(&self) -> NonZeroUsize {
        self.max_line
    }

    /// Returns the byte that ends a line.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Returns the rule by which streams become lines, for a decoder.
    pub fn framing(&self) -> Framing {
        Framing::new(self.max_line.get()).with_delimiter(self.delimiter)
    }

    /// Makes the decoder for the multiples of the divisor.
    ///
    /// # Errors
    ///
    /// Fails if numbers may contain the delimiter: see [`NumberDecoder::is_delimiter`].
    pub fn number_decoder(&self) -> Result<NumberDecoder, ConfigError> {
        if !NumberDecoder::is_delimiter(self.delimiter) {
            let problem = Problem::InNumbers(self.delimiter);
            return Err(ConfigError { setting: Setting::Delimiter, problem });
        }
        let (divisor, framing) = (Divisor::new(self.divisor), self.framing());
        Ok(match self.decoder_path {
            None => NumberDecoder::new(divisor, framing),
            Some(path) => NumberDecoder::on_path(divisor, framing, path)
                .expect("the path was found when it was set"),
        })
    }

    /// Sets the path on which numbers are decoded, for tests and benchmarks. The default is the fastest.
    ///
    /// # Errors
    ///
    /// Fails if this machine does not have the path.
    #[doc(hidden)]
    pub fn with_decoder_path(self, path: DecoderPath) -> Result<Config, PathError> {
        path.check()?;
        Ok(Config { decoder_path: Some(path), ..self })
    }

    /// Returns whether the bytes after the last delimiter are a line when the server has closed in good order.
    pub fn keep_truncated(&self) -> bool {
        self.keep_truncated
    }

    /// Returns whether whole lines are the records, instead of numbers.
    pub fn lines(&self) -> bool {
        self.lines
    }

    /// Returns the format in which records are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Returns whether the job waits for servers to be added when it has none.
    pub fn waits_for_servers(&self) -> bool {
        self.waits_for_servers || self.has_list_to_reload()
    }

    /// Returns whether there is a list file that can be read again. Stdin is read once.
    #[doc(hidden)]
    pub fn has_list_to_reload(&self) -> bool {
        self.servers_file().is_some_and(|path| path != Path::new(servers::STDIN))
    }

    /// Returns whether each server gets one attempt and is read to its end once.
    pub fn once(&self) -> bool {
        self.once
    }
}

/// Collects the settings of a [`Config`].
///
/// [`build`](Self::build) checks all settings. The last value of a setting counts.
#[derive(Clone, Debug)]
#[must_use]
pub struct ConfigBuilder {
    servers: Vec<Server>,
    shard: Option<Shard>,
    servers_file: Option<PathBuf>,
    watch: bool,
    parallelism: Option<usize>,
    divisor: u64,
    /// `None` if not set. If the two delays contradict each other, the error names the one that was set.
    initial_backoff: Option<Duration>,
    max_backoff: Option<Duration>,
    backoff_multiplier: f64,
    jitter_factor: f64,
    reset_backoff_threshold: Duration,
    give_up_after: Option<Duration>,
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_line: usize,
    delimiter: u8,
    keep_truncated: bool,
    lines: bool,
    format: Format,
    once: bool,
    waits_for_servers: bool,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            shard: None,
            servers_file: None,
            watch: false,
            parallelism: None,
            divisor: Config::DEFAULT_DIVISOR,
            initial_backoff: None,
            max_backoff: None,
            backoff_multiplier: Config::DEFAULT_BACKOFF_MULTIPLIER,
            jitter_factor: Config::DEFAULT_JITTER_FACTOR,
            reset_backoff_threshold: Config::DEFAULT_RESET_BACKOFF_THRESHOLD,
            give_up_after: None,
            connect_timeout: Config::DEFAULT_CONNECT_TIMEOUT,
            idle_timeout: None,
            max_line: Config::DEFAULT_MAX_LINE,
            delimiter: Config::DEFAULT_DELIMITER,
            keep_truncated: false,
            lines: false,
            format: Format::Plain,
            once: false,
            waits_for_servers: false,
        }
    }
}

impl ConfigBuilder {
    /// Sets the servers to dial, at least one.
    ///
    /// Each worker gets one contiguous slice of them. A server that is listed twice is dialed twice.
    pub fn servers(mut self, servers: impl IntoIterator<Item = Server>) -> Self {
        self.servers = servers.into_iter().collect();
        self
    }

    /// Sets the shard: the job dials its part of the servers, and other processes dial the others.
    ///
    /// All processes need the same list, the same number of shards and the same rule. A part may be empty, and such a
    /// job ends at once, unless it [waits for servers](Self::wait_for_servers). The part is cut over the workers. A
    /// list for [`ServersHandle::replace`](crate::ServersHandle::replace) is cut in the same way. The default, `None`,
    /// is the whole list. A hash costs about 100 ns per server of the list.
    pub fn shard(mut self, shard: impl Into<Option<Shard>>) -> Self {
        self.shard = shard.into();
        self
    }

    /// Sets the program's list file. Its servers are not read here: [`Config::with_listed`] adds them.
    #[cfg(feature = "cli")]
    pub(crate) fn servers_file(mut self, path: Option<PathBuf>) -> Self {
        self.servers_file = path;
        self
    }

    /// Sets whether the program looks for changes of its list file.
    #[cfg(feature = "cli")]
    pub(crate) fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Sets the number of workers, each a thread, at least 1.
    ///
    /// Workers beyond the number of servers are not started. The default, `None`, is one per core, at most
    /// one per server.
    pub fn parallelism(mut self, workers: impl Into<Option<usize>>) -> Self {
        self.parallelism = workers.into();
        self
    }

    /// Sets the divisor: only its multiples are printed.
    ///
    /// It goes from 1, with which every number is printed, to [`Config::MAX_DIVISOR`]. The default is 6.
    pub fn divisor(mut self, divisor: u64) -> Self {
        self.divisor = divisor;
        self
    }

    /// Sets the delay before the first reconnect to a failed server, before jitter, from 1 ms to 365 days.
    ///
    /// The default is 1 s. Name and meaning are those of Flink's
    /// `restart-strategy.exponential-delay.initial-backoff`.
    pub fn initial_backoff(mut self, delay: Duration) -> Self {
        self.initial_backoff = Some(delay);
        self
    }

    /// Sets the longest delay before a reconnect, before jitter, from the initial delay to 365 days.
    ///
    /// The default is 60 s. The name is that of Flink's `restart-strategy.exponential-delay.max-backoff`,
    /// which limits a delay after its jitter.
    pub fn max_backoff(mut self, delay: Duration) -> Self {
        self.max_backoff = Some(delay);
        self
    }

    /// Sets the factor from one delay to the next in an outage, from 1 to 1000000.
    ///
    /// With 1, the delay stays the same. The default is 2. Name and meaning are those of Flink's
    /// `restart-strategy.exponential-delay.backoff-multiplier`.
    pub fn backoff_multiplier(mut self, multiplier: f64) -> Self {
        self.backoff_multiplier = multiplier;
        self
    }

    /// Sets the greatest random part that is added to or taken from a delay, from 0 (none) to 1.
    ///
    /// It keeps servers that failed together from being dialed together. The default is 0.1. Name and
    /// meaning are those of Flink's `restart-strategy.exponential-delay.jitter-factor`.
    pub fn jitter_factor(mut self, factor: f64) -> Self {
        self.jitter_factor = factor;
        self
    }

    /// Sets the age of a connection that resets the back-off to the initial delay, from 0 to 365 days.
    ///
    /// With 0, every connection resets it. The default is 3 minutes, so that the delays also grow for a
    /// server that accepts and closes immediately. Name and meaning are those of Flink's
    /// `restart-strategy.exponential-delay.reset-backoff-threshold`, here for each server.
    pub fn reset_backoff_threshold(mut self, threshold: Duration) -> Self {
        self.reset_backoff_threshold = threshold;
        self
    }

    /// Sets the length of an outage after which a server is given up, from 1 ms to 365 days.
    ///
    /// A connection ends the outage once it has received a byte or reached
    /// [`reset_backoff_threshold`](Self::reset_backoff_threshold). The default, `None`, is never.
    pub fn give_up_after(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.give_up_after = limit.into();
        self
    }

    /// Sets the time limit of a lookup, and again of a connect, from 1 ms to 365 days.
    ///
    /// The addresses of a name are tried 250 ms apart, or as soon as the
    /// last one has failed. The first to connect wins ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)).
    /// The default is 10 s. The system's own limit, often two minutes, also applies.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the time without data after which a connection counts as lost, from 1 ms to 365 days.
    ///
    /// The default, `None`, is no limit: quiet feeds are normal, and TCP keepalive detects a lost peer.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// Sets the longest line that is decoded, in bytes, without its delimiter.
    ///
    /// It goes from 1 to [`Config::MAX_MAX_LINE`]. The default is 4096. A longer line is skipped and counted
    /// as oversized. The limit bounds the memory of a connection that has sent a part of a line.
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self
    }

    /// Sets the byte that ends a line.
    ///
    /// The default is a line feed, and one carriage return in front of it is then dropped. With any other byte, a
    /// carriage return is a byte like any other. It costs nothing. Every byte is allowed here, but numbers need one
    /// that they cannot contain: see [`Config::number_decoder`].
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Sets whether the bytes after the last delimiter are a line when the server has closed in good order.
    ///
    /// The default is `false`: they are dropped and counted as truncated, as a server may have been killed in the
    /// middle of a line. With `true` a server that closes its connection is trusted to have sent whole lines. After
    /// an error, a timeout or a stop they are dropped nevertheless.
    pub fn keep_truncated(mut self, keep: bool) -> Self {
        self.keep_truncated = keep;
        self
    }

    /// Sets whether whole lines are the records, byte for byte, instead of numbers.
    ///
    /// The default is `false`. The divisor is not used then. Empty lines are kept, and lines over the limit are
    /// skipped. [`Job::start`](crate::Job::start) uses this setting.
    pub fn lines(mut self, lines: bool) -> Self {
        self.lines = lines;
        self
    }

    /// Sets the format in which records are written.
    ///
    /// The default is [`Format::Plain`]. All others need the origin of each record, which costs some time for each
    /// read of a connection. [`Job::start`](crate::Job::start) uses this setting.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets whether the job waits for servers to be added when it has none, instead of ending or being refused.
    ///
    /// It is for jobs whose [`ServersHandle`](crate::ServersHandle) adds and removes servers. Such a job starts all
    /// its workers, even if there are more than servers. It ends when each of its servers has ended, but not while
    /// it has none. The default is false.
    pub fn wait_for_servers(mut self, wait: bool) -> Self {
        self.waits_for_servers = wait;
        self
    }

    /// Sets whether each server gets one attempt, at all its addresses, and is read to its end once.
    ///
    /// The job then ends with the last of them. The default is `false`.
    pub fn once(mut self, once: bool) -> Self {
        self.once = once;
        self
    }

    /// Checks the settings and makes a [`Config`] of them.
    ///
    /// # Errors
    ///
    /// Fails if there is no server, a setting is out of its bounds, or the initial delay is longer than the
    /// longest one. The error names one such setting.
    pub fn build(self) -> Result<Config, ConfigError> {
        let backoff = self.backoff()?;
        let may_have_none = self.waits_for_servers || self.servers_file.is_some();
        if self.servers.is_empty() && !may_have_none {
            return Err(ConfigError { setting: Setting::Servers, problem: Problem::NoServer });
        }
        Ok(Config {
            arguments: self.servers.len(),
            shard: self.shard.map(|shard| with_part(shard, &self.servers)),
            list: self.servers.into(),
            servers_file: self.servers_file,
            watch: self.watch,
            parallelism: self.parallelism.map(parallelism).transpose()?,
            divisor: divisor(self.divisor)?,
            backoff,
            reset_backoff_threshold: duration(
                Setting::ResetBackoffThreshold,
                self.reset_backoff_threshold,
            )?,
            give_up_after: optional_duration(Setting::GiveUpAfter, self.give_up_after)?,
            connect_timeout: duration(Setting::ConnectTimeout, self.connect_timeout)?,
            idle_timeout: optional_duration(Setting::IdleTimeout, self.idle_timeout)?,
            max_line: max_line(self.max_line)?,
            delimiter: self.delimiter,
            keep_truncated: self.keep_truncated,
            lines: self.lines,
            format: self.format,
            once: self.once,
            waits_for_servers: self.waits_for_servers,
            decoder_path: None,
        })
    }

    fn backoff(&self) -> Result<Backoff, ConfigError> {
        let initial = self.initial_backoff.unwrap_or(Config::DEFAULT_INITIAL_BACKOFF);
        let max = self.max_backoff.unwrap_or(Config::DEFAULT_MAX_BACKOFF);
        Backoff::new(initial, max, self.backoff_multiplier, self.jitter_factor)
            .map_err(|error| self.backoff_error(error))
    }

    fn backoff_error(&self, error: BackoffError) -> ConfigError {
        match error {
            BackoffError::Initial { initial } => {
                ConfigError::new(Setting::InitialBackoff, show(initial))
            }
            // The longest delay is within its bounds, but shorter than the first one.
            BackoffError::Max { max, initial }
                if (Config::MIN_DURATION..=Config::MAX_DURATION).contains(&max) =>
            {
                let are_both_set = self.initial_backoff.is_some() && self.max_backoff.is_some();
                let setting = match self.initial_backoff {
                    Some(_) => Setting::InitialBackoff,
                    None => Setting::MaxBackoff,
                };
                ConfigError {
                    setting,
                    problem: Problem::Contradiction { initial, max, are_both_set },
                }
            }
            BackoffError::Max { max, .. } => ConfigError::new(Setting::MaxBackoff, show(max)),
            BackoffError::Multiplier { multiplier } => {
                ConfigError::new(Setting::BackoffMultiplier, multiplier)
            }
            BackoffError::Jitter { jitter } => ConfigError::new(Setting::JitterFactor, jitter),
        }
    }
}

fn with_part(shard: Shard, list: &[Server]) -> (Shard, Box<[Server]>) {
    (shard, shard.part(list).into())
}

fn parallelism(workers: usize) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(workers).ok_or_else(|| ConfigError::new(Setting::Parallelism, workers))
}

fn divisor(divisor: u64) -> Result<NonZeroU64, ConfigError> {
    NonZeroU64::new(divisor)
        .filter(|divisor| divisor.get() <= Config::MAX_DIVISOR)
        .ok_or_else(|| ConfigError::new(Setting::Divisor, divisor))
}

fn max_line(bytes: usize) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(bytes)
        .filter(|bytes| bytes.get() <= Config::MAX_MAX_LINE)
        .ok_or_else(|| ConfigError::new(Setting::MaxLine, bytes))
}

fn duration(setting: Setting, value: Duration) -> Result<Duration, ConfigError> {
    let shortest = match setting {
        Setting::ResetBackoffThreshold => Duration::ZERO,
        _ => Config::MIN_DURATION,
    };
    if (shortest..=Config::MAX_DURATION).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::new(setting, show(value)))
    }
}

fn optional_duration(
    setting: Setting,
    value: Option<Duration>,
) -> Result<Option<Duration>, ConfigError> {
    value.map(|value| duration(setting, value)).transpose()
}

/// The error of a setting that is out of its bounds or contradicts another one.
///
/// Its `Display` names the setting, its value, and the expected values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: Setting,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NoServer,
    /// The value of the setting.
    OutOfBounds(String),
    /// The first delay is longer than the longest one.
    Contradiction {
        initial: Duration,
        max: Duration,
        /// If false, only the setting of the error was set, and the other one has its default.
        are_both_set: bool,
    },
    /// Numbers may contain this delimiter.
    InNumbers(u8),
}

impl ConfigError {
    fn new(setting: Setting, value: impl fmt::Display) -> Self {
        Self { setting, problem: Problem::OutOfBounds(value.to_string()) }
    }

    /// Returns the name of the setting as in the program's flag, without the dashes: `max-line`.
    pub fn setting(&self) -> &'static str {
        self.setting.name()
    }

    /// Returns whether the value is wrong independently of other settings.
    #[cfg(feature = "cli")]
    pub(crate) fn is_out_of_bounds(&self) -> bool {
        matches!(self.problem, Problem::OutOfBounds(_))
    }

    /// Words the error.
    ///
    /// `name` returns the name of a setting in the user's input. `written` returns its value in the user's
    /// input, if it has one there.
    pub(crate) fn describe(
        &self,
        name: impl Fn(Setting) -> String,
        written: impl Fn(Setting) -> Option<String>,
    ) -> String {
        use Setting::{InitialBackoff, MaxBackoff};
        let expected = self.setting.expected();
        let setting = name(self.setting);
        match &self.problem {
            Problem::NoServer => format!("{setting}: none, expected {expected}"),
            Problem::OutOfBounds(value) => {
                let value = written(self.setting).unwrap_or_else(|| value.clone());
                format!("{setting}: {value} is not allowed, expected {expected}")
            }
            Problem::InNumbers(delimiter) => {
                let value = written(self.setting).unwrap_or_else(|| format!("{delimiter:#04x}"));
                format!(
                    "{setting}: {value} may be a part of a number, \
                     expected a byte that is no digit, + or -"
                )
            }
            Problem::Contradiction { initial, max, are_both_set } => {
                let initial = written(InitialBackoff).unwrap_or_else(|| show(*initial));
                let max = written(MaxBackoff).unwrap_or_else(|| show(*max));
                let (initial_name, max_name) = (name(InitialBackoff), name(MaxBackoff));
                if *are_both_set {
                    format!("{initial_name}: {initial} is longer than {max_name}, which is {max}")
                } else if self.setting == InitialBackoff {
                    format!(
                        "{initial_name}: {initial} is longer than the longest delay, \
                         which is {max}; raise it with {max_name}"
                    )
                } else {
                    format!(
                        "{max_name}: {max} is shorter than the first delay, \
                         which is {initial}; lower it with {initial_name}"
                    )
                }
            }
        }
    }
}

impl Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(|setting| setting.name().into(), |_| None))
    }
}

/// The settings that can be out of bounds.
///
/// It defines their names and expected values, so that messages, help and checks agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Servers,
    Parallelism,
    Divisor,
    InitialBackoff,
    MaxBackoff,
    BackoffMultiplier,
    JitterFactor,
    ResetBackoffThreshold,
    GiveUpAfter,
    ConnectTimeout,
    IdleTimeout,
    MaxLine,
    Delimiter,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "every format is in bounds"))]
    Format,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the program has one"))]
    ServersFile,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "every shard is in bounds"))]
    Shard,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "every rule is in bounds"))]
    ShardBy,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    LogFormat,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    Stats,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    StatusAddr,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    Ready,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    MetricsServers,
    #[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "the program alone has it"))]
    Generate,
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Parallelism => "parallelism",
            Self::Divisor => "divisor",
            Self::InitialBackoff => "initial-backoff",
            Self::MaxBackoff => "max-backoff",
            Self::BackoffMultiplier => "backoff-multiplier",
            Self::JitterFactor => "jitter-factor",
            Self::ResetBackoffThreshold => "reset-backoff-threshold",
            Self::GiveUpAfter => "give-up-after",
            Self::ConnectTimeout => "connect-timeout",
            Self::IdleTimeout => "idle-timeout",
            Self::MaxLine => "max-line",
            Self::Delimiter => "delimiter",
            Self::Format => "format",
            Self::ServersFile => "servers-file",
            Self::Shard => "shard",
            Self::ShardBy => "shard-by",
            Self::LogFormat => "log-format",
            Self::Stats => "stats",
            Self::StatusAddr => "status-addr",
            Self::Ready => "ready",
            Self::MetricsServers => "metrics-servers",
            Self::Generate => "generate",
        }
    }

    /// Returns the word for the default, for a setting whose default is not a value.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            Self::Parallelism => Some("auto"),
            Self::GiveUpAfter => Some("never"),
            Self::IdleTimeout | Self::Stats | Self::StatusAddr => Some("off"),
            _ => None,
        }
    }

    /// Describes the values that the setting accepts.
    pub(crate) fn expected(self) -> String {
        let duration = |shortest: &str| {
            let longest = show(Config::MAX_DURATION);
            format!("a duration in ms, s, m, h or d, from {shortest} to {longest}")
        };
        let value = match self {
            Self::Servers => "at least one server, as host:port".into(),
            Self::Parallelism => "a whole number of at least 1".into(),
            Self::Divisor => format!("a whole number from 1 to {}", Config::MAX_DIVISOR),
            Self::MaxBackoff => duration("the initial back-off"),
            Self::BackoffMultiplier => "a number from 1 to 1000000".into(),
            Self::JitterFactor => "a number from 0 to 1".into(),
            Self::ResetBackoffThreshold => duration(&show(Duration::ZERO)),
            Self::InitialBackoff | Self::GiveUpAfter | Self::ConnectTimeout | Self::IdleTimeout => {
                duration(&show(Config::MIN_DURATION))
            }
            Self::MaxLine => format!("a whole number of bytes from 1 to {}", Config::MAX_MAX_LINE),
            Self::Delimiter => "lf, cr, nul or a byte as 0xNN".into(),
            Self::Format => Format::NAMES.into(),
            Self::ServersFile => "a file with a server a line; - is stdin".into(),
            Self::Shard => "I/N with an index I from 0 to N - 1, such as 0/4, or auto".into(),
            Self::ShardBy => "slice or hash".into(),
            Self::LogFormat => "text or json".into(),
            Self::Stats => duration("100ms"),
            Self::StatusAddr => "an IP address with a port, such as 127.0.0.1:9464".into(),
            Self::MetricsServers => "a whole number".into(),
            Self::Ready => "started, any, all or N% from 1% to 100%".into(),
            Self::Generate => "man, bash, zsh, fish or powershell".into(),
        };
        self.word().map_or(value.clone(), |word| format!("{value}, or {word}"))
    }
}

#[cfg(test)]
mod tests;
