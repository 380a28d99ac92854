//! Checks README.md and docs/ against the program and the library, and the links of the documents.
#![cfg(feature = "cli")]

use std::ffi::OsString;
use std::path::Path;

use tcpcore::Framing;
use tcpcore::internals::cli::{self, Command};
use tcpcore::internals::codec::number::parse;

const README: &str = include_str!("../README.md");

const LINES: &str = include_str!("../docs/lines.md");

/// The rows of the table of `text` whose first line is `head`, as cells.
fn table<'t>(text: &'t str, head: &str) -> Vec<Vec<&'t str>> {
    let (_, table) = text.split_once(&format!("\n{head}\n")).expect("the text has the table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| cells[1..cells.len() - 1].to_vec())
        .collect()
}

/// The text of a code span, with its outer backticks taken off.
fn code(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

#[test]
fn the_short_help_is_that_of_the_program() {
    let Ok(Command::Print(help)) = cli::parse([OsString::from("-h")]) else {
        panic!("-h is printed");
    };
    let (_, shown) = README.split_once("This is `tcpcore -h`:\n\n").expect("README has the help");
    let (shown, _) = shown.split_once("\n## ").expect("a section follows");
    let shown: Vec<&str> =
        shown.trim_end().lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert_eq!(shown, help.lines().collect::<Vec<_>>());
}

#[test]
fn the_example_lines_are_what_they_are_said_to_be() {
    let rows = table(LINES, "| line | is |");
    assert!(rows.len() >= 14, "{rows:?}");
    let framing = Framing::new(4096);
    for row in rows {
        let line = code(row[0]).unwrap_or("").replace("\\r", "\r").replace("\\t", "\t");
        let said = match parse(framing.trim(line.as_bytes())) {
            Ok(Some(number)) => format!("`{number}`"),
            Ok(None) => "heartbeat".to_owned(),
            Err(error) => {
                let error = error.to_string();
                format!("malformed: {}", error.split(", expected").next().unwrap())
            }
        };
        assert_eq!(row[1], said, "{row:?}");
    }
}

#[test]
fn the_table_of_schedulers_is_that_of_the_program() {
    let rows = table(README, "| scheduler | index | number of shards | what to write |");
    let shown = rows.iter().map(|row| [row[0], code(row[1]).unwrap(), code(row[2]).unwrap()]);
    assert_eq!(shown.collect::<Vec<_>>(), cli::schedulers().collect::<Vec<_>>());
}

#[test]
fn the_example_is_the_tested_one_of_the_library() {
    let (_, example) = README.split_once("```rust\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let (_, tested) = include_str!("../src/lib.rs").split_once("//! ```\n").unwrap();
    let (tested, _) = tested.split_once("//! ```\n").unwrap();
    let shown = tested.lines().map(|line| line.trim_start_matches("//!").trim_start_matches(' '));
    let shown: Vec<&str> = shown.filter(|line| !line.starts_with("# ")).collect();
    let trimmed: Vec<&str> = example.lines().map(str::trim_start).collect();
    assert_eq!(trimmed, shown);
}

/// Returns the anchor of a heading, as links name it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

/// Returns the path in the package of a link on the page `page`.
fn relative(page: &str, link: &str) -> String {
    let mut folders: Vec<&str> = page.split('/').collect();
    folders.pop();
    for part in link.split('/') {
        match part {
            ".." => assert!(folders.pop().is_some(), "{page}: {link} leaves the package"),
            part => folders.push(part),
        }
    }
    folders.join("/")
}

#[test]
fn relative_links_name_files_and_headings_of_the_package() {
    // Folders with a manifest of their own, and those that Cargo.toml excludes, are not in the package.
    let absent = ["benches", "fuzz", ".ci"];
    let documents = [
        ("README.md", README),
        ("CONTRIBUTING.md", include_str!("../CONTRIBUTING.md")),
        ("CHANGELOG.md", include_str!("../CHANGELOG.md")),
        ("SECURITY.md", include_str!("../SECURITY.md")),
        ("docs/failures.md", include_str!("../docs/failures.md")),
        ("docs/flink.md", include_str!("../docs/flink.md")),
        ("docs/lines.md", LINES),
        ("docs/metrics.md", include_str!("../docs/metrics.md")),
        ("docs/scaling.md", include_str!("../docs/scaling.md")),
        ("docs/status-json.md", include_str!("../docs/status-json.md")),
    ];
    let mut links = 0;
    for (name, text) in documents {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { name.to_owned() } else { relative(name, file) };
            let folder = file.split('/').next().unwrap();
            assert!(!absent.contains(&folder), "{name}: {link} is not in the package");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
            // A picture is no text, and has no headings.
            let target = std::fs::read(path).expect("the linked file exists");
            let target = String::from_utf8_lossy(&target);
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(heading.is_empty() || headings.any(|found| found == heading), "{name}: {link}");
        }
    }
    assert!(links > 8, "the links are found");
}
