//! Counts instructions of the inner loops with callgrind, and compares them with `benches/instructions.txt`.
//!
//! A count is the same on a busy machine. Each workload runs with N and with 2N repetitions in a process of its
//! own, and the difference leaves out the start. See `benches/instructions.txt` for the commands.

use std::env;
use std::fmt::{Display, Write as _};
use std::fs;
use std::hint::black_box;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use tcpcore::internals::codec::number::{DecoderPath, Divisor, NumberDecoder};
use tcpcore::internals::codec::{Decoder, Framing, Handler, Lines};
use tcpcore::internals::output::encode::{
    ENCODE_SLACK, Encoder, NUMBER_MAX_LEN, Plain, PlainLines, TaggedLines, TaggedNumbers,
};
use tcpcore::internals::proto::wheel::Wheel;
use tcpcore::internals::ring::{Doorbell, ring};
use tcpcore::{Format, Origin, Server};

// This program uses only a part of the module.
#[allow(dead_code)]
#[path = "../../harness/src/payload.rs"]
mod payload;

use payload::{Payload, Random};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The share above a figure beyond which a count fails.
const TOLERANCE: f64 = 0.03;

/// The repetitions of the shorter of two runs: few, as callgrind is slow.
const REPEATS: u64 = 4;

/// The bytes of a region of whole lines: enough for the ends of a region not to show.
const REGION_SIZE: usize = 64 * 1024;

/// The default delimiter and limit of a line.
const FRAMING: Framing = Framing::new(4096);

/// Records that pass the ring or the encoder in a repetition.
const RECORDS: usize = 4096;

/// Timers that are armed in a repetition.
const TIMERS: usize = 4096;

/// The longest delay of a timer in milliseconds: that of the default back-off.
const DELAY_MAX: u64 = 60_000;

/// A workload: its name, the unit, and the work of some repetitions, which returns the units done.
struct Workload {
    name: &'static str,
    unit: &'static str,
    run: fn(u64) -> u64,
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "decoder-short", unit: "line", run: |n| decode(n, Payload::Short, fastest) },
    Workload { name: "decoder-long", unit: "line", run: |n| decode(n, Payload::Long, fastest) },
    Workload { name: "decoder-mixed", unit: "line", run: |n| decode(n, Payload::Mixed, fastest) },
    Workload {
        name: "decoder-returns",
        unit: "line",
        run: |n| decode(n, Payload::Returns, fastest),
    },
    Workload { name: "fallback-short", unit: "line", run: |n| decode(n, Payload::Short, fallback) },
    Workload { name: "fallback-long", unit: "line", run: |n| decode(n, Payload::Long, fallback) },
    Workload { name: "fallback-mixed", unit: "line", run: |n| decode(n, Payload::Mixed, fallback) },
    Workload {
        name: "fallback-returns",
        unit: "line",
        run: |n| decode(n, Payload::Returns, fallback),
    },
    Workload { name: "ring-batches-of-64", unit: "record", run: |n| pass_ring(n, 64) },
    Workload { name: "ring-single", unit: "record", run: |n| pass_ring(n, 1) },
    Workload { name: "encoder-short", unit: "record", run: |n| encode(n, Payload::Short) },
    Workload { name: "encoder-mixed", unit: "record", run: |n| encode(n, Payload::Mixed) },
    Workload { name: "encoder-task", unit: "record", run: |n| encode_tagged(n, Format::Task) },
    Workload { name: "encoder-tsv", unit: "record", run: |n| encode_tagged(n, Format::Tsv) },
    Workload { name: "encoder-json", unit: "record", run: |n| encode_tagged(n, Format::Json) },
    Workload { name: "lines-decoder", unit: "line", run: decode_lines },
    Workload {
        name: "lines-plain",
        unit: "line",
        run: |n| encode_lines(n, PlainLines::new(FRAMING)),
    },
    Workload { name: "lines-task", unit: "line", run: |n| encode_tagged_lines(n, Format::Task) },
    Workload { name: "lines-tsv", unit: "line", run: |n| encode_tagged_lines(n, Format::Tsv) },
    Workload { name: "lines-json", unit: "line", run: |n| encode_tagged_lines(n, Format::Json) },
    Workload { name: "wheel-arm-cancel", unit: "timer", run: arm_and_cancel },
    Workload { name: "wheel-arm-expire", unit: "timer", run: arm_and_expire },
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["run", name, repeats] => run(name, repeats),
        ["check"] => check(),
        ["renew"] => renew(),
        _ => Err("usage: instructions check | renew | run WORKLOAD REPEATS".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a workload. Prints how many units it has done and the path of the default decoder.
fn run(name: &str, repeats: &str) -> Result<()> {
    let workload = WORKLOADS.iter().find(|w| w.name == name).ok_or("there is no such workload")?;
    println!("{} {}", (workload.run)(repeats.parse()?), path(&fastest()));
    Ok(())
}

/// Compares all counts with the figures of this path and processor. A path without a figure fails.
fn check() -> Result<()> {
    let measured = measure()?;
    let text = fs::read_to_string(figures_file())?;
    let known = figures(&text)?;
    let mut failures = 0;
    for Figure { workload, path, count } in &measured {
        let is_same = |known: &&Figure| known.workload == *workload && known.path == *path;
        let Some(known) = known.iter().find(is_same) else {
            return Err(format!("no figure for {workload} {path}; renew the file").into());
        };
        let change = count / known.count - 1.0;
        let fails = change > TOLERANCE;
        failures += u32::from(fails);
        let word = if fails { "FAILED" } else { "ok" };
        println!("{word:6} {workload:20} {path:18} {count:8.2}, {:+.1}%", change * 100.0);
    }
    if failures > 0 {
        return Err(format!("{failures} counts are more than 3% over their figures").into());
    }
    Ok(())
}

/// Writes the counts of this processor's paths, and keeps the figures of other paths.
fn renew() -> Result<()> {
    let measured = measure()?;
    let text = fs::read_to_string(figures_file())?;
    let mut kept = figures(&text)?;
    kept.retain(|old| {
        measured.iter().all(|new| (&new.workload, &new.path) != (&old.workload, &old.path))
            && WORKLOADS.iter().any(|workload| workload.name == old.workload)
    });
    let mut lines = String::new();
    for line in text.lines().filter(|line| line.starts_with('#') && !line.starts_with(COMPILER)) {
        lines += line;
        lines += "\n";
    }
    writeln!(lines, "{COMPILER}{}", compiler()?)?;
    for Figure { workload, path, count } in measured.iter().chain(&kept) {
        writeln!(lines, "{workload:20} {path:18} {count:8.2}")?;
    }
    fs::write(figures_file(), lines)?;
    Ok(())
}

/// The beginning of the line that names the compiler of the figures. `.ci/run` looks for it.
const COMPILER: &str = "# Compiler: ";

/// The version of the compiler that cargo uses here.
fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Instructions per unit of a workload, on a path.
struct Figure {
    workload: String,
    path: String,
    count: f64,
}

fn figures_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions.txt")
}

