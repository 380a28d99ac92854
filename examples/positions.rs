//! Decodes the positions of aircraft from SBS-1 messages, as receivers send them on port 30003, and writes them as
//! CSV: time, server, aircraft, latitude, longitude, altitude.
//!
//! ```text
//! cargo run --bin demo-server -- --feed sbs 30003
//! cargo run --example positions -- localhost:30003
//! ```

#![expect(clippy::print_stderr, reason = "stdout has the records")]

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::str;

use tcpcore::{Config, Encoder, Job, LineDecoder, Origin, Report, Server};

/// The position of an aircraft.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Position {
    /// The ICAO address in hexadecimal digits.
    aircraft: [u8; 6],
    latitude: f64,
    longitude: f64,
    /// In feet. Not every position has it.
    altitude: Option<i32>,
}

/// Says why a line is no SBS-1 message. The log of the job shows it.
#[derive(Debug, PartialEq)]
enum MessageError {
    NoMessage,
    Field(&'static str),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::NoMessage => write!(f, "no SBS-1 message, expected 22 fields in commas"),
            MessageError::Field(name) => write!(f, "a bad {name}"),
        }
    }
}

impl Error for MessageError {}

/// Decodes SBS-1 messages, and skips those without a position.
#[derive(Clone, Debug)]
struct Positions;

impl LineDecoder for Positions {
    type Record = Position;
    type Error = MessageError;

    fn decode_line(&self, line: &[u8]) -> Result<Option<Position>, MessageError> {
        let text = str::from_utf8(line).map_err(|_| MessageError::NoMessage)?;
        let fields: Vec<&str> = text.split(',').collect();
        let Ok(fields) = <[&str; 22]>::try_from(fields) else {
            return Err(MessageError::NoMessage);
        };
        let [kind, transmission, ..] = fields;
        // Other kinds are changes of status. Transmission 3 is an airborne position, and 2 one on the surface.
        if kind != "MSG" || !["2", "3"].contains(&transmission) {
            return Ok(None);
        }
        let (aircraft, altitude, latitude, longitude) =
            (fields[4], fields[11], fields[14], fields[15]);
        if latitude.is_empty() || longitude.is_empty() {
            return Ok(None);
        }
        let is_hex = aircraft.bytes().all(|byte| byte.is_ascii_hexdigit());
        let aircraft = aircraft.as_bytes().try_into().ok().filter(|_| is_hex);
        let degrees = |text: &str, name| text.parse().map_err(|_| MessageError::Field(name));
        let altitude = Some(altitude).filter(|text| !text.is_empty()).map(str::parse).transpose();
        Ok(Some(Position {
            aircraft: aircraft.ok_or(MessageError::Field("aircraft"))?,
            latitude: degrees(latitude, "latitude")?,
            longitude: degrees(longitude, "longitude")?,
            altitude: altitude.map_err(|_| MessageError::Field("altitude"))?,
        }))
    }
}

/// Encodes positions as CSV.
struct Csv {
    servers: Vec<String>,
    /// The longest line in bytes.
    line_max: usize,
    origin: Option<Origin>,
}

impl Csv {
    fn new(servers: &[Server]) -> Csv {
        let servers: Vec<String> = servers.iter().map(Server::to_string).collect();
        // Beyond the server: a time, an address, and two numbers of at most 330 digits.
        let line_max = 1024 + servers.iter().map(String::len).max().unwrap_or(0);
        Csv { servers, line_max, origin: None }
    }
}

impl Encoder<Position> for Csv {
    fn needs_origin(&self) -> bool {
        true
    }

    fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    fn max_len(&self, positions: &[Position]) -> usize {
        positions.len() * self.line_max
    }

    fn encode(&mut self, positions: &[Position], mut to: &mut [u8]) -> usize {
        let before = to.len();
        let origin = self.origin.expect("the job sets it first");
        let (time, server) = (origin.time_ms(), &self.servers[origin.server()]);
        for Position { aircraft, latitude, longitude, altitude } in positions {
            let aircraft = str::from_utf8(aircraft).expect("hexadecimal digits are ASCII");
            let altitude = altitude.map_or(String::new(), |feet| feet.to_string());
            writeln!(to, "{time},{server},{aircraft},{latitude},{longitude},{altitude}")
                .expect("max_len bytes are free");
        }
        before - to.len()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let servers = env::args().skip(1).map(|argument| argument.parse());
    let report = collect(servers.collect::<Result<_, _>>()?, io::stdout())?;
    eprintln!("{}", report.totals);
    Ok(())
}

/// Reads each server once, to its end, and writes the positions to `output`.
fn collect(
    servers: Vec<Server>,
    output: impl Write + Send + 'static,
) -> Result<Report, Box<dyn Error>> {
    let encoder = Csv::new(&servers);
    let config = Config::builder().servers(servers).once(true).build()?;
    Ok(Job::builder(config).line_decoder(Positions).encoder(encoder).start(output)?.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    const POSITION: &str = "MSG,3,1,3,48ADA3,3,2026/11/02,03:16:20.598,2026/11/02,03:16:20.731,,14025,,,46.5,-15.25,,,0,0,0,0";

    #[test]
    fn a_message_is_a_position_or_skipped_or_malformed() {
        let decode = |line: &str| Positions.decode_line(line.as_bytes());
        let position = Position {
            aircraft: *b"48ADA3",
            latitude: 46.5,
            longitude: -15.25,
            altitude: Some(14_025),
        };
        assert_eq!(decode(POSITION), Ok(Some(position)));
        let no_altitude = Position { altitude: None, ..position };
        assert_eq!(decode(&POSITION.replace("14025", "")), Ok(Some(no_altitude)));
        assert_eq!(decode(&POSITION.replace("46.5", "")), Ok(None));
        assert_eq!(decode(&POSITION.replace("MSG,3", "MSG,4")), Ok(None));
        assert_eq!(
            decode(&POSITION.replace("48ADA3", "48ADAX")),
            Err(MessageError::Field("aircraft"))
        );
        assert_eq!(
            decode(&POSITION.replace("46.5", "north")),
            Err(MessageError::Field("latitude"))
        );
        assert_eq!(decode("216"), Err(MessageError::NoMessage));
    }

    #[test]
    fn positions_are_written_with_their_time_and_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let feed = thread::spawn(move || {
            let text = format!("{POSITION}\r\n{}\r\n", POSITION.replace("MSG,3", "MSG,1"));
            listener.accept().unwrap().0.write_all(text.as_bytes()).unwrap();
        });
        let (output, writer) = io::pipe().unwrap();
        let report = collect(vec![address.parse().unwrap()], writer).unwrap();
        feed.join().unwrap();
        let text = io::read_to_string(output).unwrap();
        let (time, rest) = text.split_once(',').unwrap();
        assert!(time.parse::<u64>().unwrap() > 1_700_000_000_000, "{text}");
        assert_eq!(rest, format!("{address},48ADA3,46.5,-15.25,14025\n"));
        assert_eq!((report.totals.counters.lines, report.totals.printed), (2, 1));
    }
}
