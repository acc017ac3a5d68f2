//! A map whose copies share what did not change.
//!
//! ```text
//!   root ── 64 branches ── 64 leaves each ── a few entries, by the hash of their key
//! ```
//! Each of them is one piece of memory, as a look-up in a large map waits for every one.
//!
//! To change one entry copies one leaf, one branch and the root, so publishing a change costs the
//! same whether there are a hundred entries or ten thousand; at a million a leaf holds 250. A
//! look-up is one hash and a scan of one leaf.
//!
//! **Hot.** [`Shards::get`] does not allocate.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

/// Something that is looked up by bytes of its own.
pub trait Keyed {
    /// The key; it never changes.
    fn key(&self) -> &[u8];
}

/// A persistent hash map of values that know their keys.
#[derive(Debug)]
pub struct Shards<T> {
    branches: Arc<[Arc<Branch<T>>; FAN_OUT]>,
    len: usize,
}

/// Is told of a value that changed: as it was, then as it is; `None` where there was none, or is none.
pub type Tell<'a, T> = dyn FnMut(Option<&Arc<T>>, Option<&Arc<T>>) + 'a;

type Branch<T> = [Leaf<T>; FAN_OUT];
type Leaf<T> = Arc<[(u64, Arc<T>)]>;

impl<T: Keyed> Shards<T> {
    /// Puts `value` in the place of the one with its key, which is returned.
    pub fn insert(&mut self, value: Arc<T>) -> Option<Arc<T>> {
        let hash = hash(value.key());
        let leaf = self.leaf_mut(hash)?;
        let found = leaf.iter().position(|(at, old)| *at == hash && old.key() == value.key());
        if let Some(at) = found {
            let (_, old) = Arc::make_mut(leaf).get_mut(at)?;
            return Some(std::mem::replace(old, value));
        }
        *leaf = leaf.iter().cloned().chain([(hash, value)]).collect();
        self.len += 1;
        None
    }

