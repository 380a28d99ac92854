//! The decoders of the worlds, and what each must make of a line.

use tcpcore::internals::codec::number::NumberDecoder;
use tcpcore::internals::proto::link::MIN_ROOM;
use tcpcore::{Config, Decoder, Lines};

use super::chance::{Chance, Kind};
use super::net::LineKind;
use super::oracle::Rules;

/// The result of a line that is not oversized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    PassedOn,
    Skipped,
    Malformed,
}

/// A decoder, with what it must do by other means than its own.
pub(super) trait Codec: Decoder<Record: PartialEq> {
    fn new(config: &Config) -> Self;

    /// Adds the records of a line, which is not oversized and comes without its delimiter.
    fn expect(
        line: &[u8],
        kind: LineKind,
        rules: &Rules,
        records: &mut Vec<Self::Record>,
        chance: &mut Chance<'_>,
    ) -> Fate;

    /// The most bytes that the room for so many records allows to be read, beside an unfinished line of `held`
    /// bytes.
    fn most_bytes(held: usize, room: usize) -> usize;

    /// The least room with which every connection can be read.
    fn least_room(rules: &Rules) -> usize;
}

impl Codec for NumberDecoder {
    fn new(config: &Config) -> NumberDecoder {
        config.number_decoder().expect("numbers do not contain the delimiter")
    }

    fn expect(
        _line: &[u8],
        kind: LineKind,
        rules: &Rules,
        records: &mut Vec<i64>,
        chance: &mut Chance<'_>,
    ) -> Fate {
        match kind {
            LineKind::Number(number) if number.unsigned_abs().is_multiple_of(rules.divisor) => {
                records.push(number);
                Fate::PassedOn
            }
            LineKind::Number(_) => Fate::Skipped,
            LineKind::Heartbeat => {
                chance.saw(Kind::Heartbeat);
                Fate::Skipped
            }
            LineKind::Malformed => {
                chance.saw(Kind::Malformed);
                Fate::Malformed
            }
            LineKind::Oversized => unreachable!("it is decoded without its text"),
        }
    }

    /// A digit and a delimiter are the shortest number.
    fn most_bytes(_held: usize, room: usize) -> usize {
        2 * room
    }

    fn least_room(_rules: &Rules) -> usize {
        MIN_ROOM
    }
}

/// Whole lines, whatever is in them.
impl Codec for Lines {
    fn new(config: &Config) -> Lines {
        Lines::new(config.framing())
    }

    fn expect(
        line: &[u8],
        kind: LineKind,
        rules: &Rules,
        records: &mut Vec<u8>,
        chance: &mut Chance<'_>,
    ) -> Fate {
        records.extend_from_slice(line);
        records.push(rules.delimiter);
        chance.saw(match kind {
            _ if line.is_empty() => Kind::EmptyLinePassedOn,
            LineKind::Malformed => Kind::JunkPassedOn,
            _ => Kind::WholeLine,
        });
        Fate::PassedOn
    }

    /// The bytes that are held become records together with the delimiter that is read.
    fn most_bytes(held: usize, room: usize) -> usize {
        room.saturating_sub(held)
    }

    /// That of the longest line with its delimiter. Two bytes of a byte order mark may be longer than the limit.
    fn least_room(rules: &Rules) -> usize {
        (rules.max_line.max(2) + 1).max(MIN_ROOM)
    }
}
