//! Counts the notices of a worker, and logs them.

use std::sync::Arc;

use crate::notice_log::NoticeLog;
use crate::proto::notice::{Notice, Notices, ServerNotice};
use crate::stats::{Stats, WorkerStats};
use crate::stop::StopHandle;

/// Takes the notices of one worker.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) log: NoticeLog,
    pub(super) worker: Arc<WorkerStats>,
    pub(super) stats: Arc<Stats>,
    /// The job to end with the last server, if its workers stay without servers.
    pub(super) end: Option<StopHandle>,
}

impl Notices for Observer {
    fn notice(&mut self, notice: Notice<'_>) {
        match notice {
            Notice::Server { what: ServerNotice::Connected { took, .. }, .. } => {
                self.worker.connected(took.as_millis());
            }
            Notice::Ended { .. } => {
                // An empty list is no end: it may get servers again. It may have got some since, and a list with a
                // server shows its server among those that live.
                if self.stats.ended()
                    && self.stats.present() > 0
                    && self.stats.alive() == 0
                    && let Some(end) = &self.end
                {
                    end.halt();
                }
            }
            _ => {}
        }
        self.log.notice(notice);
    }
}
