use super::*;
use crate::partition::ShardBy;

fn builder() -> ConfigBuilder {
    Config::builder().servers(["localhost:8001".parse().unwrap()])
}

fn message(builder: ConfigBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn each_setting_has_its_documented_default() {
    let config = builder().build().unwrap();
    assert_eq!(config.servers(), ["localhost:8001".parse().unwrap()]);
    assert_eq!(config.parallelism(), None);
    assert_eq!(config.divisor().get(), 6);
    assert_eq!(config.backoff(), &Backoff::default());
    assert_eq!(config.reset_backoff_threshold(), Duration::from_secs(180));
    assert_eq!(config.give_up_after(), None);
    assert_eq!(config.connect_timeout(), Duration::from_secs(10));
    assert_eq!(config.idle_timeout(), None);
    assert_eq!(config.max_line().get(), 4096);
    assert_eq!((config.delimiter(), config.framing()), (b'\n', Framing::new(4096)));
    assert!(!config.keep_truncated());
    assert!(!config.once());
}

#[test]
fn each_setting_reaches_its_getter() {
    let secs = Duration::from_secs;
    let servers: [Server; 2] = ["b:2".parse().unwrap(), "a:1".parse().unwrap()];
    let config = Config::builder()
        .servers(servers.clone())
        .parallelism(3)
        .divisor(7)
        .initial_backoff(secs(2))
        .max_backoff(secs(20))
        .backoff_multiplier(1.5)
        .jitter_factor(0.25)
        .reset_backoff_threshold(secs(4))
        .give_up_after(secs(5))
        .connect_timeout(secs(6))
        .idle_timeout(secs(7))
        .max_line(8)
        .delimiter(b';')
        .keep_truncated(true)
        .once(true)
        .build()
        .unwrap();
    assert_eq!(config.servers(), servers);
    assert_eq!(config.parallelism(), NonZeroUsize::new(3));
    assert_eq!(config.divisor().get(), 7);
    assert_eq!(config.backoff(), &Backoff::new(secs(2), secs(20), 1.5, 0.25).unwrap());
    assert_eq!((config.initial_backoff(), config.max_backoff()), (secs(2), secs(20)));
    assert_eq!((config.backoff_multiplier(), config.jitter_factor()), (1.5, 0.25));
    assert_eq!(config.reset_backoff_threshold(), secs(4));
    assert_eq!(config.give_up_after(), Some(secs(5)));
    assert_eq!(config.connect_timeout(), secs(6));
    assert_eq!(config.idle_timeout(), Some(secs(7)));
    assert_eq!(config.max_line().get(), 8);
    assert_eq!(config.delimiter(), b';');
    assert_eq!(config.framing(), Framing::new(8).with_delimiter(b';'));
    assert!(config.keep_truncated());
    assert!(config.once());
}

#[test]
fn no_server_is_an_error() {
    let error = Config::builder().build().unwrap_err();
    assert_eq!(error.setting(), "servers");
    assert_eq!(error.to_string(), "servers: none, expected at least one server, as host:port");
}

#[test]
fn one_worker_is_the_fewest() {
    assert_eq!(builder().parallelism(1).build().unwrap().parallelism(), NonZeroUsize::new(1));
    assert!(builder().parallelism(usize::MAX).build().is_ok());
    assert_eq!(
        message(builder().parallelism(0)),
        "parallelism: 0 is not allowed, expected a whole number of at least 1, or auto"
    );
}

#[test]
fn a_divisor_goes_from_1_to_the_greatest_i64() {
    for divisor in [1, Config::MAX_DIVISOR] {
        assert_eq!(builder().divisor(divisor).build().unwrap().divisor().get(), divisor);
    }
    assert_eq!(
        message(builder().divisor(0)),
        "divisor: 0 is not allowed, expected a whole number from 1 to 9223372036854775807"
    );
    assert!(message(builder().divisor(1 << 63)).starts_with("divisor: 9223372036854775808 is"));
}

#[test]
fn a_line_goes_from_1_byte_to_16_mib() {
    for bytes in [1, 16 * 1024 * 1024] {
        assert_eq!(builder().max_line(bytes).build().unwrap().max_line().get(), bytes);
    }
    assert_eq!(
        message(builder().max_line(0)),
        "max-line: 0 is not allowed, expected a whole number of bytes from 1 to 16777216"
    );
    assert!(message(builder().max_line(16_777_217)).starts_with("max-line: 16777217 is not"));
}

#[test]
fn every_byte_is_a_delimiter_but_not_of_numbers() {
    for byte in 0..=u8::MAX {
        let config = builder().delimiter(byte).build().unwrap();
        let is_part_of_numbers = byte.is_ascii_digit() || byte == b'+' || byte == b'-';
        assert_eq!(config.number_decoder().is_err(), is_part_of_numbers);
    }
    let error = builder().delimiter(b'5').build().unwrap().number_decoder().unwrap_err();
    assert_eq!(error.setting(), "delimiter");
    assert_eq!(
        error.to_string(),
        "delimiter: 0x35 may be a part of a number, expected a byte that is no digit, + or -"
    );
}

#[test]
fn durations_go_from_1_ms_to_365_days() {
    type Set = fn(ConfigBuilder, Duration) -> ConfigBuilder;
    let setters: [(&str, Set, &str); 3] = [
        ("give-up-after", |builder, d| builder.give_up_after(d), ", or never"),
        ("connect-timeout", |builder, d| builder.connect_timeout(d), ""),
        ("idle-timeout", |builder, d| builder.idle_timeout(d), ", or off"),
    ];
    for (name, set, word) in setters {
        assert!(set(builder(), Config::MIN_DURATION).build().is_ok(), "{name}");
        assert!(set(builder(), Config::MAX_DURATION).build().is_ok(), "{name}");
        let expected = "expected a duration in ms, s, m, h or d, from 1ms to 365d";
        for (bad, shown) in [(Duration::ZERO, "0s"), (2 * Config::MAX_DURATION, "730d")] {
            assert_eq!(
                message(set(builder(), bad)),
                format!("{name}: {shown} is not allowed, {expected}{word}")
            );
        }
        for bad in [Config::MIN_DURATION - NANO, Config::MAX_DURATION + NANO] {
            assert_eq!(set(builder(), bad).build().unwrap_err().setting(), name);
        }
    }
}

#[test]
fn a_reset_threshold_goes_from_0_to_365_days() {
    for threshold in [Duration::ZERO, Config::MAX_DURATION] {
        let config = builder().reset_backoff_threshold(threshold).build().unwrap();
        assert_eq!(config.reset_backoff_threshold(), threshold);
    }
    assert!(
        message(builder().reset_backoff_threshold(Config::MAX_DURATION + NANO))
            .starts_with("reset-backoff-threshold: 365d0.000001ms is not allowed, expected a duration in ms, s, m, h or d, from 0s to")
    );
}

#[test]
fn an_error_of_the_backoff_names_its_setting_and_value() {
    let secs = Duration::from_secs;
    assert_eq!(
        message(builder().initial_backoff(Duration::ZERO)),
        "initial-backoff: 0s is not allowed, expected a duration in ms, s, m, h or d, from 1ms to 365d"
    );
    for (bad, shown) in [(Config::MIN_DURATION - NANO, "0.999999ms"), (secs(31_622_400), "366d")] {
        assert_eq!(
            message(builder().max_backoff(bad)),
            format!(
                "max-backoff: {shown} is not allowed, expected a duration in ms, s, m, h or d, \
                 from the initial back-off to 365d"
            )
        );
    }
    assert_eq!(
        message(builder().backoff_multiplier(0.5)),
        "backoff-multiplier: 0.5 is not allowed, expected a number from 1 to 1000000"
    );
    assert_eq!(
        message(builder().jitter_factor(f64::NAN)),
        "jitter-factor: NaN is not allowed, expected a number from 0 to 1"
    );
}

#[test]
fn an_error_of_two_contradicting_delays_names_the_one_that_was_set() {
    let secs = Duration::from_secs;
    let error = |builder: ConfigBuilder| {
        let error = builder.build().unwrap_err();
        (error.setting(), error.to_string())
    };
    let expect = |setting, message: &str| (setting, message.to_owned());
    assert_eq!(
        error(builder().initial_backoff(secs(120))),
        expect(
            "initial-backoff",
            "initial-backoff: 2m is longer than the longest delay, which is 1m; \
             raise it with max-backoff"
        )
    );
    // A millisecond is the shortest delay within the bounds.
    for max in [Duration::from_millis(500), Config::MIN_DURATION] {
        let max_shown = show(max);
        assert_eq!(
            error(builder().max_backoff(max)),
            expect(
                "max-backoff",
                &format!(
                    "max-backoff: {max_shown} is shorter than the first delay, which is 1s; \
                     lower it with initial-backoff"
                )
            )
        );
    }
    assert_eq!(
        error(builder().max_backoff(secs(2)).initial_backoff(secs(3))),
        expect("initial-backoff", "initial-backoff: 3s is longer than max-backoff, which is 2s")
    );
    assert!(builder().initial_backoff(secs(60)).build().is_ok());
    assert!(builder().max_backoff(secs(1)).build().is_ok());
}

#[test]
fn a_setting_whose_default_is_none_has_a_word_for_it() {
    for (setting, word) in [
        (Setting::Parallelism, Some("auto")),
        (Setting::GiveUpAfter, Some("never")),
        (Setting::IdleTimeout, Some("off")),
        (Setting::ConnectTimeout, None),
        (Setting::Divisor, None),
    ] {
        assert_eq!(setting.word(), word);
        let ending = word.map_or(String::new(), |word| format!(", or {word}"));
        assert_eq!(setting.expected().contains(", or "), word.is_some());
        assert!(setting.expected().ends_with(&ending));
    }
}

#[test]
fn the_servers_of_the_list_file_come_last_and_are_replaced() {
    let texts = |config: &Config| config.servers().iter().map(Server::address).collect::<Vec<_>>();
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let config = builder().build().unwrap().with_listed(list(&["a:1", "b:2"]));
    assert_eq!(texts(&config), ["localhost:8001", "a:1", "b:2"]);
    let config = config.with_listed(list(&["c:3"]));
    assert_eq!(texts(&config), ["localhost:8001", "c:3"]);
    assert_eq!(config.argument_servers(), ["localhost:8001".parse().unwrap()]);
}

#[test]
fn a_shard_dials_its_part_of_the_whole_list() {
    let texts = |servers: &[Server]| servers.iter().map(Server::address).collect::<Vec<_>>();
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let second = Shard::new(1, 2, ShardBy::Slice).unwrap();
    // The part is empty, but the list is not.
    let config = builder().shard(second).build().unwrap();
    assert_eq!((config.servers(), config.shard()), (&[][..], Some(second)));
    let config = config.with_listed(list(&["a:1", "b:2", "c:3"]));
    assert_eq!(texts(config.servers()), ["b:2", "c:3"]);
    assert_eq!(texts(config.list()), ["localhost:8001", "a:1", "b:2", "c:3"]);
    assert_eq!(texts(config.argument_servers()), ["localhost:8001"]);
    assert!(Config::builder().shard(second).build().is_err(), "a list without a server");
}
