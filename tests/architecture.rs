//! The architecture that `src/lib.rs` describes: which module imports which, and what stands nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file of `src`, without its tests and comments.
struct Module {
    /// Its path below `src`: `proto/link.rs`.
    file: String,
    code: String,
}

impl Module {
    /// The module's path below the crate: `["proto", "link"]`.
    fn path(&self) -> Vec<&str> {
        let path = self.file.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').collect()
    }

    /// The module of `src/lib.rs` that it belongs to, or the program's own `main` or `startup`.
    fn top(&self) -> &str {
        self.path()[0]
    }

    /// The paths that it names below the crate: those of `use crate::` and of any other `crate::`.
    fn imports(&self) -> BTreeSet<Vec<String>> {
        // A module that names one of its siblings or parts without `crate` stays within its folder.
        self.paths("crate::")
    }

    /// The paths that it names below `root`.
    fn paths(&self, root: &str) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        for part in self.code.split(root).skip(1) {
            expand(part, &[], &mut paths);
        }
        paths
    }

    /// Whether it names the `Instant` of the standard library, or may, by all of `std::time`.
    fn names_clock(&self) -> bool {
        self.paths("std::").iter().any(|path| {
            let mut names = path.iter().map(String::as_str);
            names.next() == Some("time") && matches!(names.next(), None | Some("Instant" | "self"))
        })
    }
}

/// Adds the paths that a use tree starts with, up to the first part that is no module.
fn expand(tree: &str, prefix: &[String], imports: &mut BTreeSet<Vec<String>>) {
    if let Some(list) = tree.strip_prefix('{') {
        let mut depth = 0;
        let mut start = 0;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    expand(list[start..at].trim(), prefix, imports);
                    start = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    if tree.starts_with('*') {
        imports.insert(prefix.to_vec());
        return;
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return;
    }
    let mut path = prefix.to_vec();
    path.push(name.clone());
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) => expand(rest, &path, imports),
        None => _ = imports.insert(path),
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn modules() -> Vec<Module> {
    let mut modules = Vec::new();
    let mut folders = vec![src()];
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
            let code = text.split("#[cfg(test)]\npub(crate) mod tests {").next().unwrap();
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let file = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
            modules.push(Module { file, code: code.collect::<Vec<_>>().join("\n") });
        }
    }
    assert!(modules.len() > 20, "the modules are found");
    modules
}

/// The rows of the map in `src/lib.rs`: a module, and the modules that it may import.
fn map() -> BTreeMap<String, BTreeSet<String>> {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let rows = lib.lines().filter_map(|line| {
        let row = line.strip_prefix("//! | `")?;
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        // A row of three cells, and the end after its last bar. Other tables have two.
        if cells.len() != 4 {
            return None;
        }
        let names = cells[2].split(',').map(|name| name.trim().trim_matches('`').to_owned());
        let imports = names.filter(|name| !name.is_empty()).collect();
        Some((cells[0].trim_end_matches('`').to_owned(), imports))
    });
    rows.collect()
}

#[test]
fn each_module_imports_what_the_map_says_and_nothing_else() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in modules() {
        // The root names all of them to re-export them, and the program is a crate of its own.
        if ["lib", "main", "startup"].contains(&module.top()) {
            continue;
        }
        let imports = found.entry(module.top().to_owned()).or_default();
        for path in module.imports() {
            if path[0] != module.top() {
                imports.insert(path[0].clone());
            }
        }
    }
    assert_eq!(found, map());
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let modules = modules();
    let known: Vec<Vec<&str>> = modules.iter().map(Module::path).collect();
    // To the module of the longest path that an import begins with.
    let target = |import: &[String]| {
        let begins = |path: &&Vec<&str>| {
            path.len() <= import.len() && path.iter().zip(import).all(|(a, b)| a == b)
        };
        known.iter().filter(begins).max_by_key(|path| path.len()).map(|path| path.join("::"))
    };
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for module in modules.iter().filter(|module| module.top() != "lib") {
        let name = module.path().join("::");
        let targets = module.imports().iter().filter_map(|import| target(import)).collect();
        arrows.insert(name, targets);
    }
    // Those that import nothing which is left are taken away, one after the other.
    while !arrows.is_empty() {
        let names: BTreeSet<String> = arrows.keys().cloned().collect();
        let before = arrows.len();
        arrows.retain(|name, targets| targets.iter().any(|to| to != name && names.contains(to)));
        assert!(arrows.len() < before, "a circle: {arrows:#?}");
    }
}

