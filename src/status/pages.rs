//! The pages of a job.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::request::Query;
use super::response::{Response, Status};
use super::{
    CONTENT_SECURITY_POLICY, Context, History, List, Metrics, PAGE, Pages, Process, Ready, Shard,
    content_type,
};
use crate::stats::Stats;
use crate::stop::StopHandle;

/// The pages of a running job.
pub struct JobPages {
    stats: Arc<Stats>,
    stop: StopHandle,
    options: PageOptions,
    history: History,
    /// Whether each server of the list was tried once. Servers that are added later do not change it.
    has_started: Cell<bool>,
    /// Returns the log lines that were dropped since the start.
    dropped: Box<dyn Fn() -> u64 + Send>,
}

/// The settings of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOptions {
    /// The condition under which the job is ready.
    pub ready: Ready,
    /// The most servers that have metrics of their own.
    pub metrics_servers: usize,
    /// The part of the list that this process takes, if it takes a part.
    pub shard: Option<Shard>,
}

impl PageOptions {
    /// The default of [`metrics_servers`](Self::metrics_servers).
    pub const METRICS_SERVERS: usize = 1000;
}

impl Default for PageOptions {
    fn default() -> PageOptions {
        let metrics_servers = PageOptions::METRICS_SERVERS;
        PageOptions { ready: Ready::default(), metrics_servers, shard: None }
    }
}

/// The paths, for a client that asks for another one.
const PATHS: &[&str] = &["/", "/livez", "/metrics", "/readyz", "/status.json"];

impl JobPages {
    /// Makes the pages of the job with these figures, which `stop` stops. `dropped` returns the log lines that were
    /// dropped since the start.
    pub fn new(
        stats: Arc<Stats>,
        options: PageOptions,
        stop: StopHandle,
        dropped: impl Fn() -> u64 + Send + 'static,
    ) -> JobPages {
        let (history, dropped) = (History::default(), Box::new(dropped));
        JobPages { stats, stop, options, history, has_started: Cell::new(false), dropped }
    }

    fn context(&self) -> Context {
        let log_lines_dropped = (self.dropped)();
        let shard = self.options.shard;
        Context { log_lines_dropped, shard, is_stopping: self.stop.is_stopped() }
    }

    fn page(&self) -> Response {
        Response::new(content_type::HTML, PAGE.as_bytes())
            .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    }

    fn metrics(&self) -> Response {
        let metrics = Metrics {
            snapshot: Arc::new(self.stats.snapshot()),
            context: self.context(),
            process: Process::read(),
            max_servers: self.options.metrics_servers,
        };
        Response::new(content_type::METRICS, metrics.encode())
    }

    fn status_json(&self, query: &Query) -> Response {
        match List::parse(query.iter()) {
            Ok(list) => {
                let body = list.render(&self.stats.snapshot(), &self.history, &self.context());
                Response::new(content_type::JSON, body)
            }
            Err(error) => Response::text(Status::BadRequest, format!("{error}\n")),
        }
    }

    fn readyz(&self) -> Response {
        let check = match self.stop.is_stopped() {
            true => Err("stopping".into()),
            false if self.has_started.get() => Ok(()),
            false => self.options.ready.check(&self.stats.snapshot()),
        };
        self.has_started.set(check.is_ok() && self.options.ready == Ready::Started);
        match check {
            Ok(()) => Response::text(Status::Ok, "ok\n"),
            Err(reason) => {
                Response::text(Status::ServiceUnavailable, format!("not ready: {reason}\n"))
            }
        }
    }
}

impl Pages for JobPages {
    fn respond(&self, path: &str, query: &Query) -> Response {
        match path {
            "/" => self.page(),
            "/metrics" => self.metrics(),
            "/status.json" => self.status_json(query),
            "/livez" => Response::text(Status::Ok, "ok\n"),
            "/readyz" => self.readyz(),
            _ => not_found(),
        }
    }

    fn tick(&mut self, now: Duration) -> Option<Duration> {
        if self.history.due() <= now {
            self.history.sample(now, &self.stats.snapshot());
        }
        Some(self.history.due())
    }
}

impl fmt::Debug for JobPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobPages").field("options", &self.options).finish_non_exhaustive()
    }
}

fn not_found() -> Response {
    let paths = PATHS.join("\n");
    Response::text(Status::NotFound, format!("no such page; there are:\n{paths}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> (JobPages, StopHandle) {
        let stats = Stats::new(1);
        let server = stats.new_server(0, "127.0.0.1:1".parse().unwrap());
        stats.set_servers(vec![server], Vec::new());
        let stop = StopHandle::new(Vec::new());
        (JobPages::new(Arc::new(stats), PageOptions::default(), stop.clone(), || 0), stop)
    }

    fn ask(pages: &JobPages, path: &str) -> (Status, String) {
        let response = pages.respond(path, &Query::default());
        (response.status, String::from_utf8(response.body).unwrap())
    }

    #[test]
    fn a_live_job_is_live_whether_it_is_ready_or_stopping() {
        let (pages, stop) = pages();
        assert_eq!(ask(&pages, "/livez"), (Status::Ok, "ok\n".into()));
        stop.stop();
        assert_eq!(ask(&pages, "/livez"), (Status::Ok, "ok\n".into()));
    }

    #[test]
    fn a_job_is_not_ready_before_its_condition_holds_and_while_it_stops() {
        let (pages, stop) = pages();
        let reason = "not ready: 0 of 1 servers were tried\n";
        assert_eq!(ask(&pages, "/readyz"), (Status::ServiceUnavailable, reason.into()));
        pages.stats.set_servers(Vec::new(), Vec::new());
        assert_eq!(ask(&pages, "/readyz"), (Status::Ok, "ok\n".into()));
        stop.stop();
        let reason = "not ready: stopping\n";
        assert_eq!(ask(&pages, "/readyz"), (Status::ServiceUnavailable, reason.into()));
    }

    #[test]
    fn a_job_that_has_started_stays_ready_when_servers_are_added() {
        let (pages, _) = pages();
        pages.stats.set_servers(Vec::new(), Vec::new());
        assert_eq!(ask(&pages, "/readyz").0, Status::Ok);
        let new = pages.stats.new_server(0, "127.0.0.1:2".parse().unwrap());
        pages.stats.set_servers(vec![new], Vec::new());
        assert_eq!(ask(&pages, "/readyz").0, Status::Ok);
    }

    #[test]
    fn another_path_is_answered_with_those_there_are() {
        let (pages, _) = pages();
        for path in ["/live", "/livez/", "", "/LIVEZ"] {
            let (status, body) = ask(&pages, path);
            assert_eq!(status, Status::NotFound);
            assert!(PATHS.iter().all(|path| body.lines().any(|line| line == *path)), "{body}");
        }
        for path in PATHS {
            assert_ne!(ask(&pages, path).0, Status::NotFound, "{path}");
        }
    }
}
