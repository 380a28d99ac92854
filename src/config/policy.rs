//! Converts a configuration into the policy of the links, in their units.

use crate::config::Config;
use crate::proto::policy::Policy;
use crate::proto::time::millis;

impl From<&Config> for Policy {
    fn from(config: &Config) -> Policy {
        Policy {
            backoff: *config.backoff(),
            reset_backoff_threshold: millis(config.reset_backoff_threshold()),
            give_up_after: config.give_up_after().map(millis),
            connect_timeout: millis(config.connect_timeout()),
            idle_timeout: config.idle_timeout().map(millis),
            framing: config.framing(),
            keep_truncated: config.keep_truncated(),
            once: config.once(),
        }
    }
}
