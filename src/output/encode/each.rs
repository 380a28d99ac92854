//! Passes records to a function instead of writing them.

use std::fmt;

use super::lines::LineJoiner;
use super::{Encoder, Origin};
use crate::codec::Framing;

/// An encoder that passes each record to a function.
pub(crate) struct EachRecord<F> {
    f: F,
    origin: Option<Origin>,
}

impl<F> EachRecord<F> {
    pub(crate) fn new(f: F) -> EachRecord<F> {
        EachRecord { f, origin: None }
    }
}

impl<F> fmt::Debug for EachRecord<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachRecord").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<T, F: FnMut(Origin, &T) + Send + 'static> Encoder<T> for EachRecord<F> {
    fn needs_origin(&self) -> bool {
        true
    }

    fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    fn max_len(&self, _: &[T]) -> usize {
        0
    }

    fn encode(&mut self, records: &[T], _: &mut [u8]) -> usize {
        let origin = self.origin.expect("the job sets the origin first");
        for record in records {
            (self.f)(origin, record);
        }
        0
    }
}

/// An encoder that passes each line to a function.
pub(crate) struct EachLine<F> {
    f: F,
    origin: Option<Origin>,
    joiner: LineJoiner,
}

impl<F> EachLine<F> {
    pub(crate) fn new(framing: Framing, f: F) -> EachLine<F> {
        EachLine { f, origin: None, joiner: LineJoiner::new(framing) }
    }
}

impl<F> fmt::Debug for EachLine<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EachLine").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<F: FnMut(Origin, &[u8]) + Send + 'static> Encoder<u8> for EachLine<F> {
    fn needs_origin(&self) -> bool {
        true
    }

    fn set_origin(&mut self, origin: Origin) {
        self.origin = Some(origin);
    }

    fn max_len(&self, _: &[u8]) -> usize {
        0
    }

    fn encode(&mut self, bytes: &[u8], _: &mut [u8]) -> usize {
        let origin = self.origin.expect("the job sets the origin first");
        self.joiner.feed(bytes, |line| (self.f)(origin, line));
        0
    }

    fn count(&self, bytes: &[u8]) -> u64 {
        self.joiner.count(bytes)
    }

    fn is_within_line(&self) -> bool {
        self.joiner.is_within_line()
    }
}
