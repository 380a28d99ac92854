//! Builds responses.

use std::fmt::Write;

/// The status of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200.
    Ok,
    /// 400: the request is malformed.
    BadRequest,
    /// 404: there is no such page.
    NotFound,
    /// 405: the method is neither GET nor HEAD.
    MethodNotAllowed,
    /// 408: the request has not arrived in time.
    RequestTimeout,
    /// 413: the request has a body.
    ContentTooLarge,
    /// 431: the head of the request is too long.
    HeaderFieldsTooLarge,
    /// 503: not now.
    ServiceUnavailable,
    /// 505: the version is neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
}

impl Status {
    /// Returns the number and its usual words.
    pub const fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::RequestTimeout => "408 Request Timeout",
            Status::ContentTooLarge => "413 Content Too Large",
            Status::HeaderFieldsTooLarge => "431 Request Header Fields Too Large",
            Status::ServiceUnavailable => "503 Service Unavailable",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// The content type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// A response to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: Status,
    /// The value of Content-Type.
    pub content_type: &'static str,
    /// Further header fields. Those of the connection, Cache-Control and X-Content-Type-Options are added.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Makes a response with this body.
    pub fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response { status: Status::Ok, content_type, headers: Vec::new(), body: body.into() }
    }

    /// Makes a response of plain text with this status.
    pub fn text(status: Status, body: impl Into<Vec<u8>>) -> Response {
        Response { status, ..Response::new(TEXT, body) }
    }

    /// Adds a header field.
    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Response {
        self.headers.push((name, value));
        self
    }

    /// Encodes it. `connection` is the value of the header field Connection. The response to HEAD `has_body` not,
    /// but has the length of it.
    pub(super) fn encode(self, connection: Option<&str>, has_body: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.line());
        let length = self.body.len().to_string();
        let fields = [
            ("Content-Type", self.content_type),
            ("Content-Length", &length),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        let connection = connection.map(|value| ("Connection", value));
        for (name, value) in fields.into_iter().chain(self.headers).chain(connection) {
            // A header field with a line end would be two.
            debug_assert!(!value.contains(['\r', '\n']));
            // A string takes all that is written to it.
            _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        if !has_body {
            return head.into_bytes();
        }
        // In the memory of the body, as a second copy of many megabytes takes milliseconds of page faults.
        let mut bytes = self.body;
        bytes.splice(..0, head.into_bytes());
        bytes
    }
}
