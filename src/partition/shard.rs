//! Cuts the list of servers over several processes.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::hash::shard_of;
use super::slice;
use crate::address::Server;

/// One of several processes that share a list of servers: each server of the list belongs to one shard.
///
/// Its text form is that of the program's flag: `1/4` is the second of four. An index counts from 0.
///
/// ```
/// use tcpcore::{Server, Shard, ShardBy};
///
/// let servers: Vec<Server> = ["a:1", "b:1", "c:1"].map(|text| text.parse().unwrap()).into();
/// let second = Shard::new(1, 2, ShardBy::Slice)?;
/// assert_eq!(second.part(&servers), servers[2..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Invariant: below `count`.
    index: u32,
    count: NonZeroU32,
    by: ShardBy,
}

/// The rule that says which shard a server belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardBy {
    /// The place in the list: contiguous slices whose sizes differ by at most one. This is the default.
    ///
    /// An added or removed server moves other servers from one shard to the next.
    #[default]
    Slice,
    /// A jump consistent hash of the server's host and port, whatever its place and its name.
    ///
    /// A change of the list moves no other server. One shard more moves 1 of N servers, all of them to the new shard.
    /// The sizes of shards differ at random: by about 10% with 100 servers a shard.
    ///
    /// The hash takes the text of [`Server::address`], with a host name in lower case and an IPv4-mapped IPv6 address
    /// as IPv4. So a server that is listed twice has one shard. Every version has the same hash.
    Hash,
}

impl ShardBy {
    /// All rules, in the order of the help.
    pub const ALL: [ShardBy; 2] = [ShardBy::Slice, ShardBy::Hash];

    /// Returns the name, as [`FromStr`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            ShardBy::Slice => "slice",
            ShardBy::Hash => "hash",
        }
    }
}

impl FromStr for ShardBy {
    type Err = ShardError;

    fn from_str(name: &str) -> Result<ShardBy, ShardError> {
        ShardBy::ALL.into_iter().find(|by| by.name() == name).ok_or(ShardError(()))
    }
}

impl fmt::Display for ShardBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Shard {
    /// Makes the shard of an index, from 0 to `count - 1`.
    ///
    /// # Errors
    ///
    /// Fails if the index is not below the count.
    pub fn new(index: u32, count: u32, by: ShardBy) -> Result<Shard, ShardError> {
        let count = NonZeroU32::new(count).filter(|count| index < count.get());
        count.map(|count| Shard { index, count, by }).ok_or(ShardError(()))
    }

    /// Returns the index, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns the number of shards.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// Returns the rule.
    pub fn by(&self) -> ShardBy {
        self.by
    }

    /// Returns this shard's part of the list, in the order of the list.
    pub fn part(&self, servers: &[Server]) -> Vec<Server> {
        match self.by {
            ShardBy::Slice => {
                let [count, index] = [self.count(), self.index].map(|n| n as usize);
                servers[slice(servers.len(), count, index)].to_vec()
            }
            ShardBy::Hash => servers.iter().filter(|server| self.has(server)).cloned().collect(),
        }
    }

    /// Returns whether the server belongs to this shard by its hash.
    fn has(&self, server: &Server) -> bool {
        shard_of(server.canonical_address().as_bytes(), self.count()) == self.index
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// The error of an index that is not below the number of shards, or of an unknown rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardError(());

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an index below the number of shards, and slice or hash")
    }
}

