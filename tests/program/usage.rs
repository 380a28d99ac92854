//! Tests the command line and the log.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;

use crate::common::{Program, Server};
use crate::{Down, start, stop, tcpcore};

/// The results of a program that ends by itself.
struct Output {
    status: Option<i32>,
    stdout: Vec<String>,
    stderr: Vec<String>,
}

fn output(args: &[impl AsRef<OsStr>]) -> Output {
    let mut program = Program::spawn(Program::command(env!("CARGO_BIN_EXE_tcpcore")).args(args));
    let status = program.wait_exit().code();
    Output { status, stdout: program.remaining_lines(), stderr: program.log().to_vec() }
}

/// Asserts that the program refuses `args` with one line on stderr that contains all of `parts`.
fn assert_bad_usage(args: &[impl AsRef<OsStr> + Debug], parts: &[&str]) {
    let Output { status, stdout, stderr } = output(args);
    assert_eq!((status, stdout.len(), stderr.len()), (Some(2), 0, 1), "{args:?}: {stderr:?}");
    for part in parts {
        assert!(stderr[0].contains(part), "{args:?}: no {part:?} in {stderr:?}");
    }
}

/// Asserts the same of `args` after a good server, which must not be dialed.
fn assert_refused(args: &[&str], parts: &[&str]) {
    let server = Server::bind();
    let address = server.address().to_string();
    assert_bad_usage(&[&[address.as_str()], args].concat(), parts);
    assert!(server.accept_within(Duration::ZERO).is_none(), "{args:?}: it was dialed");
}

/// Returns the stderr of a program that refuses `args` after a good server, which must not be dialed.
pub(crate) fn refusal(args: &[&str]) -> Vec<String> {
    let server = Server::bind();
    let address = server.address().to_string();
    let Output { status, stdout, stderr } = output(&[&[address.as_str()], args].concat());
    assert!(server.accept_within(Duration::ZERO).is_none(), "{args:?}: it was dialed");
    assert_eq!((status, stdout), (Some(2), vec![]), "{args:?}");
    stderr
}

#[test]
fn a_bad_server_is_named_with_its_problem() {
    for (server, wrong) in [
        ("localhost", "no port"),
        ("localhost:", "no port"),
        (":8001", "no host"),
        ("localhost:0", "port 0"),
        ("localhost:65536", "1 to 65535"),
        ("localhost:-1", "1 to 65535"),
        ("localhost:http", "not a whole number"),
        ("127.1:8001", "write 127.0.0.1:8001"),
        ("0x7f.1:8001", "write 127.0.0.1:8001"),
        ("127.0.0.1.:8001", "write 127.0.0.1:8001"),
        ("127.0.0.1.1:8001", "IPv4"),
        ("256.0.0.1:8001", "IPv4"),
        ("::1:8001", "brackets"),
        ("[::1]", "no port"),
        ("[::1:8001", "bracket"),
        ("[::g]:8001", "IPv6"),
        ("http://localhost:8001", "URL"),
        ("local host:8001", "blank"),
        ("a..b:8001", "dot"),
        ("", "\"\""),
    ] {
        assert_refused(&[server], &[&format!("\"{server}\""), wrong]);
    }
}

#[test]
fn no_server_is_bad_usage() {
    for args in [&[][..], &["-p", "2"], &["--"]] {
        assert_bad_usage(args, &["no servers", "host:port", "see tcpcore -h"]);
    }
}

