//! Counts the notices of a worker, and compares them with what it has counted itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tcpcore::Counters;
use tcpcore::internals::proto::notice::{Hint, Notice, Notices, ServerNotice};

use super::{Violation, ensure};

/// The notices so far, shared with the fleet that sends them.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    failed: AtomicU64,
    gave_up: AtomicU64,
    /// Of missing delimiters, and of malformed lines alone.
    hints: [AtomicU64; 2],
}

impl Notices for Noted {
    fn notice(&mut self, notice: Notice<'_>) {
        let Notice::Server { what, .. } = notice else { return };
        let count = match what {
            ServerNotice::Connected { .. } => &self.0.connected,
            ServerNotice::Failed { .. } => &self.0.failed,
            ServerNotice::GaveUp { .. } => &self.0.gave_up,
            ServerNotice::Hint { hint: Hint::NoDelimiter { .. } } => &self.0.hints[0],
            ServerNotice::Hint { hint: Hint::OnlyMalformed { .. } } => &self.0.hints[1],
            _ => return,
        };
        count.fetch_add(1, Relaxed);
    }
}

impl Noted {
    /// Checks that each hint that was due was given, and no other.
    pub(super) fn check_hints(&self, due: [u64; 2]) -> Result<(), Violation> {
        let given = self.0.hints.each_ref().map(|n| n.load(Relaxed));
        ensure!(given == due, "{given:?} hints, but {due:?} were due");
        Ok(())
    }

    /// Checks that each connection and each failure had its notice. An attempt under way that is given up has
    /// one notice for both.
    pub(super) fn check(&self, counters: &Counters) -> Result<(), Violation> {
        let Counts { connected, failed, gave_up, .. } = &*self.0;
        let [connected, failed, gave_up] = [connected, failed, gave_up].map(|n| n.load(Relaxed));
        let Counters { connects, failures, .. } = *counters;
        ensure!(connected == connects, "{connected} notices of {connects} connections");
        ensure!(
            (failed..=failed + gave_up).contains(&failures),
            "{failed} notices of failures and {gave_up} of giving up for {failures} failures"
        );
        Ok(())
    }
}
