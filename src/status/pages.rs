//! The pages of a job.

use std::sync::Arc;

use super::request::Query;
use super::response::{Response, Status};
use super::{Pages, Ready};
use crate::stats::Stats;
use crate::stop::StopHandle;

/// The pages of a running job.
#[derive(Debug)]
pub struct JobPages {
    stats: Arc<Stats>,
    ready: Ready,
    stop: StopHandle,
}

/// The paths, for a client that asks for another one.
const PATHS: &[&str] = &["/livez", "/readyz"];

impl JobPages {
    /// Makes the pages of the job with these figures, which `stop` stops.
    pub fn new(stats: Arc<Stats>, ready: Ready, stop: StopHandle) -> JobPages {
        JobPages { stats, ready, stop }
    }

    fn readyz(&self) -> Response {
        let check = match self.stop.is_stopped() {
            true => Err("stopping".into()),
            false => self.ready.check(&self.stats.snapshot()),
        };
        match check {
            Ok(()) => Response::text(Status::Ok, "ok\n"),
            Err(reason) => {
                Response::text(Status::ServiceUnavailable, format!("not ready: {reason}\n"))
            }
        }
    }
}

impl Pages for JobPages {
    fn respond(&self, path: &str, _query: &Query) -> Response {
        match path {
            "/livez" => Response::text(Status::Ok, "ok\n"),
            "/readyz" => self.readyz(),
            _ => not_found(),
        }
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
        (JobPages::new(Arc::new(stats), Ready::Started, stop.clone()), stop)
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
