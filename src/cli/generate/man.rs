//! Makes the man page, in the macros of man(7).

use crate::cli::{ENDING, Flag, INTRODUCTION, SUMMARY, Taken, USAGE, version};

/// Makes the page. It has no date, because a build of the same source makes the same page.
pub(super) fn page(flags: &[Flag]) -> String {
    let version = version();
    let summary = SUMMARY.trim_end().trim_end_matches('.');
    let (initial, summary) = summary.split_at(1);
    let mut page = format!(
        ".TH TCPCORE 1 \"\" \"{}\" \"User Commands\"\n.SH NAME\ntcpcore \\- {}{}\n.SH SYNOPSIS\n",
        escape(version.trim_end()),
        initial.to_lowercase(),
        escape(summary),
    );
    page += &synopsis();
    page += ".SH DESCRIPTION\n";
    let paragraphs: Vec<String> = INTRODUCTION.trim().split("\n\n").map(lines).collect();
    page += &paragraphs.join(".PP\n");
    page += ".SH OPTIONS\n";
    page += &flags.iter().map(option).collect::<String>();
    // The first paragraph has no heading of its own.
    let (signals, sections) = ENDING.trim_end().split_once("\n\n").unwrap_or((ENDING, ""));
    page += ".SH SIGNALS\n";
    page += &lines(signals);
    page + &sections.split("\n\n").map(section).collect::<String>()
}

fn synopsis() -> String {
    let usages = USAGE.trim_start_matches("Usage:").lines().map(|usage| {
        let arguments = usage.trim().trim_start_matches("tcpcore");
        format!(".B tcpcore\n{}\n", escape(arguments.trim()))
    });
    usages.collect::<Vec<_>>().join(".br\n")
}

fn option(flag: &Flag) -> String {
    let taken = flag.takes();
    let names: Vec<String> =
        super::names(flag).iter().map(|name| format!("\\fB{}\\fR", escape(name))).collect();
    let mut option = format!(".TP\n{}", names.join(", "));
    if let Some(Taken { placeholder, .. }) = taken {
        option += &format!(" \\fI{}\\fR", escape(placeholder));
    }
    option += &format!("\n{}", lines(flag.doc));
    if let Some(Taken { setting, default, .. }) = taken {
        option += &lines(&format!("Takes {}.", setting.expected()));
        if let Some(default) = default {
            option += &lines(&format!("Default: {default}."));
        }
    }
    option
}

/// Makes a section of a paragraph of the help: a heading with a colon, then entries, each a term, two or more blanks
/// and its explanation. Later lines of an entry have a deeper indent.
fn section(text: &str) -> String {
    let (heading, entries) = text.split_once(":\n").expect("a paragraph has a heading");
    let mut section = format!(".SH {}\n", escape(&heading.to_uppercase()));
    for entry in entries.lines() {
        match entry.strip_prefix("  ").filter(|entry| !entry.starts_with(' ')) {
            Some(entry) => {
                let (term, explanation) = entry.split_once("  ").expect("an entry has two parts");
                section +=
                    &format!(".TP\n.B {}\n{}", escape(term), lines(explanation.trim_start()));
            }
            None => section += &lines(entry.trim_start()),
        }
    }
    section
}

/// Escapes each line. One that begins with a blank would break the text, and one with a dot or an apostrophe would
/// be a request.
fn lines(text: &str) -> String {
    text.lines()
        .map(|line| {
            let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
            format!("{guard}{}\n", escape(line.trim_start()))
        })
        .collect()
}

/// Escapes the characters that mean more than themselves. A bare dash may be shown as a hyphen, which cannot be
/// copied to a command line.
fn escape(text: &str) -> String {
    text.replace('\\', "\\(rs").replace('-', "\\-").replace('\'', "\\(aq").replace('"', "\\(dq")
}
