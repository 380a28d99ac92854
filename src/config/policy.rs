//! Converts a configuration into the policy of the links, in their units.

use crate::config::Config;
use crate::proto::policy::Policy;
use crate::proto::time::Duration;

impl From<&Config> for Policy {
    fn from(config: &Config) -> Policy {
        Policy {
            backoff: *config.backoff(),
            reset_backoff_threshold: config.reset_backoff_threshold().into(),
            give_up_after: config.give_up_after().map(Duration::from),
            connect_timeout: config.connect_timeout().into(),
            idle_timeout: config.idle_timeout().map(Duration::from),
            framing: config.framing(),
            keep_truncated: config.keep_truncated(),
            stays: config.waits_for_servers(),
            once: config.once(),
        }
    }
}
