use super::*;
use crate::status::tests::{ago, feed, feeds, shortest, snapshot};
use serde_json::{Value, json};

fn list(query: &[(&'static str, &'static str)]) -> List {
    List::parse(query.iter().copied()).unwrap()
}

fn render(query: &[(&'static str, &'static str)], servers: &[ServerSnapshot]) -> Value {
    let history = History::default();
    let text = list(query).render(&snapshot(servers), &history, &Context::default());
    serde_json::from_slice(&text).unwrap()
}

/// The numbers of the servers that are shown.
fn numbers(query: &[(&'static str, &'static str)], servers: &[ServerSnapshot]) -> Vec<u64> {
    let document = render(query, servers);
    document["servers"].as_array().unwrap().iter().map(|s| s["number"].as_u64().unwrap()).collect()
}

/// Six servers: each in another state and with other counters.
fn six() -> Vec<ServerSnapshot> {
    let mut servers: Vec<_> = ["f:1", "e:1", "d:1", "c:1", "b:1", "a:1"]
        .into_iter()
        .zip(0..)
        .map(|(s, i)| feed(i, s))
        .collect();
    for (server, state) in servers.iter_mut().zip(ServerState::ALL) {
        let number = state as u64;
        server.state = state;
        server.since = ago([30, 10, 20, 99, 40, 50][state as usize]);
        server.counters.failures = [3, 1, 2, 0, 5, 4][state as usize];
        server.count(number * 7 % 6, 0);
        server.last_received = (number > 1).then(|| ago(number * 5 % 6));
    }
    servers
}

#[test]
fn the_longest_outage_is_first_and_what_is_not_down_follows_by_name() {
    // Number 3 is connected, and number 5 was read to its end.
    assert_eq!(numbers(&[], &six()), [4, 0, 2, 1, 5, 3]);
    assert_eq!(numbers(&[("sort", "down")], &six()), [4, 0, 2, 1, 5, 3]);
    assert_eq!(numbers(&[("sort", "-down")], &six()), [3, 5, 1, 2, 0, 4]);
}