#[test]
fn a_bad_value_is_named_with_its_flag_and_the_allowed_values() {
    const DURATION: &str = "a duration in ms, s, m, h or d";
    const COUNT: &str = "a whole number";
    const NUMBER: &str = "a number from";
    for (flag, expected, values) in [
        ("--parallelism", COUNT, ["0", "-1", "two"]),
        ("--divisor", COUNT, ["0", "-6", "9223372036854775808"]),
        ("--initial-backoff", DURATION, ["1", "0s", "soon"]),
        ("--max-backoff", DURATION, ["60", "-1s", "366d"]),
        ("--backoff-multiplier", NUMBER, ["0.5", "NaN", "x"]),
        ("--jitter-factor", NUMBER, ["1.5", "-0.1", "x"]),
        ("--reset-backoff-threshold", DURATION, ["3", "-1s", "x"]),
        ("--give-up-after", DURATION, ["0s", "3", "1M"]),
        ("--connect-timeout", DURATION, ["0s", "10", "x"]),
        ("--idle-timeout", DURATION, ["0s", "10", "1y"]),
        ("--max-line", COUNT, ["0", "4k", "99999999999"]),
        ("--delimiter", "expected", [";", "0x30", "0x0"]),
        ("--format", "plain, task, tsv or json", ["csv", "JSON", ""]),
        ("--status-addr", "an IP address with a port", ["9464", "localhost:9464", "127.0.0.1"]),
        ("--ready", "started, any, all or N%", ["0%", "101%", "each"]),
    ] {
        for value in values {
            assert_refused(&[flag, value], &[flag, expected]);
        }
        assert_refused(&[flag], &[flag, "missing", expected]);
        assert_refused(&[flag, "--once"], &[flag, "missing before --once", expected]);
        assert_refused(&[&format!("{flag}=")], &[flag, expected]);
    }
    for flag in ["-p", "-d"] {
        assert_refused(
            &[flag, "0"],
            &[&format!("tcpcore: {flag}: 0 is not allowed, expected {COUNT}")],
        );
    }
}

#[test]
fn an_unknown_flag_and_a_value_for_a_switch_are_named() {
    assert_refused(&["--paralel"], &["--paralel:", "no such flag", "did you mean --parallelism?"]);
    assert_refused(&["-x"], &["-x", "no such flag"]);
    assert_refused(&["--once=yes"], &["--once", "takes no value"]);
}

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    let escaped = r#""\xFF\u{1b}:1""#;
    assert_bad_usage(&[OsStr::from_bytes(b"\xff\x1b:1")], &[escaped, "not UTF-8", "host:port"]);
}

const FLAGS: &[&str] = &[
    "-f, --servers-file FILE",
    "--watch",
    "--check",
    "-p, --parallelism",
    "-d, --divisor",
    "--initial-backoff",
    "--max-backoff",
    "--backoff-multiplier",
    "--jitter-factor",
    "--reset-backoff-threshold",
    "--give-up-after",
    "--connect-timeout",
    "--idle-timeout",
    "--shard",
    "--shard-by",
    "--max-line",
    "--delimiter",
    "--lines",
    "--format",
    "--keep-truncated",
    "--once",
    "--stats",
    "--log-format",
    "--generate",
    "--status-addr",
    "--ready",
    "--metrics-servers",
    "-q",
    "-v",
    "-h, --help",
    "-V, --version",
];

/// Returns what the program prints for `flag`. Asserts that it ends with status 0 and writes nothing to
/// stderr.
fn printed_by(flag: &str) -> Vec<String> {
    let Output { status, stdout, stderr } = output(&[flag]);
    assert_eq!((status, stderr), (Some(0), vec![]));
    stdout
}

#[test]
fn the_short_help_has_every_flag_in_short_lines() {
    let lines = printed_by("-h");
    assert!(
        lines.len() < FLAGS.len() + 7 && lines.iter().all(|line| line.len() < 80),
        "{lines:#?}"
    );
    let help = lines.join("\n");
    assert!(FLAGS.iter().all(|flag| help.contains(flag)), "{help}");
}

#[test]
fn the_long_help_explains_every_flag_with_its_default() {
    let help = printed_by("--help").join("\n");
    assert!(FLAGS.iter().all(|flag| help.contains(flag)), "{help}");
    for default in
        ["auto", "6", "1s", "1m", "2", "0.1", "3m", "never", "10s", "off", "4096", "lf", "plain"]
    {
        assert!(help.contains(&format!("Default: {default}.")), "{default}");
    }
    assert!(help.len() > 2 * printed_by("-h").join("\n").len());
}

#[test]
fn every_default_in_the_help_is_a_valid_value() {
    let server = Server::bind();
    let help = printed_by("--help");
    let mut flag = "";
    let mut args: Vec<&str> = vec!["--once"];
    for line in help.iter().map(|line| line.trim()) {
        if line.starts_with('-') {
            flag = line.split_whitespace().find(|word| word.starts_with("--")).unwrap();
        } else if let Some(default) = line.strip_prefix("Default: ") {
            args.extend([flag, default.strip_suffix('.').unwrap()]);
        }
    }
    assert!(args.len() > 20, "{args:?}");
    let address = server.address().to_string();
    args.push(&address);
    let mut program = Program::spawn(Program::command(env!("CARGO_BIN_EXE_tcpcore")).args(&args));
    program.wait_for_log("Connected successfully to");
    drop(server.accept());
    assert_eq!(program.wait_exit().code(), Some(0), "{:?}", program.log());
}

