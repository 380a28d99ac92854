//! Runs the measured processes, and reads their usage from the system.

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::Result;

/// The time limit of a process, which no single measurement reaches. A process over the limit is killed.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The interval at which the peak of a process's memory is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A child process, which is killed on drop.
pub struct Process {
    child: Child,
    name: String,
    started: Instant,
}

/// The resources that a process used from its start to its end.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub wall: Duration,
    /// Of all threads, in user and system mode.
    pub cpu: Duration,
    /// The peak of its memory, in bytes.
    pub peak_rss: u64,
}

impl Process {
    pub fn start(command: &mut Command) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("starting {name}: {error}"))?;
        Ok(Process { child, name, started })
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    fn pid(&self) -> Pid {
        let raw = i32::try_from(self.child.id()).expect("a process id is an i32");
        Pid::from_raw(raw).expect("a process id is not zero")
    }

    /// Sends SIGTERM, which a program in the background of a script does not ignore, either.
    pub fn terminate(&self) -> Result<()> {
        Ok(kill_process(self.pid(), Signal::TERM)?)
    }

    /// Sends SIGHUP, which asks for a reload.
    pub fn hang_up(&self) -> Result<()> {
        Ok(kill_process(self.pid(), Signal::HUP)?)
    }

    /// Waits for the process to end. Any status but 0 is an error.
    pub fn wait(mut self) -> Result<Usage> {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty())?;
        let mut peak_rss = status_kib(&self.child, "VmHWM:").unwrap_or_default();
        loop {
            let mut ready = [PollFd::new(&pidfd, PollFlags::IN)];
            let timeout = Timespec::try_from(SAMPLE_EVERY).expect("it is short");
            if poll(&mut ready, Some(&timeout))? > 0 {
                break;
            }
            peak_rss = status_kib(&self.child, "VmHWM:").unwrap_or(peak_rss);
            if self.started.elapsed() > TIME_LIMIT {
                return Err(format!("{} did not end within {TIME_LIMIT:?}", self.name).into());
            }
        }
        let wall = self.started.elapsed();
        // No other child ends in between, so the difference belongs to this one.
        let before = children_cpu()?;
        let status = self.child.wait()?;
        let cpu = children_cpu()? - before;
        if !status.success() {
            return Err(format!("{} ended with {status}", self.name).into());
        }
        Ok(Usage { wall, cpu, peak_rss: peak_rss * 1024 })
    }

    /// Returns the processor time of its threads so far.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Returns the id of the process, which is valid until [`wait`](Self::wait) reaps it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Counts how often its threads have blocked so far. A thread is woken after each of these, except for
    /// its last.
    pub fn sleeps(&self) -> Result<u64> {
        let mut sleeps = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("status"))?;
            sleeps += field(&text, "voluntary_ctxt_switches:").ok_or("no count of switches")?;
        }
        Ok(sleeps)
    }

    /// Counts its open descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Returns its current memory, in bytes.
    pub fn rss(&self) -> Result<u64> {
        Ok(status_kib(&self.child, "VmRSS:").ok_or("the process has ended")? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process has been waited for.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Returns the processor time of the threads with this name so far, in a process that may have ended.
pub fn thread_cpu(process: u32, name: &str) -> Option<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let task = task.ok()?.path();
        if fs::read_to_string(task.join("comm")).ok()?.trim_end() == name {
            let text = fs::read_to_string(task.join("schedstat")).ok()?;
            nanos += text.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(nanos))
}

/// Returns the processor time of all children that were waited for.
fn children_cpu() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    let micros = micros.into_iter().sum::<i64>();
    Ok(Duration::from_micros(u64::try_from(micros).expect("time is not negative")))
}

fn status_kib(child: &Child, name: &str) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?, name)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
