//! Checks a connection of the status server: any bytes, in any pieces, are answered as all of them at once. Each
//! answer is whole and framed by its length.

use tcpcore::internals::proto::time::{Duration, Instant};
use tcpcore::internals::status::connection::{Connection, HEAD_TIMEOUT, RESPONSE_TIMEOUT};
use tcpcore::internals::status::request::MAX_HEAD;
use tcpcore::internals::status::{Pages, Query, Response, Status};

/// Answers with the path and the query. The name `len` sets the length of the body.
struct Echo;

impl Pages for Echo {
    fn respond(&self, path: &str, query: &Query) -> Response {
        let len = query.get("len").and_then(|len| len.parse::<u16>().ok()).unwrap_or(0);
        let mut body = format!("{path} {:?}\n", query.iter().collect::<Vec<_>>()).into_bytes();
        body.resize(body.len().max(usize::from(len)), b'.');
        Response::text(Status::Ok, body)
    }
}

/// Panics unless the pieces are answered as the whole. `input` is the count of sizes, the sizes of the pieces that
/// are sent and taken in turn, and the bytes.
pub fn check(input: &[u8]) {
    let [count, rest @ ..] = input else { return };
    let (sizes, bytes) = rest.split_at(rest.len().min(usize::from(*count)));
    let whole = talk(bytes, &[]);
    assert_eq!(
        talk(bytes, sizes).escape_ascii().to_string(),
        whole.escape_ascii().to_string(),
        "the pieces and the whole"
    );
    check_framing(&whole, bytes);
}

/// Sends the bytes in pieces of these sizes, takes the responses likewise, and returns them. Without a size above zero,
/// everything is sent and taken at once.
fn talk(bytes: &[u8], sizes: &[u8]) -> Vec<u8> {
    let sizes: Vec<usize> = match sizes.iter().any(|size| *size > 0) {
        true => sizes.iter().map(|size| usize::from(*size)).collect(),
        false => vec![usize::MAX],
    };
    // Each direction takes all sizes in turn, so each gets on.
    let (mut received, mut sent) = (sizes.iter().cycle(), sizes.iter().cycle());
    let now = Instant::ZERO;
    let mut connection = Connection::new(now);
    let mut taken = Vec::new();
    let mut rest = bytes;
    let mut has_ended = false;
    while !connection.is_closed() {
        let size = *received.next().expect("it is not empty");
        let len = rest.len().min(connection.room()).min(size);
        if len > 0 {
            connection.received(&rest[..len], now);
            rest = &rest[len..];
        } else if rest.is_empty() && !has_ended && connection.room() > 0 {
            has_ended = true;
            connection.received_end();
        }
        connection.answer(&Echo, now);
        let size = *sent.next().expect("it is not empty");
        let len = connection.unsent().len().min(size);
        taken.extend_from_slice(&connection.unsent()[..len]);
        if !connection.unsent().is_empty() {
            connection.sent(len, now);
        }
        connection.answer(&Echo, now);
        assert!(connection.room() <= MAX_HEAD);
    }
    check_deadlines(bytes);
    taken
}

/// Checks that a client that sends the bytes and nothing else is closed in time.
fn check_deadlines(bytes: &[u8]) {
    let mut connection = Connection::new(Instant::ZERO);
    connection.received(&bytes[..bytes.len().min(MAX_HEAD)], Instant::ZERO);
    connection.answer(&Echo, Instant::ZERO);
    let mut last = Instant::ZERO;
    while let Some(deadline) = connection.deadline() {
        assert!(deadline > last && deadline - last <= RESPONSE_TIMEOUT);
        connection.expire(deadline - Duration::from_millis(1));
        assert_eq!(connection.deadline(), Some(deadline), "it was not due");
        connection.expire(deadline);
        last = deadline;
    }
    assert!(last <= Instant::ZERO + HEAD_TIMEOUT + RESPONSE_TIMEOUT);
}

/// Checks that the responses are framed by their lengths. A response to HEAD has no body, so requests with that word
/// are left out.
fn check_framing(responses: &[u8], bytes: &[u8]) {
    if bytes.windows(4).any(|word| word == b"HEAD") {
        return;
    }
    let mut rest = responses;
    while !rest.is_empty() {
        assert!(rest.starts_with(b"HTTP/1.1 "), "{}", rest.escape_ascii());
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("a head has an end");
        let head = str::from_utf8(&rest[..end]).expect("a head is text");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        rest = &rest[end + 4 + length..];
    }
}
