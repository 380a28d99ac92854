use super::*;
use crate::status::Query;
use proptest::prelude::*;

/// Answers with the path and the query, and with a body of the length that the query names.
struct Echo;

impl Pages for Echo {
    fn respond(&self, path: &str, query: &Query) -> Response {
        let len = query.get("len").and_then(|len| len.parse().ok()).unwrap_or(0);
        let query: Vec<_> = query.iter().collect();
        let mut body = format!("{path} {query:?}\n").into_bytes();
        body.resize(body.len().max(len), b'.');
        Response::text(Status::Ok, body)
    }
}

const START: Instant = Instant::from_millis(1000);

fn after(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A connection with its time, and what the client has taken.
struct Talk {
    connection: Connection,
    now: Instant,
    taken: Vec<u8>,
}

impl Talk {
    fn new() -> Talk {
        Talk { connection: Connection::new(START), now: START, taken: Vec::new() }
    }

    /// Sends bytes as far as there is room, without taking a response. Returns the number of bytes.
    fn send(&mut self, bytes: impl AsRef<[u8]>) -> usize {
        let bytes = bytes.as_ref();
        let len = bytes.len().min(self.connection.room());
        self.connection.received(&bytes[..len], self.now);
        self.connection.answer(&Echo, self.now);
        len
    }

    /// Takes so many bytes of the responses.
    fn take(&mut self, most: usize) {
        let len = self.connection.unsent().len().min(most);
        self.taken.extend_from_slice(&self.connection.unsent()[..len]);
        self.connection.sent(len, self.now);
        self.connection.answer(&Echo, self.now);
    }

    fn take_all(&mut self) {
        while !self.connection.unsent().is_empty() {
            self.take(usize::MAX);
        }
    }

    /// Sends all bytes, and takes all responses meanwhile.
    fn exchange(&mut self, bytes: impl AsRef<[u8]>) {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() && self.connection.room() > 0 {
            rest = &rest[self.send(rest)..];
            self.take_all();
        }
    }

    fn end(&mut self) {
        self.connection.received_end();
        self.connection.answer(&Echo, self.now);
        self.take_all();
    }

    fn wait_until(&mut self, now: Instant) {
        self.now = now;
        self.connection.expire(now);
        self.connection.answer(&Echo, now);
    }

    /// Returns the status lines and bodies of the responses.
    fn responses(&self) -> Vec<(String, String)> {
        let mut rest = str::from_utf8(&self.taken).unwrap();
        let mut responses = Vec::new();
        while let Some((head, after)) = rest.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let (body, after) = after.split_at(length.unwrap().parse().unwrap());
            responses.push((head.lines().next().unwrap().to_owned(), body.to_owned()));
            rest = after;
        }
        assert_eq!(rest, "", "a response is whole");
        responses
    }

    fn is_open(&self) -> bool {
        !self.connection.is_closing()
    }
}

