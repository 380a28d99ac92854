//! The address of a server, as it is written and as it is dialled.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

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

/// Where a [`Server`] is: an address that can be dialled as it is, or a name to be resolved first.
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

/// A text that is not a [`Server`]: which text, and what is wrong with it.
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
        // Escaped, so that the message stays one line and shows which character only looks ASCII.
        write!(f, "\"{}\": {}", self.argument.escape_default(), self.kind)
    }
}

/// What can be wrong with the text of a [`Server`]. Its `Display` says what was expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerErrorKind {
    /// A URL, such as `http://localhost:8001`.
    Url,
    /// A blank or a control character anywhere.
    Blank,
    /// A character beyond ASCII anywhere.
    NonAscii,
    /// No host before the port.
    EmptyHost,
    /// No port after the host.
    MissingPort,
    /// A port with anything but digits in it.
    PortNotANumber,
    /// Port 0, which cannot be dialled.
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
    /// Digits and dots that are not an IPv4 address. Resolvers read some of them as one in the
    /// notation of `inet_aton` (`1.2.3` as `1.2.0.3`), which is never what was meant.
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
            Self::Url => "a URL, expected host:port without a scheme or a path",
            Self::Blank => "a blank or control character, expected host:port",
            Self::NonAscii => {
                "a character beyond ASCII, expected host:port with the name in its xn-- form"
            }
            Self::EmptyHost => "no host, expected host:port",
            Self::MissingPort => "no port, expected host:port",
            Self::PortNotANumber => "the port is not a number, expected 1 to 65535",
            Self::PortZero => "port 0 cannot be dialled, expected 1 to 65535",
            Self::PortTooLarge => "the port is too large, expected 1 to 65535",
            Self::BareIpv6 => "an IPv6 address without brackets, expected [address]:port",
            Self::UnbalancedBracket => "a bracket without its partner, expected [address]:port",
            Self::AfterBracket => "more than a port after the bracket, expected [address]:port",
            Self::NotIpv6 => "no IPv6 address within the brackets, expected [address]:port",
            Self::BadZone => {
                "a bad zone after the %, expected the name of an interface, as in [fe80::1%eth0]:80"
            }
            Self::NotIpv4 => "not an IPv4 address, expected four numbers from 0 to 255",
            Self::NameTooLong => "the name is too long, expected at most 253 characters",
            Self::EmptyLabel => "a dot too many in the name, expected labels between single dots",
            Self::LabelTooLong => {
                "a label of the name is too long, expected at most 63 characters between dots"
            }
            Self::BadCharacter(c) => {
                return write!(f, "'{c}' in the name, expected letters, digits, '-', '_' and '.'");
            }
        })
    }
}

/// The longest name and the longest label of one, in characters. RFC 1035 counts a length byte for
/// each label and the root; 253 is what that leaves for the text.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn parse(text: &str) -> Result<Server, ServerErrorKind> {
    if !text.is_ascii() {
        return Err(ServerErrorKind::NonAscii);
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
    text.rsplit_once(':').ok_or(ServerErrorKind::MissingPort)
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
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let ip: Ipv4Addr = host.parse().map_err(|_| ServerErrorKind::NotIpv4)?;
        return Ok(Host::Ip(ip.into()));
    }
    check_name(host)?;
    Ok(Host::Name(host.into()))
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
        for text in ["", "localhost", "localhost:", "8001", "192.0.2.1", "[::1]", "[::1]:", "-"] {
            assert_eq!(kind(text), ServerErrorKind::MissingPort, "{text}");
        }
        for text in [":80", "[]:80"] {
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
    fn digits_and_dots_are_an_ipv4_address_or_nothing() {
        for text in
            ["256.1.1.1:80", "1.2.3:80", "1.2.3.4.5:80", "01.2.3.4:80", "80:80", "1.2.3.4.:80"]
        {
            assert_eq!(kind(text), ServerErrorKind::NotIpv4, "{text}");
        }
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
            assert_eq!(kind(text), ServerErrorKind::NonAscii, "{text}");
        }
    }

    #[test]
    fn a_name_has_bounded_labels_of_few_characters() {
        for (text, c) in [("a,b:80", ','), ("user@a:80", '@'), ("a:b:80", ':'), ("a%eth0:80", '%')]
        {
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
    fn an_error_names_the_argument_escaped_and_what_was_expected() {
        let message = |text: &str| text.parse::<Server>().unwrap_err().to_string();
        assert_eq!(message("localhost"), "\"localhost\": no port, expected host:port");
        assert_eq!(
            message("::1:8001"),
            "\"::1:8001\": an IPv6 address without brackets, expected [address]:port"
        );
        assert!(message("a\nb:80").starts_with("\"a\\nb:80\": a blank"));
        assert!(message("\u{202e}a:80").starts_with("\"\\u{202e}a:80\": a character beyond"));
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
            text in prop_oneof![any::<String>(), "[\\[\\]:%./0-9a-f]{0,12}"],
        ) {
            match text.parse::<Server>() {
                Ok(server) => prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server)),
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(message.bytes().all(|b| (b' '..=b'~').contains(&b)), "{message:?}");
                }
            }
        }
    }
}
