//! The identity of a link, and values by it.

use slab::Slab;

/// One link of a worker.
///
/// The index is small, and is used again after its link is removed, with the next generation. So what is
/// late for a removed link, such as the answer to its lookup, does not reach the link that has its index now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId {
    /// The link's place among those of its worker.
    pub index: u32,
    /// How many links had this index before. It wraps: no lookup outlasts 2^32 of them.
    pub generation: u32,
}

impl LinkId {
    /// The index, for what is kept in the order of the links.
    pub(crate) fn at(self) -> usize {
        self.index as usize
    }
}

/// Values by [`LinkId`]. The id of a removed value finds nothing, ever.
#[derive(Debug)]
pub(crate) struct LinkMap<T> {
    /// By index.
    values: Slab<T>,
    /// By index, the generation of the value, or of the next one if there is none.
    generations: Vec<u32>,
}

impl<T> LinkMap<T> {
    pub(crate) fn new() -> LinkMap<T> {
        LinkMap { values: Slab::new(), generations: Vec::new() }
    }

    /// Inserts what `value` makes of its id.
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

    /// The id of the value with this index, if there is one.
    pub(crate) fn id_at(&self, index: usize) -> Option<LinkId> {
        self.values.contains(index).then(|| id(index, self.generations[index]))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.values.iter().map(|(_, value)| value)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().map(|(_, value)| value)
    }

    /// The index of this id, if its generation is the present one.
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
    fn an_id_finds_its_own_generation_only() {
        let mut map = LinkMap::new();
        let ids = [(); 2].map(|()| map.insert_with(|id| id));
        assert_eq!(ids, [id(0, 0), id(1, 0)]);
        assert_eq!((map.get(ids[1]), map.id_at(1)), (Some(&ids[1]), Some(ids[1])));
        for none in [id(1, 1), id(2, 0)] {
            assert_eq!((map.get(none), map.id_at(2)), (None, None));
            assert_eq!(map.get_mut(none), None);
        }
        assert_eq!(map.values().collect::<Vec<_>>(), [&ids[0], &ids[1]]);
    }
}
