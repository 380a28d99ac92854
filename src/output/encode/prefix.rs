//! Writes what stands in front of a record: its worker, or its server and time.

use std::collections::HashMap;
use std::io::Write;

use crate::address::Server;
use crate::format::Format;
use crate::origin::Origin;
use crate::partition::Shard;
use crate::stats::ServerNames;

use super::escape;

/// The size in bytes of a piece of a prefix. A copy of fixed size is two stores instead of a call.
const PIECE: usize = 32;

/// The most texts of servers that were added later. They are made anew when there are more.
const MOST_ADDED: usize = 64 * 1024;

/// The text in front of all records of one origin.
///
/// The text of a server is made once. With a new origin, only the parts are joined, as the origin may change with
/// every read of a connection.
#[derive(Debug)]
pub(super) struct Prefix {
    format: Format,
    /// By server: the text up to the time.
    servers: Box<[Box<[u8]>]>,
    /// The same of servers that were added later.
    added: HashMap<usize, Box<[u8]>>,
    names: Option<ServerNames>,
    /// The text of the shard, which stands after the time in JSON. It is empty without a shard.
    shard: String,
    /// The text after the shard.
    last: &'static [u8],
    /// The prefix, and as many zeros as make whole pieces.
    text: Vec<u8>,
    len: usize,
}

impl Prefix {
    /// Makes the prefix of records whose origins have the indices of these servers. `last` ends it in JSON.
    pub(super) fn new(format: Format, servers: &[Server], last: &'static [u8]) -> Prefix {
        let servers = servers.iter().map(|server| of_server(format, &server.label()));
        Prefix {
            format,
            servers: servers.collect(),
            added: HashMap::new(),
            names: None,
            shard: String::new(),
            last,
            text: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn set_shard(&mut self, shard: Option<Shard>) {
        self.shard = shard.map_or(String::new(), |shard| format!("\"shard\":\"{shard}\","));
    }

    pub(super) fn set_servers(&mut self, servers: ServerNames) {
        self.names = Some(servers);
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.text.clear();
        match self.format {
            Format::Plain => {}
            Format::Task => {
                write!(self.text, "{}> ", origin.worker() + 1).expect("a vector takes all");
            }
            Format::Tsv | Format::Json => match self.servers.get(origin.server()) {
                Some(server) => self.text.extend_from_slice(server),
                None => {
                    let Prefix { format, added, names, text, .. } = self;
                    if added.len() >= MOST_ADDED {
                        added.clear();
                    }
                    let make = || of_server(*format, &name_of(origin.server(), names.as_ref()));
                    text.extend_from_slice(added.entry(origin.server()).or_insert_with(make));
                }
            },
        }
        if self.format == Format::Json {
            write!(self.text, "{}", origin.rfc3339()).expect("a vector takes all");
            self.text.extend_from_slice(b"\",");
            self.text.extend_from_slice(self.shard.as_bytes());
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

/// Returns the name of a server that was added later. One that is not in the list has none, and its number stands for
/// it.
fn name_of(server: usize, names: Option<&ServerNames>) -> String {
    match names.and_then(|names| names.get(server)) {
        Some(server) => server.label().into_owned(),
        None => format!("#{server}"),
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
