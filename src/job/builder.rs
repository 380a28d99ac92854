//! Builds a job with a decoder and an encoder of the user's.

use std::io::{self, Write};

use crate::codec::number::NumberDecoder;
use crate::codec::{ByLine, Decoder, LineDecoder, Lines};
use crate::config::{Config, ConfigError};
use crate::job::Job;
use crate::origin::Origin;
use crate::output::encode::{EachLine, EachRecord, Encoder, PlainLines};

/// Builds a [`Job`]: what it makes of lines, and what it does with the records.
///
/// [`Job::builder`] makes one for numbers, written one a line. [`lines`](Self::lines), [`decoder`](Self::decoder)
/// and [`line_decoder`](Self::line_decoder) change what a line becomes. [`encoder`](Self::encoder) changes how a
/// record is written. [`start`](Self::start) writes the records to an output, and [`for_each`](Self::for_each)
/// passes them to a closure.
///
/// ```
/// use std::net::TcpListener;
/// use std::num::ParseFloatError;
/// use std::sync::mpsc;
/// use tcpcore::{Config, Job, LineDecoder};
///
/// /// Decodes a temperature in degrees.
/// #[derive(Clone, Debug)]
/// struct Temperature;
///
/// impl LineDecoder for Temperature {
///     type Record = f64;
///     type Error = ParseFloatError;
///
///     fn decode_line(&self, line: &[u8]) -> Result<Option<f64>, ParseFloatError> {
///         String::from_utf8_lossy(line).trim().parse().map(Some)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use std::io::Write;
/// // A server on a free port, to have something to dial.
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let server = listener.local_addr()?.to_string().parse()?;
/// let feed = std::thread::spawn(move || listener.accept()?.0.write_all(b"23.5\n-4\n"));
///
/// let config = Config::builder().servers([server]).once(true).build()?;
/// let (sender, receiver) = mpsc::channel();
/// let job = Job::builder(config).line_decoder(Temperature).for_each(move |origin, degrees| {
///     _ = sender.send((origin.server(), *degrees));
/// })?;
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), [(0, 23.5), (0, -4.0)]);
/// assert_eq!(job.wait()?.totals.printed, 2);
/// # feed.join().expect("the feed does not panic")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct JobBuilder<D, E> {
    config: Config,
    /// The error of a setting that the decoder cannot have ends the start.
    decoder: Result<D, ConfigError>,
    encoder: E,
}

impl<E> JobBuilder<NumberDecoder, E> {
    /// Makes a builder for numbers with this encoder.
    pub(super) fn numbers(config: Config, encoder: E) -> JobBuilder<NumberDecoder, E> {
        JobBuilder { decoder: config.number_decoder(), config, encoder }
    }
}

impl<E> JobBuilder<Lines, E> {
    /// Makes a builder for lines with this encoder.
    pub(super) fn whole_lines(config: Config, encoder: E) -> JobBuilder<Lines, E> {
        JobBuilder { decoder: Ok(Lines::new(config.framing())), config, encoder }
    }
}

impl<D, E> JobBuilder<D, E> {
    /// Makes a record of each whole line, byte for byte with its delimiter. The divisor is not used.
    ///
    /// The records of [`Lines`] are bytes, and [`PlainLines`] writes them as they are.
    pub fn lines(self) -> JobBuilder<Lines, PlainLines> {
        let encoder = PlainLines::new(self.config.framing());
        JobBuilder::whole_lines(self.config, encoder)
    }

    /// Sets the decoder, which decodes regions of many lines. The divisor is not used.
    pub fn decoder<N: Decoder>(self, decoder: N) -> JobBuilder<N, E> {
        JobBuilder { config: self.config, decoder: Ok(decoder), encoder: self.encoder }
    }

    /// Sets a decoder that decodes one line at a time. The divisor is not used. Lines longer than
    /// [`Config::max_line`] are oversized.
    pub fn line_decoder<L: LineDecoder>(self, decoder: L) -> JobBuilder<ByLine<L>, E> {
        let decoder = ByLine::new(decoder, self.config.framing());
        self.decoder(decoder)
    }

    /// Sets the encoder.
    pub fn encoder<N>(self, encoder: N) -> JobBuilder<D, N> {
        JobBuilder { config: self.config, decoder: self.decoder, encoder }
    }
}

impl<D: Decoder, E> JobBuilder<D, E> {
    /// Starts a job that writes whole lines to `output`.
    ///
    /// It flushes `output` as soon as no more records are queued. `output` may block: TCP's flow control then
    /// slows the servers down, and no line is lost.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a thread, a descriptor or a random seed, or if numbers may contain the delimiter:
    /// see [`Config::number_decoder`]. Threads that have started then end. A server that cannot be reached is no
    /// error, because the job reconnects.
    pub fn start(self, output: impl Write + Send + 'static) -> io::Result<Job>
    where
        E: Encoder<D::Record>,
    {
        let decoder =
            self.decoder.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Job::start_with(self.config, decoder, self.encoder, output)
    }

    /// Starts a job that passes each record to `f`, with its origin. The encoder is not used.
    ///
    /// `f` runs on the output thread, and gets the records of a server in their order. It may block: TCP's flow
    /// control then slows the servers down. Each record counts as printed once `f` returns. The job stops if
    /// `f` panics, and [`Job::wait`] then panics, too. To end the job from `f`, use a
    /// [`StopHandle`](crate::StopHandle).
    ///
    /// The records of [`Lines`] are single bytes: use [`for_each_line`](JobBuilder::for_each_line) for them.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn for_each(self, f: impl FnMut(Origin, &D::Record) + Send + 'static) -> io::Result<Job> {
        self.encoder(EachRecord::new(f)).start(io::sink())
    }
}

impl<E> JobBuilder<Lines, E> {
    /// Starts a job that passes each line to `f`, with its origin, as [`for_each`](Self::for_each) does. The line
    /// is given without its delimiter, and without one carriage return in front of a line feed.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub fn for_each_line(self, f: impl FnMut(Origin, &[u8]) + Send + 'static) -> io::Result<Job> {
        let framing = self.config.framing();
        self.encoder(EachLine::new(framing, f)).start(io::sink())
    }
}

#[cfg(test)]
mod tests;
