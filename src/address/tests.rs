use super::*;
use proptest::prelude::*;

fn server(text: &str) -> Server {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn kind(text: &str) -> ServerErrorKind {
    match text.parse::<Server>() {
        Ok(server) => panic!("{text:?} was taken as {server:?}"),
        Err(error) => {
            assert_eq!(error.argument(), text);
            error.kind()
        }
    }
}

fn message(text: &str) -> String {
    text.parse::<Server>().unwrap_err().to_string()
}

fn name_of(server: &Server) -> &str {
    match server.host() {
        Host::Name(name) => name,
        Host::Ip(ip) => panic!("{ip} is not a name"),
    }
}

#[test]
fn each_form_is_parsed() {
    assert_eq!(name_of(&server("localhost:8001")), "localhost");
    assert_eq!(server("192.0.2.1:80").host(), &Host::Ip(Ipv4Addr::new(192, 0, 2, 1).into()));
    assert_eq!(server("[::1]:80").host(), &Host::Ip(Ipv6Addr::LOCALHOST.into()));
    assert_eq!(name_of(&server("[fe80::1%eth0]:80")), "fe80::1%eth0");
    assert_eq!(name_of(&server("my_host-1.example.:80")), "my_host-1.example.");
    assert_eq!(name_of(&server("3com.example:80")), "3com.example");
}

#[test]
fn display_is_the_parsed_form_with_a_canonical_address() {
    for text in ["localhost:8001", "192.0.2.1:80", "[::1]:80", "[FE80::1%eth0.7]:80", "a.b.:1"] {
        assert_eq!(server(text).to_string(), text);
    }
    assert_eq!(server("[2001:DB8:0:0::1]:0080").to_string(), "[2001:db8::1]:80");
}

#[test]
fn ports_1_and_65535_are_accepted_and_0_and_65536_refused() {
    assert_eq!(server("a:1").port(), 1);
    assert_eq!(server("a:65535").port(), 65535);
    assert_eq!(kind("a:0"), ServerErrorKind::PortZero);
    assert_eq!(kind("a:65536"), ServerErrorKind::PortTooLarge);
    assert_eq!(kind("a:99999999999999999999"), ServerErrorKind::PortTooLarge);
}

#[test]
fn a_port_is_digits_only() {
    for text in ["a:+80", "a:-80", "a:80x", "a:0x50", "a:80/path", "[::1]:+80"] {
        assert_eq!(kind(text), ServerErrorKind::PortNotANumber, "{text}");
    }
}

#[test]
fn a_missing_host_or_port_is_an_error_of_its_own() {
    assert_eq!(kind(""), ServerErrorKind::Empty);
    for text in ["localhost", "localhost:", "65536", "0", "192.0.2.1", "[::1]", "[::1]:", "-"] {
        assert_eq!(kind(text), ServerErrorKind::MissingPort, "{text}");
    }
    for text in [":80", "[]:80", "80"] {
        assert_eq!(kind(text), ServerErrorKind::EmptyHost, "{text}");
    }
}

#[test]
fn ipv6_needs_its_brackets() {
    for text in ["::1", "::1:8001", "2001:db8:0:0:0:0:0:1:80", "fe80::1%eth0:80", "fe80::1%eth0"] {
        assert_eq!(kind(text), ServerErrorKind::BareIpv6, "{text}");
    }
    for text in ["[::1", "[::1:80", "::1]:80", "a[::1]:80", "a]:80"] {
        assert_eq!(kind(text), ServerErrorKind::UnbalancedBracket, "{text}");
    }
    for text in ["[::1]80", "[::1]x:80", "[::1]]:80"] {
        assert_eq!(kind(text), ServerErrorKind::AfterBracket, "{text}");
    }
    for text in ["[localhost]:80", "[192.0.2.1]:80", "[:::1]:80", "[%eth0]:80", "[[::1]:80"] {
        assert_eq!(kind(text), ServerErrorKind::NotIpv6, "{text}");
    }
}

#[test]
fn a_zone_is_one_to_63_unreserved_characters() {
    let of_length = |length: usize| format!("[fe80::1%{}]:80", "z".repeat(length));
    assert_eq!(server(&of_length(63)).to_string(), of_length(63));
    assert_eq!(kind(&of_length(0)), ServerErrorKind::BadZone);
    assert_eq!(kind(&of_length(64)), ServerErrorKind::BadZone);
    assert_eq!(kind("[fe80::1%eth/0]:80"), ServerErrorKind::BadZone);
    assert_eq!(kind("[fe80::1%25%eth0]:80"), ServerErrorKind::BadZone);
}

#[test]
fn a_host_that_ends_in_a_number_is_an_ipv4_address_or_refused() {
    for text in [
        "256.1.1.1:80",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "01.2.3.4:80",
        "80:80",
        "1.2.3.4.:80",
        "127.1:80",
        "2130706433:80",
        "0x7f000001:80",
        "0X7F000001.:80",
        "0x7f.1:80",
        "127.0.0.0x1:80",
        "0x:80",
        "server.1:80",
        "server.0xA.:80",
        "3com.0:80",
    ] {
        assert_eq!(kind(text), ServerErrorKind::NotIpv4, "{text}");
    }
    for text in [
        "3com.example:80",
        "0x7f.example:80",
        "127.0.0.1.example:80",
        "0x7g:80",
        "x7f:80",
        "1x7f:80",
        "1a:80",
        "1-2:80",
        "a1.:80",
    ] {
        assert_eq!(server(text).to_string(), text);
    }
    assert_eq!(kind("1..:80"), ServerErrorKind::EmptyLabel);
}

#[test]
fn the_remedy_for_a_notation_of_inet_aton_is_the_address() {
    let remedy = |host: &str| remedy(&format!("{host}:80"), ServerErrorKind::NotIpv4);
    for (host, address) in [
        ("127.1", "127.0.0.1"),
        ("127.65535", "127.0.255.255"),
        ("127.16777215", "127.255.255.255"),
        ("1.2.3", "1.2.0.3"),
        ("1.2.65535", "1.2.255.255"),
        ("2130706433", "127.0.0.1"),
        ("4294967295", "255.255.255.255"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("0x7f.0.0.0x1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0xffffffff.", "255.255.255.255"),
        ("0", "0.0.0.0"),
        // Octal has no 8 and no 9, and both readings of the last are equal.
        ("192.168.009.1", "192.168.9.1"),
        ("192.168.001.01", "192.168.1.1"),
    ] {
        assert_eq!(remedy(host), Some(format!("write {address}:80")), "{host}");
    }
    assert_eq!(
        remedy("192.168.001.010").unwrap(),
        "write 192.168.1.10:80, or 192.168.1.8:80 if a leading 0 means octal"
    );
    for host in [
        "80",
        "0.1.2.3.4",
        "256.1.1.1",
        "1.256.1.1",
        "1.1.1.256",
        "1.1.65536",
        "127.16777216",
        "4294967296",
        "1.2.3.4.5",
        "1.2.3.4.5.6",
        "server.1",
        "1.+2.3",
        "0x",
        "0xfffffffff",
        "1..2",
    ] {
        assert_eq!(remedy(host), None, "{host}");
    }
    assert_eq!(super::remedy("127.1:0", ServerErrorKind::NotIpv4), None);
    assert_eq!(super::remedy("010.1:0", ServerErrorKind::NotIpv4), None);
}

#[test]
fn blanks_urls_and_other_alphabets_are_errors_of_their_own() {
    for text in ["local host:80", " a:80", "a:80 ", "a:80\n", "a\t:80", "a\0:80"] {
        assert_eq!(kind(text), ServerErrorKind::Blank, "{text:?}");
    }
    for text in ["http://localhost:80", "tcp://a:1", "http://[::1]:80/"] {
        assert_eq!(kind(text), ServerErrorKind::Url, "{text}");
    }
    for text in ["b\u{fc}cher.example:80", "loc\u{430}lhost:80", "a:\u{661}", "a\u{a0}:80"] {
        let c = text.chars().find(|c| !c.is_ascii()).unwrap();
        assert_eq!(kind(text), ServerErrorKind::NonAscii(c), "{text}");
    }
    assert_eq!(
        ServerErrorKind::NonAscii('\u{430}').to_string(),
        "'\u{430}' (U+0430) is not ASCII, expected host:port with the name in its xn-- form"
    );
}

#[test]
fn a_name_has_bounded_labels_of_few_characters() {
    for (text, c) in [(",a:80", ','), ("user@a:80", '@'), ("a:b:80", ':'), ("a%eth0:80", '%')] {
        assert_eq!(kind(text), ServerErrorKind::BadCharacter(c), "{text}");
    }
    for text in ["a..b:80", ".a:80", "a..:80"] {
        assert_eq!(kind(text), ServerErrorKind::EmptyLabel, "{text}");
    }
    let label = "a".repeat(63);
    assert_eq!(name_of(&server(&format!("{label}:80"))), label);
    assert_eq!(kind(&format!("{label}a:80")), ServerErrorKind::LabelTooLong);
    assert_eq!(kind(&format!("b.{label}a.b:80")), ServerErrorKind::LabelTooLong);
}

#[test]
fn a_name_has_at_most_253_characters_and_the_root() {
    let longest = format!("{}{}", "abcdefghi.".repeat(25), "abc");
    assert_eq!(longest.len(), 253);
    assert_eq!(name_of(&server(&format!("{longest}:80"))), longest);
    assert_eq!(name_of(&server(&format!("{longest}.:80"))), format!("{longest}."));
    assert_eq!(kind(&format!("{longest}d:80")), ServerErrorKind::NameTooLong);
}

#[test]
fn several_servers_in_one_argument_are_a_list() {
    for (text, remedy) in [
        ("a:1,b:2", "a:1 b:2"),
        ("a:1, b:2,", "a:1 b:2"),
        ("a:1;b:2", "a:1 b:2"),
        ("a:1 b:2\t[::1]:3\n", "a:1 b:2 [::1]:3"),
        ("tcp://a:1,tcp://b:2", "a:1 b:2"),
    ] {
        assert_eq!(kind(text), ServerErrorKind::List, "{text:?}");
        let expected = "a list, expected one server per argument; write ";
        assert!(message(text).ends_with(&format!(": {expected}{remedy}")), "{}", message(text));
    }
    // The port of `a` is missing.
    assert_eq!(message("a,b:80"), "\"a,b:80\": a list, expected one server per argument");
    assert_eq!(kind("local host:80"), ServerErrorKind::Blank);
    assert_eq!(kind("a:80 b"), ServerErrorKind::Blank);
    assert_eq!(kind("a:80,"), ServerErrorKind::PortNotANumber);
}

#[test]
fn an_error_names_the_argument_as_written_and_the_expected_form() {
    assert_eq!(message("localhost"), "\"localhost\": no port, expected host:port");
    assert_eq!(message(""), "\"\": empty, expected host:port");
    assert_eq!(
        message("\u{1b}[31ma:1"),
        "\"\\u{1b}[31ma:1\": a blank or control character, expected host:port"
    );
    assert!(message("b\u{fc}cher:80").starts_with("\"b\u{fc}cher:80\": '\u{fc}' (U+00FC) is"));
    assert!(message("\u{202e}a:80").starts_with("\"\\u{202e}a:80\": U+202E is not ASCII"));
    assert!(message("a'b:80").starts_with("\"a'b:80\": '\\'' in the name, expected letters"));
    assert!(message("1.2:80").starts_with("\"1.2:80\": the host ends in a number but is not"));
}

#[test]
fn each_likely_intent_has_its_remedy() {
    for (text, expected) in [
        (":8001", "for this machine, write localhost:8001"),
        ("8001", "for this machine, write localhost:8001"),
        ("[]:80", "for this machine, write localhost:80"),
        ("::1:8001", "write [::1]:8001 if 8001 is the port"),
        ("2001:db8:0:0:0:0:0:1:80", "write [2001:db8:0:0:0:0:0:1]:80"),
        ("fe80::1%eth0:80", "write [fe80::1%eth0]:80"),
        ("[::1]80", "write [::1]:80"),
        ("[localhost]:80", "write localhost:80"),
        ("[192.0.2.1]:80", "write 192.0.2.1:80"),
        ("tcp://a:1", "write a:1"),
        ("tcp:a:1", "write a:1"),
        ("http://u:p@[::1]:1/x?y#z", "write [::1]:1"),
        ("user@a:1", "write a:1"),
        ("a:1?x", "write a:1"),
        ("a:1#x", "write a:1"),
        ("a:1/", "write a:1"),
        (" a:1\n", "write a:1"),
        ("\u{a0}a:1", "write a:1"),
        ("\"a:1\"", "write a:1"),
        ("<'`a:1`'>", "write a:1"),
        ("a:1,", "write a:1"),
        ("a:1;", "write a:1"),
    ] {
        assert_eq!(remedy(text, kind(text)).as_deref(), Some(expected), "{text:?}");
        assert!(message(text).ends_with(&format!("; {expected}")), "{text:?}");
    }
    for text in [
        "localhost",
        "::1",
        "fe80::1%eth0",
        "fe80::1%e_/:80",
        ":0",
        ":x",
        "[::1]x",
        "[x:y]:80",
        "http://a/",
        "a:b:1",
        "a b:1",
        "a:http",
        "a:0",
        "-",
        "//",
    ] {
        assert_eq!(remedy(text, kind(text)), None, "{text:?}");
    }
}

#[test]
fn a_repeated_server_is_found_once_with_its_count() {
    let find = |texts: &[&str]| {
        let servers: Vec<Server> = texts.iter().map(|text| server(text)).collect();
        let found = repeated(&servers);
        found.iter().map(|(server, count)| format!("{server} {count}")).collect::<Vec<_>>()
    };
    assert_eq!(find(&[]), [""; 0]);
    assert_eq!(find(&["a:1", "a:2", "b:1", "a.:1", "127.0.0.1:1", "[::1]:1"]), [""; 0]);
    assert_eq!(find(&["b:2", "a:1", "c:3", "a:1", "b:2", "a:1"]), ["b:2 2", "a:1 3"]);
    assert_eq!(find(&["A.example:1", "a.EXAMPLE:1"]), ["A.example:1 2"]);
    assert_eq!(find(&["[::ffff:1.2.3.4]:1", "1.2.3.4:1"]), ["[::ffff:1.2.3.4]:1 2"]);
    assert_eq!(find(&["[2001:DB8:0::1]:1", "[2001:db8::1]:01"]), ["[2001:db8::1]:1 2"]);
    assert_eq!(find(&["[FE80::1%a]:1", "[fe80:0::1%a]:1"]), ["[FE80::1%a]:1 2"]);
    assert_eq!(find(&["[fe80::1%a]:1", "[fe80::1%A]:1", "[fe80::1]:1"]), [""; 0]);
}

#[test]
fn a_label_is_the_name_or_else_the_address_and_the_log_has_both() {
    let unnamed = server("[2001:DB8::1]:80");
    assert_eq!((unnamed.name(), &*unnamed.label()), (None, "[2001:db8::1]:80"));
    let named = unnamed.clone().with_name("gate-7").unwrap();
    assert_eq!((named.name(), &*named.label()), (Some("gate-7"), "gate-7"));
    assert_eq!(named.address(), unnamed.address());
    assert_eq!(named.to_string(), "gate-7 ([2001:db8::1]:80)");
    let renamed = named.clone().with_name("gate-8").unwrap();
    assert!(named != unnamed && named != renamed);
    assert_eq!(named.identity(), renamed.identity());
}

#[test]
fn a_server_stays_small() {
    // There may be tens of thousands of them. A `String` for the host and one for the name would take 64 bytes.
    assert!(size_of::<Server>() <= 48);
}

fn any_server() -> impl Strategy<Value = String> {
    let name = "[a-zA-Z0-9_-]{1,12}(\\.[a-zA-Z_-][a-zA-Z0-9_-]{0,12}){1,3}\\.?";
    let host = prop_oneof![
        name,
        any::<Ipv4Addr>().prop_map(|ip| ip.to_string()),
        any::<Ipv6Addr>().prop_map(|ip| format!("[{ip}]")),
        (any::<Ipv6Addr>(), "[a-z0-9._~-]{1,15}").prop_map(|(ip, zone)| format!("[{ip}%{zone}]")),
    ];
    (host, 1..=u16::MAX).prop_map(|(host, port)| format!("{host}:{port}"))
}

proptest! {
    #[test]
    fn a_displayed_server_parses_to_an_equal_one(text in any_server()) {
        let server = server(&text);
        prop_assert_eq!(&server.to_string(), &text);
        prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server));
    }

    #[test]
    fn any_text_is_a_server_or_a_one_line_error(
        text in prop_oneof![any::<String>(), "[\\[\\]:%./0-9a-fx ,]{0,12}"],
    ) {
        match text.parse::<Server>() {
            Ok(server) => prop_assert_eq!(server.to_string().parse::<Server>(), Ok(server)),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                let written = message.rsplit_once("; ").and_then(|(_, remedy)| {
                    remedy.split("write ").nth(1)?.split(" if ").next()
                });
                // A comma separates two addresses.
                let written = written.unwrap_or_default().replace(", or ", " ");
                for server in written.split_whitespace() {
                    prop_assert!(server.parse::<Server>().is_ok(), "{message}");
                }
            }
        }
    }

    #[test]
    fn a_host_that_the_c_library_reads_as_an_address_is_refused_or_that_address(
        labels in prop::collection::vec("(0x|0X|0)?[0-9a-f]{1,10}", 1..5),
        root in "\\.?",
    ) {
        let host = labels.join(".") + &root;
        // The expectation follows the manual page of inet_aton, not the parser under test.
        let is_number = |label: &String| {
            let lower = label.to_lowercase();
            let hex = lower.strip_prefix("0x").unwrap_or("");
            lower.bytes().all(|b| b.is_ascii_digit())
                || (!hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        let is_address = labels.iter().all(is_number);
        if let Ok(server) = format!("{host}:80").parse::<Server>() {
            prop_assert!(!is_address || server.host() == &Host::Ip(host.parse().unwrap()));
        }
    }
}
