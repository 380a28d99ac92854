//! Hostile networks, with real sockets: the program against servers, a network and an output that
//! fail in the ways that real ones do. All of it stays on this machine.
//!
//! ```sh
//! cargo test --release --test hostile                      # all scenarios, in about two minutes
//! cargo test --release --test hostile -- endless reset     # those whose names contain a word
//! cargo test --release --test hostile -- --full            # the long form of each
//! cargo test --release --test hostile -- soak --seconds 3600 --seed 7
//! ```
//!
//! Each scenario prints one line of what it saw, and fails if the contract was broken. It is the
//! program as it is shipped that counts, so in a debug build nothing runs unless it is asked for by
//! name: a plain `cargo test` says so and goes on. A scenario that needs namespaces is skipped, and
//! says so, where `unshare` is missing or not allowed; root is not needed where users may have
//! namespaces of their own.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod flow;
#[cfg(target_os = "linux")]
mod ledger;
#[cfg(target_os = "linux")]
mod namespaces;
#[cfg(target_os = "linux")]
mod outages;
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

/// Memory is read from /proc, and each server has an address of its own in 127.0.0.0/8.
#[cfg(not(target_os = "linux"))]
fn main() {}