fn figures(text: &str) -> Result<Vec<Figure>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [workload, path, count] => Ok(Figure {
                workload: workload.to_owned(),
                path: path.to_owned(),
                count: count.parse()?,
            }),
            _ => Err(format!("a line without three words: {line}").into()),
        })
        .collect()
}

fn measure() -> Result<Vec<Figure>> {
    let mut measured = Vec::new();
    for workload in WORKLOADS {
        let (few, units, path) = callgrind(workload.name, REPEATS)?;
        let (many, twice, _) = callgrind(workload.name, 2 * REPEATS)?;
        let count = (many - few) as f64 / (twice - units) as f64;
        eprintln!("{count:8.2} instructions per {} in {}", workload.unit, workload.name);
        let path =
            if workload.name.starts_with("decoder-") { path } else { env::consts::ARCH.to_owned() };
        measured.push(Figure { workload: workload.name.to_owned(), path, count });
    }
    Ok(measured)
}

/// The instructions of a whole process, the units that it did, and the path that it took.
fn callgrind(workload: &str, repeats: u64) -> Result<(u64, u64, String)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["run", workload, &repeats.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{workload}: {}\n{log}", output.status).into());
    }
    let count = log.lines().find_map(|line| line.split_once("Collected :"));
    let (_, count) = count.ok_or_else(|| format!("no count from callgrind:\n{log}"))?;
    let text = String::from_utf8(output.stdout)?;
    let (units, path) = text.trim().split_once(' ').ok_or("no units from the workload")?;
    Ok((count.trim().parse()?, units.parse()?, path.to_owned()))
}

fn divisor() -> Divisor {
    Divisor::new(NonZeroU64::new(6).expect("6 is not zero"))
}

fn fastest() -> NumberDecoder {
    NumberDecoder::new(divisor(), FRAMING)
}

fn fallback() -> NumberDecoder {
    NumberDecoder::on_path(divisor(), FRAMING, DecoderPath::Fallback).expect("any machine has it")
}

/// The processor and the decoder's path: `x86_64/avx2`.
fn path(decoder: &NumberDecoder) -> String {
    format!("{}/{}", env::consts::ARCH, decoder.path().name())
}

fn decode(repeats: u64, payload: Payload, decoder: fn() -> NumberDecoder) -> u64 {
    let lines = payload.lines(REGION_SIZE);
    let decoder = decoder();
    for _ in 0..repeats {
        let count = decoder.decode(black_box(&lines.text), &mut Discard);
        assert_eq!(count, lines.count);
    }
    repeats * lines.count
}

