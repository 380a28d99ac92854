//! Reads a list file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{ListError, MAX_BYTES, parse, too_large};
use crate::address::Server;
use crate::config::Config;
use crate::text::echo::plain;

/// The path that means stdin.
pub const STDIN: &str = "-";

/// Reads and [parses](parse) the list file at `path`, or stdin for [`STDIN`].
///
/// It reads to the end, so it waits for the writer of a pipe. Links are followed. A file without servers is no error
/// here.
///
/// # Errors
///
/// Fails if the file cannot be read, is larger than [`MAX_BYTES`], or does not parse.
pub fn read(path: &Path, arguments: &[Server]) -> Result<Vec<Server>, ListError> {
    let source = source_name(path);
    let bytes = match path == Path::new(STDIN) {
        true => read_bounded(io::stdin().lock()),
        false => File::open(path).and_then(read_bounded),
    };
    let bytes = bytes.map_err(|error| ListError::unread(&source, &unreadable(&error)))?;
    if bytes.len() > MAX_BYTES {
        return Err(too_large(&source));
    }
    parse(&source, &bytes, arguments)
}

/// Reads a list file [again](read), while a job runs.
///
/// # Errors
///
/// As for [`read`]. It also fails for what is no file, such as a pipe: it would be empty or wait for a writer.
pub fn reread(path: &Path, arguments: &[Server]) -> Result<Vec<Server>, ListError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            let problem = "a pipe or a device, which is read once; write the servers to a file";
            Err(ListError::unread(&source_name(path), problem))
        }
        // The read has the words for it.
        Ok(_) | Err(_) => read(path, arguments),
    }
}

/// Reads the list file of these settings, if there is one, and adds its servers.
///
/// # Errors
///
/// As for [`read`]. It also fails if there are no servers at all and none can be added later, as stdin is read once.
pub fn load(config: Config) -> Result<Config, ListError> {
    let Some(path) = config.servers_file() else {
        return Ok(config);
    };
    let listed = read(path, config.argument_servers())?;
    // A file may get servers later.
    if path == Path::new(STDIN) && listed.is_empty() && config.argument_servers().is_empty() {
        let problem = "no servers in it, expected at least one, as host:port on a line";
        return Err(ListError::of_file(&source_name(path), problem));
    }
    Ok(config.with_listed(listed))
}

/// Returns the name of a list file in messages.
fn source_name(path: &Path) -> String {
    if path == Path::new(STDIN) { "stdin".into() } else { plain(path) }
}

/// Reads to the end, but at most one byte more than is allowed.
fn read_bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(error: &io::Error) -> String {
    let (problem, remedy) = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => ("no such file", "check the path"),
        ErrorKind::PermissionDenied => ("permission denied", "let this user read it"),
        ErrorKind::IsADirectory => ("a directory", "name a file in it"),
        _ => return format!("cannot be read, expected a file with a server a line: {error}"),
    };
    format!("{problem}, expected a file with a server a line; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_worded_with_its_remedy() {
        let text = |kind: ErrorKind| unreadable(&io::Error::from(kind));
        let expected = "expected a file with a server a line";
        assert_eq!(
            text(ErrorKind::PermissionDenied),
            format!("permission denied, {expected}; let this user read it")
        );
        assert_eq!(
            text(ErrorKind::NotADirectory),
            format!("no such file, {expected}; check the path")
        );
        assert!(text(ErrorKind::TimedOut).starts_with(&format!("cannot be read, {expected}: ")));
    }
}