#[test]
fn a_response_has_its_length_and_is_neither_stored_nor_guessed_at() {
    let mut talk = Talk::new();
    talk.exchange(get("/a?b=c"));
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Length: 16\r\nCache-Control: no-store\r\n\
                    X-Content-Type-Options: nosniff\r\n\r\n/a [(\"b\", \"c\")]\n";
    assert_eq!(str::from_utf8(&talk.taken).unwrap(), expected);
    assert!(talk.is_open());
}

#[test]
fn the_response_to_head_is_that_to_get_without_its_body() {
    let (mut get_talk, mut head_talk) = (Talk::new(), Talk::new());
    get_talk.exchange(get("/a"));
    head_talk.exchange(get("/a").replace("GET", "HEAD"));
    assert_eq!(get_talk.taken.strip_suffix(b"/a []\n").unwrap(), head_talk.taken);
    assert!(head_talk.is_open());
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    let mut talk = Talk::new();
    talk.send((0..5).map(|number| get(&format!("/{number}"))).collect::<String>());
    assert_eq!(talk.connection.room(), 0, "a response is unsent");
    let first = talk.connection.unsent().to_vec();
    assert!(first.ends_with(b"/0 []\n"), "{}", first.escape_ascii());
    talk.take_all();
    let bodies: Vec<_> = talk.responses().into_iter().map(|response| response.1).collect();
    assert_eq!(bodies, ["/0 []\n", "/1 []\n", "/2 []\n", "/3 []\n", "/4 []\n"]);
    assert!(talk.is_open());
}

#[test]
fn a_client_that_asks_for_it_is_closed_after_the_response_and_later_requests_are_discarded() {
    let mut talk = Talk::new();
    talk.exchange(
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned() + &get("/b"),
    );
    assert_eq!(talk.responses().len(), 1);
    assert!(String::from_utf8_lossy(&talk.taken).contains("\r\nConnection: close\r\n"));
    assert!(talk.connection.is_closing() && !talk.connection.is_closed());
    talk.end();
    assert!(talk.connection.is_closed());
}

#[test]
fn a_client_of_http_10_is_kept_if_it_asks_for_it() {
    let mut talk = Talk::new();
    talk.exchange("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(String::from_utf8_lossy(&talk.taken).contains("\r\nConnection: keep-alive\r\n"));
    assert!(talk.is_open());
    talk.exchange("GET /a HTTP/1.0\r\n\r\n");
    assert_eq!(talk.responses().len(), 2);
    assert!(!talk.is_open());
}

#[test]
fn a_refused_request_is_answered_and_closes() {
    for (head, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405 Method Not Allowed"),
        ("\x16\x03\x01\0", "400 Bad Request"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "413 Content Too Large"),
    ] {
        let mut talk = Talk::new();
        talk.exchange(get("/a") + head + &get("/b"));
        let statuses: Vec<_> = talk.responses().into_iter().map(|response| response.0).collect();
        assert_eq!(statuses, ["HTTP/1.1 200 OK".into(), format!("HTTP/1.1 {status}")]);
        assert!(!talk.is_open());
        let allows = String::from_utf8_lossy(&talk.taken).contains("\r\nAllow: GET, HEAD\r\n");
        assert_eq!(allows, status.starts_with("405"));
    }
}

#[test]
fn a_head_without_an_end_is_held_up_to_8_kib_and_refused_then() {
    let mut talk = Talk::new();
    let head = "GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(100_000);
    assert_eq!(talk.send(&head), MAX_HEAD);
    talk.take_all();
    assert!(talk.responses()[0].0.ends_with("431 Request Header Fields Too Large"));
    // The rest is discarded, up to 64 KiB.
    for _ in 0..8 {
        assert_eq!(talk.send(&head[..MAX_HEAD]), 8192);
    }
    assert!(!talk.connection.is_closed() && talk.connection.input.is_empty());
    talk.send("x");
    assert!(talk.connection.is_closed());
}

#[test]
fn a_head_has_5_s_from_its_first_byte_and_a_new_client_5_s_until_then() {
    let mut silent = Talk::new();
    silent.wait_until(after(4999));
    assert!(silent.is_open());
    silent.wait_until(after(5000));
    assert!(silent.connection.is_closed() && silent.taken.is_empty());

    let mut slow = Talk::new();
    slow.wait_until(after(3000));
    slow.send("GET ");
    slow.wait_until(after(6000));
    slow.send("/");
    slow.wait_until(after(7999));
    assert!(slow.is_open() && slow.connection.unsent().is_empty());
    slow.wait_until(after(8000));
    slow.take_all();
    assert!(slow.responses()[0].0.ends_with("408 Request Timeout"));
    assert!(!slow.is_open());
}

#[test]
fn a_client_is_kept_for_60_s_between_requests() {
    let mut talk = Talk::new();
    talk.exchange(get("/a"));
    talk.wait_until(after(59_999));
    talk.exchange(get("/b"));
    assert_eq!(talk.responses().len(), 2);
    talk.wait_until(after(119_998));
    assert!(talk.is_open());
    talk.wait_until(after(119_999));
    assert!(talk.connection.is_closed());
}

#[test]
fn the_next_head_has_5_s_from_the_response_if_it_has_begun_before() {
    let mut talk = Talk::new();
    talk.send(get("/a") + "GET");
    talk.wait_until(after(9000));
    talk.take_all();
    talk.wait_until(after(13_999));
    assert!(talk.is_open());
    talk.wait_until(after(14_000));
    talk.take_all();
    assert!(!talk.is_open());
}

#[test]
fn a_client_that_takes_nothing_for_10_s_is_closed() {
    let mut talk = Talk::new();
    talk.send(get("/?len=1000"));
    talk.wait_until(after(9999));
    talk.take(1);
    talk.wait_until(after(19_998));
    assert!(!talk.connection.is_closed());
    // Taking nothing is no progress.
    talk.take(0);
    talk.wait_until(after(19_999));
    assert!(talk.connection.is_closed());
}

#[test]
fn a_client_that_takes_single_bytes_is_closed_after_60_s() {
    let mut talk = Talk::new();
    talk.send(get("/?len=1000"));
    for second in 1..60 {
        talk.wait_until(after(second * 1000));
        talk.take(1);
        assert!(!talk.connection.is_closed());
    }
    talk.wait_until(after(60_000));
    assert!(talk.connection.is_closed());
}

#[test]
fn a_client_that_has_ended_its_side_gets_all_responses() {
    let mut talk = Talk::new();
    talk.send(get("/a") + &get("/b"));
    talk.end();
    assert_eq!(talk.responses().len(), 2);
    assert!(talk.connection.is_closed());

    let mut within = Talk::new();
    within.send("GET / HT");
    within.end();
    assert!(within.responses()[0].0.ends_with("400 Bad Request"));
    assert!(within.connection.is_closed());

    let mut silent = Talk::new();
    silent.end();
    assert!(silent.connection.is_closed() && silent.taken.is_empty());
}

#[test]
fn a_client_that_does_not_close_after_the_last_response_is_closed_after_2_s() {
    let mut talk = Talk::new();
    talk.exchange("GET / HTTP/1.0\r\n\r\n");
    talk.wait_until(after(1999));
    assert!(!talk.connection.is_closed());
    talk.wait_until(after(2000));
    assert!(talk.connection.is_closed());
}

#[test]
fn a_client_is_idle_between_requests_alone() {
    let mut talk = Talk::new();
    assert_eq!(talk.connection.idle_since(), Some(START));
    talk.send("G");
    assert_eq!(talk.connection.idle_since(), None);
    talk.send(&get("/")[1..]);
    assert_eq!(talk.connection.idle_since(), None);
    talk.wait_until(after(7));
    talk.take_all();
    assert_eq!(talk.connection.idle_since(), Some(after(7)));
}

fn any_piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z?=&%20-9]{0,8}".prop_map(|path| get(&format!("/{path}")).into_bytes()),
        1 => Just(b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
        1 => Just(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()),
        1 => Just(get("/?len=20000").into_bytes()),
        1 => (8000usize..8300).prop_map(|len| get(&"x".repeat(len)).into_bytes()),
        1 => "[ -~\r\n]{0,20}".prop_map(String::into_bytes),
        1 => any::<Vec<u8>>(),
    ]
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_are_answered_as_in_one(
        pieces in prop::collection::vec(any_piece(), 0..8),
        sizes in prop::collection::vec(1usize..3000, 1..20),
        steps in prop::collection::vec(0usize..3000, 1..20),
    ) {
        let bytes = pieces.concat();
        let mut whole = Talk::new();
        whole.exchange(&bytes);
        whole.end();
        prop_assert!(whole.connection.is_closed());
        let expected = whole.taken;

        let mut chunked = Talk::new();
        let mut rest = &bytes[..];
        let mut turns = sizes.iter().zip(&steps).cycle();
        while !rest.is_empty() && !chunked.connection.is_closing() {
            let (size, step) = turns.next().unwrap();
            rest = &rest[chunked.send(&rest[..rest.len().min(*size)])..];
            chunked.take(step + usize::from(rest.is_empty() || *step == 0));
            prop_assert!(chunked.connection.input.len() <= MAX_HEAD);
        }
        chunked.take_all();
        chunked.end();
        prop_assert_eq!(
            chunked.taken.escape_ascii().to_string(), expected.escape_ascii().to_string()
        );
    }
}
