use super::*;
use proptest::prelude::*;

const SERVER: &str = "localhost:8001";

fn parse_strs(args: &[&str]) -> Result<Command, UsageError> {
    parse(args.iter().map(OsString::from))
}

/// Parses a valid line, with one server added to it.
fn run(args: &[&str]) -> (Config, Option<LevelFilter>) {
    match parse_strs(&[args, &[SERVER]].concat()) {
        Ok(Command::Run { config, options }) => (config, options.log_level),
        other => panic!("{args:?}: {other:?}"),
    }
}

fn config(args: &[&str]) -> Config {
    run(args).0
}

fn message(args: &[&str]) -> String {
    match parse_strs(&[args, &[SERVER]].concat()) {
        Err(error) => error.to_string(),
        other => panic!("{args:?}: {other:?}"),
    }
}

/// Builds a configuration of one server and these settings.
fn built(set: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Config {
    set(Config::builder().servers([SERVER.parse().unwrap()])).build().unwrap()
}

fn help(arg: &str) -> String {
    match parse_strs(&[arg]) {
        Ok(Command::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn parallelism_is_a_count_from_1_or_auto() {
    assert_eq!(config(&["-p", "4"]), built(|c| c.parallelism(4)));
    assert_eq!(config(&["-p1"]), built(|c| c.parallelism(1)));
    assert_eq!(config(&["--parallelism=4"]), built(|c| c.parallelism(4)));
    assert_eq!(config(&["-p", "4", "-p", "auto"]), built(|c| c));
    let expected = "expected a whole number of at least 1, or auto";
    assert_eq!(message(&["-p0"]), format!("tcpcore: -p: 0 is not allowed, {expected}"));
    for bad in ["-1", "four", "1.5", "cores", "off"] {
        assert_eq!(
            message(&["--parallelism", bad]),
            format!("tcpcore: --parallelism: \"{bad}\" is not allowed, {expected}")
        );
    }
    let huge = "99999999999999999999";
    assert_eq!(message(&["-p", huge]), format!("tcpcore: -p: \"{huge}\" is too large, {expected}"));
}

#[test]
fn divisor_is_a_number_from_1_to_the_greatest_i64() {
    assert_eq!(config(&["-d", "1"]), built(|c| c.divisor(1)));
    let greatest = "9223372036854775807";
    assert_eq!(config(&["--divisor", greatest]), built(|c| c.divisor(Config::MAX_DIVISOR)));
    let expected = "expected a whole number from 1 to 9223372036854775807";
    for bad in ["0", "00", "9223372036854775808"] {
        assert_eq!(
            message(&["--divisor", bad]),
            format!("tcpcore: --divisor: {bad} is not allowed, {expected}")
        );
    }
    for bad in ["-6", "six", "0x6", "6.5", "inf", "-1e3", "1e99", "0.0", "9007199254740993.0"] {
        assert_eq!(
            message(&["-d", bad]),
            format!("tcpcore: -d: \"{bad}\" is not allowed, {expected}")
        );
    }
    for (bad, remedy) in [
        ("6.0", "6"),
        ("1e3", "1000"),
        (" 6", "6"),
        ("6\t", "6"),
        // A float cannot hold this number.
        (" 9007199254740993", "9007199254740993"),
        ("9007199254740991.0", "9007199254740991"),
    ] {
        assert_eq!(
            message(&["-d", bad]),
            format!("tcpcore: -d: {} is not allowed, {expected}; write {remedy}", quoted(bad))
        );
    }
}

#[test]
fn the_back_off_is_set_by_five_flags() {
    let secs = Duration::from_secs;
    assert_eq!(config(&["--initial-backoff", "2s"]), built(|c| c.initial_backoff(secs(2))));
    assert_eq!(config(&["--max-backoff", "1h"]), built(|c| c.max_backoff(secs(3600))));
    assert_eq!(config(&["--backoff-multiplier=1.5"]), built(|c| c.backoff_multiplier(1.5)));
    assert_eq!(config(&["--jitter-factor", "0"]), built(|c| c.jitter_factor(0.0)));
    assert_eq!(config(&["--jitter-factor", "1e-3"]), built(|c| c.jitter_factor(0.001)));
    assert_eq!(
        config(&["--reset-backoff-threshold", "0"]),
        built(|c| c.reset_backoff_threshold(Duration::ZERO))
    );
    for (flag, bad) in [
        ("--backoff-multiplier", "0.90"),
        ("--backoff-multiplier", "inf"),
        ("--jitter-factor", "1.10"),
        ("--jitter-factor", "nan"),
        ("--jitter-factor", "-0.1"),
    ] {
        let start = format!("tcpcore: {flag}: {bad} is not allowed, expected a number from ");
        assert!(message(&[flag, bad]).starts_with(&start), "{flag} {bad}");
    }
    for (bad, remedy) in [("10%", ""), ("1,1", ""), ("0,1", "; write 0.1"), (" 0.1", "; write 0.1")]
    {
        assert_eq!(
            message(&["--jitter-factor", bad]),
            format!(
                "tcpcore: --jitter-factor: \"{bad}\" is not allowed, \
                 expected a number from 0 to 1{remedy}"
            )
        );
    }
}

#[test]
fn contradicting_delays_are_named_as_typed() {
    for (args, expected) in [
        (
            &["--initial-backoff", "120s"][..],
            "--initial-backoff: 120s is longer than the longest delay, which is 1m; \
             raise it with --max-backoff",
        ),
        (
            &["--max-backoff=0.5s"],
            "--max-backoff: 0.5s is shorter than the first delay, which is 1s; \
             lower it with --initial-backoff",
        ),
        (
            &["--max-backoff", "60s", "--initial-backoff", "1h 0m"],
            "--initial-backoff: 1h 0m is longer than --max-backoff, which is 60s",
        ),
    ] {
        assert_eq!(message(args), format!("tcpcore: {expected}"));
    }
}

#[test]
fn time_limits_are_durations_or_the_word_in_the_help() {
    let ms = Duration::from_millis;
    assert_eq!(config(&["--give-up-after", "3m"]), built(|c| c.give_up_after(ms(180_000))));
    assert_eq!(config(&["--give-up-after=3m", "--give-up-after=never"]), built(|c| c));
    assert_eq!(config(&["--connect-timeout", "1ms"]), built(|c| c.connect_timeout(ms(1))));
    assert_eq!(
        config(&["--idle-timeout", "365d"]),
        built(|c| c.idle_timeout(Config::MAX_DURATION))
    );
    assert_eq!(config(&["--idle-timeout", "1s", "--idle-timeout", "off"]), built(|c| c));
    // Each word has its flag.
    for (flag, bad, remedy) in [
        ("--give-up-after", "off", ""),
        ("--idle-timeout", "never", ""),
        ("--connect-timeout", "off", ""),
        ("--give-up-after", "Never", "; write never"),
        ("--idle-timeout", " OFF", "; write off"),
        ("--idle-timeout", "-0s", ""),
    ] {
        let message = message(&[flag, bad]);
        let start = format!("tcpcore: {flag}: \"{bad}\" is not a duration, expected a duration");
        assert!(message.starts_with(&start), "{message}");
        assert_eq!(message.split_once("; ").map_or("", |(_, remedy)| remedy), {
            remedy.trim_start_matches("; ")
        });
    }
}

#[test]
fn a_proposed_value_is_within_the_bounds_of_its_flag() {
    for (args, remedy) in [
        (["--idle-timeout", "0 s"], None),
        (["--idle-timeout", "53 weeks"], None),
        (["--idle-timeout", "52 weeks"], Some("write 364d")),
        (["--reset-backoff-threshold", "0 s"], Some("write 0s")),
        (["--backoff-multiplier", "0,5"], None),
        // The value also needs another flag, which the next message says.
        (["--initial-backoff", "2 min"], Some("write 2m")),
    ] {
        assert_eq!(message(&args).split_once("; ").map(|(_, remedy)| remedy), remedy);
    }
}

#[test]
fn each_duration_flag_requires_a_unit_and_checks_its_bounds() {
    let durations = FLAGS.iter().filter(|flag| flag.names().ends_with(" D"));
    assert_eq!(durations.clone().count(), 7);
    for flag in durations {
        let flag = format!("--{}", flag.long);
        for (bad, problem, remedy) in [
            ("10", "lacks a unit", "; write 10s"),
            ("10x", "has an unknown unit", ""),
            ("1y", "has an unknown unit", ""),
            ("2days", "has an unknown unit", "; write 2d"),
            ("1w", "has an unknown unit", "; write 7d"),
            ("1M", "has a unit in upper case", "; write 1m"),
            ("s", "is not a duration", ""),
            ("-1s", "is not a duration", ""),
            ("1..5s", "is not a duration", ""),
            ("1.0000000001s", "is finer than a nanosecond", ""),
            ("999999999999999999999d", "is too long", ""),
        ] {
            let message = message(&[&flag, bad]);
            let start = format!("tcpcore: {flag}: \"{bad}\" {problem}, expected a duration in ");
            assert!(message.starts_with(&start), "{message}");
            assert_eq!(message.contains("; "), !remedy.is_empty(), "{message}");
            assert!(message.ends_with(remedy), "{message}");
        }
        for bad in ["31536001s", "366d"] {
            let start = format!("tcpcore: {flag}: {bad} is not allowed, expected a duration in ");
            assert!(message(&[&flag, bad]).replace('"', "").starts_with(&start), "{flag}");
        }
    }
}

#[test]
fn max_line_is_bytes_from_1_to_16_mib() {
    assert_eq!(config(&["--max-line", "1"]), built(|c| c.max_line(1)));
    assert_eq!(config(&["--max-line=16777216"]), built(|c| c.max_line(Config::MAX_MAX_LINE)));
    let expected = "expected a whole number of bytes from 1 to 16777216";
    for bad in ["0", "16777217"] {
        assert_eq!(
            message(&["--max-line", bad]),
            format!("tcpcore: --max-line: {bad} is not allowed, {expected}")
        );
    }
    assert_eq!(
        message(&["--max-line", "4k"]),
        format!("tcpcore: --max-line: \"4k\" is not allowed, {expected}")
    );
}

#[test]
fn a_format_is_one_of_four_names() {
    for format in Format::ALL {
        assert_eq!(config(&["--format", format.name()]), built(|c| c.format(format)));
    }
    for (bad, remedy) in [("JSON", "; write json"), ("jsonl", "; write json"), ("csv", "")] {
        assert_eq!(
            message(&["--format", bad]),
            format!(
                "tcpcore: --format: {} is not allowed, expected plain, task, tsv or json{remedy}",
                quoted(bad)
            )
        );
    }
}

#[test]
fn a_divisor_goes_with_numbers_and_a_digit_as_delimiter_with_lines() {
    let lines = built(|c| c.lines(true).delimiter(b'0'));
    assert_eq!(config(&["--lines", "--delimiter", "0x30"]), lines);
    assert_eq!(
        message(&["-d", "7", "--lines"]),
        "tcpcore: -d: does not go with --lines, which takes no numbers; leave out one of them"
    );
}

#[test]
fn a_delimiter_is_a_word_or_a_byte_that_is_no_part_of_a_number() {
    for (text, delimiter) in
        [("lf", b'\n'), ("cr", b'\r'), ("nul", 0), ("0x3b", b';'), ("0x0A", b'\n'), ("0xff", 0xff)]
    {
        assert_eq!(config(&["--delimiter", text]), built(|c| c.delimiter(delimiter)));
    }
    let expected = "expected lf, cr, nul or a byte as 0xNN";
    for (bad, remedy) in [
        ("LF", "lf"),
        ("\\n", "lf"),
        ("\n", "lf"),
        ("crlf", "lf"),
        (" cr", "cr"),
        ("\\0", "nul"),
        ("0", "nul"),
        ("tab", "0x09"),
        ("\t", "0x09"),
        (";", "0x3b"),
        (" ", "0x20"),
        ("\\x1e", "0x1e"),
        ("0xA", "0x0a"),
        ("0X1E", "0x1e"),
        ("0x100", ""),
        ("0x+a", "0x0a"),
        ("0x", ""),
        ("10", ""),
        ("5", ""),
        (";;", ""),
        ("\u{fc}", ""),
    ] {
        let remedy = if remedy.is_empty() { "".into() } else { format!("; write {remedy}") };
        assert_eq!(
            message(&["--delimiter", bad]),
            format!("tcpcore: --delimiter: {} is not allowed, {expected}{remedy}", quoted(bad))
        );
    }
    for byte in [b'0', b'9', b'+', b'-'] {
        let text = format!("{byte:#04x}");
        assert_eq!(
            message(&["--delimiter", &text]),
            format!(
                "tcpcore: --delimiter: {text} may be a part of a number, \
                 expected a byte that is no digit, + or -"
            )
        );
    }
}

#[test]
fn switches_take_no_value() {
    assert_eq!(config(&["--once"]), built(|c| c.once(true)));
    assert_eq!(config(&["--keep-truncated"]), built(|c| c.keep_truncated(true)));
    assert_eq!(config(&["--lines"]), built(|c| c.lines(true)));
    for (arg, flag) in [
        ("--once=yes", "--once"),
        ("--check=yes", "--check"),
        ("--watch=yes", "--watch"),
        ("--keep-truncated=yes", "--keep-truncated"),
        ("--quiet=yes", "--quiet"),
        ("-q=yes", "-q"),
        ("--help=yes", "--help"),
        ("-h=yes", "-h"),
        ("--version=yes", "--version"),
        ("-V=yes", "-V"),
    ] {
        let expected = format!("tcpcore: {flag}: takes no value, but was given \"yes\"");
        assert_eq!(message(&[arg]), expected);
    }
}

#[test]
fn a_flag_is_named_and_its_value_shown_as_typed() {
    for (args, start) in [
        (&["-d", "0"][..], "-d: 0 is"),
        (&["--divisor", "000"], "--divisor: 000 is"),
        (&["-qd0"], "-d: 0 is"),
        (&["--divisor=0", "-d00"], "-d: 00 is"),
        (&["--connect-timeout", "0"], "--connect-timeout: 0 is"),
        (&["--connect-timeout", "0.50ms"], "--connect-timeout: 0.50ms is"),
        (&["--idle-timeout", "366d"], "--idle-timeout: 366d is"),
        (&["--jitter-factor", "1e3"], "--jitter-factor: 1e3 is"),
        (&["-d", "f\u{fc}nf"], "-d: \"f\u{fc}nf\" is"),
        (&["-d", "\u{202e}6\n"], "-d: \"\\u{202e}6\\n\" is"),
    ] {
        let message = message(args);
        assert!(message.starts_with(&format!("tcpcore: {start}")), "{message}");
    }
    let long = "x".repeat(1000);
    let shown = format!("tcpcore: -d: \"{}\"... (1000 characters) is not allowed,", &long[..60]);
    assert!(message(&["-d", &long]).starts_with(&shown));
    let zeros = "0".repeat(1000);
    let shown = format!("tcpcore: -d: {}... (1000 characters) is not allowed,", &zeros[..60]);
    assert!(message(&["-d", &zeros]).starts_with(&shown));
}

#[test]
fn quiet_and_verbose_move_the_level_by_one_each() {
    for (args, level) in [
        ("-qqqq", LevelFilter::Off),
        ("-qqq", LevelFilter::Off),
        ("-qq", LevelFilter::Error),
        ("-q", LevelFilter::Warn),
        ("-qv", LevelFilter::Info),
        ("-v", LevelFilter::Debug),
        ("-vv", LevelFilter::Trace),
        ("-vvv", LevelFilter::Trace),
    ] {
        assert_eq!(run(&[args]).1, Some(level), "{args}");
    }
    assert_eq!(run(&[]).1, None, "RUST_LOG or the default decides");
    assert_eq!(run(&["--quiet", "--verbose", "--quiet"]).1, Some(LevelFilter::Warn));
}

#[test]
fn the_log_format_is_text_or_json() {
    let log_format = |args: &[&str]| match parse_strs(&[args, &[SERVER]].concat()) {
        Ok(Command::Run { options, .. }) => options.log_format,
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(log_format(&[]), LogFormat::Text);
    for format in LogFormat::ALL {
        assert_eq!(log_format(&["--log-format", format.name()]), format);
    }
    assert_eq!(log_format(&["--log-format=json", "--log-format=text"]), LogFormat::Text);
    let expected = "expected text or json";
    for (bad, remedy) in [
        ("xml", ""),
        ("JSON", "; write json"),
        ("ndjson", "; write json"),
        ("plain", "; write text"),
    ] {
        assert_eq!(
            message(&["--log-format", bad]),
            format!("tcpcore: --log-format: \"{bad}\" is not allowed, {expected}{remedy}")
        );
    }
    assert_eq!(
        message(&["--log-format", "-p1"]),
        format!("tcpcore: --log-format: the value is missing before -p1, {expected}")
    );
}

#[test]
fn no_flag_means_the_default_of_the_builder() {
    assert_eq!(config(&[]), built(|c| c));
}

#[test]
fn the_last_value_of_a_repeated_flag_counts() {
    assert_eq!(config(&["-d", "0", "--divisor=3", "-d7"]), built(|c| c.divisor(7)));
}

#[test]
fn servers_keep_their_order_among_the_flags() {
    let Ok(Command::Run { config, .. }) = parse_strs(&["b:2", "-d", "3", "a:1", "--", "c:3"])
    else {
        panic!("the line is valid");
    };
    let servers: Vec<String> = config.servers().iter().map(Server::to_string).collect();
    assert_eq!(servers, ["b:2", "a:1", "c:3"]);
}

#[test]
fn a_list_file_is_given_once_and_needs_no_other_server() {
    let file = |args: &[&str]| match parse_strs(args) {
        Ok(Command::Run { config, .. }) => {
            let path = config.servers_file().expect("a file was given").to_owned();
            (config.servers().len(), config.watch(), path)
        }
        other => panic!("{args:?}: {other:?}"),
    };
    assert_eq!(file(&["-f", "list"]), (0, false, "list".into()));
    assert_eq!(file(&["a:1", "-flist", "b:2"]), (2, false, "list".into()));
    assert_eq!(file(&["--servers-file=a:1", "--watch"]), (0, true, "a:1".into()));
    assert_eq!(file(&["-f", "-", "a:1"]), (1, false, "-".into()));
    assert_eq!(config(&[]).servers_file(), None);

    let message = |args: &[&str]| parse_strs(args).unwrap_err().to_string();
    let expected = "expected a file with a server a line; - is stdin";
    assert_eq!(message(&["-f"]), format!("tcpcore: -f: the value is missing, {expected}"));
    for next in ["--watch", "-q", SERVER] {
        assert_eq!(
            message(&["-f", next]),
            format!("tcpcore: -f: the value is missing before {next}, {expected}")
        );
    }
    for args in [&["-f", ""][..], &["--servers-file="]] {
        assert!(message(args).ends_with(&format!(": the value is empty, {expected}")));
    }
    assert_eq!(
        message(&["-f", "a", "--servers-file", "b"]),
        "tcpcore: --servers-file: given twice, expected one file; for several, write \
         cat FILES | tcpcore -f -"
    );
}

#[cfg(unix)]
#[test]
fn the_path_of_a_list_file_need_not_be_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let path = OsString::from_vec(b"\xff".to_vec());
    let Ok(Command::Run { config, .. }) = parse(["-f".into(), path.clone()]) else {
        panic!("the line is valid");
    };
    assert_eq!(config.servers_file(), Some(path.as_ref()));
}

#[test]
fn only_a_file_can_be_watched() {
    assert_eq!(message(&["--watch"]), "tcpcore: --watch: no file to watch, expected -f FILE too");
    assert_eq!(
        message(&["--watch", "-f", "-"]),
        "tcpcore: --watch: stdin cannot be watched, expected -f with a file"
    );
}

#[test]
fn a_check_has_the_settings_of_the_run() {
    let Ok(Command::Check(checked)) = parse_strs(&["--check", "-d", "3", "-q", SERVER]) else {
        panic!("the line is valid");
    };
    assert_eq!(checked, config(&["-d", "3"]));
    assert_eq!(message(&["--check", "-d0"]), message(&["-d0"]));
}

#[test]
fn a_missing_and_a_bad_server_are_errors() {
    let message = |args: &[&str]| parse_strs(args).unwrap_err().to_string();
    assert_eq!(
        message(&[]),
        "tcpcore: no servers, expected at least one server, as host:port, or a list of servers with \
         -f; see tcpcore -h"
    );
    assert_eq!(
        message(&["a:1", "localhost"]),
        "tcpcore: \"localhost\": no port, expected host:port"
    );
    assert_eq!(message(&["--", "-d"]), "tcpcore: \"-d\": no port, expected host:port");
}

#[test]
fn an_unknown_flag_is_named_with_the_nearest_one() {
    for (arg, name, remedy) in [
        ("--divizor=3", "--divizor", "did you mean --divisor?"),
        ("--paralelism", "--paralelism", "did you mean --parallelism?"),
        ("--Once", "--Once", "did you mean --once?"),
        ("--timeout", "--timeout", "did you mean --connect-timeout or --idle-timeout?"),
        ("--d=3", "--d", "did you mean -d?"),
        ("--x", "--x", ""),
        ("--server-file", "--server-file", "did you mean --servers-file?"),
        ("--targets", "--targets", ""),
        ("-x", "-x", ""),
        ("-qx", "-x", ""),
        ("-once", "-o", "did you mean --once?"),
        ("-onse=3", "-o", "did you mean --once?"),
        // It may be a cluster of three short flags.
        ("-onc", "-o", ""),
        ("-version", "-e", "did you mean --version?"),
        ("--a\nb", "--a\\nb", ""),
        ("--\u{fc}", "--\u{fc}", ""),
    ] {
        let remedy = if remedy.is_empty() { "see tcpcore -h for those there are" } else { remedy };
        assert_eq!(message(&[arg]), format!("tcpcore: {name}: no such flag; {remedy}"));
    }
}

#[test]
fn a_long_flag_with_one_dash_is_proposed_if_its_letters_are_a_bad_value() {
    for (args, start, remedy) in [
        (&["-divisor", "6"][..], "-d: \"ivisor\" is not allowed", "; did you mean --divisor?"),
        (&["-paralelism=4"], "-p: \"aralelism=4\" is", "; did you mean --parallelism?"),
        (&["-d6.0"], "-d: \"6.0\" is", "; write 6"),
        (&["-d", "divisor"], "-d: \"divisor\" is", " to 9223372036854775807"),
    ] {
        let message = message(args);
        assert!(message.starts_with(&format!("tcpcore: {start}")), "{message}");
        assert!(message.ends_with(remedy), "{message}");
    }
}

/// Returns the settings that are flags, each with its long flag.
fn flags_with_values() -> impl Iterator<Item = (String, Setting)> {
    FLAGS.iter().filter_map(|flag| match flag.action {
        Action::Value { setting, .. } => Some((format!("--{}", flag.long), setting)),
        _ => None,
    })
}

#[test]
fn a_missing_value_is_an_error_with_the_expected_value() {
    for (flag, setting) in flags_with_values() {
        let expected = setting.expected();
        let message = |args: &[&str]| parse_strs(args).unwrap_err().to_string();
        assert_eq!(
            message(&[SERVER, &flag]),
            format!("tcpcore: {flag}: the value is missing, expected {expected}")
        );
        for next in ["--once", "-q", "-p4", "--", "--x", SERVER] {
            assert_eq!(
                message(&[&flag, next, SERVER]),
                format!("tcpcore: {flag}: the value is missing before {next}, expected {expected}")
            );
        }
        for args in [&[&format!("{flag}="), SERVER], &[flag.as_str(), ""]] {
            assert_eq!(
                message(args),
                format!("tcpcore: {flag}: the value is empty, expected {expected}")
            );
        }
    }
    assert!(message(&["-d", "-p4"]).starts_with("tcpcore: -d: the value is missing before -p4,"));
    assert!(message(&["-qd", "-v"]).starts_with("tcpcore: -d: the value is missing before -v,"));
    // After a dash, a flag is no value, but a number is one.
    assert!(message(&["-d", "-6"]).starts_with("tcpcore: -d: \"-6\" is not allowed,"));
    assert!(message(&["-d", "-"]).starts_with("tcpcore: -d: \"-\" is not allowed,"));
    assert!(message(&["-da:1"]).starts_with("tcpcore: -d: \"a:1\" is not allowed,"));
    assert!(message(&["-d=--once"]).starts_with("tcpcore: -d: \"--once\" is not allowed,"));
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_utf8_is_named_escaped() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(b"a\xff\n:80".to_vec());
    let message = |args: Vec<OsString>| parse(args).unwrap_err().to_string();
    assert_eq!(
        message(vec![bytes()]),
        "tcpcore: \"a\\xFF\\n:80\" is not UTF-8, expected host:port"
    );
    assert_eq!(
        message(vec!["--max-line".into(), bytes()]),
        "tcpcore: --max-line: \"a\\xFF\\n:80\" is not UTF-8, \
         expected a whole number of bytes from 1 to 16777216"
    );
}

#[test]
fn help_and_version_end_the_parsing() {
    assert_eq!(help("-h"), short_help());
    assert_eq!(help("--help"), long_help());
    assert_eq!(help("-V"), format!("tcpcore {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(help("--version"), help("-V"));
    assert_eq!(parse_strs(&["nonsense", "-h"]), parse_strs(&["nonsense"]));
    assert_eq!(parse_strs(&["a:1", "-h", "nonsense"]), parse_strs(&["-h"]));
}

#[test]
fn both_helps_have_each_flag_and_fit_80_columns() {
    for text in [short_help(), long_help()] {
        for flag in FLAGS {
            assert!(text.contains(&format!("  {}", flag.names())), "{}", flag.long);
        }
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}

#[test]
fn the_short_help_is_a_line_for_each_flag() {
    // And a few lines around them.
    assert!(short_help().lines().count() < FLAGS.len() + 7, "{}", short_help());
}

#[test]
fn each_default_in_the_help_is_the_default_of_the_builder() {
    for flag in FLAGS {
        let Action::Value { setting, default, .. } = flag.action else {
            continue;
        };
        let default = default();
        assert_eq!(config(&[&format!("--{}={default}", flag.long)]), built(|c| c));
        assert_eq!(setting.word().unwrap_or(&default), default);
        assert!(short_help().contains(&format!("{} [{default}]\n", flag.brief)));
        assert!(long_help().contains(&format!("Default: {default}.\n")));
    }
}

#[test]
fn names_in_the_table_are_unique_and_those_of_the_settings() {
    for (i, flag) in FLAGS.iter().enumerate() {
        if let Action::Value { setting, .. } = flag.action {
            assert_eq!(flag.long, setting.name());
        }
        for other in &FLAGS[..i] {
            assert_ne!(flag.long, other.long);
            assert!(flag.short.is_none() || flag.short != other.short, "-{:?}", flag.short);
        }
    }
}

proptest! {
    #[test]
    fn any_arguments_are_a_command_or_a_one_line_error(
        args in prop::collection::vec(
            prop_oneof![
                "-{0,2}[a-z]{0,3}(=.{0,4})?",
                "[0-9]{1,20}(ms|s|m|y|)([0-9]{1,4}(ms|s))?",
                (0..FLAGS.len()).prop_map(|i| format!("--{}", FLAGS[i].long)),
                Just(SERVER.to_owned()),
                any::<String>(),
            ],
            0..6,
        ),
    ) {
        if let Err(error) = parse(args.into_iter().map(OsString::from)) {
            let message = error.to_string();
            prop_assert!(message.starts_with("tcpcore: "), "{message}");
            prop_assert!(!message.contains(char::is_control), "{message}");
            prop_assert!(message.len() < 4000, "{message}");
        }
    }
}

/// Parses the program's settings of a valid line.
fn program(args: &[&str]) -> ProgramOptions {
    match parse_strs(&[args, &[SERVER]].concat()) {
        Ok(Command::Run { options, .. }) => options,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_status_server_has_an_address_or_is_off() {
    assert_eq!(program(&[]), ProgramOptions::default());
    for text in ["127.0.0.1:9464", "[::1]:9464", "0.0.0.0:0", "127.0.0.1:80"] {
        let address = text.parse().unwrap();
        assert_eq!(program(&["--status-addr", text]).status_addr, Some(address));
    }
    assert_eq!(program(&["--status-addr=127.0.0.1:1", "--status-addr=off"]).status_addr, None);
    let expected = "expected an IP address with a port, such as 127.0.0.1:9464, or off";
    for (bad, remedy) in [
        ("9464", "; write 127.0.0.1:9464"),
        (":9464", "; write 127.0.0.1:9464"),
        ("localhost:9464", "; write 127.0.0.1:9464"),
        ("*:9464", "; write 0.0.0.0:9464"),
        ("http://[::1]:9464/", "; write [::1]:9464"),
        ("gate:9464", ""),
        ("127.0.0.1", ""),
        ("127.0.0.1:65536", ""),
        ("OFF", "; write off"),
    ] {
        assert_eq!(
            message(&["--status-addr", bad]),
            format!("tcpcore: --status-addr: \"{bad}\" is not allowed, {expected}{remedy}")
        );
    }
}

#[test]
fn ready_is_a_word_or_a_percentage() {
    assert_eq!(program(&["--metrics-servers", "0"]).pages.metrics_servers, 0);
    assert_eq!(program(&["--ready", "any"]).pages.ready, Ready::Any);
    assert_eq!(program(&["--ready", "all"]).pages.ready, Ready::Percent(100));
    assert_eq!(program(&["--ready=80%", "--ready=started"]).pages.ready, Ready::Started);
    let expected = "expected started, any, all or N% from 1% to 100%";
    for (bad, remedy) in [
        ("50", "; write 50%"),
        ("All", "; write all"),
        (" any", "; write any"),
        ("0%", ""),
        ("101%", ""),
        ("half", ""),
    ] {
        assert_eq!(
            message(&["--ready", bad]),
            format!("tcpcore: --ready: \"{bad}\" is not allowed, {expected}{remedy}")
        );
    }
}

/// Parses a valid line with variables of the environment.
fn shard_in(variables: &[(&str, &str)], args: &[&str]) -> (Option<Shard>, Vec<&'static str>) {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| OsString::from(value))
    };
    match parse_with([args, &[SERVER]].concat().into_iter().map(OsString::from), &lookup) {
        Ok(Command::Run { config, options }) => (config.shard(), options.shard_source),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn a_shard_is_an_index_below_a_count_or_comes_from_the_scheduler() {
    let shard = |index, count, by| Some(Shard::new(index, count, by).unwrap());
    assert_eq!(shard_in(&[], &[]), (None, vec![]));
    assert_eq!(shard_in(&[], &["--shard-by", "slice"]), (None, vec![]));
    let slice = shard(0, 4, ShardBy::Slice);
    assert_eq!(shard_in(&[], &["--shard", "0/4"]), (slice, vec![]));
    assert_eq!(shard_in(&[], &["--shard=0/4", "--shard-by=slice"]), (slice, vec![]));
    let hash = shard(3, 4, ShardBy::Hash);
    assert_eq!(shard_in(&[], &["--shard-by", "hash", "--shard", "3/4"]), (hash, vec![]));
    let variables = [("TCPCORE_SHARD", "3"), ("TCPCORE_SHARDS", "4")];
    let source = vec!["TCPCORE_SHARDS", "TCPCORE_SHARD"];
    assert_eq!(shard_in(&variables, &["--shard", "auto", "--shard-by", "hash"]), (hash, source));
    // Variables alone cut nothing, as they may be there for another reason.
    assert_eq!(shard_in(&variables, &[]), (None, vec![]));
    assert_eq!(shard_in(&variables, &["--shard", "auto", "--shard", "0/4"]), (slice, vec![]));

    let expected = "expected I/N with an index I from 0 to N - 1, such as 0/4, or auto";
    for (bad, remedy) in [
        ("4/4", "; write 3/4"),
        ("5/4", ""),
        ("0/0", ""),
        ("1 of 4", "; write 1/4"),
        ("1:4", "; write 1/4"),
        (" 1/4", "; write 1/4"),
        ("Auto", "; write auto"),
        ("+1/4", ""),
        ("1", ""),
        ("4294967296/4294967297", ""),
    ] {
        assert_eq!(
            message(&["--shard", bad]),
            format!("tcpcore: --shard: \"{bad}\" is not allowed, {expected}{remedy}")
        );
    }
    assert_eq!(
        message(&["--shard", "0/4", "--shard-by", "HASH"]),
        "tcpcore: --shard-by: \"HASH\" is not allowed, expected slice or hash; write hash"
    );
    assert_eq!(
        message(&["--shard-by", "hash"]),
        "tcpcore: --shard-by: no shard, expected --shard too"
    );
}
