//! What must not be where: the absences that `src/lib.rs` promises.

use std::fs;
use std::path::Path;

/// The code of each file in `src`, without tests and comments, by name.
fn rooms() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = Vec::new();
    let mut folders = vec![src.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_stem().unwrap() == "tests" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            rooms.push((name, code.collect::<Vec<_>>().join("\n")));
        }
    }
    rooms
}

/// Asserts that of all rooms just the `allowed` ones have `word` in their code.
fn only_in(word: &str, allowed: &[&str]) {
    let mut found: Vec<String> = rooms()
        .into_iter()
        .filter(|(_, code)| {
            code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
        })
        .map(|(name, _)| name)
        .collect();
    found.sort();
    assert_eq!(found, allowed, "`{word}` stands elsewhere");
}

#[test]
fn unsafe_stands_in_the_ring_the_vector_code_and_the_startup_alone() {
    only_in("unsafe", &["number/vector.rs", "ring.rs", "startup.rs"]);
    // The attribute that names a section: no block, no function, no trait.
    let (_, startup) = rooms().into_iter().find(|(name, _)| name == "startup.rs").unwrap();
    assert_eq!(startup.matches("unsafe(link_section").count(), startup.matches("unsafe(").count());
    assert!(!startup.contains("unsafe {") && !startup.contains("unsafe fn"));
}

#[test]
fn mio_is_named_in_net_alone() {
    only_in("mio", &["net.rs"]);
}

#[test]
fn the_clock_is_read_by_threads_alone() {
    only_in("Instant", &["net.rs", "output.rs", "resolver.rs", "signals.rs"]);
    // The time of a line of the log.
    only_in("SystemTime", &["logging.rs"]);
}

#[test]
fn locks_and_blocking_sockets_are_absent() {
    for word in ["Mutex", "RwLock", "Condvar", "TcpListener"] {
        only_in(word, &[]);
    }
    for (name, code) in rooms() {
        // The output polls in a burst, the watch of stdout leaves time for a signal, and a thread of its own
        // waits for signals. They have no sockets to keep waiting.
        let may_sleep = ["output.rs", "signals.rs", "stdout.rs"].contains(&name.as_str());
        assert!(may_sleep || !code.contains("thread::sleep"), "a sleep in {name}");
    }
}

#[test]
fn the_pure_rooms_know_no_thread_and_no_atomic() {
    let pure = [
        "echo.rs",
        "duration.rs",
        "partition.rs",
        "line.rs",
        "number.rs",
        "number/vector.rs",
        "backoff.rs",
        "wheel.rs",
        "clock.rs",
        "connection_error.rs",
        "attempt.rs",
        "outage.rs",
        "log_limit.rs",
        "link.rs",
        "fleet.rs",
        "worker.rs",
        "format.rs",
        "output/buffer.rs",
        "output/drain.rs",
        "output/pacing.rs",
        "lookups.rs",
        "stopping.rs",
    ];
    for (name, code) in rooms().into_iter().filter(|(name, _)| pure.contains(&name.as_str())) {
        for word in ["thread::", "sync::", "fs::", "env::", "TcpStream", "SysRng", "ThreadRng"] {
            assert!(!code.contains(word), "{word} in {name}");
        }
    }
}

#[test]
fn no_async_runtime_is_among_the_dependencies() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    for runtime in ["tokio", "async-std", "smol", "async-executor", "futures-executor"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"")), "{runtime}");
    }
}

#[test]
fn the_map_names_every_room() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (name, _) in rooms() {
        let room = name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let names = match room.as_str() {
            "lib" | "main" => continue,
            "config" => "[`Config`]",
            "connection_error" => "[`ConnectionError`]",
            "server" => "[`Server`]",
            "run" => "[`Job`]",
            room => &format!("`{room}`"),
        };
        assert!(lib.contains(names), "the map in src/lib.rs lacks {names}");
    }
}
