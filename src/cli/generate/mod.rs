//! Makes the man page and the completions of shells, from the table of flags and the texts of the help.

mod man;
mod shells;

use std::str::FromStr;

use crate::cli::{Action, Flag, Taken};
use crate::config::Setting;
use crate::format::Format;
use crate::logging::LogFormat;
use crate::partition::ShardBy;

/// The texts that `--generate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generated {
    Man,
    Bash,
    Zsh,
    Fish,
    PowerShell,
}

impl Generated {
    const ALL: [Generated; 5] = [Self::Man, Self::Bash, Self::Zsh, Self::Fish, Self::PowerShell];

    fn name(self) -> &'static str {
        match self {
            Self::Man => "man",
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::PowerShell => "powershell",
        }
    }

    /// Makes the text of a table of flags.
    pub(super) fn text(self, flags: &[Flag]) -> String {
        match self {
            Self::Man => man::page(flags),
            Self::Bash => shells::bash(flags),
            Self::Zsh => shells::zsh(flags),
            Self::Fish => shells::fish(flags),
            Self::PowerShell => shells::powershell(flags),
        }
    }
}

impl FromStr for Generated {
    type Err = ();

    fn from_str(name: &str) -> Result<Generated, ()> {
        Generated::ALL.into_iter().find(|generated| generated.name() == name).ok_or(())
    }
}

/// The values that a completion offers after a flag.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// The flag takes no value.
    NoValue,
    /// The value is a path.
    Files,
    /// The value is one of these words, or else a text without a list.
    Words(Vec<&'static str>),
    /// The value has no list.
    Nothing,
}

impl Offer {
    fn of(flag: &Flag) -> Offer {
        let Some(Taken { setting, .. }) = flag.takes() else {
            return Offer::NoValue;
        };
        if setting == Setting::ServersFile {
            return Offer::Files;
        }
        let words = words(setting);
        if words.is_empty() { Offer::Nothing } else { Offer::Words(words) }
    }
}

/// Returns the words that a setting accepts.
///
/// It leaves out a word that stands alone beside numbers, such as `off`. It is the default, and a shell would insert
/// an only word without a question.
fn words(setting: Setting) -> Vec<&'static str> {
    match setting {
        Setting::Format => Format::ALL.map(Format::name).into(),
        Setting::LogFormat => LogFormat::ALL.map(LogFormat::name).into(),
        Setting::Ready => vec!["started", "any", "all"],
        Setting::Delimiter => vec!["lf", "cr", "nul"],
        Setting::ShardBy => ShardBy::ALL.map(ShardBy::name).into(),
        Setting::Generate => Generated::ALL.map(Generated::name).into(),
        _ => Vec::new(),
    }
}

/// Returns the names of a flag as they are typed, the short one first.
fn names(flag: &Flag) -> Vec<String> {
    let short = flag.short.map(|short| format!("-{short}"));
    short.into_iter().chain([format!("--{}", flag.long)]).collect()
}

/// Returns whether a flag ends the parsing, so that no other argument counts.
fn is_last(flag: &Flag) -> bool {
    matches!(flag.action, Action::Print(_) | Action::Generate)
}

#[cfg(test)]
mod tests;
