//! Tests every message of bad usage, as a user sees it.

use crate::usage::refusal;

/// Bad arguments after a good server, and the message that they cause, without the program's name.
type Case = (&'static [&'static str], &'static str);

fn assert_messages(cases: &[Case]) {
    let wrong = cases.iter().filter_map(|(args, message)| {
        let refusal = refusal(args);
        (refusal != [format!("tcpcore: {message}")]).then_some((args, refusal))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{} of {}: {wrong:#?}", wrong.len(), cases.len());
}

#[test]
fn a_bad_server_gets_its_message() {
    assert_messages(SERVERS);
}

#[test]
fn a_bad_flag_or_value_gets_its_message() {
    assert_messages(FLAGS);
}

const SERVERS: &[Case] = &[
    (&[""], "\"\": empty, expected host:port"),
    (&[" "], "\" \": a blank or control character, expected host:port"),
    (&["\t"], "\"\\t\": a blank or control character, expected host:port"),
    (
        &["\"a:1\""],
        "\"\\\"a:1\\\"\": '\"' in the name, expected letters, digits, '-', '_' and '.'; write a:1",
    ),
    (
        &["'a:1'"],
        "\"'a:1'\": '\\'' in the name, expected letters, digits, '-', '_' and '.'; write a:1",
    ),
    (
        &["\u{1f600}:1"],
        "\"\u{1f600}:1\": '\u{1f600}' (U+1F600) is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["b\u{fc}cher:1"],
        "\"b\u{fc}cher:1\": '\u{fc}' (U+00FC) is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["bu\u{308}cher:1"],
        "\"bu\u{308}cher:1\": U+0308 is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["loc\u{430}lhost:1"],
        "\"loc\u{430}lhost:1\": '\u{430}' (U+0430) is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["a\u{202e}b:1"],
        "\"a\\u{202e}b:1\": U+202E is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["a\u{200b}:1"],
        "\"a\\u{200b}:1\": U+200B is not ASCII, expected host:port with the name in its xn-- form",
    ),
    (
        &["\u{a0}a:1"],
        "\"\\u{a0}a:1\": U+00A0 is not ASCII, expected host:port with the name in its xn-- form; write a:1",
    ),
    (&["a:0"], "\"a:0\": port 0 cannot be dialed, expected 1 to 65535"),
    (&["a:65536"], "\"a:65536\": the port is too large, expected 1 to 65535"),
    (
        &["a:999999999999999999999"],
        "\"a:999999999999999999999\": the port is too large, expected 1 to 65535",
    ),
    (&["a"], "\"a\": no port, expected host:port"),
    (&["a:"], "\"a:\": no port, expected host:port"),
    (&[":8001"], "\":8001\": no host, expected host:port; for this machine, write localhost:8001"),
    (&["8001"], "\"8001\": no host, expected host:port; for this machine, write localhost:8001"),
    (&["65536"], "\"65536\": no port, expected host:port"),
    (&["::1"], "\"::1\": an IPv6 address without brackets, expected [address]:port"),
    (
        &["::1:8001"],
        "\"::1:8001\": an IPv6 address without brackets, expected [address]:port; write [::1]:8001 if 8001 is the port",
    ),
    (
        &["2001:db8:0:0:0:0:0:1:80"],
        "\"2001:db8:0:0:0:0:0:1:80\": an IPv6 address without brackets, expected [address]:port; write [2001:db8:0:0:0:0:0:1]:80",
    ),
    (
        &["fe80::1%eth0:80"],
        "\"fe80::1%eth0:80\": an IPv6 address without brackets, expected [address]:port; write [fe80::1%eth0]:80",
    ),
    (
        &["fe80::1%eth0"],
        "\"fe80::1%eth0\": an IPv6 address without brackets, expected [address]:port",
    ),
    (
        &["[fe80::1%]:80"],
        "\"[fe80::1%]:80\": a bad zone after the %, expected the name of an interface, as in [fe80::1%eth0]:80",
    ),
    (
        &["[fe80::1%e/0]:80"],
        "\"[fe80::1%e/0]:80\": a bad zone after the %, expected the name of an interface, as in [fe80::1%eth0]:80",
    ),
    (&["[::1"], "\"[::1\": a bracket without its partner, expected [address]:port"),
    (
        &["[::1]80"],
        "\"[::1]80\": more than a port after the bracket, expected [address]:port; write [::1]:80",
    ),
    (
        &["[localhost]:80"],
        "\"[localhost]:80\": no IPv6 address within the brackets, expected [address]:port; write localhost:80",
    ),
    (&["[::g]:1"], "\"[::g]:1\": no IPv6 address within the brackets, expected [address]:port"),
    (&["[]:80"], "\"[]:80\": no host, expected host:port; for this machine, write localhost:80"),
    (
        &["[1.2.3.4]:80"],
        "\"[1.2.3.4]:80\": no IPv6 address within the brackets, expected [address]:port; write 1.2.3.4:80",
    ),
    (&["a:1,b:2"], "\"a:1,b:2\": a list, expected one server per argument; write a:1 b:2"),
    (&["a:1, b:2"], "\"a:1, b:2\": a list, expected one server per argument; write a:1 b:2"),
    (&["a:1 b:2"], "\"a:1 b:2\": a list, expected one server per argument; write a:1 b:2"),
    (&["a,b:80"], "\"a,b:80\": a list, expected one server per argument"),
    (&["a:1;b:2"], "\"a:1;b:2\": a list, expected one server per argument; write a:1 b:2"),
    (
        &["tcp://a:1,tcp://b:2"],
        "\"tcp://a:1,tcp://b:2\": a list, expected one server per argument; write a:1 b:2",
    ),
    (&["a:1,b"], "\"a:1,b\": a list, expected one server per argument"),
    (
        &["tcp://host:1"],
        "\"tcp://host:1\": a URL, expected host:port without a scheme or a path; write host:1",
    ),
    (
        &["tcp:host:1"],
        "\"tcp:host:1\": more than one ':', expected host:port, or [address]:port for IPv6; write host:1",
    ),
    (
        &["http://host:1/x?y"],
        "\"http://host:1/x?y\": a URL, expected host:port without a scheme or a path; write host:1",
    ),
    (&["http://host/"], "\"http://host/\": a URL, expected host:port without a scheme or a path"),
    (
        &["http://u:p@host:1"],
        "\"http://u:p@host:1\": a URL, expected host:port without a scheme or a path; write host:1",
    ),
    (
        &["user@host:1"],
        "\"user@host:1\": '@' in the name, expected letters, digits, '-', '_' and '.'; write host:1",
    ),
    (
        &["host:1/"],
        "\"host:1/\": the port is not a whole number, expected one from 1 to 65535; write host:1",
    ),
    (&["host:http"], "\"host:http\": the port is not a whole number, expected one from 1 to 65535"),
    (&["host:+80"], "\"host:+80\": the port is not a whole number, expected one from 1 to 65535"),
    (&["host:80.0"], "\"host:80.0\": the port is not a whole number, expected one from 1 to 65535"),
    (&["a:b:1"], "\"a:b:1\": more than one ':', expected host:port, or [address]:port for IPv6"),
    (&["a b:1"], "\"a b:1\": a blank or control character, expected host:port"),
    (&[" a:1 "], "\" a:1 \": a blank or control character, expected host:port; write a:1"),
    (&["a:1\n"], "\"a:1\\n\": a blank or control character, expected host:port; write a:1"),
    (&["a\u{1b}[31m:1"], "\"a\\u{1b}[31m:1\": a blank or control character, expected host:port"),
    (&["-"], "\"-\": no port, expected host:port"),
    (&["--", "-d"], "\"-d\": no port, expected host:port"),
    (
        &["127.1:1"],
        "\"127.1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["2130706433:1"],
        "\"2130706433:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["0177.0.0.1:1"],
        "\"0177.0.0.1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 177.0.0.1:1, or 127.0.0.1:1 if a leading 0 means octal",
    ),
    (
        &["0x7f000001:1"],
        "\"0x7f000001:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["0x7f.1:1"],
        "\"0x7f.1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["0x7f.0.0.0x1:1"],
        "\"0x7f.0.0.0x1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["127.0.0.0x1:1"],
        "\"127.0.0.0x1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["127.0.0.1.:1"],
        "\"127.0.0.1.:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["0x7f000001.:1"],
        "\"0x7f000001.:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 127.0.0.1:1",
    ),
    (
        &["192.168.001.010:1"],
        "\"192.168.001.010:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 192.168.1.10:1, or 192.168.1.8:1 if a leading 0 means octal",
    ),
    (
        &["192.168.009.1:1"],
        "\"192.168.009.1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 192.168.9.1:1",
    ),
    (
        &["256.1.1.1:1"],
        "\"256.1.1.1:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (
        &["1.2.3.4.5:1"],
        "\"1.2.3.4.5:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (
        &["80:80"],
        "\"80:80\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (
        &["0:80"],
        "\"0:80\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name; write 0.0.0.0:80",
    ),
    (
        &["server.1:80"],
        "\"server.1:80\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (
        &["0x:80"],
        "\"0x:80\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (
        &["4294967296:1"],
        "\"4294967296:1\": the host ends in a number but is not an IPv4 address, expected four numbers from 0 to 255 or a name",
    ),
    (&["a..b:1"], "\"a..b:1\": a dot too many in the name, expected labels between single dots"),
    (
        &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1"],
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1\": a label of the name is too long, expected at most 63 characters between dots",
    ),
    (
        &[
            "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.:1",
        ],
        "\"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.:1\": the name is too long, expected at most 253 characters",
    ),
];

const FLAGS: &[Case] = &[
    (&["-p0"], "-p: 0 is not allowed, expected a whole number of at least 1, or auto"),
    (
        &["-p", "1e3"],
        "-p: \"1e3\" is not allowed, expected a whole number of at least 1, or auto; write 1000",
    ),
    (
        &["-p", "99999999999999999999"],
        "-p: \"99999999999999999999\" is too large, expected a whole number of at least 1, or auto",
    ),
    (
        &["-p", "cores"],
        "-p: \"cores\" is not allowed, expected a whole number of at least 1, or auto",
    ),
    (
        &["-p", "Auto"],
        "-p: \"Auto\" is not allowed, expected a whole number of at least 1, or auto; write auto",
    ),
    (&["-p=2x"], "-p: \"2x\" is not allowed, expected a whole number of at least 1, or auto"),
    (&["-p", ""], "-p: the value is empty, expected a whole number of at least 1, or auto"),
    (&["-p=", "2"], "-p: the value is empty, expected a whole number of at least 1, or auto"),
    (&["-p", "4.5"], "-p: \"4.5\" is not allowed, expected a whole number of at least 1, or auto"),
    (
        &["-d", "-6"],
        "-d: \"-6\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "6.0"],
        "-d: \"6.0\" is not allowed, expected a whole number from 1 to 9223372036854775807; write 6",
    ),
    (
        &["--divisor", "6.0"],
        "--divisor: \"6.0\" is not allowed, expected a whole number from 1 to 9223372036854775807; write 6",
    ),
    (&["-d", "0"], "-d: 0 is not allowed, expected a whole number from 1 to 9223372036854775807"),
    (
        &["--divisor=0"],
        "--divisor: 0 is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", " 6"],
        "-d: \" 6\" is not allowed, expected a whole number from 1 to 9223372036854775807; write 6",
    ),
    (
        &["-d", "0x6"],
        "-d: \"0x6\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "9223372036854775808"],
        "-d: 9223372036854775808 is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "99999999999999999999"],
        "-d: \"99999999999999999999\" is too large, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "six\n"],
        "-d: \"six\\n\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "sechs\u{202e}"],
        "-d: \"sechs\\u{202e}\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "f\u{fc}nf"],
        "-d: \"f\u{fc}nf\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["--jitter-factor", "nan"],
        "--jitter-factor: nan is not allowed, expected a number from 0 to 1",
    ),
    (
        &["--jitter-factor", "inf"],
        "--jitter-factor: inf is not allowed, expected a number from 0 to 1",
    ),
    (&["--jitter-factor", "2"], "--jitter-factor: 2 is not allowed, expected a number from 0 to 1"),
    (
        &["--jitter-factor", "0,1"],
        "--jitter-factor: \"0,1\" is not allowed, expected a number from 0 to 1; write 0.1",
    ),
    (
        &["--jitter-factor", "10%"],
        "--jitter-factor: \"10%\" is not allowed, expected a number from 0 to 1",
    ),
    (
        &["--jitter-factor", "-0.1"],
        "--jitter-factor: -0.1 is not allowed, expected a number from 0 to 1",
    ),
    (
        &["--backoff-multiplier", "0.9"],
        "--backoff-multiplier: 0.9 is not allowed, expected a number from 1 to 1000000",
    ),
    (
        &["--backoff-multiplier", "x"],
        "--backoff-multiplier: \"x\" is not allowed, expected a number from 1 to 1000000",
    ),
    (
        &["--initial-backoff", "2m"],
        "--initial-backoff: 2m is longer than the longest delay, which is 1m; raise it with --max-backoff",
    ),
    (
        &["--max-backoff", "500ms"],
        "--max-backoff: 500ms is shorter than the first delay, which is 1s; lower it with --initial-backoff",
    ),
    (
        &["--initial-backoff", "120s", "--max-backoff", "1m"],
        "--initial-backoff: 120s is longer than --max-backoff, which is 1m",
    ),
    (
        &["--max-backoff", "0"],
        "--max-backoff: 0 is not allowed, expected a duration in ms, s, m, h or d, from the initial back-off to 365d",
    ),
    (
        &["--max-backoff", "366d"],
        "--max-backoff: 366d is not allowed, expected a duration in ms, s, m, h or d, from the initial back-off to 365d",
    ),
    (
        &["--initial-backoff", "0"],
        "--initial-backoff: 0 is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--initial-backoff", "366d"],
        "--initial-backoff: 366d is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--initial-backoff", "366d", "--max-backoff", "367d"],
        "--initial-backoff: 366d is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--give-up-after", "1M"],
        "--give-up-after: \"1M\" has a unit in upper case, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never; write 1m",
    ),
    (
        &["--give-up-after", "1w"],
        "--give-up-after: \"1w\" has an unknown unit, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never; write 7d",
    ),
    (
        &["--give-up-after", "1month"],
        "--give-up-after: \"1month\" has an unknown unit, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never",
    ),
    (
        &["--give-up-after", "2days"],
        "--give-up-after: \"2days\" has an unknown unit, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never; write 2d",
    ),
    (
        &["--give-up-after", "10"],
        "--give-up-after: \"10\" lacks a unit, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never; write 10s",
    ),
    (
        &["--give-up-after", "0"],
        "--give-up-after: 0 is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never",
    ),
    (
        &["--give-up-after", "Never"],
        "--give-up-after: \"Never\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never; write never",
    ),
    (
        &["--give-up-after", "off"],
        "--give-up-after: \"off\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d, or never",
    ),
    (
        &["--idle-timeout", "never"],
        "--idle-timeout: \"never\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d, or off",
    ),
    (
        &["--idle-timeout", "1,5s"],
        "--idle-timeout: \"1,5s\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d, or off; write 1.5s",
    ),
    (
        &["--idle-timeout", "0.5ms"],
        "--idle-timeout: 0.5ms is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d, or off",
    ),
    (
        &["--connect-timeout", "soon"],
        "--connect-timeout: \"soon\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--connect-timeout", "0.0000001ms"],
        "--connect-timeout: \"0.0000001ms\" is finer than a nanosecond, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--connect-timeout", "99999999999999999999999999999999999999999999999999s"],
        "--connect-timeout: \"99999999999999999999999999999999999999999999999999s\" is too long, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--connect-timeout", "-1s"],
        "--connect-timeout: \"-1s\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (
        &["--connect-timeout", "off"],
        "--connect-timeout: \"off\" is not a duration, expected a duration in ms, s, m, h or d, from 1ms to 365d",
    ),
    (&["--paralelism", "4"], "--paralelism: no such flag; did you mean --parallelism?"),
    (&["--parallel", "4"], "--parallel: no such flag; did you mean --parallelism?"),
    (
        &["--timeout", "4"],
        "--timeout: no such flag; did you mean --connect-timeout or --idle-timeout?",
    ),
    (&["--divizor=3"], "--divizor: no such flag; did you mean --divisor?"),
    (&["--xyz"], "--xyz: no such flag; see tcpcore -h for those there are"),
    (&["-x"], "-x: no such flag; see tcpcore -h for those there are"),
    (&["--d", "6"], "--d: no such flag; did you mean -d?"),
    (&["--q"], "--q: no such flag; did you mean -q?"),
    (&["-once"], "-o: no such flag; did you mean --once?"),
    (
        &["-divisor", "6"],
        "-d: \"ivisor\" is not allowed, expected a whole number from 1 to 9223372036854775807; did you mean --divisor?",
    ),
    (
        &["-paralelism=4"],
        "-p: \"aralelism=4\" is not allowed, expected a whole number of at least 1, or auto; did you mean --parallelism?",
    ),
    (&["-version"], "-e: no such flag; did you mean --version?"),
    (&["--hlep"], "--hlep: no such flag; did you mean --help?"),
    (&["--a\nb"], "--a\\nb: no such flag; see tcpcore -h for those there are"),
    (&["-\u{e9}"], "-\u{e9}: no such flag; see tcpcore -h for those there are"),
    (&["--help=x"], "--help: takes no value, but was given \"x\""),
    (&["-h=x"], "-h: takes no value, but was given \"x\""),
    (&["--version=1"], "--version: takes no value, but was given \"1\""),
    (&["-V=1"], "-V: takes no value, but was given \"1\""),
    (&["--once=yes"], "--once: takes no value, but was given \"yes\""),
    (&["-q=1"], "-q: takes no value, but was given \"1\""),
    (&["-qx"], "-x: no such flag; see tcpcore -h for those there are"),
    (
        &["--divisor", "--once"],
        "--divisor: the value is missing before --once, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["--divisor", "-q"],
        "--divisor: the value is missing before -q, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["-d", "-p4"],
        "-d: the value is missing before -p4, expected a whole number from 1 to 9223372036854775807",
    ),
    (&["-d"], "-d: the value is missing, expected a whole number from 1 to 9223372036854775807"),
    (&["-qd"], "-d: the value is missing, expected a whole number from 1 to 9223372036854775807"),
    (
        &["--divisor", "--"],
        "--divisor: the value is missing before --, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["--divisor=--once"],
        "--divisor: \"--once\" is not allowed, expected a whole number from 1 to 9223372036854775807",
    ),
    (
        &["--max-line", "4k"],
        "--max-line: \"4k\" is not allowed, expected a whole number of bytes from 1 to 16777216",
    ),
    (
        &["--max-line", "0"],
        "--max-line: 0 is not allowed, expected a whole number of bytes from 1 to 16777216",
    ),
    (
        &["--max-line", "16777217"],
        "--max-line: 16777217 is not allowed, expected a whole number of bytes from 1 to 16777216",
    ),
    (
        &["--divisor", "192.0.2.1:9"],
        "--divisor: the value is missing before 192.0.2.1:9, expected a whole number from 1 to 9223372036854775807",
    ),
];
