use super::*;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Barrier, Mutex};

const DEADLINE: Duration = Duration::from_secs(60);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 0))
}

/// Resolves each name. The answers go to one channel, each with the position of its name.
fn ask(resolver: &Resolver, names: &[&str]) -> Receiver<(usize, Answer)> {
    let (answers, inbox) = mpsc::channel();
    for (place, name) in names.iter().enumerate() {
        let answers = answers.clone();
        resolver.resolve(name, move |answer| _ = answers.send((place, answer)));
    }
    inbox
}

#[test]
fn localhost_has_a_loopback_address() {
    let resolver = Resolver::start().unwrap();
    let (_, answer) = ask(&resolver, &["localhost"]).recv_timeout(DEADLINE).unwrap();
    let addresses = answer.unwrap();
    assert!(addresses.iter().any(|address| address.ip().is_loopback()), "{addresses:?}");
}

#[test]
fn an_error_reaches_everyone_who_waits() {
    let lookup = |_: &str| Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
    let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
    let answers = ask(&resolver, &["a", "a", "b"]);
    for _ in 0..3 {
        let (_, answer) = answers.recv_timeout(DEADLINE).unwrap();
        assert_eq!(answer.unwrap_err().to_string(), "no such name");
    }
}

#[test]
fn hanging_names_hold_up_no_other_and_not_the_end() {
    const HANGING: usize = 20;
    static RELEASE: Barrier = Barrier::new(HANGING + 1);
    let lookup = |name: &str| {
        if name != "answers" {
            RELEASE.wait();
        }
        Ok(vec![address(1)])
    };
    let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
    let hanging: Vec<_> = (0..HANGING).map(|number| format!("hangs{number}")).collect();
    let names: Vec<_> = hanging.iter().map(String::as_str).chain(["answers"]).collect();
    let answers = ask(&resolver, &names);
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap().0, HANGING);
    drop(resolver);
    // The resolver has ended, so the other names get no answers.
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap_err(), RecvTimeoutError::Disconnected);
    RELEASE.wait();
}

#[test]
fn one_lookup_serves_all_who_ask_meanwhile() {
    static LOOKUPS: Mutex<u8> = Mutex::new(0);
    static RELEASE: Barrier = Barrier::new(2);
    let lookup = |_: &str| {
        RELEASE.wait();
        let mut lookups = LOOKUPS.lock().unwrap();
        *lookups += 1;
        Ok(vec![address(*lookups)])
    };
    let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
    let answers = ask(&resolver, &["name", "name", "name"]);
    RELEASE.wait();
    for _ in 0..3 {
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(1)]);
    }
    // A second request is a second lookup.
    let answers = ask(&resolver, &["name"]);
    RELEASE.wait();
    assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(2)]);
}

/// Returns the name of the current thread, as an error.
fn thread_name(_: &str) -> Answer {
    Err(io::Error::other(thread::current().name().unwrap_or("unnamed")))
}

#[test]
fn threads_have_names_and_serve_one_name_after_another() {
    let resolver = Resolver::with_lookup(thread_name, STACK_BYTES).unwrap();
    for name in ["a", "b", "a"] {
        let (_, answer) = ask(&resolver, &[name]).recv_timeout(DEADLINE).unwrap();
        assert_eq!(answer.unwrap_err().to_string(), "lookup-0");
    }
}

#[test]
fn without_any_thread_all_who_wait_get_an_error_that_says_so() {
    // No system grants such a stack.
    let resolver = Resolver::with_lookup(thread_name, usize::MAX / 4).unwrap();
    let answers = ask(&resolver, &["a", "b"]);
    for _ in 0..2 {
        let error = answers.recv_timeout(DEADLINE).unwrap().1.unwrap_err().to_string();
        assert!(error.starts_with("the system grants no thread to look it up"), "{error}");
    }
}

#[test]
fn the_first_of_a_series_of_refusals_is_logged_unless_it_is_an_error() {
    let (inbox, messages) = mpsc::channel();
    let mut desk = Desk::new(thread_name, STACK_BYTES, inbox);
    for _ in 0..2 {
        let news = [0, 1, 2, 0].map(|threads| desk.is_news(threads));
        assert_eq!(news, [false, true, false, false]);
        // A granted thread ends the series.
        desk.carry_out(Order::Start { thread: 0, name: "name".into() });
        messages.recv_timeout(DEADLINE).unwrap();
    }
}

/// Sends a message when its thread ends.
struct ExitReason(Sender<()>);

impl Drop for ExitReason {
    fn drop(&mut self) {
        _ = self.0.send(());
    }
}

/// Returns a desk whose threads have each looked a name up and wait for the next, and a channel with a
/// message for each thread that ends.
fn desk(threads: usize) -> (Desk, Receiver<()>) {
    static ENDED: Mutex<Option<Sender<()>>> = Mutex::new(None);
    thread_local! {
        static ENDING: ExitReason = ExitReason(ENDED.lock().unwrap().clone().unwrap());
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let (ended, endings) = mpsc::channel();
    *ENDED.lock().unwrap() = Some(ended);
    let (inbox, messages) = mpsc::channel();
    let lookup = |_: &str| {
        ENDING.with(|_| ());
        Ok(vec![])
    };
    let mut desk = Desk::new(lookup, STACK_BYTES, inbox);
    for thread in 0..threads {
        desk.carry_out(Order::Start { thread, name: "name".into() });
    }
    for _ in 0..threads {
        assert!(matches!(messages.recv_timeout(DEADLINE), Ok(Message::Found { .. })));
    }
    *ENDED.lock().unwrap() = None;
    (desk, endings)
}

#[test]
fn a_thread_ends_when_it_is_told_to() {
    let (mut desk, endings) = desk(2);
    desk.carry_out(Order::End { thread: 0 });
    endings.recv_timeout(DEADLINE).unwrap();
    assert_eq!(desk.threads.len(), 1);
    assert!(endings.try_recv().is_err(), "the other one waits for a name");
}

#[test]
fn idle_threads_end_with_the_resolver() {
    let (desk, endings) = desk(3);
    drop(desk);
    for _ in 0..3 {
        endings.recv_timeout(DEADLINE).unwrap();
    }
}
