//! Does the same job on carefully tuned tokio, as a second comparison beside the floor.
//!
//! One task per server reads 256 KiB at a time, finds the lines with memchr, and converts them with a digit
//! loop. It sends the multiples of 6 in batches through a channel to the output thread. Each server is read
//! to its end once. There is no reconnect, and lines are not checked.
//!
//! With `--lines`, a task writes the whole lines of each read to stdout itself, with one system call.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use memchr::{memchr_iter, memrchr};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const READ_SIZE: usize = 256 * 1024;
const DIVISOR: i64 = 6;

/// Batches that may wait for the output thread.
const BATCHES: usize = 64;

type Batch = Vec<i64>;

/// What becomes of the whole lines of a read.
#[derive(Clone)]
enum Output {
    Numbers(SyncSender<Batch>),
    /// Stdout without the buffer of the standard library, which would look for line feeds again.
    Lines(Arc<Mutex<File>>),
}

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, servers): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg == "--lines");
    let is_lines = !flags.is_empty();
    let (output, printer) = if is_lines {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        (Output::Lines(Arc::new(Mutex::new(stdout.into()))), None)
    } else {
        let (batches, inbox) = sync_channel(BATCHES);
        (Output::Numbers(batches), Some(thread::spawn(move || print(inbox))))
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build()?;
    runtime.block_on(async {
        let tasks: Vec<_> =
            servers.into_iter().map(|server| tokio::spawn(read(server, output.clone()))).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    drop(output);
    if let Some(printer) = printer {
        printer.join().expect("the output thread does not panic")?;
    }
    Ok(())
}

async fn read(server: String, output: Output) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let mut buffer = vec![0; READ_SIZE];
    // The bytes of an unfinished line.
    let mut kept = 0;
    loop {
        let len = kept + stream.read(&mut buffer[kept..]).await?;
        if len == kept {
            return Ok(());
        }
        let whole = memrchr(b'\n', &buffer[..len]).map_or(0, |newline| newline + 1);
        if !pass_on(&buffer[..whole], &output)? {
            return Ok(());
        }
        buffer.copy_within(whole..len, 0);
        kept = len - whole;
        if kept == buffer.len() {
            return Err(io::Error::other("a line is longer than the buffer"));
        }
    }
}

/// Passes whole lines on. Returns `false` if the output has ended.
///
/// A slow output blocks the thread of the runtime. What is written is large, so the output needs the time.
fn pass_on(lines: &[u8], output: &Output) -> io::Result<bool> {
    match output {
        Output::Numbers(batches) => {
            let batch = convert(lines);
            Ok(batch.is_empty() || batches.send(batch).is_ok())
        }
        Output::Lines(stdout) => {
            stdout.lock().expect("a write does not panic").write_all(lines)?;
            Ok(true)
        }
    }
}

fn convert(lines: &[u8]) -> Batch {
    let mut batch = Vec::with_capacity(lines.len() / 16);
    let mut start = 0;
    for newline in memchr_iter(b'\n', lines) {
        let mut number = 0_i64;
        for byte in &lines[start..newline] {
            number = number.wrapping_mul(10).wrapping_add(i64::from(byte.wrapping_sub(b'0')));
        }
        if number % DIVISOR == 0 {
            batch.push(number);
        }
        start = newline + 1;
    }
    batch
}

fn print(inbox: Receiver<Batch>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let mut text = Vec::new();
    let mut digits = itoa::Buffer::new();
    for batch in inbox {
        text.clear();
        for number in batch {
            text.extend_from_slice(digits.format(number).as_bytes());
            text.push(b'\n');
        }
        output.write_all(&text)?;
    }
    output.flush()
}