impl Error for ShardError {}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn shard(index: u32, count: u32, by: ShardBy) -> Shard {
        Shard::new(index, count, by).expect("it is below the count")
    }

    fn servers(texts: &[impl AsRef<str>]) -> Vec<Server> {
        texts.iter().map(|text| text.as_ref().parse().unwrap()).collect()
    }

    /// Returns which shard has each server. No server is in two shards.
    fn owners(list: &[Server], count: u32, by: ShardBy) -> HashMap<String, u32> {
        let mut owners = HashMap::new();
        for index in 0..count {
            for server in shard(index, count, by).part(list) {
                let before = owners.insert(server.address(), index);
                assert!(before.is_none_or(|before| before == index), "{server} is in two shards");
            }
        }
        owners
    }

    #[test]
    fn an_index_is_below_the_count() {
        assert_eq!(shard(3, 4, ShardBy::Hash).to_string(), "3/4");
        assert_eq!(shard(u32::MAX - 1, u32::MAX, ShardBy::Slice).count(), u32::MAX);
        for (index, count) in [(0, 0), (1, 1), (4, 4), (u32::MAX, u32::MAX)] {
            assert!(Shard::new(index, count, ShardBy::Slice).is_err(), "{index}/{count}");
        }
    }

    #[test]
    fn a_rule_is_parsed_from_its_name_and_from_nothing_else() {
        for by in ShardBy::ALL {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        assert_eq!("Hash".parse::<ShardBy>(), Err(ShardError(())));
    }

    #[test]
    fn slices_are_those_of_workers() {
        let list = servers(&["a:1", "b:1", "c:1", "d:1", "e:1"]);
        let part = |index| shard(index, 4, ShardBy::Slice).part(&list);
        assert_eq!([part(0), part(1), part(2), part(3)].concat(), list);
        assert_eq!(part(0), list[..2]);
        assert_eq!(part(3), list[4..]);
        assert_eq!(shard(5, 8, ShardBy::Slice).part(&list), []);
    }

    #[test]
    fn a_hash_depends_on_host_and_port_and_on_nothing_else() {
        let named = "a.example:1".parse::<Server>().unwrap().with_name("gate").unwrap();
        for (one, other) in [
            (named, "a.example:1"),
            ("A.Example:1".parse().unwrap(), "a.example:1"),
            ("[::ffff:10.0.0.7]:9000".parse().unwrap(), "10.0.0.7:9000"),
            ("[2001:db8:0::1]:8001".parse().unwrap(), "[2001:db8::1]:8001"),
        ] {
            assert_eq!(one.canonical_address(), other);
        }
        let list = servers(&["A.Example:1", "a.example:1"]);
        let parts = (0..9).map(|index| shard(index, 9, ShardBy::Hash).part(&list).len());
        assert_eq!(parts.max(), Some(2), "both in one");
        // The text of the fixed vectors.
        let list = servers(&["localhost:8001", "10.0.0.7:9000", "[fe80::1%eth0]:80"]);
        assert_eq!(
            shard(3, 4, ShardBy::Hash).part(&list),
            servers(&[list[0].address(), list[2].address()])
        );
        assert_eq!(shard(1, 4, ShardBy::Hash).part(&list), list[1..2]);
    }

    #[test]
    fn one_shard_more_moves_its_share_of_the_servers_and_no_other() {
        let list: Vec<String> =
            (0..3000).map(|n| format!("10.{}.{}.1:9", n / 250, n % 250)).collect();
        let list = servers(&list);
        for count in [1, 2, 3, 9, 29] {
            let [before, after] =
                [count, count + 1].map(|count| owners(&list, count, ShardBy::Hash));
            let moved = before.iter().filter(|(server, shard)| after[*server] != **shard).count();
            let share = list.len() as f64 / f64::from(count + 1);
            // Six standard deviations of a random choice.
            assert!(
                (moved as f64 - share).abs() < 6.0 * share.sqrt(),
                "{count}: {moved} of {share}"
            );
            assert!(before.iter().all(|(server, shard)| [*shard, count].contains(&after[server])));
        }
    }

    fn any_list() -> impl Strategy<Value = Vec<Server>> {
        prop::collection::vec("[a-e]{1,3}:[1-9]", 0..60).prop_map(|texts| servers(&texts))
    }

    fn any_rule() -> impl Strategy<Value = ShardBy> {
        prop::sample::select(ShardBy::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn shards_cover_the_list_once(list in any_list(), count in 1..40_u32, by in any_rule()) {
            let parts = (0..count).flat_map(|index| shard(index, count, by).part(&list));
            let text = |server: &Server| server.to_string();
            let mut found: Vec<String> = parts.map(|server| text(&server)).collect();
            let mut expected: Vec<String> = list.iter().map(text).collect();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn slices_are_contiguous_and_balanced_within_one(list in any_list(), count in 1..40_u32) {
            let parts: Vec<_> = (0..count).map(|index| shard(index, count, ShardBy::Slice).part(&list)).collect();
            let sizes = parts.iter().map(Vec::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            prop_assert_eq!(parts.concat(), list);
        }

        #[test]
        fn a_hash_keeps_the_order_of_the_list_and_a_repeated_server_in_one_shard(
            list in any_list(), count in 1..40_u32,
        ) {
            for index in 0..count {
                let part = shard(index, count, ShardBy::Hash).part(&list);
                let rest = list.iter().filter(|server| part.contains(server));
                prop_assert!(rest.eq(part.iter()));
            }
        }

        #[test]
        fn an_edit_of_the_list_moves_no_other_server_by_hash(
            list in any_list(), added in any_list(), removed: prop::sample::Index, count in 1..40_u32,
        ) {
            let mut edited = list.clone();
            if !edited.is_empty() {
                edited.remove(removed.index(edited.len()));
            }
            edited.splice(edited.len() / 2..edited.len() / 2, added);
            let (before, after) = (owners(&list, count, ShardBy::Hash), owners(&edited, count, ShardBy::Hash));
            for (server, shard) in &before {
                prop_assert!(after.get(server).is_none_or(|now| now == shard));
            }
        }
    }
}