#[test]
fn each_order_and_its_reverse() {
    for (order, reverse, expected) in [
        ("name", "-name", [5, 4, 3, 2, 1, 0]),
        ("state", "-state", [0, 1, 2, 3, 4, 5]),
        ("failures", "-failures", [3, 1, 2, 0, 5, 4]),
        ("lines", "-lines", [0, 1, 2, 3, 4, 5]),
    ] {
        assert_eq!(numbers(&[("sort", order)], &six()), expected, "{order}");
        let mut reversed = expected;
        reversed.reverse();
        assert_eq!(numbers(&[("sort", reverse)], &six()), reversed, "{reverse}");
    }
    // Those that have received nothing are equal, and stay in the order of the list both ways.
    assert_eq!(numbers(&[("sort", "last_received")], &six()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(&[("sort", "-last_received")], &six()), [5, 4, 3, 2, 0, 1]);
}

#[test]
fn the_order_of_rates_is_that_of_the_history() {
    let mut servers = feeds(3);
    let mut history = History::default();
    history.sample(Duration::ZERO, &snapshot(&servers));
    for (server, lines) in servers.iter_mut().zip([50, 500, 5]) {
        server.count(lines, 10 * lines);
    }
    history.sample(Duration::from_secs(5), &snapshot(&servers));
    for (order, expected) in [("rate", [2, 0, 1]), ("-rate", [1, 0, 2])] {
        let text =
            list(&[("sort", order)]).render(&snapshot(&servers), &history, &Context::default());
        let document: Value = serde_json::from_slice(&text).unwrap();
        let servers = document["servers"].as_array().unwrap();
        let numbers: Vec<_> =
            servers.iter().map(|server| server["number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, expected, "{order}");
        assert_eq!(
            document["rate"],
            json!({"lines_per_second": 111.0, "bytes_per_second": 1110.0})
        );
        let sparkline = json!({"seconds_per_sample": 5, "lines_per_second": [111.0]});
        assert_eq!(document["sparkline"], sparkline);
        assert_eq!(
            servers[1]["rate"],
            json!({"lines_per_second": 10.0, "bytes_per_second": 100.0})
        );
        assert_eq!(servers[1]["sparkline"], json!([10.0]));
    }
}

#[test]
fn filters_take_states_groups_of_states_and_parts_of_names() {
    for (query, expected) in [
        (&[("state", "connected")][..], &[3][..]),
        (&[("state", "down")], &[4, 0, 2, 1]),
        (&[("state", "ended,connected")], &[5, 3]),
        (&[("state", "down,connected")], &[4, 0, 2, 1, 3]),
        (&[("q", "C:")], &[3]),
        (&[("q", "1")], &[4, 0, 2, 1, 5, 3]),
        (&[("q", "d:1"), ("state", "waiting")], &[]),
        (&[("q", ""), ("state", ""), ("sort", ""), ("limit", "")], &[4, 0, 2, 1, 5, 3]),
    ] {
        assert_eq!(numbers(query, &six()), expected, "{query:?}");
        let matching = render(query, &six())["matching"].clone();
        assert_eq!(matching, json!(expected.len()), "{query:?}");
    }
    // The states of all are counted, whatever the filter.
    let document = render(&[("state", "connected")], &six());
    let states = json!({
        "waiting": 1, "resolving": 1, "connecting": 1, "connected": 1, "failed": 1, "ended": 1
    });
    assert_eq!(document["states"], states);
}

#[test]
fn pages_follow_each_other_without_a_gap_or_a_repeat() {
    let servers = feeds(250);
    for order in ["down", "name", "-name", "lines", "-failures"] {
        let all = numbers(&[("sort", order), ("limit", "1000")], &servers);
        assert_eq!(all.len(), 250);
        let pages = ["0", "100", "200"];
        let pages = pages.map(|offset| numbers(&[("sort", order), ("offset", offset)], &servers));
        assert_eq!(pages.each_ref().map(Vec::len), [100, 100, 50]);
        assert_eq!(pages.concat(), all, "{order}");
    }
    for offset in ["250", "251", "18446744073709551615"] {
        let document = render(&[("offset", offset)], &servers);
        assert_eq!((&document["servers"], &document["matching"]), (&json!([]), &json!(250)));
    }
    assert_eq!(numbers(&[("limit", "1"), ("offset", "249"), ("sort", "name")], &servers).len(), 1);
}

#[test]
fn a_server_has_what_an_operator_asks() {
    let mut servers = feeds(2);
    let down = &mut servers[0];
    down.since = ago(90);
    down.next_attempt = Some(ago(0) + Duration::from_millis(12_500));
    down.last_error = Some((LastError::Failure(FailureReason::Refused, Some(111)), ago(3)));
    down.failures_in_row = 4;
    down.downtime = Duration::from_secs(95);
    down.attempts = 5;
    down.counters.failures = 5;
    down.counters.connects = 1;
    let up = &mut servers[1];
    up.state = ServerState::Connected;
    up.since = ago(60);
    up.last_received = Some(ago(1));
    up.count(7, 70);
    up.counters.matched = 3;
    let document = render(&[], &servers);
    let mut expected = json!({
        "number": 0, "name": null, "address": "10.0.0.0:9000", "worker": 0, "state": "waiting",
        "since": "2023-11-14T22:11:50.000Z", "down_seconds": 90.0, "up_seconds": null,
        "downtime_seconds": 95.0,
        "last_error": {"reason": "refused", "time": "2023-11-14T22:13:17.000Z"},
        "next_attempt": "2023-11-14T22:13:32.500Z", "failures_in_row": 4, "last_received": null,
        "rate": {"lines_per_second": 0.0, "bytes_per_second": 0.0}, "attempts": 5,
        "counters": {
            "connects": 1, "failures": 5, "bytes": 0, "lines": 0, "records": 0, "malformed": 0,
            "oversized": 0, "truncated": 0
        },
        "sparkline": [],
    });
    let error = LastError::Failure(FailureReason::Refused, Some(111)).text();
    expected["last_error"]["text"] = json!(error);
    assert_eq!(document["servers"][0], expected);
    let up = &document["servers"][1];
    assert_eq!((&up["up_seconds"], &up["down_seconds"]), (&json!(60.0), &Value::Null));
    assert_eq!(up["counters"]["records"], json!(3));
    assert_eq!(document["totals"]["lines"], json!(7));
    let workers = json!([
        {"index": 0, "servers": 1, "connected": 0, "queued_records": 0},
        {"index": 1, "servers": 1, "connected": 1, "queued_records": 0}
    ]);
    assert_eq!(document["workers"], workers);
    assert_eq!(document["uptime_seconds"], json!(3600.0));
    assert_eq!(document["now"], json!("2023-11-14T22:13:20.000Z"));
}

#[test]
fn the_shard_and_the_stop_are_shown() {
    let context = Context {
        shard: Some(Shard { index: 1, count: 3 }),
        is_stopping: true,
        log_lines_dropped: 9,
    };
    let text = List::default().render(&snapshot(&[]), &History::default(), &context);
    let document: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(document["shard"], json!({"index": 1, "count": 3}));
    assert_eq!((&document["stopping"], &document["log_lines_dropped"]), (&json!(true), &json!(9)));
    assert_eq!(document["servers"], json!([]));
}

#[test]
fn a_bad_parameter_is_named_with_what_it_takes() {
    let error = |query: &[(&'static str, &'static str)]| {
        List::parse(query.iter().copied()).unwrap_err().to_string()
    };
    for (query, expected) in [
        (&[("limit", "0")][..], "limit: \"0\", expected a whole number from 1 to 1000"),
        (&[("limit", "1001")], "limit: \"1001\", expected a whole number from 1 to 1000"),
        (&[("limit", "+1")], "limit: \"+1\", expected a whole number from 1 to 1000"),
        (&[("offset", "-1")], "offset: \"-1\", expected a whole number, of servers to skip"),
        (
            &[("sort", "size")],
            "sort: \"size\", expected one of down, name, state, rate, failures, last_received, lines, \
             with a - before it to reverse it",
        ),
        (
            &[("state", "up")],
            "state: \"up\", expected down or one of waiting, resolving, connecting, connected, failed, \
             ended, or several with commas",
        ),
        (&[("sotr", "x")], "\"sotr\": unknown, expected state, sort, limit, offset or q"),
        (
            &[("<script>\n", "")],
            "\"<script>\\n\": unknown, expected state, sort, limit, offset or q",
        ),
        (&[("q", "a"), ("q", "b")], "q: given twice, expected once"),
    ] {
        assert_eq!(error(query), expected);
    }
    for state in ["connected,", ",", "Connected", "down,up"] {
        assert!(List::parse([("state", state)]).is_err(), "{state}");
    }
    let (longest, longer) = ("x".repeat(260), "x".repeat(261));
    assert!(List::parse([("q", longest.as_str())]).is_ok());
    assert!(List::parse([("q", longer.as_str())]).unwrap_err().to_string().len() < 400);
    assert!(List::parse([("limit", "1000")]).is_ok());
}

#[test]
fn a_name_of_any_characters_stays_one_string() {
    // No server has such a name, but the encoder must not depend on that.
    let hostile = "<script>alert(1)</script>\"'\\\u{0}\u{1b}[31m\u{2028}\n";
    let error = LastErrorJson { text: hostile.into(), reason: "other", time: Time(ago(0)) };
    let text = serde_json::to_string(&error).unwrap();
    assert!(!text.contains(['\n', '\u{0}', '\u{1b}']), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["text"], json!(hostile));
}

#[test]
fn a_clock_at_1970_is_shown() {
    let mut servers = feeds(1);
    servers[0].since = SystemTime::UNIX_EPOCH - Duration::from_secs(60);
    assert_eq!(render(&[], &servers)["servers"][0]["since"], json!("1970-01-01T00:00:00.000Z"));
}

/// A release build takes less than 5 ms by rate; a debug build is not asked.
#[test]
#[expect(clippy::print_stdout, reason = "the times are for a run in a release build")]
fn a_page_of_ten_thousand_servers_takes_less_than_5_ms() {
    let mut servers = feeds(10_000);
    let mut history = History::default();
    for sample in 0..121 {
        history.sample(Duration::from_secs(5 * sample), &snapshot(&servers));
        for (server, lines) in servers.iter_mut().zip(0..) {
            server.count(lines * 7919 % 10_007, 1);
        }
    }
    let snapshot = snapshot(&servers);
    for (sort, limit_ms) in [("rate", 5), ("down", 50), ("name", 50), ("-lines", 5)] {
        let list = list(&[("sort", sort), ("limit", "100")]);
        let (text, took) = shortest(|| list.render(&snapshot, &history, &Context::default()));
        println!("{sort}: {} bytes in {took:?}", text.len());
        assert!(
            cfg!(debug_assertions) || took < Duration::from_millis(limit_ms),
            "{sort}: {took:?}"
        );
    }
}
