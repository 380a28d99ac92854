//! Tests the start and the end of `demo`, as the whole takes too long.
#![cfg(unix)]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Program, Signal};

#[test]
fn prints_numbers_and_ends_cleanly_on_sigint() {
    let mut demo = Program::spawn(&mut Program::command(env!("CARGO_BIN_EXE_demo")));
    demo.wait_for_log("Four servers, two workers");
    for _ in 0..4 {
        demo.wait_for_log("Accepted a connection");
    }
    let line = demo.next_line().expect("it prints until it is stopped");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_exit().code(), Some(0));
    let mut lines = demo.remaining_lines();
    lines.push(line);
    for line in &lines {
        assert!(line.parse::<u16>().is_ok_and(|n| n.is_multiple_of(6) && n <= 666), "{line:?}");
    }
    let s = if lines.len() == 1 { "" } else { "s" };
    demo.wait_for_log(&format!(" {} record{s} printed", lines.len()));
}
