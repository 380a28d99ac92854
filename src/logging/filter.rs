//! Selects the records to log, by the levels of modules in `RUST_LOG`.
//!
//! `RUST_LOG` is a list with commas. A level alone (`debug`, `off`) applies to all modules. A module alone
//! (`tcpcore::link`) logs all levels, and `module=level` sets its level. A name covers all modules whose paths
//! begin with it, and the longest name that covers a module counts. All other modules have the level without a
//! name, or else info.

use std::ffi::OsString;

use log::{Level, LevelFilter};

/// The level without `RUST_LOG`: info.
const DEFAULT: LevelFilter = LevelFilter::Info;

/// The prefixes of modules that a part may name without a level.
///
/// Any other part without a level is more likely a mistyped level. A part with a level may name any module,
/// because other programs also read `RUST_LOG`.
const MODULES: &[&str] = &["tcpcore", "demo"];

/// The levels, as messages list them.
const LEVELS: &str = "off, error, warn, info, debug or trace";

/// Parses the value of `RUST_LOG`. Adds a complaint for each part that is ignored.
pub(super) fn from_env(value: Option<OsString>, complaints: &mut Vec<String>) -> Filter {
    let mut filter = Filter::new(DEFAULT);
    match value.unwrap_or_default().into_string() {
        Ok(spec) => filter.apply(&spec, complaints),
        Err(value) => {
            complaints.push(format!("RUST_LOG: {value:?} is ignored, as it is not UTF-8"))
        }
    }
    filter
}

/// The levels of modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The prefixes of module paths with their levels. Invariant: each is unique, shorter ones come first, and
    /// the first is empty, which covers all modules.
    directives: Vec<(String, LevelFilter)>,
}

impl Filter {
    /// Makes a filter with one level for all modules.
    pub(super) fn new(level: LevelFilter) -> Filter {
        Filter { directives: vec![(String::new(), level)] }
    }

    /// Returns whether a record of this level and module is logged.
    pub(super) fn enabled(&self, level: Level, module: &str) -> bool {
        let mut longest_first = self.directives.iter().rev();
        longest_first
            .find(|(prefix, _)| module.starts_with(prefix))
            .is_some_and(|(_, at)| level <= *at)
    }

