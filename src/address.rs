//! Parses and shows servers in the form in which a user writes them.

mod name;

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::text::echo::{character, quoted};

pub use name::ServerNameError;

/// A server to dial: a host, a port from 1 to 65535, and an optional name.
///
/// Parsing is the only way to make one, so every `Server` is well formed. These are its forms:
///
/// | form | example |
/// |---|---|
/// | `host:port` | `localhost:8001` |
/// | `a.b.c.d:port` | `192.0.2.1:8001` |
/// | `[v6]:port` | `[2001:db8::1]:8001` |
/// | `[v6%zone]:port` | `[fe80::1%eth0]:8001` |
///
/// [`address`](Self::address) returns the same form. An IP address is then in its canonical notation
/// ([RFC 5952](https://www.rfc-editor.org/rfc/rfc5952) for IPv6). [`Display`](fmt::Display) writes the address,
/// or the name with the address, as for the log: `gate-7 (10.0.0.7:9000)`.
///
/// Two servers are equal if their hosts, ports and names are. A server with another name is another one, because the
/// name is in all records and metrics of the server.
///
/// # Errors
///
/// Parsing any other text fails with a [`ServerError`].
///
/// ```
/// use tcpcore::Server;
///
/// let server: Server = "[2001:db8:0::1]:8001".parse()?;
/// assert_eq!(server.port(), 8001);
/// assert_eq!(server.to_string(), "[2001:db8::1]:8001");
/// assert_eq!(server.label(), "[2001:db8::1]:8001");
///
/// let server = server.with_name("gate-7")?;
/// assert_eq!(server.to_string(), "gate-7 ([2001:db8::1]:8001)");
/// assert_eq!(server.label(), "gate-7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    host: Host,
    port: NonZeroU16,
    /// Invariant: [`name::check`] accepts it.
    name: Option<Box<str>>,
}

/// The host of a [`Server`]: an address, or a name that needs a lookup before each attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// An address without a zone.
    Ip(IpAddr),
    /// A host name, or an IPv6 address with a zone (`fe80::1%eth0`).
    ///
    /// A zone needs a lookup too: the resolver finds the number of its interface, which may change while
    /// the program runs.
    Name(Box<str>),
}

impl Server {
    /// Returns the host, without brackets.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port, from 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// Names the server: the name replaces the address in formats, and precedes it in the log.
    ///
    /// A name has 1 to 128 bytes. Its characters are visible, and neither blanks nor `"`.
    ///
    /// # Errors
    ///
    /// Fails with a [`ServerNameError`] for any other text.
    pub fn with_name(self, name: impl Into<Box<str>>) -> Result<Server, ServerNameError> {
        let name = name.into();
        name::check(&name)?;
        Ok(Server { name: Some(name), ..self })
    }

    /// Returns the name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns host and port in the form in which a server is parsed.
    pub fn address(&self) -> String {
        Address(self).to_string()
    }

    /// Returns the name, or the [`address`](Self::address) of a server without one.
    pub fn label(&self) -> Cow<'_, str> {
        self.name().map_or_else(|| self.address().into(), Cow::Borrowed)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", Address(self)),
            None => Address(self).fmt(f),
        }
    }
}

/// The host and the port of a server, as text.
struct Address<'a>(&'a Server);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, .. } = self.0;
        match host {
            Host::Ip(ip) => SocketAddr::new(*ip, port.get()).fmt(f),
            // Of the names, only an address with a zone holds a colon.
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        parse(text).map_err(|kind| ServerError { argument: text.into(), kind })
    }
}

impl TryFrom<&str> for Server {
    type Error = ServerError;

    fn try_from(text: &str) -> Result<Self, ServerError> {
        text.parse()
    }
}

/// Finds each server that is listed more than once, with its count, in the order of the list.
pub(crate) fn repeated(servers: &[Server]) -> Vec<(&Server, usize)> {
    let mut counts = HashMap::new();
    for server in servers {
        *counts.entry(server.identity()).or_insert(0_usize) += 1;
    }
    counts.retain(|_, count| *count > 1);
    servers.iter().filter_map(|server| Some((server, counts.remove(&server.identity())?))).collect()
}

impl Server {
    /// Returns a key that is equal for equal addresses, whatever the names of the servers.
    ///
    /// Host names are compared without case. An IPv4 address equals its IPv4-mapped IPv6 address. A root dot makes
    /// a host name different, because a resolver tries its search domains without it.
    pub(crate) fn identity(&self) -> (Host, NonZeroU16) {
        let host = match &self.host {
            Host::Ip(ip) => Host::Ip(ip.to_canonical()),
            // The case of an interface's name counts.
            Host::Name(name) => match name.split_once('%') {
                Some((address, zone)) => {
                    let ip: Ipv6Addr = address.parse().expect("it was parsed before");
                    Host::Name(format!("{ip}%{zone}").into())
                }
                None => Host::Name(name.to_ascii_lowercase().into()),
            },
        };
        (host, self.port)
    }

