use super::*;
use proptest::prelude::*;

fn request(head: &str) -> Request {
    match parse(head.as_bytes()) {
        Ok(Some((request, len))) => {
            assert_eq!(len, head.len());
            request
        }
        other => panic!("{head:?}: {other:?}"),
    }
}

fn refused(head: &str) -> Status {
    parse(head.as_bytes()).expect_err(head).status
}

/// Makes the head of a GET with these lines of header fields, each with its end.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn target(target: &str) -> Result<(String, Vec<(String, String)>), Status> {
    match parse(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()) {
        Ok(Some((request, _))) => Ok((request.path, request.query.0)),
        Ok(None) => panic!("{target}: the head is whole"),
        Err(refusal) => Err(refusal.status),
    }
}

#[test]
fn a_head_is_whole_at_its_empty_line() {
    let head = "GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
    for len in 0..head.len() {
        assert_eq!(parse(&head.as_bytes()[..len]), Ok(None), "{len}");
    }
    let next = format!("{head}GET /");
    let (request, len) = parse(next.as_bytes()).unwrap().unwrap();
    assert_eq!((request.path.as_str(), request.is_head, len), ("/metrics", false, head.len()));
    // Bare line feeds end lines too, as RFC 9112 allows.
    assert_eq!(self::request("GET / HTTP/1.1\nHost: a\n\n").path, "/");
}

#[test]
fn only_get_and_head_are_served() {
    assert!(request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").is_head);
    for method in ["POST", "OPTIONS", "get", "DELETE", "X"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&head), Status::MethodNotAllowed);
    }
}

#[test]
fn only_http_10_and_11_are_served() {
    assert!(request("GET / HTTP/1.0\r\n\r\n").is_http_10);
    assert!(!request(&get("")).is_http_10);
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/11", "HTP/1.1"] {
        let head = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&head), Status::VersionNotSupported, "{version}");
    }
    assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Status::VersionNotSupported);
}

#[test]
fn http_11_stays_open_unless_told_and_http_10_closes_unless_told() {
    assert!(request(&get("")).keeps_alive);
    assert!(!request(&get("Connection: close\r\n")).keeps_alive);
    assert!(!request(&get("connection: keep-alive, CLOSE\r\n")).keeps_alive);
    assert!(request(&get("Connection: upgrade\r\n")).keeps_alive);
    assert!(!request("GET / HTTP/1.0\r\n\r\n").keeps_alive);
    assert!(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keeps_alive);
    let both = "GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n";
    assert!(!request(both).keeps_alive);
}

#[test]
fn a_head_of_8192_bytes_is_served_and_of_8193_is_not() {
    let padded = |len: usize| {
        let rest = len - get("X: \r\n").len();
        get(&format!("X: {}\r\n", "x".repeat(rest)))
    };
    assert_eq!(padded(MAX_HEAD).len(), 8192);
    assert!(request(&padded(8192)).keeps_alive);
    assert_eq!(refused(&padded(8193)), Status::HeaderFieldsTooLarge);
    // A head that never ends is refused as soon as it is full.
    assert_eq!(parse(&padded(9000).as_bytes()[..8191]), Ok(None));
    assert_eq!(refused(&padded(9000)[..8192]), Status::HeaderFieldsTooLarge);
}

#[test]
fn sixty_four_header_fields_are_served_and_sixty_five_are_not() {
    assert!(request(&get(&"X: y\r\n".repeat(63))).keeps_alive);
    assert_eq!(refused(&get(&"X: y\r\n".repeat(64))), Status::HeaderFieldsTooLarge);
}

#[test]
fn a_body_is_refused() {
    assert!(request(&get("Content-Length: 0\r\n")).keeps_alive);
    assert!(request(&get("Content-Length: 0\r\nContent-Length: 00\r\n")).keeps_alive);
    for length in ["1", "18446744073709551616", "007"] {
        let head = get(&format!("Content-Length: {length}\r\n"));
        assert_eq!(refused(&head), Status::ContentTooLarge);
    }
    for length in ["", "-1", "+0", "0x0", "0, 0", "0 0"] {
        let head = get(&format!("Content-Length: {length}\r\n"));
        assert_eq!(refused(&head), Status::BadRequest, "{length}");
    }
    assert_eq!(refused(&get("Transfer-Encoding: chunked\r\n")), Status::BadRequest);
    assert_eq!(refused(&get("transfer-encoding: identity\r\n")), Status::BadRequest);
}

#[test]
fn what_two_parsers_may_read_differently_is_refused() {
    for fields in [
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X : a\r\n",
        ": a\r\n",
        "X\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X\u{e4}: a\r\n",
        "Host: b\r\n",
    ] {
        assert_eq!(refused(&get(fields)), Status::BadRequest, "{fields:?}");
    }
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01",
    ] {
        assert_eq!(refused(head), Status::BadRequest, "{head:?}");
    }
}

#[test]
fn a_target_is_a_path_or_a_url_with_a_query() {
    let path = |text| target(text).map(|(path, _)| path);
    assert_eq!(path("/"), Ok("/".into()));
    assert_eq!(path("/a%20b+c%2F%41"), Ok("/a b+c/A".into()));
    assert_eq!(path("/%c3%a4"), Ok("/\u{e4}".into()));
    assert_eq!(path("/a#b?c"), Ok("/a".into()));
    assert_eq!(path("http://host:1/a?b"), Ok("/a".into()));
    assert_eq!(path("HTTP://host?b"), Ok("/".into()));
    for bad in ["*", "a", "host:1", "https://host/", "/%", "/%4", "/%4g", "/%+4", "/%ff", "/%00"] {
        assert_eq!(path(bad), Err(Status::BadRequest), "{bad}");
    }
    assert_eq!(path("/\u{e4}"), Err(Status::BadRequest));
    assert_eq!(path("/%%3030"), Err(Status::BadRequest));
}

#[test]
fn a_query_has_names_and_values_of_which_the_last_counts() {
    let query = |text: &str| Query::parse(text).unwrap();
    let all = query("state=down&limit=1&&x&limit=2&y=%26+%3D=");
    assert_eq!(all.get("state"), Some("down"));
    assert_eq!(all.get("limit"), Some("2"));
    assert_eq!(all.get("x"), Some(""));
    assert_eq!(all.get("y"), Some("& =="));
    assert_eq!(all.get("z"), None);
    assert_eq!(all.iter().count(), 5);
    assert_eq!(query("").iter().count(), 0);
    assert_eq!(target("/?a=%zz"), Err(Status::BadRequest));
    assert_eq!(target("/a?b=c?d").unwrap().1, [("b".to_owned(), "c?d".to_owned())]);
}

proptest! {
    #[test]
    fn any_text_comes_back_from_its_escapes(text in "\\PC*") {
        let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        prop_assert_eq!(decode(&escaped), Ok(text));
    }

    #[test]
    fn what_is_refused_stays_refused_and_what_is_whole_stays_the_same(
        bytes: Vec<u8>, more: Vec<u8>,
    ) {
        let head = [&b"GET /"[..], &bytes].concat();
        for bytes in [bytes, head] {
            let result = parse(&bytes);
            if result != Ok(None) {
                prop_assert_eq!(parse(&[bytes, more.clone()].concat()), result);
            }
        }
    }
}