#[test]
fn a_server_that_is_listed_twice_causes_one_warning_and_is_read_twice() {
    let servers = [Server::bind(), Server::bind()];
    let [twice, once] = [servers[0].address(), servers[1].address()];
    let mut program = start("-d 1 --once -p 1", [twice, once, twice]);
    for (server, number) in [(0, "1"), (1, "2"), (0, "3")] {
        servers[server].accept().send(format!("{number}\n"));
    }
    assert_eq!(program.wait_exit().code(), Some(0), "{:?}", program.log());
    let mut numbers = program.remaining_lines();
    numbers.sort();
    assert_eq!(numbers, ["1", "2", "3"]);
    let warning = format!("Listed more than once, and read as often: {twice} (2 times)");
    let log = program.log();
    assert_eq!(log.iter().filter(|line| line.contains("Listed more")).count(), 1, "{log:?}");
    assert!(log.iter().any(|line| line.ends_with(&format!("WARN ] {warning}"))), "{log:?}");
}

#[test]
fn totals_have_the_singular_of_one() {
    let server = Server::bind();
    let mut program = start("-d 1 --once", [server.address()]);
    server.accept().send("7\n");
    assert_eq!(program.wait_exit().code(), Some(0), "{:?}", program.log());
    let totals = "Totals: 1 server, 1 connect, 0 failures, 2 bytes, 1 line, 0 malformed, \
                  0 oversized, 0 truncated, 1 record printed";
    assert!(program.log().iter().any(|line| line.ends_with(totals)), "{:?}", program.log());
}

#[test]
fn the_version_is_that_of_the_package() {
    for flag in ["-V", "--version"] {
        assert_eq!(printed_by(flag), [concat!("tcpcore ", env!("CARGO_PKG_VERSION"))]);
    }
}

/// Returns the levels in the log of a program that has too many workers and gives up.
fn levels(adjust: impl FnOnce(&mut Command)) -> Vec<&'static str> {
    let down = Down::new();
    let mut command = tcpcore("-p 2 --give-up-after 1ms", [&down]);
    adjust(&mut command);
    let mut program = Program::spawn(&mut command);
    assert_eq!(program.wait_exit().code(), Some(1));
    let log = program.log();
    ["ERROR", "WARN", "INFO", "DEBUG"]
        .into_iter()
        .filter(|level| log.iter().any(|line| line.contains(&format!("Z {level}"))))
        .collect()
}

#[test]
fn the_log_has_info_and_above_by_default() {
    assert_eq!(levels(|_| ()), ["ERROR", "WARN", "INFO"]);
}

#[test]
fn quiet_and_verbose_change_the_level() {
    assert_eq!(levels(|command| _ = command.arg("-q")), ["ERROR", "WARN"]);
    assert_eq!(levels(|command| _ = command.arg("-qq")), ["ERROR"]);
    assert_eq!(levels(|command| _ = command.arg("-qqq")), [""; 0]);
    assert_eq!(levels(|command| _ = command.arg("-v")), ["ERROR", "WARN", "INFO", "DEBUG"]);
}

#[test]
fn flags_override_rust_log_which_overrides_the_default() {
    let with = |value: &'static str, flags: &'static [&'static str]| {
        levels(move |command| _ = command.env("RUST_LOG", value).args(flags))
    };
    assert_eq!(with("error", &[]), ["ERROR"]);
    assert_eq!(with("warn,tcpcore=debug", &[]), ["ERROR", "WARN", "INFO", "DEBUG"]);
    assert_eq!(with("off", &[]), [""; 0]);
    assert_eq!(with("off", &["-v"]), ["ERROR", "WARN", "INFO", "DEBUG"]);
    assert_eq!(with("tcpcore=debug", &["-qqq"]), [""; 0]);
    assert_eq!(with("error", &["-q", "-v"]), ["ERROR", "WARN", "INFO"]);
}

#[test]
fn log_lines_carry_milliseconds() {
    let server = Server::bind();
    let mut program = start("", [server.address()]);
    program.wait_for_log("Connected successfully to");
    stop(&mut program);
    for line in program.log() {
        let shape: String =
            line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).take(26).collect();
        assert_eq!(shape, "[0000-00-00T00:00:00.000Z ", "{line}");
    }
}