    /// Returns the text of the [identity](Self::identity), in the form of [`address`](Self::address).
    pub(crate) fn canonical_address(&self) -> String {
        let (host, port) = self.identity();
        Server { host, port, name: None }.address()
    }
}

/// The error of parsing a text that is not a [`Server`].
///
/// It holds the text and the reason. Its `Display` also proposes a server to write instead, if the text
/// leaves little doubt about the intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    argument: Box<str>,
    kind: ServerErrorKind,
}

impl ServerError {
    /// Returns the whole text that was parsed.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// Returns the reason why it is not a server.
    pub fn kind(&self) -> ServerErrorKind {
        self.kind
    }
}

impl Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", quoted(&*self.argument), self.kind)?;
        remedy(&self.argument, self.kind).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// The reason why a text is not a [`Server`]. Its `Display` names the reason and the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerErrorKind {
    /// The text is empty, as an unset variable of a shell is.
    Empty,
    /// More than one server, such as `a:1,b:2`.
    List,
    /// A URL, such as `http://localhost:8001`.
    Url,
    /// A blank or a control character.
    Blank,
    /// This character, which is not ASCII.
    NonAscii(char),
    /// No host before the port, or a port alone.
    EmptyHost,
    /// No port after the host.
    MissingPort,
    /// A port with a character that is not a digit.
    PortNotANumber,
    /// Port 0, which no server can have.
    PortZero,
    /// A port above 65535.
    PortTooLarge,
    /// An IPv6 address without brackets, whose port is ambiguous.
    BareIpv6,
    /// One bracket without the other.
    UnbalancedBracket,
    /// Something other than a port after the closing bracket.
    AfterBracket,
    /// Something other than an IPv6 address within brackets.
    NotIpv6,
    /// A zone that is empty, has more than 63 characters, or has a character that
    /// [RFC 6874](https://www.rfc-editor.org/rfc/rfc6874) does not allow unescaped.
    BadZone,
    /// A host whose last label is a decimal or hexadecimal number, and that is not an IPv4 address.
    ///
    /// Resolvers accept some of these in the notation of `inet_aton`: `1.2.3` is then 1.2.0.3, which is
    /// rarely intended. The rule comes from the
    /// [URL standard](https://url.spec.whatwg.org/#ends-in-a-number-checker).
    NotIpv4,
    /// A name of more than 253 characters ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
    NameTooLong,
    /// A name with an empty label: two dots in a row, or a dot at its start.
    EmptyLabel,
    /// A name with more than 63 characters between two dots
    /// ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
    LabelTooLong,
    /// A name with this character, which is not a letter, a digit, `-`, `_` or `.`.
    BadCharacter(char),
}

impl fmt::Display for ServerErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty, expected host:port",
            Self::List => "a list, expected one server per argument",
            Self::Url => "a URL, expected host:port without a scheme or a path",
            Self::Blank => "a blank or control character, expected host:port",
            Self::NonAscii(c) => {
                let c = character(*c);
                return write!(
                    f,
                    "{c} is not ASCII, expected host:port with the name in its xn-- form"
                );
            }
            Self::EmptyHost => "no host, expected host:port",
            Self::MissingPort => "no port, expected host:port",
            Self::PortNotANumber => "the port is not a whole number, expected one from 1 to 65535",
            Self::PortZero => "port 0 cannot be dialed, expected 1 to 65535",
            Self::PortTooLarge => "the port is too large, expected 1 to 65535",
            Self::BareIpv6 => "an IPv6 address without brackets, expected [address]:port",
            Self::UnbalancedBracket => "a bracket without its partner, expected [address]:port",
            Self::AfterBracket => "more than a port after the bracket, expected [address]:port",
            Self::NotIpv6 => "no IPv6 address within the brackets, expected [address]:port",
            Self::BadZone => {
                "a bad zone after the %, expected the name of an interface, as in [fe80::1%eth0]:80"
            }
            Self::NotIpv4 => {
                "the host ends in a number but is not an IPv4 address, \
                 expected four numbers from 0 to 255 or a name"
            }
            Self::NameTooLong => "the name is too long, expected at most 253 characters",
            Self::EmptyLabel => "a dot too many in the name, expected labels between single dots",
            Self::LabelTooLong => {
                "a label of the name is too long, expected at most 63 characters between dots"
            }
            Self::BadCharacter(':') => {
                "more than one ':', expected host:port, or [address]:port for IPv6"
            }
            Self::BadCharacter(c) => {
                return write!(f, "{c:?} in the name, expected letters, digits, '-', '_' and '.'");
            }
        })
    }
}