    /// Returns the least severe level that a module logs.
    pub(super) fn max_level(&self) -> LevelFilter {
        self.directives.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off)
    }

    fn apply(&mut self, spec: &str, complaints: &mut Vec<String>) {
        // Other programs accept a slash and then a filter of texts.
        let (list, text) =
            spec.split_once('/').map_or((spec, None), |(list, text)| (list, Some(text)));
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if let Err(complaint) = self.apply_part(part) {
                complaints.push(format!("RUST_LOG: {complaint}"));
            }
        }
        if let Some(text) = text {
            complaints.push(format!(
                "RUST_LOG: \"/{}\" is ignored, as lines are not chosen by their text here; pipe stderr \
                 through grep instead",
                text.escape_default()
            ));
        }
    }

    fn apply_part(&mut self, part: &str) -> Result<(), String> {
        let shown = part.escape_default();
        let (module, level) = match part.split_once('=') {
            None => match part.parse() {
                Ok(level) => ("", level),
                Err(_) if MODULES.iter().any(|module| part.starts_with(module)) => {
                    (part, LevelFilter::Trace)
                }
                Err(_) => {
                    return Err(format!(
                        "\"{shown}\" is ignored, expected a level ({LEVELS}), a module such as \
                         tcpcore, or module=level"
                    ));
                }
            },
            Some((module, level)) => {
                let module = module.trim();
                match level.trim().parse() {
                    Ok(level) if !module.is_empty() => (module, level),
                    _ => {
                        return Err(format!(
                            "\"{shown}\" is ignored, expected module=level with a level of {LEVELS}"
                        ));
                    }
                }
            }
        };
        self.set(module, level);
        Ok(())
    }

    fn set(&mut self, module: &str, level: LevelFilter) {
        self.directives.retain(|(prefix, _)| prefix != module);
        let index = self.directives.partition_point(|(prefix, _)| prefix.len() <= module.len());
        self.directives.insert(index, (module.to_owned(), level));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    fn parse(spec: &str) -> (Filter, Vec<String>) {
        let mut complaints = Vec::new();
        (from_env(Some(spec.into()), &mut complaints), complaints)
    }

    /// Parses a list without faults.
    fn parse_good(spec: &str) -> Filter {
        let (filter, complaints) = parse(spec);
        assert_eq!(complaints, [""; 0], "{spec:?}");
        filter
    }

    /// Returns the least severe level of a module that is logged.
    fn level_of(filter: &Filter, module: &str) -> LevelFilter {
        let last = Level::iter().take_while(|level| filter.enabled(*level, module)).last();
        last.map_or(LevelFilter::Off, |level| level.to_level_filter())
    }

    #[test]
    fn no_value_and_an_empty_one_are_info() {
        for value in [None, Some("".into()), Some(" , ".into())] {
            let mut complaints = Vec::new();
            let filter = from_env(value, &mut complaints);
            assert_eq!((filter, complaints), (Filter::new(LevelFilter::Info), vec![]));
        }
    }

    #[test]
    fn a_level_alone_applies_to_all_modules() {
        for level in LevelFilter::iter() {
            for text in [level.as_str().to_owned(), level.as_str().to_lowercase()] {
                let filter = parse_good(&text);
                assert_eq!(filter, Filter::new(level));
                assert_eq!(filter.max_level(), level);
                assert_eq!(level_of(&filter, "tcpcore::link"), level);
                assert_eq!(level_of(&filter, "mio"), level);
            }
        }
    }

    #[test]
    fn a_module_has_the_level_of_the_longest_prefix_of_its_path() {
        for spec in [
            "warn,tcpcore=debug,tcpcore::link=off,tcpcore::l=trace",
            " tcpcore::l = TRACE ,tcpcore::link=Off,, tcpcore=debug , warn",
            "error,tcpcore=off,tcpcore=debug,tcpcore::l,tcpcore::link=off,warn",
        ] {
            let filter = parse_good(spec);
            for (module, level) in [
                ("tcpcore", LevelFilter::Debug),
                ("tcpcore::run", LevelFilter::Debug),
                ("tcpcore::line", LevelFilter::Trace),
                ("tcpcore::link", LevelFilter::Off),
                ("tcpcore::link::x", LevelFilter::Off),
                ("mio::poll", LevelFilter::Warn),
                ("", LevelFilter::Warn),
            ] {
                assert_eq!(level_of(&filter, module), level, "{spec:?}: {module:?}");
            }
            assert_eq!(filter.max_level(), LevelFilter::Trace);
        }
    }

    #[test]
    fn a_module_alone_logs_all_levels_and_the_others_stay_at_info() {
        let filter = parse_good("tcpcore::link");
        assert_eq!(level_of(&filter, "tcpcore::link"), LevelFilter::Trace);
        assert_eq!(level_of(&filter, "tcpcore"), LevelFilter::Info);
    }

    #[test]
    fn the_greatest_level_is_that_of_any_module_without_replaced_levels() {
        assert_eq!(parse_good("error,mio=warn").max_level(), LevelFilter::Warn);
        assert_eq!(parse_good("trace,off").max_level(), LevelFilter::Off);
    }

    #[test]
    fn names_of_other_programs_may_have_levels() {
        assert_eq!(level_of(&parse_good("hyper=off"), "tcpcore"), LevelFilter::Info);
    }

    #[test]
    fn a_bad_part_has_a_complaint_and_the_others_count() {
        for (part, expected) in [
            ("debgu", "a level (off, error, warn, info, debug or trace)"),
            ("tcp", "a module such as tcpcore"),
            ("hyper", "module=level"),
            ("tcpcore=loud", "module=level with a level of off, error, warn,"),
            ("tcpcore=", "module=level"),
            ("=debug", "module=level"),
            ("tcpcore=debug=warn", "module=level"),
        ] {
            let (filter, complaints) = parse(&format!("mio=error,{part},warn"));
            assert_eq!(complaints.len(), 1, "{part}: {complaints:?}");
            let begin = format!("RUST_LOG: \"{part}\" is ignored, expected ");
            assert!(complaints[0].starts_with(&begin), "{complaints:?}");
            assert!(complaints[0].contains(expected), "{complaints:?}");
            assert_eq!(filter, parse_good("mio=error,warn"), "{part}");
        }
    }

    #[test]
    fn a_filter_of_texts_is_ignored_with_a_remedy() {
        let (filter, complaints) = parse("warn/refused/x");
        assert_eq!(filter, Filter::new(LevelFilter::Warn));
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].starts_with("RUST_LOG: \"/refused/x\" is ignored"), "{complaints:?}");
        assert!(complaints[0].contains("grep"), "{complaints:?}");
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_ignored() {
        let mut complaints = Vec::new();
        let filter = from_env(Some(OsString::from_vec(b"debug\xff".into())), &mut complaints);
        assert_eq!(filter, Filter::new(LevelFilter::Info));
        assert_eq!(complaints, [r#"RUST_LOG: "debug\xFF" is ignored, as it is not UTF-8"#]);
    }

    proptest! {
        #[test]
        fn any_value_makes_a_filter_and_complaints_that_a_terminal_can_show(
            spec in prop_oneof!["[a-z=,/: ]{0,20}", any::<String>()],
        ) {
            let (filter, complaints) = parse(&spec);
            prop_assert_eq!(&filter.directives[0].0, "");
            prop_assert!(filter.directives.is_sorted_by_key(|(prefix, _)| prefix.len()));
            for complaint in complaints {
                prop_assert!(complaint.bytes().all(|b| (b' '..=b'~').contains(&b)), "{complaint}");
            }
        }
    }
}
