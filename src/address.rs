//! The address of a server, as it is written and as it is dialed.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::text::echo::{character, quoted};

/// A server to dial: a host and a port from 1 to 65535.
///
/// It is made by parsing one of these forms, so a `Server` that exists is well formed:
///
/// | form | example |
/// |---|---|
/// | `host:port` | `localhost:8001` |
/// | `a.b.c.d:port` | `192.0.2.1:8001` |
/// | `[v6]:port` | `[2001:db8::1]:8001` |
/// | `[v6%zone]:port` | `[fe80::1%eth0]:8001` |
///
/// [`Display`](fmt::Display) writes the same form back, with an address in its canonical notation.
///
/// ```
/// use tcpcore::Server;
///
/// let server: Server = "[2001:db8:0::1]:8001".parse()?;
/// assert_eq!(server.port(), 8001);
/// assert_eq!(server.to_string(), "[2001:db8::1]:8001");
/// # Ok::<(), tcpcore::ServerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    host: Host,
    port: NonZeroU16,
}

/// Where a [`Server`] is: an address that can be dialed as it is, or a name to be resolved first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A host name, or an IPv6 address with a zone (`fe80::1%eth0`): the number of the zone's
    /// interface is the resolver's to find, and may change while the program runs.
    Name(Box<str>),
}

impl Server {
    /// The host, without brackets.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, from 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port.get()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port()).fmt(f),
            // Of the names, only an address with a zone holds a colon.
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
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

/// Finds the servers that are listed more than once, each with how often, in the order of the list.
///
/// The case of a name makes no difference, nor does an IPv4 address that is written as an IPv6 one.
/// A root dot does: without it a resolver tries its search domains.
pub(crate) fn repeated(servers: &[Server]) -> Vec<(&Server, usize)> {
    let mut counts = HashMap::new();
    for server in servers {
        *counts.entry(server.identity()).or_insert(0_usize) += 1;
    }
    counts.retain(|_, count| *count > 1);
    servers.iter().filter_map(|server| Some((server, counts.remove(&server.identity())?))).collect()
}

impl Server {
    /// What is equal for two servers that are the same.
    fn identity(&self) -> (Host, NonZeroU16) {
        let host = match &self.host {
            Host::Ip(ip) => Host::Ip(ip.to_canonical()),
            // Names of interfaces differ in case.
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
}

/// A text that is not a [`Server`]: which text, and what is wrong with it. Its `Display` also says
/// what to write instead, where that can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    argument: Box<str>,
    kind: ServerErrorKind,
}

impl ServerError {
    /// The text as it was given.
    pub fn argument(&self) -> &str {
        &self.argument
    }

    /// What is wrong with it.
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

/// What can be wrong with the text of a [`Server`]. Its `Display` says what was expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerErrorKind {
    /// Nothing at all, as of a shell's variable that is not set.
    Empty,
    /// More than one server, such as `a:1,b:2`.
    List,
    /// A URL, such as `http://localhost:8001`.
    Url,
    /// A blank or a control character anywhere.
    Blank,
    /// This character beyond ASCII anywhere.
    NonAscii(char),
    /// No host before the port, or a port alone.
    EmptyHost,
    /// No port after the host.
    MissingPort,
    /// A port with anything but digits in it.
    PortNotANumber,
    /// Port 0, which cannot be dialed.
    PortZero,
    /// A port above 65535.
    PortTooLarge,
    /// An IPv6 address without brackets, which leaves open where the port begins.
    BareIpv6,
    /// One bracket without the other.
    UnbalancedBracket,
    /// Something other than a port after the closing bracket.
    AfterBracket,
    /// Something other than an IPv6 address within brackets.
    NotIpv6,
    /// A zone that is empty or holds a character that
    /// [RFC 6874](https://www.rfc-editor.org/rfc/rfc6874) does not allow unescaped.
    BadZone,
    /// A host whose last label is a decimal or hexadecimal number, and that is not an IPv4 address.
    ///
    /// Resolvers read some of them as one in the notation of `inet_aton` (`1.2.3` as `1.2.0.3`),
    /// which is rarely what was meant. The rule is that of the
    /// [URL standard](https://url.spec.whatwg.org/#ends-in-a-number-checker).
    NotIpv4,
    /// A name of more than 253 characters ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
    NameTooLong,
    /// A name with nothing between two dots, or before the first.
    EmptyLabel,
    /// A name with more than 63 characters between two dots
    /// ([RFC 1035](https://www.rfc-editor.org/rfc/rfc1035)).
    LabelTooLong,
    /// A name with this character in it.
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

/// Says what to write instead, if the argument leaves little doubt about what was meant. All that it
/// names is well formed.
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
            // `::1:80` is an address as well.
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

/// Removes what stands around `host:port` in a URL, in quotes and in the notation of other programs.
fn clean(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || "\"'`<>,;".contains(c));
    let text = text.split_once("://").map_or(text, |(_scheme, rest)| rest);
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let text = text.split(['/', '?', '#']).next().unwrap_or(text);
    text.rsplit_once('@').map_or(text, |(_user, rest)| rest)
}

/// Whether a text holds several servers. A blank alone is more likely a mistake in one.
fn is_list(text: &str) -> bool {
    let is_server = |piece: &&str| text.contains([',', ';']) || piece.contains(':');
    pieces(text).filter(is_server).count() > 1
}

/// The parts of a list.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let is_separator = |c: char| c.is_ascii_whitespace() || matches!(c, ',' | ';');
    text.split(is_separator).filter(|piece| !piece.is_empty())
}

/// The longest name and the longest label of one, in characters. RFC 1035 counts a length byte for
/// each label and the root; 253 is what that leaves for the text.
const MAX_NAME: usize = 253;
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
    Ok(Server { host, port: parse_port(port)? })
}

/// Splits `address]:port`, of which the opening bracket is gone already.
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

/// Whether the text, with or without a port after it, is an IPv6 address or one with a zone.
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
    // The standard parser would take `+80`.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ServerErrorKind::PortNotANumber);
    }
    // Of digits alone, only the size can be wrong.
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
    // No system has interface names of even a quarter of this; it only bounds the message.
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

/// Whether a resolver may take the host for an IPv4 address: the last label, without a root dot, is
/// decimal digits, or hexadecimal ones after `0x`.
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

/// What a leading 0 of a number says.
#[derive(Clone, Copy)]
enum Zeros {
    Octal,
    Ignored,
}

/// The address that `inet_aton` reads: one to four numbers, of which the last fills all that is left.
///
/// Addresses that begin with 0 cannot be dialed, except for 0.0.0.0. A lone small number is more
/// likely a port.
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
    // The standard parser would take a sign.
    let is_number = digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number.then(|| u32::from_str_radix(digits, radix).ok())?
}

fn check_name(name: &str) -> Result<(), ServerErrorKind> {
    // A dot at the end is the root: it keeps a resolver from trying its search domains.
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