/// Asserts that of all modules just the `allowed` files have `word` in their code.
fn only_in(word: &str, allowed: &[&str]) {
    let has_word = |code: &str| {
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
    };
    assert_eq!(files(|module| has_word(&module.code)), allowed, "`{word}` is elsewhere");
}

/// The files of the modules for which this holds, sorted.
fn files(holds: impl Fn(&Module) -> bool) -> Vec<String> {
    let modules = modules().into_iter().filter(holds);
    let mut files: Vec<String> = modules.map(|module| module.file).collect();
    files.sort();
    files
}

#[test]
fn mio_is_named_in_net_and_the_status_server_alone() {
    let files = ["net/mod.rs", "net/transport/mod.rs", "net/transport/tcp.rs", "status/server.rs"];
    only_in("mio", &files);
}

#[test]
fn the_clock_is_read_by_threads_alone() {
    // The `Instant` of the core is a number.
    let allowed = [
        "control/mod.rs",
        "net/mod.rs",
        "net/resolver.rs",
        "notice_log/mod.rs",
        "output/mod.rs",
        "signals.rs",
        "stats/mod.rs",
        "status/server.rs",
    ];
    assert_eq!(files(Module::names_clock), allowed, "the clock is read elsewhere");
    // The time of a line of the log, and of a record. `origin` has the type alone.
    let files = [
        "control/report.rs",
        "logging/mod.rs",
        "net/sink.rs",
        "origin.rs",
        "stats/mod.rs",
        "stats/snapshot.rs",
        "status/json.rs",
        "status/metrics.rs",
    ];
    only_in("SystemTime", &files);
}

#[test]
fn locks_and_blocking_sockets_are_absent() {
    // The list of servers, which no worker locks.
    only_in("Mutex", &["job/servers.rs", "stats/mod.rs"]);
    for word in ["RwLock", "Condvar"] {
        only_in(word, &[]);
    }
    // That of mio, which does not block.
    only_in("TcpListener", &["status/server.rs"]);
    // The output polls in a burst, the watch of stdout leaves time for a signal, and a thread of its own
    // waits for signals. They have no sockets to keep waiting.
    let may_sleep = ["output/mod.rs", "output/stdout.rs", "signals.rs"];
    for module in modules().iter().filter(|module| !may_sleep.contains(&module.file.as_str())) {
        assert!(!module.code.contains("thread::sleep"), "a sleep in {}", module.file);
    }
}

#[test]
fn the_pure_modules_have_no_thread_atomic_file_log_or_source_of_time_and_randomness() {
    let pure_files = [
        "config/servers/difference.rs",
        "config/servers/mod.rs",
        "output/buffer.rs",
        "output/drain.rs",
        "output/pacing.rs",
        "status/connection.rs",
        "status/ready.rs",
        "status/request.rs",
        "status/response.rs",
        "status/history.rs",
        "status/json.rs",
        "status/json/query.rs",
        "status/metrics.rs",
        "status/page.rs",
    ];
    let is_pure = |module: &Module| {
        ["codec", "partition", "proto", "text"].contains(&module.top())
            || module.file.starts_with("output/encode/")
            || pure_files.contains(&module.file.as_str())
    };
    for Module { file, code } in modules().iter().filter(|module| is_pure(module)) {
        // The cells that the core publishes to are those of `stats`. It shares them by `Arc`, and names no atomic.
        let code = code.replace("use std::sync::Arc;", "");
        for word in
            ["thread::", "sync::", "fs::", "env::", " log::", "TcpStream", "SysRng", "ThreadRng"]
        {
            assert!(!code.contains(word), "{word} in {file}");
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
