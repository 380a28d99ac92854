//! Parses the head of a request, and the path and query of its target.
//!
//! The grammar is that of [RFC 9112](https://www.rfc-editor.org/rfc/rfc9112). A head that two parsers may read
//! differently is refused.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Error, Header};

use super::response::Status;

/// The longest head in bytes, with the empty line that ends it. Browsers send about 1 KiB.
pub const MAX_HEAD: usize = 8 * 1024;

/// The most header fields of a head. Browsers send about 20.
const MAX_HEADERS: usize = 64;

/// A request whose head is whole. It has no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether the method is HEAD instead of GET, so that the response has no body.
    pub is_head: bool,
    /// The path, decoded.
    pub path: String,
    /// The query, decoded.
    pub query: Query,
    /// Whether the client may send another request on the connection.
    pub keeps_alive: bool,
    /// Whether the version is HTTP/1.0, whose clients close unless the response says otherwise.
    pub is_http_10: bool,
}

/// The reason why a request is refused. Its connection is closed after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the response.
    pub status: Status,
    /// The reason, as the body of the response.
    pub reason: &'static str,
}

impl Refusal {
    const fn bad(reason: &'static str) -> Refusal {
        Refusal { status: Status::BadRequest, reason }
    }
}

/// Parses the head at the start of `input`. Returns it with its length, or `None` if it is not whole.
///
/// # Errors
///
/// Fails if no further bytes make it a request that is served.
pub fn parse(input: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let window = &input[..input.len().min(MAX_HEAD)];
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let len = match head.parse(window).map_err(refusal)? {
        httparse::Status::Complete(len) => len,
        httparse::Status::Partial if window.len() == MAX_HEAD => {
            return Err(Refusal {
                status: Status::HeaderFieldsTooLarge,
                reason: "the request line and headers are longer than 8 KiB",
            });
        }
        httparse::Status::Partial => return Ok(None),
    };
    let is_head = match head.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => {
            return Err(Refusal {
                status: Status::MethodNotAllowed,
                reason: "only GET and HEAD are served",
            });
        }
    };
    let is_http_10 = head.version == Some(0);
    let keeps_alive = check_headers(head.headers, is_http_10)?;
    let (path, query) = parse_target(head.path.unwrap_or_default())?;
    Ok(Some((Request { is_head, path, query, keeps_alive, is_http_10 }, len)))
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::TooManyHeaders => Refusal {
            status: Status::HeaderFieldsTooLarge,
            reason: "there are more than 64 header fields",
        },
        Error::Version => Refusal {
            status: Status::VersionNotSupported,
            reason: "only HTTP/1.0 and HTTP/1.1 are served",
        },
        Error::Token => Refusal::bad("the request line is malformed"),
        Error::HeaderName => Refusal::bad("the name of a header field is malformed"),
        Error::HeaderValue => Refusal::bad("the value of a header field is malformed"),
        Error::NewLine | Error::Status => Refusal::bad("the end of a line is malformed"),
    }
}

/// Checks the header fields that frame the request. Returns whether its connection stays open.
fn check_headers(headers: &[Header<'_>], is_http_10: bool) -> Result<bool, Refusal> {
    let mut hosts = 0;
    let (mut closes, mut stays) = (false, false);
    for Header { name, value } in headers {
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal::bad("a request with a body is not served"));
        } else if name.eq_ignore_ascii_case("content-length") {
            check_length(value)?;
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                closes |= option.eq_ignore_ascii_case(b"close");
                stays |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
    }
    if hosts > 1 || (hosts == 0 && !is_http_10) {
        return Err(Refusal::bad("one header field Host is expected"));
    }
    Ok(!closes && (stays || !is_http_10))
}

/// Checks that a length is zero. A repeated one is zero each time.
fn check_length(value: &[u8]) -> Result<(), Refusal> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::bad("the Content-Length is not a whole number"));
    }
    if digits.iter().any(|digit| *digit != b'0') {
        return Err(Refusal {
            status: Status::ContentTooLarge,
            reason: "a request with a body is not served",
        });
    }
    Ok(())
}

/// The names and values behind the `?` of a target, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `name=value&name=value`. A name without `=` has an empty value.
    ///
    /// # Errors
    ///
    /// Fails if an escape is malformed or is not UTF-8.
    pub fn parse(text: &str) -> Result<Query, Refusal> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?, decode_form(value)?))
        });
        Ok(Query(pairs.collect::<Result<_, Refusal>>()?))
    }

    /// Returns the last value of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().filter(|pair| pair.0 == name).last().map(|pair| pair.1)
    }

    /// Returns all names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Splits a target into its path and query. A target may also be a whole URL, as proxies send it.
fn parse_target(target: &str) -> Result<(String, Query), Refusal> {
    let target = target.split('#').next().unwrap_or(target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = match path.strip_prefix('/') {
        Some(_) => path,
        None => path_of_url(path).ok_or(Refusal::bad("a target that begins with / is expected"))?,
    };
    Ok((decode(path)?, Query::parse(query)?))
}

/// Returns the path of a URL without a query: `/` if it is empty.
fn path_of_url(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    Some(rest.find('/').map_or("/", |start| &rest[start..]))
}

/// Decodes a name or value of a query, in which `+` is a blank.
fn decode_form(text: &str) -> Result<String, Refusal> {
    match text.contains('+') {
        false => decode(text),
        true => decode(&text.replace('+', " ")),
    }
}

/// Decodes the escapes of a text, such as `%2F`.
fn decode(text: &str) -> Result<String, Refusal> {
    let malformed = Refusal::bad("an escape of the target is malformed, expected % and two digits");
    if !text.is_ascii() {
        return Err(Refusal::bad("the target has a byte that is not ASCII, expected an escape"));
    }
    let mut decoded = Cow::Borrowed(text.as_bytes());
    if let Some(first) = text.find('%') {
        let mut bytes = text.as_bytes()[..first].to_vec();
        for part in text[first + 1..].split('%') {
            let digits = part.get(..2).filter(|digits| digits.bytes().all(is_hex));
            let digits = digits.ok_or(malformed)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| malformed)?);
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        decoded = Cow::Owned(bytes);
    }
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(Refusal::bad("the target has a control character"));
    }
    String::from_utf8(decoded.into_owned())
        .map_err(|_| Refusal::bad("the escapes of the target are not UTF-8"))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

#[cfg(test)]
mod tests;
