//! Writes what stands in front of a record: its worker, or its server and time.

use crate::address::Server;
use crate::format::Format;
use crate::origin::Origin;

use super::escape;

/// The size in bytes of a piece of a prefix. A copy of fixed size is two stores instead of a call.
const PIECE: usize = 32;

/// The text in front of all records of one origin.
///
/// The text of a server is made once. With a new origin, only the parts are joined, as the origin may change with
/// every read of a connection.
#[derive(Debug)]
pub(super) struct Prefix {
    format: Format,
    /// By server: the text up to the time.
    servers: Box<[Box<[u8]>]>,
    /// The text after the time.
    last: &'static [u8],
    /// The prefix, and as many zeros as make whole pieces.
    text: Vec<u8>,
    len: usize,
}

impl Prefix {
    /// Makes the prefix of records whose origins have the indices of these servers. `last` ends it in JSON.
    pub(super) fn new(format: Format, servers: &[Server], last: &'static [u8]) -> Prefix {
        let servers = servers.iter().map(|server| of_server(format, &server.to_string()));
        Prefix { format, servers: servers.collect(), last, text: Vec::new(), len: 0 }
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.text.clear();
        match self.format {
            Format::Plain => {}
            Format::Task => {
                self.text.extend_from_slice(format!("{}> ", origin.worker() + 1).as_bytes());
            }
            Format::Tsv | Format::Json => match self.servers.get(origin.server()) {
                Some(server) => self.text.extend_from_slice(server),
                // A server that is not in the list has no name.
                None => {
                    let name = format!("#{}", origin.server());
                    self.text.extend_from_slice(&of_server(self.format, &name));
                }
            },
        }
        if self.format == Format::Json {
            self.text.extend_from_slice(&rfc3339(origin.time_ms()));
            self.text.extend_from_slice(b"\",");
            self.text.extend_from_slice(self.last);
        }
        self.len = self.text.len();
        self.text.resize(self.len.next_multiple_of(PIECE), 0);
    }

    /// Returns the number of bytes that [`write`](Self::write) needs.
    pub(super) fn space(&self) -> usize {
        self.text.len()
    }

    /// Writes the prefix to the start of `to` and returns its length. It may overwrite [`space`](Self::space) bytes.
    #[inline]
    pub(super) fn write(&self, to: &mut [u8]) -> usize {
        let pieces = to[..self.text.len()].chunks_exact_mut(PIECE);
        for (piece, to) in self.text.chunks_exact(PIECE).zip(pieces) {
            let (piece, to): (&[u8; PIECE], &mut [u8; PIECE]) =
                (piece.try_into().expect("a whole piece"), to.try_into().expect("a whole piece"));
            *to = *piece;
        }
        self.len
    }
}

/// Returns the text of a server up to the time, or up to the record without one.
fn of_server(format: Format, name: &str) -> Box<[u8]> {
    let mut text = vec![0; escape::space(name.len())];
    let (before, len, after) = match format {
        Format::Plain | Format::Task => return Box::default(),
        Format::Tsv => ("", escape::tsv(name.as_bytes(), &mut text), "\t"),
        Format::Json => {
            ("{\"server\":\"", escape::json(name.as_bytes(), &mut text), "\",\"time\":\"")
        }
    };
    [before.as_bytes(), &text[..len], after.as_bytes()].concat().into()
}

/// Formats a time in milliseconds since 1970 by RFC 3339, in UTC.
///
/// The date is found as in Howard Hinnant's *chrono-compatible low-level date algorithms*: years begin in March, so
/// that the leap day is the last of its year.
fn rfc3339(time_ms: u64) -> [u8; 24] {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    // The last millisecond of the year 9999, as RFC 3339 has no later one.
    const LAST_MS: u64 = 253_402_300_799_999;
    let time_ms = time_ms.min(LAST_MS);
    let (days, ms) = (time_ms / DAY_MS, time_ms % DAY_MS);
    // Eras of 400 years, from 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, ms / 3_600_000),
        (14, 2, ms / 60_000 % 60),
        (17, 2, ms / 1000 % 60),
        (20, 3, ms % 1000),
    ];
    for (at, digits, mut value) in parts {
        for to in text[at..at + digits].iter_mut().rev() {
            *to += u8::try_from(value % 10).expect("a digit");
            value /= 10;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::{Duration, SystemTime};

    fn with_humantime(time_ms: u64) -> String {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(time_ms);
        humantime::format_rfc3339_millis(time).to_string()
    }

    #[test]
    fn every_day_of_five_centuries_is_right() {
        for day in 0..500 * 366 {
            let time_ms = day * 86_400_000 + day % 86_400_000;
            assert_eq!(String::from_utf8_lossy(&rfc3339(time_ms)), with_humantime(time_ms));
        }
    }

    #[test]
    fn a_time_after_the_year_9999_is_its_end() {
        assert_eq!(&rfc3339(u64::MAX), b"9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn any_time_is_written_as_humantime_does(time_ms in 0..=253_402_300_799_999_u64) {
            let text = rfc3339(time_ms);
            prop_assert_eq!(String::from_utf8_lossy(&text), with_humantime(time_ms));
        }
    }
}
