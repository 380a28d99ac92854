//! Starts threads.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread with this name.
///
/// # Errors
///
/// Fails if the system refuses the thread. The error names the thread and the remedy.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(body).map_err(|error| refused(name, &error))
}

fn refused(name: &str, error: &io::Error) -> io::Error {
    let remedy = "raise the limits of processes and memory (ulimit -u, ulimit -v)";
    io::Error::new(error.kind(), format!("no thread for {name}, {remedy}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_thread_has_its_name() {
        let thread = spawn("worker-3", || thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some("worker-3"));
    }

    #[test]
    fn a_refused_thread_is_named_with_the_remedy() {
        let error = refused("worker-3", &io::Error::from(io::ErrorKind::WouldBlock));
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(
            error.to_string(),
            "no thread for worker-3, raise the limits of processes and memory \
             (ulimit -u, ulimit -v): operation would block"
        );
    }
}