/// Finds the lines of 40 bytes in a region.
fn decode_lines(repeats: u64) -> u64 {
    let lines = Payload::Text.lines(REGION_SIZE);
    let decoder = Lines::new(FRAMING);
    for _ in 0..repeats {
        let count = decoder.decode(black_box(&lines.text), &mut Discard);
        assert_eq!(count, lines.count);
    }
    repeats * lines.count
}

struct Discard;

impl<D: Decoder<Error: Display>> Handler<D> for Discard {
    fn records(&mut self, records: &[D::Record]) {
        black_box(records);
    }
    fn malformed(&mut self, line: &[u8], error: D::Error) {
        panic!("{}: {error}", line.escape_ascii());
    }
    fn oversized(&mut self) {
        panic!("no line is oversized");
    }
}

/// Passes records through a ring. One thread owns both ends, so that the scheduler does not matter.
fn pass_ring(repeats: u64, batch: usize) -> u64 {
    let bell = Doorbell::new();
    let (mut producer, mut consumer) = ring(RECORDS, &bell, || {});
    let numbers = vec![7_i64; batch];
    for _ in 0..repeats {
        for _ in 0..RECORDS / batch {
            assert!(producer.room(batch) >= batch);
            producer.stage(black_box(&numbers));
            producer.publish();
            consumer.read(batch, |numbers| {
                black_box(numbers);
            });
        }
    }
    repeats * RECORDS as u64
}

fn encode(repeats: u64, payload: Payload) -> u64 {
    let numbers: Vec<i64> = payload.numbers().take(RECORDS).map(u64::cast_signed).collect();
    let mut text = vec![0; RECORDS * NUMBER_MAX_LEN + ENCODE_SLACK];
    let mut encoder = Plain::default();
    for _ in 0..repeats {
        black_box(encoder.encode(black_box(&numbers), &mut text));
    }
    repeats * RECORDS as u64
}

fn encode_tagged(repeats: u64, format: Format) -> u64 {
    let numbers: Vec<i64> = Payload::Short.numbers().take(RECORDS).map(u64::cast_signed).collect();
    let mut encoder = TaggedNumbers::new(format, &servers());
    encoder.set_origin(origin());
    let mut text = vec![0; encoder.max_len(&numbers) + ENCODE_SLACK];
    for _ in 0..repeats {
        black_box(encoder.encode(black_box(&numbers), &mut text));
    }
    repeats * RECORDS as u64
}

fn encode_tagged_lines(repeats: u64, format: Format) -> u64 {
    encode_lines(repeats, TaggedLines::new(format, FRAMING, &servers()))
}

/// Encodes a region of lines of 40 bytes with all calls that the output makes: it counts the lines, too.
fn encode_lines(repeats: u64, mut encoder: impl Encoder<u8>) -> u64 {
    let lines = Payload::Text.lines(REGION_SIZE);
    encoder.set_origin(origin());
    let mut text = vec![0; encoder.max_len(&lines.text) + ENCODE_SLACK];
    for _ in 0..repeats {
        let region = black_box(&lines.text[..]);
        assert_eq!(encoder.count(region), lines.count);
        assert!(encoder.max_len(region) <= text.len());
        black_box(encoder.encode(region, &mut text));
    }
    repeats * lines.count
}

fn servers() -> [Server; 1] {
    ["localhost:8001".parse().expect("it is well formed")]
}

/// Returns the origin of all records: the first server, read by the first worker.
fn origin() -> Origin {
    Origin::new(0, 0, SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_610_096))
}

fn arm_and_cancel(repeats: u64) -> u64 {
    timers(repeats, |wheel, _| (0..TIMERS).for_each(|id| assert!(wheel.cancel(id))))
}

fn arm_and_expire(repeats: u64) -> u64 {
    timers(repeats, |wheel, now| {
        while let Some(deadline) = wheel.next_deadline() {
            *now = deadline;
            while let Some(id) = wheel.expire(deadline) {
                black_box(id);
            }
        }
    })
}

/// Arms timers and ends them, round by round.
fn timers(repeats: u64, end: fn(&mut Wheel, &mut u64)) -> u64 {
    let mut random = Random::new(7);
    let delays: Vec<u64> = (0..TIMERS).map(|_| 1 + random.below(DELAY_MAX)).collect();
    let (mut wheel, mut now) = (Wheel::new(0), 0);
    for _ in 0..repeats {
        for (id, delay) in delays.iter().enumerate() {
            wheel.arm(id, now + delay);
        }
        end(&mut wheel, &mut now);
        assert!(wheel.is_empty());
    }
    repeats * TIMERS as u64
}
