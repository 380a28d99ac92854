//! Compares two lists of servers.

use std::collections::HashMap;

use crate::address::Server;

/// The difference of two lists of servers, as indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The servers in both lists: the index in the old and in the new one, in the order of the new one.
    pub kept: Vec<(usize, usize)>,
    /// The servers in the old list alone, in its order.
    pub removed: Vec<usize>,
    /// The servers in the new list alone, in its order.
    pub added: Vec<usize>,
}

/// Compares two lists in O(n) expected time.
///
/// A server is the same if its host, port and name are. Another name or another spelling of a host makes it
/// another server, because records and metrics show the name or the address as written. A server that is listed
/// several times is matched occurrence by occurrence, the first with the first.
pub fn difference(old: &[Server], new: &[Server]) -> Difference {
    // By server: the first unmatched occurrence in the old list. `next` has the one after it.
    let mut first = HashMap::with_capacity(old.len());
    let mut next = vec![None; old.len()];
    for (index, server) in old.iter().enumerate().rev() {
        next[index] = first.insert(server, index);
    }
    let mut is_kept = vec![false; old.len()];
    let mut difference = Difference::default();
    for (new_index, server) in new.iter().enumerate() {
        let Some(index) = first.get(server).copied() else {
            difference.added.push(new_index);
            continue;
        };
        match next[index] {
            Some(later) => first.insert(server, later),
            None => first.remove(server),
        };
        is_kept[index] = true;
        difference.kept.push((index, new_index));
    }
    difference.removed = (0..old.len()).filter(|index| !is_kept[*index]).collect();
    difference
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Makes servers of texts such as `a:1` and `a:1=name`.
    fn servers(texts: &[&str]) -> Vec<Server> {
        let server = |text: &&str| match text.split_once('=') {
            Some((address, name)) => address.parse::<Server>().unwrap().with_name(name).unwrap(),
            None => text.parse().unwrap(),
        };
        texts.iter().map(server).collect()
    }

    fn between(old: &[&str], new: &[&str]) -> (Vec<(usize, usize)>, Vec<usize>, Vec<usize>) {
        let Difference { kept, removed, added } = difference(&servers(old), &servers(new));
        (kept, removed, added)
    }

    #[test]
    fn a_server_is_kept_wherever_it_moves() {
        assert_eq!(
            between(&["a:1", "b:1", "c:1"], &["c:1", "d:1", "a:1"]),
            (vec![(2, 0), (0, 2)], vec![1], vec![1])
        );
        assert_eq!(between(&[], &["a:1"]), (vec![], vec![], vec![0]));
        assert_eq!(between(&["a:1"], &[]), (vec![], vec![0], vec![]));
    }

    #[test]
    fn another_name_or_spelling_is_another_server() {
        for (old, new) in [("a:1", "a:1=x"), ("a:1=x", "a:1=y"), ("a:1=x", "a:1"), ("a:1", "A:1")] {
            assert_eq!(between(&[old], &[new]), (vec![], vec![0], vec![0]), "{old} {new}");
        }
        // Both are the same text in the log.
        assert_eq!(between(&["[0::1]:1"], &["[::1]:1"]), (vec![(0, 0)], vec![], vec![]));
    }

    #[test]
    fn a_repeated_server_is_matched_by_occurrence() {
        assert_eq!(
            between(&["a:1", "b:1", "a:1", "a:1"], &["a:1", "a:1"]),
            (vec![(0, 0), (2, 1)], vec![1, 3], vec![])
        );
        assert_eq!(between(&["a:1"], &["a:1", "a:1"]), (vec![(0, 0)], vec![], vec![1]));
    }

    fn any_list() -> impl Strategy<Value = Vec<Server>> {
        prop::collection::vec("[a-c]:[12](=[xy])?", 0..20)
            .prop_map(|texts| servers(&texts.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn each_server_is_in_one_part_and_no_pair_is_missed(old in any_list(), new in any_list()) {
            let Difference { kept, removed, added } = difference(&old, &new);
            let mut of_old: Vec<_> = kept.iter().map(|pair| pair.0).chain(removed.clone()).collect();
            let mut of_new: Vec<_> = kept.iter().map(|pair| pair.1).chain(added.clone()).collect();
            of_old.sort_unstable();
            of_new.sort_unstable();
            prop_assert_eq!(of_old, (0..old.len()).collect::<Vec<_>>());
            prop_assert_eq!(of_new, (0..new.len()).collect::<Vec<_>>());
            prop_assert!(kept.iter().all(|(old_index, index)| old[*old_index] == new[*index]));
            let missed = |index: &usize| added.iter().any(|new_index| old[*index] == new[*new_index]);
            prop_assert!(!removed.iter().any(missed));
            prop_assert!(kept.is_sorted_by_key(|pair| pair.1));
            prop_assert!(removed.is_sorted() && added.is_sorted());
            // The first occurrence is matched with the first.
            let earlier = |a: &(usize, usize), b: &(usize, usize)| {
                new[a.1] != new[b.1] || (a.0 < b.0) == (a.1 < b.1)
            };
            prop_assert!(kept.iter().all(|a| kept.iter().all(|b| earlier(a, b))));
        }
    }
}