/// Proposes a correction if the argument leaves little doubt about the intent.
///
/// Every server in it is well formed.
fn remedy(argument: &str, kind: ServerErrorKind) -> Option<String> {
    let written = |text: &str| parse(text).is_ok().then(|| format!("write {text}"));
    match kind {
        ServerErrorKind::List => {
            let servers = pieces(argument).map(clean).collect::<Vec<_>>();
            let are_servers = servers.iter().all(|server| parse(server).is_ok());
            are_servers.then(|| format!("write {}", servers.join(" ")))
        }
        ServerErrorKind::EmptyHost => {
            let port = argument.rsplit_once(':').map_or(argument, |(_host, port)| port);
            let remedy = written(&format!("localhost:{port}"))?;
            Some(format!("for this machine, {remedy}"))
        }
        ServerErrorKind::BareIpv6 => {
            let (address, port) = argument.rsplit_once(':')?;
            let remedy = written(&format!("[{address}]:{port}"))?;
            // `::1:80` is also an address.
            let is_address = parse_ipv6(argument).is_ok();
            Some(if is_address { format!("{remedy} if {port} is the port") } else { remedy })
        }
        ServerErrorKind::AfterBracket => written(&argument.replacen(']', "]:", 1)),
        ServerErrorKind::NotIpv6 => written(&argument.replacen(['[', ']'], "", 2)),
        ServerErrorKind::NotIpv4 => {
            let (host, port) = argument.rsplit_once(':')?;
            let with_port = |ip: Option<Ipv4Addr>| Some(format!("{}:{port}", ip?));
            match (with_port(ipv4_of(host, Zeros::Ignored)), with_port(ipv4_of(host, Zeros::Octal)))
            {
                (Some(decimal), Some(octal)) if decimal != octal => {
                    let remedy = written(&decimal)?;
                    Some(format!("{remedy}, or {octal} if a leading 0 means octal"))
                }
                (Some(decimal), _) => written(&decimal),
                (None, _) => None,
            }
        }
        _ => written(clean(argument)),
    }
}

