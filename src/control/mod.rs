//! Carries out what the operator asks of a running job, on a thread of its own.
//!
//! A signal or a change of the list file asks to read the list again. Other signals ask for a table of the servers,
//! or for attempts now. A line of totals is due every so often. For systemd, the state of the job is reported. The
//! thread sleeps until the next of these is due. Nothing is due unless a setting asks for it.

mod report;
mod systemd;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use log::{Level, error, info, log, warn};

use crate::config::{Config, servers};
use crate::job::{Job, Replaced, ServersHandle};
use crate::partition::Shard;
use crate::signals::{Message, Request};
use crate::stats::Stats;
use crate::text::count;
use crate::threads;
use systemd::Systemd;

pub use watch::Watch;

/// The longest time that the end of the program waits for the thread: 1 s.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The time after which a report to systemd is sent again at the end of the program: 10 ms.
const END_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The settings of the thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlOptions {
    /// The time between two lines of totals; `None` for none.
    pub stats_every: Option<Duration>,
}

/// Shows a line that renews itself, at the bottom of a terminal.
pub type ShowLine = Box<dyn Fn(String) + Send>;

/// Starts the thread for a job with these settings, [without](Config::without_list) its list. It ends with
/// [`Message::Ended`]. `watch` looks for changes of the list file. `show_line` shows the totals, which are logged
/// without it.
///
/// # Errors
///
/// Fails if the system refuses the thread.
pub fn start(
    config: Config,
    watch: Option<Watch>,
    options: ControlOptions,
    show_line: Option<ShowLine>,
    job: &Job,
    messages: Receiver<Message>,
) -> io::Result<Control> {
    let mut desk = Desk {
        config,
        servers: job.servers_handle(),
        stats: job.stats(),
        rates: report::Rates::default(),
        systemd: Systemd::from_env(),
        reports: Arc::default(),
        unread: None,
        show_line,
    };
    let now = Instant::now();
    let mut schedule = Schedule {
        watch: watch.map(|watch| (now, watch)),
        stats: options.stats_every.map(|every| (now + every, every)),
        systemd: None,
    };
    let (done, ended) = mpsc::channel();
    threads::spawn("control", move || {
        let _done: Sender<()> = done;
        if schedule.stats.is_some() {
            desk.rates.note(&desk.stats.snapshot());
        }
        desk.systemd.ready(&desk.stats);
        schedule.systemd = desk.systemd.interval().map(|every| (now + every, every));
        desk.serve(&messages, &mut schedule);
    })?;
    Ok(Control { ended })
}

/// The thread.
#[derive(Debug)]
pub struct Control {
    ended: Receiver<()>,
}

impl Control {
    /// Waits until the thread has taken [`Message::Ended`], so that the last report to systemd is sent. It does not
    /// wait long, as the thread may be held up by a file.
    pub fn wait(self) {
        // The thread sends nothing. It drops its end.
        _ = self.ended.recv_timeout(END_PATIENCE);
    }
}

/// The times at which something is due.
struct Schedule {
    watch: Option<(Instant, Watch)>,
    stats: Option<(Instant, Duration)>,
    systemd: Option<(Instant, Duration)>,
}

impl Schedule {
    fn watch(&mut self) -> Option<&mut Watch> {
        self.watch.as_mut().map(|(_, watch)| watch)
    }

    fn next(&self) -> Option<Instant> {
        let watch = self.watch.as_ref().map(|(at, _)| *at);
        let others = [self.stats, self.systemd].into_iter().flatten().map(|(at, _)| at);
        others.chain(watch).min()
    }
}

/// Returns whether something that repeats is due, and sets when it is due next.
fn is_due(repeated: &mut Option<(Instant, Duration)>, now: Instant) -> bool {
    let Some((at, every)) = repeated else { return false };
    if *at > now {
        return false;
    }
    // After a standstill, the missed times are left out.
    *at = now + *every;
    true
}

struct Desk {
    /// The settings without the servers of the list.
    config: Config,
    servers: ServersHandle,
    stats: Arc<Stats>,
    rates: report::Rates,
    systemd: Systemd,
    /// The tables of the servers that are to be logged.
    reports: Arc<AtomicUsize>,
    /// The error of the last read of the list, if it could not be read.
    unread: Option<String>,
    /// Shows the totals instead of logging them.
    show_line: Option<ShowLine>,
}

