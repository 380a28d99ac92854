//! Checks that any bytes are a list of unique servers, or errors that name places in the file.

use std::collections::HashSet;

use tcpcore::Server;
use tcpcore::internals::config::servers::{difference, parse};

/// Panics unless the servers can be written to an equal list, or the errors are lines with places in the file.
/// `input` is a list file.
pub fn check(input: &[u8]) {
    let argument: Server = "argument:1".parse().expect("it is well formed");
    match parse("list", input, &[argument]) {
        Ok(servers) => {
            let labels: HashSet<_> = servers.iter().map(Server::label).collect();
            assert_eq!(labels.len(), servers.len(), "{servers:?}");
            let addresses: HashSet<_> = servers.iter().map(Server::address).collect();
            assert_eq!(addresses.len(), servers.len(), "{servers:?}");
            assert!(servers.iter().all(|server| server.name() != Some("argument:1")));
            let written: String = servers.iter().map(line).collect();
            let again =
                parse("list", written.as_bytes(), &[]).expect("the servers are well formed");
            assert_eq!(again, servers);
            let difference = difference(&servers, &again);
            assert_eq!(difference.kept.len(), servers.len());
            assert!(difference.removed.is_empty() && difference.added.is_empty());
        }
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            let messages: Vec<String> = error.messages().collect();
            assert!((1..=9).contains(&messages.len()), "{messages:?}");
            for message in messages {
                assert!(!message.contains(char::is_control), "{message}");
                assert!(message.len() < 4096, "{message}");
                let Some(place) = message.strip_prefix("list:") else {
                    assert!(message.starts_with("and "), "{message}");
                    continue;
                };
                check_place(input, place);
            }
        }
    }
}

fn line(server: &Server) -> String {
    match server.name() {
        Some(name) => format!("{} name={name}\n", server.address()),
        None => format!("{}\n", server.address()),
    }
}

/// Panics unless the place that begins an error is in the file. An error of the whole file has none.
fn check_place(input: &[u8], place: &str) {
    if place.starts_with(' ') {
        return;
    }
    let mut numbers = place.split(':');
    let mut number = || numbers.next()?.parse::<usize>().ok()?.checked_sub(1);
    let (line, column) = number().zip(number()).expect("the place has a line and a column");
    let line = input.split(|byte| *byte == b'\n').nth(line).expect("the line exists");
    assert!(column <= String::from_utf8_lossy(line).chars().count(), "{place}");
}
