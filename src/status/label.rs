//! Returns the texts by which servers are shown.

use crate::address::Server;

/// Returns the name that the list gives it.
pub(super) fn name(_server: &Server) -> Option<&str> {
    None
}

/// Returns host and port.
pub(super) fn address(server: &Server) -> String {
    server.to_string()
}

/// Returns the name, or host and port of a server without one.
pub(super) fn label(server: &Server) -> String {
    name(server).map_or_else(|| address(server), str::to_owned)
}
