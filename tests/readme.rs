//! Checks README.md against the program and the library, and the links of the documents.
#![cfg(feature = "cli")]

use std::ffi::OsString;
use std::path::Path;

use tcpcore::Framing;
use tcpcore::internals::cli::{self, Command};
use tcpcore::internals::codec::number::parse;

const README: &str = include_str!("../README.md");

/// The rows of the table whose first line is `head`, as cells.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, table) = README.split_once(&format!("\n{head}\n")).expect("README has the table");
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
fn the_flags_their_bounds_and_defaults_are_those_of_the_help() {
    let Ok(Command::Print(help)) = cli::parse([OsString::from("--help")]) else {
        panic!("--help is printed");
    };
    let (_, flags) = help.split_once("\nFlags:\n").unwrap();
    let mut expected: Vec<[String; 3]> = Vec::new();
    for line in flags.lines().map(str::trim) {
        let value = |prefix| line.strip_prefix(prefix)?.strip_suffix('.').map(str::to_owned);
        if line.starts_with('-') {
            expected.push([line.to_owned(), String::new(), String::new()]);
        } else if let Some(takes) = value("Takes ") {
            expected.last_mut().unwrap()[1] = takes;
        } else if let Some(default) = value("Default: ") {
            expected.last_mut().unwrap()[2] = default;
        } else if line.starts_with("SIGINT") {
            break;
        }
    }
    let rows = table("| flag | takes | default | meaning |");
    let rows: Vec<_> =
        rows.iter().map(|row| [code(row[0]).unwrap(), row[1], row[2]].map(str::to_owned)).collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_example_lines_are_what_they_are_said_to_be() {
    let rows = table("| line | is |");
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

#[test]
fn relative_links_name_files_and_headings_of_the_package() {
    // Folders with a manifest of their own, and those that Cargo.toml excludes, are not in the package.
    let absent = ["benches", "fuzz", ".ci"];
    let documents = [
        ("README.md", README),
        ("CONTRIBUTING.md", include_str!("../CONTRIBUTING.md")),
        ("CHANGELOG.md", include_str!("../CHANGELOG.md")),
    ];
    let mut links = 0;
    for (name, text) in documents {
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { name } else { file };
            let folder = file.split('/').next().unwrap();
            assert!(!absent.contains(&folder), "{name}: {link} is not in the package");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let target = std::fs::read_to_string(path).expect("the linked file exists");
            let mut headings = target.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(heading.is_empty() || headings.any(|found| found == heading), "{name}: {link}");
        }
    }
    assert!(links > 3, "the links are found");
}
