//! Finds the names that a mistyped name may stand for.

/// The shortest typed name that is compared, in letters. Of three letters, one may be wrong.
const MIN_LEN: usize = 3;

/// The longest typed name that is compared, in letters. It bounds the time, which grows with the length.
const MAX_LEN: usize = 64;

/// Finds the names that are nearest to a mistyped one. It finds none if all are far from it.
///
/// The distance is the least number of letters to change. A beginning of a name is one farther than a whole
/// name, and a part of a name has the distance 1. A name is near up to a third of the typed letters. A typed
/// name of fewer than three letters is near to none.
pub(crate) fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let letters: Vec<char> = typed.to_lowercase().chars().collect();
    if !(MIN_LEN..=MAX_LEN).contains(&letters.len()) {
        return Vec::new();
    }
    let mut best = usize::MAX;
    let mut found = Vec::new();
    for name in names {
        let is_part = name.contains(&typed.to_lowercase());
        let distance = distance(&letters, name).min(if is_part { 1 } else { usize::MAX });
        if distance > letters.len() / 3 || distance > best {
            continue;
        }
        if distance < best {
            found.clear();
            best = distance;
        }
        found.push(name);
    }
    found
}

/// Returns the distance to a name. The distance to one of its beginnings counts one more.
fn distance(typed: &[char], name: &str) -> usize {
    let distances = distances(typed, &name.chars().collect::<Vec<_>>());
    let beginning = distances.iter().min().map_or(usize::MAX, |distance| distance + 1);
    distances.last().map_or(beginning, |whole| beginning.min(*whole))
}

/// Returns the distances from a text to each beginning of another one, the shortest beginning first.
///
/// A distance is the least number of letters to insert, delete, replace or swap with the next letter. No
/// letter is changed twice.
fn distances(from: &[char], to: &[char]) -> Vec<usize> {
    let mut before = vec![0; to.len() + 1];
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let differ = usize::from(from[i - 1] != to[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differ);
            let is_swap = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
            if is_swap {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn between(from: &str, to: &str) -> usize {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        *distances(&letters(from), &letters(to)).last().unwrap()
    }

    #[test]
    fn the_distance_counts_changed_letters() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("once", "once", 0),
            ("onec", "once", 1),
            ("once", "ounce", 1),
            ("twice", "once", 3),
            ("divizor", "divisor", 1),
            ("kitten", "sitting", 3),
            ("abcd", "badc", 2),
            ("ca", "abc", 3),
            ("\u{fc}b", "ub", 1),
        ] {
            assert_eq!(between(from, to), expected, "{from} {to}");
            assert_eq!(between(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_name_is_near_up_to_a_third_of_the_typed_letters() {
        let near = |typed| nearest(typed, ["parallelism", "divisor", "once"].into_iter());
        for (typed, name) in [
            ("paralelism", "parallelism"),
            ("Parallelism", "parallelism"),
            ("parallel", "parallelism"),
            ("paralel", "parallelism"),
            ("LISM", "parallelism"),
            ("par", "parallelism"),
            ("devizor", "divisor"),
            ("onec", "once"),
            ("onc", "once"),
            ("one", "once"),
        ] {
            assert_eq!(near(typed), [name], "{typed}");
        }
        for typed in ["", "p", "pa", "on", "ponse", "tewizer", "servers"] {
            assert_eq!(near(typed), [""; 0], "{typed}");
        }
        // Of 64 letters, 21 may differ. 65 are not compared.
        let long = "n".repeat(43);
        let near = |typed: String| nearest(&typed, [long.as_str()].into_iter()).len();
        assert_eq!(near(format!("{long}{}", "x".repeat(21))), 1);
        assert_eq!(near(format!("{long}n{}", "x".repeat(21))), 0);
    }

    #[test]
    fn the_nearest_of_several_names_are_found_in_order() {
        let names = ["connect-timeout", "idle-timeout", "idle-timeouts"];
        let near = |typed| nearest(typed, names.into_iter());
        assert_eq!(near("timeout"), names);
        assert_eq!(near("idle-timeuot"), ["idle-timeout"]);
        assert_eq!(near("idle-timeoutx"), ["idle-timeout", "idle-timeouts"]);
        assert_eq!(near("idle-timeuots"), ["idle-timeouts"]);
    }

    proptest! {
        #[test]
        fn the_distance_is_symmetric_zero_for_equals_and_bounded_by_the_lengths(
            a in "[ab]{0,6}", b in "[abc]{0,6}",
        ) {
            let (shorter, longer) = (a.len().min(b.len()), a.len().max(b.len()));
            let distance = between(&a, &b);
            prop_assert_eq!(distance, between(&b, &a));
            prop_assert_eq!(distance == 0, a == b);
            prop_assert!((longer - shorter..=longer).contains(&distance));
        }
    }
}
