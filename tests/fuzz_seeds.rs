//! Checks the properties of the fuzz targets with every committed seed.

use std::fs;
use std::path::Path;

// The fuzz package needs public modules.
#[allow(unreachable_pub)]
#[path = "../fuzz/src/encoder.rs"]
mod encoder;
#[cfg(all(feature = "cli", unix))]
#[allow(unreachable_pub)]
#[path = "../fuzz/src/http.rs"]
mod http;
#[allow(unreachable_pub)]
#[path = "../fuzz/src/line_parser.rs"]
mod line_parser;
#[allow(unreachable_pub)]
#[path = "../fuzz/src/partition.rs"]
mod partition;
#[allow(unreachable_pub)]
#[path = "../fuzz/src/servers_file.rs"]
mod servers_file;
// These tests use only a part of the module.
#[allow(dead_code, unused_imports)]
mod sim;

fn run_seeds(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "seed") {
            check(&fs::read(&path).unwrap());
            seeds += 1;
        }
    }
    assert!(seeds > 0, "{target} has no seeds");
}

#[test]
fn the_seeds_of_encoder_pass() {
    run_seeds("encoder", encoder::check);
}

#[cfg(all(feature = "cli", unix))]
#[test]
fn the_seeds_of_http_pass() {
    run_seeds("http", http::check);
}

#[test]
fn the_seeds_of_line_parser_pass() {
    run_seeds("line_parser", line_parser::check);
}

#[test]
fn the_seeds_of_partition_pass() {
    run_seeds("partition", partition::check);
}

#[test]
fn the_seeds_of_servers_file_pass() {
    run_seeds("servers_file", servers_file::check);
}

#[test]
fn the_seeds_of_fleet_pass() {
    run_seeds("fleet", |bytes| {
        _ = sim::run(bytes).unwrap_or_else(|violation| panic!("{violation}"))
    });
}
