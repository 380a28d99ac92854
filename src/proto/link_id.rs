//! Identifies links, and keeps values by their ids.

use slab::Slab;

/// The identity of one link of a worker.
///
/// An index is small. It is used again after its link is removed, with the next generation. So a late event of a
/// removed link, such as the answer to its lookup, does not reach the new link with its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// The position of the link among those of its worker.
    pub index: u32,
    /// The number of earlier links with this index. It wraps: no lookup outlasts 2^32 links.
    pub generation: u32,
}

impl LinkId {
    /// Packs the id into one number.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Unpacks a number of [`pack`](Self::pack).
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the number")]
    pub(crate) fn unpack(packed: u64) -> LinkId {
        LinkId { index: packed as u32, generation: (packed >> 32) as u32 }
    }

    /// Returns the index as a position.
    pub(crate) fn at(self) -> usize {
        self.index as usize
    }
}

/// Keeps values by [`LinkId`]. The id of a removed value never finds another value.
#[derive(Debug)]
pub(crate) struct LinkMap<T> {
    /// The values by index.
    values: Slab<T>,
    /// The generation of each value, or of the next value if there is none, by index.
    generations: Vec<u32>,
}

impl<T> LinkMap<T> {
    pub(crate) fn new() -> LinkMap<T> {
        LinkMap { values: Slab::new(), generations: Vec::new() }
    }

    /// Allocates the memory for so many more values.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.values.reserve_exact(more);
        self.generations.reserve_exact(more);
    }

    /// Inserts the value that `value` returns for its id.
    pub(crate) fn insert_with(&mut self, value: impl FnOnce(LinkId) -> T) -> LinkId {
        let entry = self.values.vacant_entry();
        let index = entry.key();
        if index == self.generations.len() {
            self.generations.push(0);
        }
        let id = id(index, self.generations[index]);
        entry.insert(value(id));
        id
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&T> {
        self.values.get(self.index(id)?)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut T> {
        let index = self.index(id)?;
        self.values.get_mut(index)
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<T> {
        let index = self.index(id)?;
        let value = self.values.try_remove(index)?;
        self.generations[index] = id.generation.wrapping_add(1);
        Some(value)
    }

    /// Returns the id of the value with this index, if there is one.
    pub(crate) fn id_at(&self, index: usize) -> Option<LinkId> {
        self.values.contains(index).then(|| id(index, self.generations[index]))
    }

    /// Returns the ids of all values.
    pub(crate) fn ids(&self) -> impl Iterator<Item = LinkId> {
        self.values.iter().map(|(index, _)| id(index, self.generations[index]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().map(|(_, value)| value)
    }

    /// Returns the index of this id, if its generation is the present one.
    fn index(&self, id: LinkId) -> Option<usize> {
        (self.generations.get(id.at()) == Some(&id.generation)).then_some(id.at())
    }
}

fn id(index: usize, generation: u32) -> LinkId {
    LinkId { index: u32::try_from(index).expect("fewer than 2^32 links"), generation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_used_again_with_the_next_generation() {
        let mut map = LinkMap::new();
        let ids = [(); 3].map(|()| map.insert_with(|id| id));
        assert_eq!(ids, [id(0, 0), id(1, 0), id(2, 0)]);
        assert_eq!(map.remove(ids[1]), Some(ids[1]));
        assert_eq!((map.get(ids[1]), map.id_at(1)), (None, None), "nothing is there");
        assert_eq!(map.insert_with(|id| id), id(1, 1));
        assert_eq!(map.insert_with(|id| id), id(3, 0));
        assert_eq!(map.id_at(1), Some(id(1, 1)));
    }

    #[test]
    fn an_id_finds_its_own_generation_only() {
        let mut map = LinkMap::new();
        let old = map.insert_with(|_| 'a');
        map.remove(old);
        let new = map.insert_with(|_| 'b');
        for stale in [old, id(0, 2), id(1, 0)] {
            assert_eq!(map.get(stale), None);
            assert_eq!(map.get_mut(stale), None);
            assert_eq!(map.remove(stale), None);
        }
        assert_eq!(map.get(new), Some(&'b'));
        assert_eq!(map.get_mut(new), Some(&mut 'b'));
        assert_eq!(map.values().collect::<Vec<_>>(), [&'b']);
    }

    #[test]
    fn an_id_that_was_not_handed_out_yet_finds_nothing_and_spends_no_generation() {
        let mut map = LinkMap::new();
        let first = map.insert_with(|_| ());
        map.remove(first);
        assert_eq!((map.remove(id(0, 1)), map.is_empty()), (None, true));
        assert_eq!(map.insert_with(|_| ()), id(0, 1));
    }

    #[test]
    fn the_last_generation_is_followed_by_the_first() {
        let mut map = LinkMap::new();
        map.generations.push(u32::MAX);
        let last = map.insert_with(|_| ());
        assert_eq!(last, id(0, u32::MAX));
        map.remove(last);
        assert_eq!(map.insert_with(|_| ()), id(0, 0));
    }
}