/// Removes the parts of a URL, quotes and the prefix `tcp:` of other programs from around `host:port`.
fn clean(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`<>,;".contains(c));
    let text = text.split_once("://").map_or(text, |(_scheme, rest)| rest);
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let text = text.split(['/', '?', '#']).next().unwrap_or(text);
    text.rsplit_once('@').map_or(text, |(_user, rest)| rest)
}

/// Returns whether a text holds several servers. A blank alone is more likely a mistake in one server.
fn is_list(text: &str) -> bool {
    let is_server = |piece: &&str| text.contains([',', ';']) || piece.contains(':');
    pieces(text).filter(is_server).count() > 1
}

/// Splits a list into its parts.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let is_separator = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ';');
    text.split(is_separator).filter(|piece| !piece.is_empty())
}

/// The longest name in characters, without a root dot. RFC 1035 allows 255 bytes, of which the first
/// length byte and the root take two.
const MAX_NAME: usize = 253;

/// The longest label of a name in characters, as RFC 1035 allows.
const MAX_LABEL: usize = 63;

fn parse(text: &str) -> Result<Server, ServerErrorKind> {
    if text.is_empty() {
        return Err(ServerErrorKind::Empty);
    }
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        return Err(ServerErrorKind::NonAscii(c));
    }
    if is_list(text) {
        return Err(ServerErrorKind::List);
    }
    if text.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
        return Err(ServerErrorKind::Blank);
    }
    if text.contains("://") {
        return Err(ServerErrorKind::Url);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = split_bracketed(rest)?;
            (parse_ipv6(address)?, port)
        }
        None => {
            let (host, port) = split_plain(text)?;
            (parse_host(host)?, port)
        }
    };
    Ok(Server { host, port: parse_port(port)?, name: None })
}

/// Splits `address]:port`, without the opening bracket.
fn split_bracketed(rest: &str) -> Result<(&str, &str), ServerErrorKind> {
    let (address, rest) = rest.split_once(']').ok_or(ServerErrorKind::UnbalancedBracket)?;
    if rest.is_empty() {
        return Err(ServerErrorKind::MissingPort);
    }
    let port = rest.strip_prefix(':').ok_or(ServerErrorKind::AfterBracket)?;
    Ok((address, port))
}

fn split_plain(text: &str) -> Result<(&str, &str), ServerErrorKind> {
    if text.contains(['[', ']']) {
        return Err(ServerErrorKind::UnbalancedBracket);
    }
    if is_bare_ipv6(text) {
        return Err(ServerErrorKind::BareIpv6);
    }
    text.rsplit_once(':').ok_or(match parse_port(text) {
        Ok(_) => ServerErrorKind::EmptyHost,
        Err(_) => ServerErrorKind::MissingPort,
    })
}

/// Returns whether the text is an IPv6 address, with or without a zone and a port.
fn is_bare_ipv6(text: &str) -> bool {
    let is_ipv6 = |text: &str| {
        let address = text.split_once('%').map_or(text, |(address, _zone)| address);
        address.parse::<Ipv6Addr>().is_ok()
    };
    is_ipv6(text) || text.rsplit_once(':').is_some_and(|(host, _port)| is_ipv6(host))
}

fn parse_port(port: &str) -> Result<NonZeroU16, ServerErrorKind> {
    if port.is_empty() {
        return Err(ServerErrorKind::MissingPort);
    }
    // The standard parser accepts `+80`.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ServerErrorKind::PortNotANumber);
    }
    // Digits alone can only be too large.
    let port: u16 = port.parse().map_err(|_| ServerErrorKind::PortTooLarge)?;
    NonZeroU16::new(port).ok_or(ServerErrorKind::PortZero)
}

fn parse_ipv6(text: &str) -> Result<Host, ServerErrorKind> {
    if text.is_empty() {
        return Err(ServerErrorKind::EmptyHost);
    }
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let ip: Ipv6Addr = address.parse().map_err(|_| ServerErrorKind::NotIpv6)?;
    match zone {
        None => Ok(Host::Ip(ip.into())),
        Some(zone) if is_zone(zone) => Ok(Host::Name(text.into())),
        Some(_) => Err(ServerErrorKind::BadZone),
    }
}

fn is_zone(zone: &str) -> bool {
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    // Names of interfaces have at most 15 characters on Linux. This bounds the length of a message.
    (1..=MAX_LABEL).contains(&zone.len()) && zone.bytes().all(is_unreserved)
}

fn parse_host(host: &str) -> Result<Host, ServerErrorKind> {
    if host.is_empty() {
        return Err(ServerErrorKind::EmptyHost);
    }
    if ends_in_a_number(host) {
        let ip: Ipv4Addr = host.parse().map_err(|_| ServerErrorKind::NotIpv4)?;
        return Ok(Host::Ip(ip.into()));
    }
    check_name(host)?;
    Ok(Host::Name(host.into()))
}

/// Returns whether a resolver may read the host as an IPv4 address.
///
/// It may if the last label, without a root dot, is decimal digits, or hexadecimal digits after `0x`.
fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = host.rsplit('.').next().unwrap_or(host);
    match strip_0x(label) {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn strip_0x(label: &str) -> Option<&str> {
    label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"))
}

/// The meaning of a leading 0 in a number.
#[derive(Clone, Copy)]
enum Zeros {
    Octal,
    Ignored,
}

/// Reads an address as `inet_aton` does: one to four numbers, the last of which fills the rest.
///
/// Addresses that begin with 0 are left out, because only 0.0.0.0 can be dialed. A small number alone is
/// more likely a port.
fn ipv4_of(host: &str, zeros: Zeros) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host
        .strip_suffix('.')
        .unwrap_or(host)
        .split('.')
        .map(|label| parse_number(label, zeros))
        .collect::<Option<_>>()?;
    let (last, bytes) = numbers.split_last()?;
    let mut address = 0_u32;
    let mut bits = 32_u32;
    for byte in bytes {
        bits = bits.checked_sub(8).filter(|_| *byte <= 255)?;
        address += byte << bits;
    }
    if bits == 0 || u64::from(*last) >> bits != 0 {
        return None;
    }
    let ip = Ipv4Addr::from(address + last);
    (ip.octets()[0] != 0 || ip.is_unspecified()).then_some(ip)
}

fn parse_number(label: &str, zeros: Zeros) -> Option<u32> {
    let (digits, radix) = match (strip_0x(label), zeros) {
        (Some(digits), _) => (digits, 16),
        (None, Zeros::Octal) if label.starts_with('0') => (label, 8),
        (None, _) => (label, 10),
    };
    // The standard parser accepts a sign.
    let is_number = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number.then(|| u32::from_str_radix(digits, radix).ok())?
}

fn check_name(name: &str) -> Result<(), ServerErrorKind> {
    // A dot at the end is the root, with which a resolver does not try its search domains.
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(c) = name.chars().find(|&c| !is_allowed(c)) {
        return Err(ServerErrorKind::BadCharacter(c));
    }
    if name.len() > MAX_NAME {
        return Err(ServerErrorKind::NameTooLong);
    }
    for label in name.split('.') {
        match label.len() {
            0 => return Err(ServerErrorKind::EmptyLabel),
            1..=MAX_LABEL => {}
            _ => return Err(ServerErrorKind::LabelTooLong),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