    /// Takes out the value with this key.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<T>> {
        // Without it, a key that is not there would copy a leaf.
        self.get(key)?;
        let hash = hash(key);
        let leaf = self.leaf_mut(hash)?;
        let is_it = |(at, value): &(u64, Arc<T>)| *at == hash && value.key() == key;
        let old = Arc::clone(&leaf.iter().find(|entry| is_it(entry))?.1);
        *leaf = leaf.iter().filter(|entry| !is_it(entry)).cloned().collect();
        self.len -= 1;
        Some(old)
    }

    /// The value with this key.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<T>> {
        let hash = hash(key);
        let (branch, leaf) = place(hash);
        let leaf = self.branches.get(branch)?.get(leaf)?;
        leaf.iter().find(|(at, value)| *at == hash && value.key() == key).map(|(_, value)| value)
    }

    /// All values, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.branches
            .iter()
            .flat_map(|branch| branch.iter())
            .flat_map(|leaf| leaf.iter().map(|(_, value)| value))
    }

    /// Tells each value that another one is in the place of, or that `before` or this one lacks:
    /// first as it was, then as it is. What both share is passed over unseen.
    pub fn changes_since(&self, before: &Self, tell: &mut Tell<'_, T>) {
        let branches = before.branches.iter().zip(self.branches.iter());
        let leaves = branches
            .filter(|(old, new)| !Arc::ptr_eq(old, new))
            .flat_map(|(old, new)| old.iter().zip(new.iter()))
            .filter(|(old, new)| !Arc::ptr_eq(old, new));
        for (old, new) in leaves {
            for (hash, value) in new.iter() {
                let is_it = |(at, old): &&(u64, Arc<T>)| at == hash && old.key() == value.key();
                let was = old.iter().find(is_it).map(|(_, old)| old);
                if was.is_none_or(|was| !Arc::ptr_eq(was, value)) {
                    tell(was, Some(value));
                }
            }
            for (hash, gone) in old.iter() {
                let is_it = |(at, new): &(u64, Arc<T>)| at == hash && new.key() == gone.key();
                if !new.iter().any(is_it) {
                    tell(Some(gone), None);
                }
            }
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The leaf of `hash`, made this copy's own. It is always there; `None` is for the compiler.
    fn leaf_mut(&mut self, hash: u64) -> Option<&mut Leaf<T>> {
        let (branch, leaf) = place(hash);
        let branch = Arc::make_mut(&mut self.branches).get_mut(branch)?;
        Arc::make_mut(branch).get_mut(leaf)
    }
}

impl<T> Clone for Shards<T> {
    fn clone(&self) -> Self {
        Self { branches: Arc::clone(&self.branches), len: self.len }
    }
}

impl<T> Default for Shards<T> {
    fn default() -> Self {
        let leaf: Leaf<T> = Arc::default();
        let branch = Arc::new(std::array::from_fn(|_| Arc::clone(&leaf)));
        Self { branches: Arc::new(std::array::from_fn(|_| Arc::clone(&branch))), len: 0 }
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(key);
    hasher.finish()
}

fn place(hash: u64) -> (usize, usize) {
    let bits = hash as usize;
    (bits % FAN_OUT, bits / FAN_OUT % FAN_OUT)
}

const FAN_OUT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for String {
        fn key(&self) -> &[u8] {
            self.as_bytes()
        }
    }

    #[test]
    fn a_copy_keeps_what_it_had() {
        let mut map = Shards::default();
        for number in 0..10_000 {
            assert!(map.insert(Arc::new(format!("name-{number}"))).is_none());
        }
        let before = map.clone();

        assert!(map.insert(Arc::new("name-7".to_owned())).is_some());
        assert_eq!(map.remove(b"name-8").as_deref(), Some(&"name-8".to_owned()));
        assert_eq!(map.remove(b"name-8"), None);
        map.insert(Arc::new("new".to_owned()));

        assert_eq!((map.len(), before.len()), (10_000, 10_000));
        assert!(map.get(b"name-8").is_none() && before.get(b"name-8").is_some());
        assert!(map.get(b"new").is_some() && before.get(b"new").is_none());
        assert_eq!((map.iter().count(), before.iter().count()), (10_000, 10_000));
    }

    #[test]
    fn a_change_shares_all_but_one_leaf() {
        let mut map = Shards::default();
        for number in 0..10_000 {
            map.insert(Arc::new(format!("name-{number}")));
        }
        let before = map.clone();
        map.insert(Arc::new("name-7".to_owned()));
        let leaves = |map: &Shards<String>| -> Vec<_> {
            map.branches.iter().flat_map(|branch| branch.iter().map(Arc::as_ptr)).collect()
        };
        let copied = leaves(&map)
            .iter()
            .zip(leaves(&before))
            .filter(|(a, b)| !std::ptr::addr_eq(**a, *b))
            .count();
        assert_eq!(copied, 1);
    }

    #[test]
    fn changes_are_told_and_what_is_shared_is_not() {
        let mut map = Shards::default();
        for number in 0..10_000 {
            map.insert(Arc::new(format!("name-{number}")));
        }
        let before = map.clone();
        map.insert(Arc::new("new".to_owned()));
        map.insert(Arc::new("name-7".to_owned()));
        map.remove(b"name-9");
        let mut told = Vec::new();
        let text =
            |value: Option<&Arc<String>>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
        map.changes_since(&before, &mut |old, new| told.push((text(old), text(new))));
        told.sort();
        let expected = [("-", "new"), ("name-7", "name-7"), ("name-9", "-")];
        assert_eq!(told, expected.map(|(old, new)| (old.to_owned(), new.to_owned())));
        map.changes_since(&map.clone(), &mut |_, _| panic!("nothing changed"));
    }

    #[test]
    fn an_empty_map_has_nothing() {
        let mut map = Shards::<String>::default();
        assert!(map.is_empty() && map.get(b"").is_none() && map.remove(b"x").is_none());
    }
}
