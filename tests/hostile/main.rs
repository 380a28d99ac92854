//! Tests the program on hostile networks, with real sockets. Servers, the network and the output fail as
//! real ones do. Nothing leaves this machine.
//!
//! ```sh
//! cargo test --release --test hostile                      # all scenarios, in about two minutes
//! cargo test --release --test hostile -- endless reset     # those whose names contain a word
//! cargo test --release --test hostile -- --full            # the long form of each
//! cargo test --release --test hostile -- soak --seconds 3600 --seed 7
//! cargo test --release --test hostile -- soak --seconds 3600 --lines --format json
//! ```
//!
//! Scenarios that compare what is printed with what was sent run twice: with numbers and with whole lines. The soak
//! has six rounds, one for each of numbers and lines in three formats, or one round of the form that is given.
//!
//! Each scenario prints one line with its figures, and fails if the contract was broken. The scenarios test
//! the release program, so a debug build runs only scenarios that are named. A plain `cargo test` prints a
//! note instead. A scenario that needs namespaces is skipped, with a note, where `unshare` is missing or
//! not allowed. Root is not needed where users may create namespaces.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod flow;
#[cfg(target_os = "linux")]
mod ledger;
#[cfg(target_os = "linux")]
mod mode;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod outages;
#[cfg(target_os = "linux")]
mod rude;
#[cfg(target_os = "linux")]
mod runner;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(target_os = "linux")]
mod subject;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    runner::main()
}

/// Does nothing, as scenarios need /proc for the memory, and an address in 127.0.0.0/8 for each server.
#[cfg(not(target_os = "linux"))]
fn main() {}
