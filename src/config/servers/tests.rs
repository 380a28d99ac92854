use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn server(text: &str) -> Server {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn parsed(text: &str) -> Vec<String> {
    let servers = parse("list", text.as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"));
    servers.iter().map(Server::to_string).collect()
}

fn messages(bytes: impl AsRef<[u8]>, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<Server> = arguments.iter().map(|text| server(text)).collect();
    match parse("list", bytes.as_ref(), &arguments) {
        Err(error) => error.messages().collect(),
        Ok(servers) => panic!("no error: {servers:?}"),
    }
}

/// Returns the only message, without the name of the file.
fn message(bytes: impl AsRef<[u8]>) -> String {
    let messages = messages(bytes, &[]);
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages[0].strip_prefix("list:").unwrap().to_owned()
}

#[test]
fn a_line_is_a_server_with_an_optional_name() {
    let text = "a:1\nb:2 name=gate-7\n\t[::1]:3\t \tname=x=y#z\t\nc:4";
    assert_eq!(parsed(text), ["a:1", "gate-7 (b:2)", "x=y#z ([::1]:3)", "c:4"]);
}

#[test]
fn comments_blank_lines_carriage_returns_and_a_byte_order_mark_are_skipped() {
    assert_eq!(parsed(""), [""; 0]);
    assert_eq!(parsed("\u{feff}a:1"), ["a:1"]);
    let text =
        "\u{feff}# all\r\n\r\n \t\r\na:1 # one\r\nb:2\t#two\r\n #\r\nc:3 name=n #x name=y\r\n";
    assert_eq!(parsed(text), ["a:1", "b:2", "n (c:3)"]);
    // A comment may have any bytes.
    assert_eq!(parse("list", b"# \xff\0\ra\na:1 # \xe4", &[]).unwrap(), [server("a:1")]);
}

#[test]
fn an_error_has_the_line_and_the_character_of_its_part() {
    for (text, expected) in [
        ("localhost", "1:1: \"localhost\": no port, expected host:port"),
        ("\n\n \ta:0", "3:3: \"a:0\": port 0 cannot be dialed, expected 1 to 65535"),
        (
            "a:1,b:2",
            "1:1: \"a:1,b:2\": a list, expected one server a line; write each on a line of its own",
        ),
        (
            "a:1 b:2",
            "1:5: \"b:2\": not a field, expected name=VALUE; write each server on a line of its own",
        ),
        (
            "a:1 gate",
            "1:5: \"gate\": not a field, expected name=VALUE; a value has no blanks, and a comment \
             begins with #",
        ),
        (
            "a:1 name = x",
            "1:5: \"name\": not a field, expected name=VALUE; write name=VALUE without blanks",
        ),
        ("a:1 // x", "1:5: \"//\": not a field, expected name=VALUE; begin a comment with #"),
        ("; x", "1:1: \";\": not a server, expected host:port; begin a comment with #"),
        (
            "a:1#x",
            "1:1: \"a:1#x\": the port is not a whole number, expected one from 1 to 65535; write a:1",
        ),
        ("name=x a:1", "1:1: \"name=x\": a field without a server, expected host:port before it"),
        ("a:1 nam=x", "1:5: \"nam\": no such field, expected name=VALUE; did you mean name=?"),
        ("a:1 NAME=x", "1:5: \"NAME\": no such field, expected name=VALUE; did you mean name=?"),
        ("a:1 rate=x", "1:5: \"rate\": no such field, expected name=VALUE"),
        ("a:1 =x", "1:5: \"\": no such field, expected name=VALUE"),
        ("a:1 name=", "1:10: \"\": the name is empty, expected 1 to 128 bytes"),
        ("a:1 name=x name=x", "1:12: a second name, expected one; remove one of the two"),
        (
            "a:1 name=\"x\"",
            "1:10: \"\\\"x\\\"\": '\"' (U+0022) in the name, expected visible characters without \
             blanks and \"; write name=x",
        ),
        // Columns count characters.
        (
            "a:1 name=\u{fc} x",
            "1:12: \"x\": not a field, expected name=VALUE; a value has no blanks, and a comment begins with #",
        ),
    ] {
        assert_eq!(message(text), expected);
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_named() {
    assert_eq!(
        message(b"\xc3\xa4 \xe4:1"),
        "1:3: byte 0xe4 is not UTF-8, expected UTF-8; save it as UTF-8"
    );
    for start in [b"\xff\xfe", b"\xfe\xff"] {
        assert_eq!(message(start), " UTF-16, expected UTF-8; save it as UTF-8");
    }
}

#[test]
fn a_server_or_name_that_is_listed_twice_is_refused() {
    for (text, expected) in [
        (
            "a:1\n# x\na:1",
            "3:1: \"a:1\": listed on line 1 too, expected each server once; remove one of the two lines",
        ),
        (
            "a:1 name=x\nA:1 name=y",
            "2:1: \"A:1\": listed on line 1 too, expected each server once; remove one of the two lines",
        ),
        (
            "a:1 name=x\nb:1 name=x",
            "2:10: \"x\" also stands for the server of line 1, expected a name of its own; change the name",
        ),
        (
            "a:1 name=b:1\nb:1",
            "2:1: \"b:1\" also stands for the server of line 1, expected a name of its own; change the name",
        ),
        (
            "b:1\na:1 name=b:1",
            "2:10: \"b:1\" also stands for the server of line 1, expected a name of its own; change the name",
        ),
    ] {
        assert_eq!(message(text), expected);
    }
    // The first of them still counts after its repetition.
    assert_eq!(messages("a:1\na:1\na:1", &[]).len(), 2);
}

#[test]
fn a_name_differs_from_the_labels_of_the_arguments_whose_servers_may_be_repeated() {
    assert_eq!(
        messages("b:1 name=a:1", &["a:1"]),
        [
            "list:1:10: \"a:1\" also stands for a server of the arguments, expected a name of its own; change the name"
        ]
    );
    assert_eq!(parse("list", b"a:1", &[server("a:1")]).unwrap(), [server("a:1")]);
}

#[test]
fn a_line_has_at_most_4096_bytes_without_its_end() {
    let line = |bytes: usize| format!("a:1 #{}\r\n", "x".repeat(bytes - 5));
    assert_eq!(parsed(&line(4096)), ["a:1"]);
    assert_eq!(message(line(4097)), "1:4097: the line is too long, expected at most 4096 bytes");
    let line = "\u{fc}".repeat(2049);
    assert_eq!(message(line), "1:2049: the line is too long, expected at most 4096 bytes");
}

#[test]
fn eight_errors_are_described_and_the_others_counted() {
    let error = |lines: usize| parse("list", "x\n".repeat(lines).as_bytes(), &[]).unwrap_err();
    let first = "list:1:1: \"x\": no port, expected host:port";
    assert_eq!(error(1).to_string(), first);
    assert_eq!(error(2).to_string(), format!("{first} (and 1 more line with errors)"));
    assert_eq!(error(8).messages().count(), 8);
    let messages: Vec<String> = error(9).messages().collect();
    assert_eq!(messages.len(), 9);
    assert_eq!(messages[7], "list:8:1: \"x\": no port, expected host:port");
    assert_eq!(messages[8], "and 1 more line with errors");
    assert_eq!(error(20).messages().last().unwrap(), "and 12 more lines with errors");
    assert_eq!(error(20).to_string(), format!("{first} (and 19 more lines with errors)"));
}

#[test]
fn a_file_has_at_most_64_mib() {
    // One line, as a build without optimization takes a minute for as many empty ones.
    let mut bytes = vec![b'#'; MAX_BYTES];
    assert!(message(&bytes).starts_with("1:4097: the line is too long"));
    bytes.push(b'\n');
    assert_eq!(message(&bytes), " too large, expected at most 64 MiB");
}

#[test]
fn a_file_is_read_and_its_problem_named() {
    let folder = std::env::temp_dir().join(format!("tcpcore-servers-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("list");
    let failure = |path: &std::path::Path| read(path, &[]).unwrap_err().to_string();
    assert_eq!(
        failure(&path),
        format!(
            "{}: no such file, expected a file with a server a line; check the path",
            path.display()
        )
    );
    fs::write(&path, "a:1 name=x\nb:2\n").unwrap();
    assert_eq!(read(&path, &[]), Ok(vec![server("a:1").with_name("x").unwrap(), server("b:2")]));
    fs::write(&path, "a:1\nb\n").unwrap();
    assert_eq!(
        failure(&path),
        format!("{}:2:1: \"b\": no port, expected host:port", path.display())
    );
    #[cfg(unix)]
    assert_eq!(
        failure(&folder),
        format!(
            "{}: a directory, expected a file with a server a line; name a file in it",
            folder.display()
        )
    );
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn ten_thousand_servers_are_parsed_and_compared() {
    let text: String = (0..10_000).map(|i| format!("gate-{i}.example:9000 name=g{i}\n")).collect();
    let old = parse("list", text.as_bytes(), &[]).unwrap();
    let new: Vec<Server> = old.iter().rev().cloned().collect();
    // Steps in O(n^2) would take minutes.
    assert_eq!(difference(&old, &new).kept.len(), 10_000);
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{1,2}:[1-3]( name=[x-z]{1,2})?[ \t]{0,2}(#.{0,4})?\r?",
        "[a-c:1,=# \t\r\"name]{0,16}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_lines_are_unique_servers_or_errors_with_places_in_the_file(
        lines in prop::collection::vec(any_line(), 0..12),
        arguments in prop::collection::vec("[a-c]:[1-3]", 0..3),
    ) {
        let text = lines.join("\n");
        let arguments: Vec<Server> = arguments.iter().map(|text| server(text)).collect();
        match parse("list", text.as_bytes(), &arguments) {
            Ok(servers) => {
                let mut labels: HashSet<_> = servers.iter().map(Server::label).collect();
                prop_assert_eq!(labels.len(), servers.len());
                labels.retain(|label| arguments.iter().any(|server| server.label() == *label));
                let is_own = |server: &Server| server.name().is_none_or(|name| !labels.contains(name));
                prop_assert!(servers.iter().all(is_own));
                prop_assert_eq!(crate::address::repeated(&servers), []);
                let line = |server: &Server| match server.name() {
                    Some(name) => format!("{} name={name}\n", server.address()),
                    None => format!("{}\n", server.address()),
                };
                let written: String = servers.iter().map(line).collect();
                prop_assert_eq!(parse("list", written.as_bytes(), &arguments), Ok(servers));
            }
            Err(error) => {
                let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(&text).split('\n').collect();
                let mut last = 0;
                for message in error.messages().take(MAX_ERRORS) {
                    prop_assert!(!message.contains(char::is_control), "{message:?}");
                    let mut parts = message.split(':').skip(1);
                    let mut number = || parts.next().unwrap().parse::<usize>().unwrap();
                    let (line, column) = (number(), number());
                    prop_assert!(line > last, "{message}");
                    last = line;
                    let characters = lines[line - 1].chars().count();
                    prop_assert!((1..=characters + 1).contains(&column), "{message}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_parsed(bytes: Vec<u8>) {
        _ = parse("list", &bytes, &[]);
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_device_is_read_once_and_a_file_again() {
    let device = Path::new("/dev/null");
    assert_eq!(read(device, &[]).unwrap(), []);
    let error = reread(device, &[]).unwrap_err().to_string();
    assert!(error.contains("a pipe or a device, which is read once"), "{error}");
    let file = std::env::temp_dir().join(format!("tcpcore-reread-{}", std::process::id()));
    fs::write(&file, "a:1\n").unwrap();
    assert_eq!(reread(&file, &[]).unwrap().len(), 1);
    fs::remove_file(&file).unwrap();
    assert!(reread(&file, &[]).unwrap_err().to_string().contains("no such file"));
}
