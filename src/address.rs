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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server(text: &str) -> Server {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn kind(text: &str) -> ServerErrorKind {
        match text.parse::<Server>() {
            Ok(server) => panic!("{text:?} was taken as {server:?}"),
            Err(error) => {
                assert_eq!(error.argument(), text);
                error.kind()
            }
        }
    }

    fn message(text: &str) -> String {
        text.parse::<Server>().unwrap_err().to_string()
    }

    fn name_of(server: &Server) -> &str {
        match server.host() {
            Host::Name(name) => name,
            Host::Ip(ip) => panic!("{ip} is not a name"),
        }
    }

    #[test]
    fn each_form_is_taken() {
        assert_eq!(name_of(&server("localhost:8001")), "localhost");
        assert_eq!(server("192.0.2.1:80").host(), &Host::Ip(Ipv4Addr::new(192, 0, 2, 1).into()));
        assert_eq!(server("[::1]:80").host(), &Host::Ip(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(name_of(&server("[fe80::1%eth0]:80")), "fe80::1%eth0");
        assert_eq!(name_of(&server("my_host-1.example.:80")), "my_host-1.example.");
        assert_eq!(name_of(&server("3com.example:80")), "3com.example");
    }

    #[test]
    fn display_is_what_was_written_with_canonical_addresses() {
        for text in ["localhost:8001", "192.0.2.1:80", "[::1]:80", "[FE80::1%eth0.7]:80", "a.b.:1"]
        {
            assert_eq!(server(text).to_string(), text);
        }
        assert_eq!(server("[2001:DB8:0:0::1]:0080").to_string(), "[2001:db8::1]:80");
    }

    #[test]
    fn ports_1_and_65535_are_taken_and_their_neighbours_are_not() {
        assert_eq!(server("a:1").port(), 1);
        assert_eq!(server("a:65535").port(), 65535);
        assert_eq!(kind("a:0"), ServerErrorKind::PortZero);
        assert_eq!(kind("a:65536"), ServerErrorKind::PortTooLarge);
        assert_eq!(kind("a:99999999999999999999"), ServerErrorKind::PortTooLarge);
    }

    #[test]
    fn a_port_is_digits_only() {
        for text in ["a:+80", "a:-80", "a:80x", "a:0x50", "a:80/path", "[::1]:+80"] {
            assert_eq!(kind(text), ServerErrorKind::PortNotANumber, "{text}");
        }
    }

    #[test]
    fn a_missing_host_or_port_is_named() {
        assert_eq!(kind(""), ServerErrorKind::Empty);
        for text in ["localhost", "localhost:", "65536", "0", "192.0.2.1", "[::1]", "[::1]:", "-"] {
            assert_eq!(kind(text), ServerErrorKind::MissingPort, "{text}");
        }
        for text in [":80", "[]:80", "80"] {
            assert_eq!(kind(text), ServerErrorKind::EmptyHost, "{text}");
        }
    }

    #[test]
    fn ipv6_needs_its_brackets() {
        for text in
            ["::1", "::1:8001", "2001:db8:0:0:0:0:0:1:80", "fe80::1%eth0:80", "fe80::1%eth0"]
        {
            assert_eq!(kind(text), ServerErrorKind::BareIpv6, "{text}");
        }
        for text in ["[::1", "[::1:80", "::1]:80", "a[::1]:80", "a]:80"] {
            assert_eq!(kind(text), ServerErrorKind::UnbalancedBracket, "{text}");
        }
        for text in ["[::1]80", "[::1]x:80", "[::1]]:80"] {
            assert_eq!(kind(text), ServerErrorKind::AfterBracket, "{text}");
        }
        for text in ["[localhost]:80", "[192.0.2.1]:80", "[:::1]:80", "[%eth0]:80", "[[::1]:80"] {
            assert_eq!(kind(text), ServerErrorKind::NotIpv6, "{text}");
        }
    }

    #[test]
    fn a_zone_is_one_to_63_unreserved_characters() {
        let of_length = |length: usize| format!("[fe80::1%{}]:80", "z".repeat(length));
        assert_eq!(server(&of_length(63)).to_string(), of_length(63));
        assert_eq!(kind(&of_length(0)), ServerErrorKind::BadZone);
        assert_eq!(kind(&of_length(64)), ServerErrorKind::BadZone);
        assert_eq!(kind("[fe80::1%eth/0]:80"), ServerErrorKind::BadZone);
        assert_eq!(kind("[fe80::1%25%eth0]:80"), ServerErrorKind::BadZone);
    }

    #[test]
    fn a_host_that_ends_in_a_number_is_an_ipv4_address_or_nothing() {
        for text in [
            "256.1.1.1:80",
            "1.2.3:80",
            "1.2.3.4.5:80",
            "01.2.3.4:80",
            "80:80",
            "1.2.3.4.:80",
            "127.1:80",
            "2130706433:80",
            "0x7f000001:80",
            "0X7F000001.:80",
            "0x7f.1:80",
            "127.0.0.0x1:80",
            "0x:80",
            "server.1:80",
            "server.0xA.:80",
            "3com.0:80",
        ] {
            assert_eq!(kind(text), ServerErrorKind::NotIpv4, "{text}");
        }
        for text in [
            "3com.example:80",
            "0x7f.example:80",
            "127.0.0.1.example:80",
            "0x7g:80",
            "x7f:80",
            "1x7f:80",
            "1a:80",
            "1-2:80",
            "a1.:80",
        ] {
            assert_eq!(server(text).to_string(), text);
        }
        assert_eq!(kind("1..:80"), ServerErrorKind::EmptyLabel);
    }

    #[test]
    fn the_remedy_for_a_notation_of_inet_aton_is_the_address() {
        let remedy = |host: &str| remedy(&format!("{host}:80"), ServerErrorKind::NotIpv4);
        for (host, address) in [
            ("127.1", "127.0.0.1"),
            ("127.65535", "127.0.255.255"),
            ("127.16777215", "127.255.255.255"),
            ("1.2.3", "1.2.0.3"),
            ("1.2.65535", "1.2.255.255"),
            ("2130706433", "127.0.0.1"),
            ("4294967295", "255.255.255.255"),
            ("0x7f000001", "127.0.0.1"),
            ("0X7F.1", "127.0.0.1"),
            ("0x7f.0.0.0x1", "127.0.0.1"),
            ("127.0.0.1.", "127.0.0.1"),
            ("0xffffffff.", "255.255.255.255"),
            ("0", "0.0.0.0"),
            // Octal has no 8 and no 9, and of these both readings are the same.
            ("192.168.009.1", "192.168.9.1"),
            ("192.168.001.01", "192.168.1.1"),
        ] {
            assert_eq!(remedy(host), Some(format!("write {address}:80")), "{host}");
        }
        assert_eq!(
            remedy("192.168.001.010").unwrap(),
            "write 192.168.1.10:80, or 192.168.1.8:80 if a leading 0 means octal"
        );
        for host in [
            "80",
            "0.1.2.3.4",
            "256.1.1.1",
            "1.256.1.1",
            "1.1.1.256",
            "1.1.65536",
            "127.16777216",
            "4294967296",
            "1.2.3.4.5",
            "1.2.3.4.5.6",
            "server.1",
            "1.+2.3",
            "0x",
            "0xfffffffff",
            "1..2",
        ] {
            assert_eq!(remedy(host), None, "{host}");
        }
        assert_eq!(super::remedy("127.1:0", ServerErrorKind::NotIpv4), None);
        assert_eq!(super::remedy("010.1:0", ServerErrorKind::NotIpv4), None);
    }

    #[test]
    fn blanks_urls_and_other_alphabets_are_named() {
        for text in ["local host:80", " a:80", "a:80 ", "a:80\n", "a\t:80", "a\0:80"] {
            assert_eq!(kind(text), ServerErrorKind::Blank, "{text:?}");
        }
        for text in ["http://localhost:80", "tcp://a:1", "http://[::1]:80/"] {
            assert_eq!(kind(text), ServerErrorKind::Url, "{text}");
        }
        for text in ["b\u{fc}cher.example:80", "loc\u{430}lhost:80", "a:\u{661}", "a\u{a0}:80"] {
            let c = text.chars().find(|c| !c.is_ascii()).unwrap();
            assert_eq!(kind(text), ServerErrorKind::NonAscii(c), "{text}");
        }
        assert_eq!(
            ServerErrorKind::NonAscii('\u{430}').to_string(),
            "'\u{430}' (U+0430) is not ASCII, expected host:port with the name in its xn-- form"
        );
    }

    #[test]
    fn a_name_has_bounded_labels_of_few_characters() {
        for (text, c) in [(",a:80", ','), ("user@a:80", '@'), ("a:b:80", ':'), ("a%eth0:80", '%')] {
            assert_eq!(kind(text), ServerErrorKind::BadCharacter(c), "{text}");
        }
        for text in ["a..b:80", ".a:80", "a..:80"] {
            assert_eq!(kind(text), ServerErrorKind::EmptyLabel, "{text}");
        }
        let label = "a".repeat(63);
        assert_eq!(name_of(&server(&format!("{label}:80"))), label);
        assert_eq!(kind(&format!("{label}a:80")), ServerErrorKind::LabelTooLong);
        assert_eq!(kind(&format!("b.{label}a.b:80")), ServerErrorKind::LabelTooLong);
    }

    #[test]
    fn a_name_has_at_most_253_characters_and_the_root() {
        let longest = format!("{}{}", "abcdefghi.".repeat(25), "abc");
        assert_eq!(longest.len(), 253);
        assert_eq!(name_of(&server(&format!("{longest}:80"))), longest);
        assert_eq!(name_of(&server(&format!("{longest}.:80"))), format!("{longest}."));
        assert_eq!(kind(&format!("{longest}d:80")), ServerErrorKind::NameTooLong);
    }

    #[test]
    fn several_servers_in_one_argument_are_a_list() {
        for (text, remedy) in [
            ("a:1,b:2", "a:1 b:2"),
            ("a:1, b:2,", "a:1 b:2"),
            ("a:1;b:2", "a:1 b:2"),
            ("a:1 b:2\t[::1]:3\n", "a:1 b:2 [::1]:3"),
            ("tcp://a:1,tcp://b:2", "a:1 b:2"),
        ] {
            assert_eq!(kind(text), ServerErrorKind::List, "{text:?}");
            let expected = "a list, expected one server per argument; write ";
            assert!(message(text).ends_with(&format!(": {expected}{remedy}")), "{}", message(text));
        }
        // Which port `a` has is left open.
        assert_eq!(message("a,b:80"), "\"a,b:80\": a list, expected one server per argument");
        assert_eq!(kind("local host:80"), ServerErrorKind::Blank);
        assert_eq!(kind("a:80 b"), ServerErrorKind::Blank);
        assert_eq!(kind("a:80,"), ServerErrorKind::PortNotANumber);
    }

    #[test]
    fn an_error_names_the_argument_as_written_and_what_was_expected() {
        assert_eq!(message("localhost"), "\"localhost\": no port, expected host:port");
        assert_eq!(message(""), "\"\": empty, expected host:port");
        assert_eq!(
            message("\u{1b}[31ma:1"),
            "\"\\u{1b}[31ma:1\": a blank or control character, expected host:port"
        );
        assert!(message("b\u{fc}cher:80").starts_with("\"b\u{fc}cher:80\": '\u{fc}' (U+00FC) is"));
        assert!(message("\u{202e}a:80").starts_with("\"\\u{202e}a:80\": U+202E is not ASCII"));
        assert!(message("a'b:80").starts_with("\"a'b:80\": '\\'' in the name, expected letters"));
        assert!(message("1.2:80").starts_with("\"1.2:80\": the host ends in a number but is not"));
    }

    #[test]
    fn the_remedy_is_what_was_meant() {
        for (text, expected) in [
            (":8001", "for this machine, write localhost:8001"),
            ("8001", "for this machine, write localhost:8001"),
            ("[]:80", "for this machine, write localhost:80"),
            ("::1:8001", "write [::1]:8001 if 8001 is the port"),
            ("2001:db8:0:0:0:0:0:1:80", "write [2001:db8:0:0:0:0:0:1]:80"),
            ("fe80::1%eth0:80", "write [fe80::1%eth0]:80"),
            ("[::1]80", "write [::1]:80"),
            ("[localhost]:80", "write localhost:80"),
            ("[192.0.2.1]:80", "write 192.0.2.1:80"),
            ("tcp://a:1", "write a:1"),
            ("tcp:a:1", "write a:1"),
            ("http://u:p@[::1]:1/x?y#z", "write [::1]:1"),
            ("user@a:1", "write a:1"),
            ("a:1?x", "write a:1"),
            ("a:1#x", "write a:1"),
            ("a:1/", "write a:1"),
            (" a:1\n", "write a:1"),
            ("\u{a0}a:1", "write a:1"),
            ("\"a:1\"", "write a:1"),
            ("<'`a:1`'>", "write a:1"),
            ("a:1,", "write a:1"),
            ("a:1;", "write a:1"),
        ] {
            assert_eq!(remedy(text, kind(text)).as_deref(), Some(expected), "{text:?}");
            assert!(message(text).ends_with(&format!("; {expected}")), "{text:?}");
        }
        for text in [
            "localhost",
            "::1",
            "fe80::1%eth0",
            "fe80::1%e_/:80",
            ":0",
            ":x",
            "[::1]x",
            "[x:y]:80",
            "http://a/",
            "a:b:1",
            "a b:1",
            "a:http",
            "a:0",
            "-",
            "//",
        ] {
            assert_eq!(remedy(text, kind(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_repeated_server_is_found_once_with_how_often_it_is_listed() {
        let find = |texts: &[&str]| {
            let servers: Vec<Server> = texts.iter().map(|text| server(text)).collect();
            let found = repeated(&servers);
            found.iter().map(|(server, count)| format!("{server} {count}")).collect::<Vec<_>>()
        };
        assert_eq!(find(&[]), [""; 0]);
        assert_eq!(find(&["a:1", "a:2", "b:1", "a.:1", "127.0.0.1:1", "[::1]:1"]), [""; 0]);
        assert_eq!(find(&["b:2", "a:1", "c:3", "a:1", "b:2", "a:1"]), ["b:2 2", "a:1 3"]);
        assert_eq!(find(&["A.example:1", "a.EXAMPLE:1"]), ["A.example:1 2"]);
        assert_eq!(find(&["[::ffff:1.2.3.4]:1", "1.2.3.4:1"]), ["[::ffff:1.2.3.4]:1 2"]);
        assert_eq!(find(&["[2001:DB8:0::1]:1", "[2001:db8::1]:01"]), ["[2001:db8::1]:1 2"]);
        assert_eq!(find(&["[FE80::1%a]:1", "[fe80:0::1%a]:1"]), ["[FE80::1%a]:1 2"]);
        assert_eq!(find(&["[fe80::1%a]:1", "[fe80::1%A]:1", "[fe80::1]:1"]), [""; 0]);
    }

    #[test]
    fn a_server_stays_small() {
        // There may be tens of thousands of them. A `String` for the host would take 40 bytes.
        assert!(size_of::<Server>() <= 32);
    }

    fn any_server() -> impl Strategy<Value = String> {
        let name = "[a-zA-Z0-9_-]{1,12}(\\.[a-zA-Z_-][a-zA-Z0-9_-]{0,12}){1,3}\\.?";
        let host = prop_oneof![
            name,
            any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
            any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
            (any::<Ipv6Addr>(), "[a-z0-9._~-]{1,15}")
                .prop_map(|(ip, zone)| format!("[{ip}%{zone}]")),
        ];
        (host, 1..=u16::MAX).prop_map(|(host, port)| format!("{host}:{port}"))
    }

    proptest! {
        #[test]
        fn what_is_displayed_is_parsed_to_the_same(text in any_server()) {
            let server = server(&text);
            prop_assert_eq!(&server.to_string(), &text);
            prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server));
        }

        #[test]
        fn any_text_is_a_server_or_a_one_line_error(
            text in prop_oneof![any::<String>(), "[\\[\\]:%./0-9a-fx ,]{0,12}"],
        ) {
            match text.parse::<Server>() {
                Ok(server) => prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server)),
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(!message.contains(char::is_control), "{message:?}");
                    let written = message.rsplit_once("; ").and_then(|(_, remedy)| {
                        remedy.split("write ").nth(1)?.split(" if ").next()
                    });
                    // Of two addresses the first has a comma behind it.
                    let written = written.unwrap_or_default().replace(", or ", " ");
                    for server in written.split_whitespace() {
                        prop_assert!(server.parse::<Server>().is_ok(), "{message}");
                    }
                }
            }
        }

        #[test]
        fn a_host_that_the_c_library_reads_as_an_address_is_refused_or_that_address(
            labels in prop::collection::vec("(0x|0X|0)?[0-9a-f]{1,10}", 1..5),
            root in "\\.?",
        ) {
            let host = labels.join(".") + &root;
            // As in the manual page of inet_aton, without looking at the parser under test.
            let is_number = |label: &String| {
                let lower = label.to_lowercase();
                let hex = lower.strip_prefix("0x").unwrap_or("");
                lower.bytes().all(|b| b.is_ascii_digit())
                    || (!hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            };
            let is_address = labels.iter().all(is_number);
            if let Ok(server) = format!("{host}:80").parse::<Server>() {
                prop_assert!(!is_address || server.host() == &Host::Ip(host.parse().unwrap()));
            }
        }
    }
}