impl Desk {
    fn serve(&mut self, messages: &Receiver<Message>, schedule: &mut Schedule) {
        loop {
            let retry = self.systemd.retry_in().map(|span| Instant::now() + span);
            let message = match schedule.next().into_iter().chain(retry).min() {
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => messages.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match message {
                Ok(Message::Request(Request::Reload)) => {
                    self.unread = None;
                    self.reload(schedule.watch());
                }
                Ok(Message::Request(Request::Report)) => self.report(),
                Ok(Message::Request(Request::RetryNow)) => {
                    info!("Trying all waiting servers now, as SIGUSR2 asks");
                    self.servers.retry_now();
                }
                Ok(Message::Stopping) => self.systemd.stopping(),
                Ok(Message::Ended) => return self.end(messages),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.do_what_is_due(schedule);
        }
    }

    /// Reports the end to systemd, as long as the end of the program waits for it.
    fn end(&mut self, messages: &Receiver<Message>) {
        self.systemd.stopping();
        let deadline = Instant::now() + END_PATIENCE;
        while self.systemd.retry_in().is_some() && Instant::now() < deadline {
            // Signals have no effect any more.
            _ = messages.recv_timeout(END_RETRY_INTERVAL);
            self.systemd.retry();
        }
    }

    fn do_what_is_due(&mut self, schedule: &mut Schedule) {
        self.systemd.retry();
        let now = Instant::now();
        if let Some((at, watch)) = &mut schedule.watch
            && *at <= now
        {
            let (has_changed, pause) = watch.look();
            *at = now + pause;
            if has_changed {
                self.reload(Some(watch));
            }
        }
        if is_due(&mut schedule.stats, now) {
            let totals = self.rates.totals(&self.stats.snapshot());
            match &self.show_line {
                Some(show) => show(totals),
                None => info!(target: "tcpcore::stats", "{totals}"),
            }
        }
        if is_due(&mut schedule.systemd, now) {
            self.systemd.report(&self.stats, &self.servers);
        }
    }

    /// Logs the table of the servers on a thread of its own, as a long one waits for the reader of stderr. A request
    /// that comes meanwhile is carried out after it.
    fn report(&self) {
        let (reports, stats) = (Arc::clone(&self.reports), Arc::clone(&self.stats));
        if reports.fetch_add(1, AcqRel) > 0 {
            return;
        }
        let shard = self.config.shard();
        let log = move || {
            loop {
                let asked = reports.load(Acquire);
                report::log_table(&stats.snapshot(), shard);
                if reports.fetch_sub(asked, AcqRel) == asked {
                    return;
                }
            }
        };
        if let Err(error) = threads::spawn("report", log) {
            self.reports.store(0, Release);
            error!("The table of the servers is not logged: {error}");
        }
    }

    /// Reads the list of servers again. A list with an error changes nothing. One that cannot be read is tried again at
    /// the next look at it, if it is watched.
    fn reload(&mut self, mut watch: Option<&mut Watch>) {
        let Some(path) = self.config.servers_file().map(PathBuf::from) else { return };
        if self.systemd.is_stopping() {
            return;
        }
        self.systemd.reloading();
        if let Some(watch) = &mut watch {
            watch.begin_read();
        }
        match servers::reread(&path, self.config.argument_servers()) {
            Ok(listed) => {
                self.unread = None;
                let mut list = self.config.argument_servers().to_vec();
                list.extend(listed);
                if list.is_empty() {
                    warn!("{} has no server now; waiting for a change", path.display());
                }
                let len = list.len();
                let replaced = self.servers.replace(list);
                self.servers.note_reload(true);
                log_replaced(replaced, self.config.shard(), len);
            }
            Err(error) => {
                self.servers.note_reload(false);
                let unread = (!error.was_read()).then(|| error.to_string());
                // The looks at a list that stays unreadable repeat the error.
                let is_repeat = unread.is_some() && unread == self.unread;
                let level = if is_repeat { Level::Debug } else { Level::Error };
                log!(level, "The servers stay as they are: {error}");
                if let Some(watch) = watch.filter(|_| unread.is_some()) {
                    watch.read_failed();
                }
                self.unread = unread;
            }
        }
        self.systemd.ready(&self.stats);
    }
}

/// Logs a change of the servers, and the part of the whole list, of this length, that is now read.
fn log_replaced(replaced: Replaced, shard: Option<Shard>, list: usize) {
    let Replaced { kept, added, removed } = replaced;
    let shard = shard.map_or(String::new(), |shard| {
        format!("; shard {shard} takes {} of {}", kept + added, count(list, "server"))
    });
    info!(
        "Read the servers again: {}, {added} added, {removed} removed{shard}",
        count(kept, "kept server")
    );
}
