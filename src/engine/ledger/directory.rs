//! Names of nodes and their positions in the ledger.
//!
//! kube-scheduler names thousands of nodes for each pod, and looking them up is most of what a
//! decision costs. So the names lie one behind the other, the table holds positions alone, and
//! what followed a name the last time is tried first: prioritize names what filter let pass, in
//! the same order.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU32, Ordering};

use hashbrown::HashTable;

use super::NodeIndex;

/// Every name that was ever mentioned. Positions are never used again for another name.
#[derive(Debug, Default)]
pub(super) struct Directory {
    names: String,
    /// Where each name ends in `names`.
    ends: Vec<usize>,
    positions: HashTable<NodeIndex>,
    hasher: foldhash::fast::RandomState,
    /// For each name the position of the one that was looked up after it: a guess.
    followers: Vec<AtomicU32>,
}

/// Looks up one name after the other.
#[derive(Debug)]
pub(super) struct Lookups<'a> {
    directory: &'a Directory,
    last: Option<NodeIndex>,
}

impl Directory {
    /// The name's position.
    pub(super) fn find(&self, name: &str) -> Option<NodeIndex> {
        let hash = self.hasher.hash_one(name);
        self.positions.find(hash, |position| self.name(*position) == name).copied()
    }

    /// The name's position, and whether it was mentioned for the first time.
    pub(super) fn intern(&mut self, name: &str) -> (NodeIndex, bool) {
        if let Some(position) = self.find(name) {
            return (position, false);
        }
        let position = self.ends.len();
        self.names.push_str(name);
        self.ends.push(self.names.len());
        self.followers.push(AtomicU32::new(guess(position + 1)));
        let Self { names, ends, positions, hasher, .. } = self;
        let hash = |position: &NodeIndex| hasher.hash_one(name_at(names, ends, *position));
        positions.insert_unique(hash(&position), position, hash);
        (position, true)
    }

    /// Begins to look up many names.
    pub(super) fn lookups(&self) -> Lookups<'_> {
        Lookups { directory: self, last: None }
    }

    fn name(&self, position: NodeIndex) -> &str {
        name_at(&self.names, &self.ends, position)
    }
}

impl Lookups<'_> {
    /// The position of the next name.
    pub(super) fn next(&mut self, name: &str) -> Option<NodeIndex> {
        let follower = self.last.map(|last| &self.directory.followers[last]);
        let guessed = follower.map(|follower| follower.load(Ordering::Relaxed) as NodeIndex);
        let guessed = guessed.filter(|position| {
            *position < self.directory.ends.len() && self.directory.name(*position) == name
        });
        let position = guessed.or_else(|| self.directory.find(name));
        if let (Some(follower), None, Some(position)) = (follower, guessed, position) {
            follower.store(guess(position), Ordering::Relaxed);
        }
        self.last = position;
        position
    }
}

/// A position as it is remembered; one that does not fit is a wrong guess.
fn guess(position: NodeIndex) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn name_at<'a>(names: &'a str, ends: &[usize], position: NodeIndex) -> &'a str {
    let start = position.checked_sub(1).map_or(0, |before| ends[before]);
    &names[start..ends[position]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(names: &[&str]) -> Directory {
        let mut directory = Directory::default();
        for name in names {
            directory.intern(name);
        }
        directory
    }

    #[test]
    fn a_name_keeps_its_position() {
        let mut directory = directory(&["a", "b", "", "ab"]);
        assert_eq!(directory.intern("b"), (1, false));
        assert_eq!(directory.intern("c"), (4, true));
        assert_eq!(
            ["a", "b", "", "ab", "c"].map(|name| directory.find(name)),
            [0, 1, 2, 3, 4].map(Some)
        );
        assert_eq!(directory.find("abc"), None);
    }

    #[test]
    fn names_are_found_in_any_order_whatever_followed_the_last_time() {
        let directory = directory(&["a", "b", "c", "d"]);
        let orders: [&[&str]; 5] = [
            &["a", "b", "c", "d"],
            &["d", "c", "b", "a"],
            &["b", "x", "d"],
            &["d", "d"],
            &["d", "c"],
        ];
        for order in orders {
            let mut lookups = directory.lookups();
            let found: Vec<_> = order.iter().map(|name| lookups.next(name)).collect();
            let expected: Vec<_> = order.iter().map(|name| directory.find(name)).collect();
            assert_eq!(found, expected, "{order:?}");
        }
    }
}
