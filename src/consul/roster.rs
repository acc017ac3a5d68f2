//! Who is on duty: which services are watched, within the number of connections.
//!
//! ```text
//!   room = connections that may block - 2 for each datacenter in use (services, nodes)
//! ```
//! A service is watched from when it is listed, if there is room; the rest are fetched when they
//! are asked for. A service that goes makes room for the next, wherever that is, and so does one
//! that nobody asks for when others are asked for; its watch ends when its round returns, as Consul
//! would go on with the round. A datacenter for whose lists there is no room is not used.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::consul::Key;
use crate::consul::index::Position;
use crate::consul::watch::{Ends, Read};

/// The services that are watched.
#[derive(Debug)]
pub struct Roster {
    room: usize,
    /// Places that are others'.
    reserved: usize,
    watched: BTreeMap<Key, Post>,
}

/// A watch on duty.
#[derive(Debug)]
struct Post {
    ends: Ends,
    /// When it last spoke.
    told: Option<Instant>,
    /// What was fetched in its stead last, when that came.
    fetched: Option<(Position, Instant)>,
}

impl Roster {
    /// Room for `room` watches.
    pub fn new(room: usize) -> Self {
        Self { room, reserved: 0, watched: BTreeMap::new() }
    }

    /// Adds `count` places.
    pub fn add(&mut self, count: usize) {
        self.room += count;
    }

    /// Takes `count` places away. Returns the watches that ended for it.
    pub fn take(&mut self, count: usize) -> Vec<Key> {
        self.room = self.room.saturating_sub(count);
        self.end_last()
    }

    /// Gives `count` places to others. Returns the watches that ended for it.
    pub fn reserve(&mut self, count: usize) -> Vec<Key> {
        self.reserved += count;
        self.end_last()
    }

    /// Ends the watches that have no place any more.
    fn end_last(&mut self) -> Vec<Key> {
        let mut ended = Vec::new();
        while self.watched.len() > self.places() {
            let Some((key, post)) = self.watched.pop_last() else { break };
            post.ends.at_once.cancel();
            ended.push(key);
        }
        ended
    }

    /// Whether `count` places could be given to others.
    pub fn could_reserve(&self, count: usize) -> bool {
        self.places() >= count
    }

    /// Takes `count` places back.
    pub fn give_back(&mut self, count: usize) {
        self.reserved = self.reserved.saturating_sub(count);
    }

    /// Puts `key` on duty if it is not yet and there is room, until what is returned.
    pub fn enter(&mut self, key: &Key, parent: &CancellationToken) -> Option<Ends> {
        if self.watched.len() >= self.places() || self.watched.contains_key(key) {
            return None;
        }
        let ends = Ends::from(parent.child_token());
        let post = Post { ends: ends.clone(), told: None, fetched: None };
        self.watched.insert(key.clone(), post);
        Some(ends)
    }

    /// Ends the watches in `datacenter` for which `stays` is false.
    pub fn retain(&mut self, datacenter: &str, stays: impl Fn(&Key) -> bool) {
        self.watched.retain(|key, post| {
            let stays = key.datacenter != datacenter || stays(key);
            if !stays {
                post.ends.at_once.cancel();
            }
            stays
        });
    }

    /// Takes `key` off duty. False if it was not on it.
    pub fn leave(&mut self, key: &Key) -> bool {
        let post = self.watched.remove(key);
        post.iter().for_each(|post| post.ends.at_once.cancel());
        post.is_some()
    }

    /// Ends the watch of `key` when its round returns; until then it is on duty.
    pub fn relieve(&mut self, key: &Key) {
        self.watched.get(key).iter().for_each(|post| post.ends.after_round.cancel());
    }

    /// Whether the watch of `key` ends when its round returns.
    pub fn is_relieved(&self, key: &Key) -> bool {
        self.watched.get(key).is_some_and(|post| post.ends.after_round.is_cancelled())
    }

    /// Whether `key` is watched.
    pub fn has(&self, key: &Key) -> bool {
        self.watched.contains_key(key)
    }

    /// Notes that the watch of `key` spoke. False if it is not on duty any more.
    pub fn set_told(&mut self, key: &Key, at: Instant) -> bool {
        self.watched.get_mut(key).map(|post| post.told = Some(at)).is_some()
    }

    /// When the watch of `key` last spoke; `None` if it has not yet.
    pub fn told(&self, key: &Key) -> Option<Instant> {
        self.watched.get(key)?.told
    }

    /// Notes that instances of `key` were fetched, though it is watched.
    pub fn set_fetched(&mut self, key: &Key, position: Option<Position>, at: Instant) {
        if let Some(post) = self.watched.get_mut(key) {
            post.fetched = position.map(|position| (position, at));
        }
    }

    /// Whether the watch of `key` says something older than what was fetched while it asked. It
    /// will say more at once then, as its own position is behind.
    pub fn is_overtaken(&self, key: &Key, read: Read) -> bool {
        let fetched = self.watched.get(key).and_then(|post| post.fetched);
        fetched.is_some_and(|(position, at)| read.asked <= at && read.is_older(position))
    }

    /// Whether another watch would find a place.
    pub fn has_room(&self) -> bool {
        self.watched.len() < self.places()
    }

    fn places(&self) -> usize {
        self.room.saturating_sub(self.reserved)
    }

    /// The services that are watched.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.watched.keys()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::catalog::Form;
    use crate::consul::index::Index;

    fn key(datacenter: &str, service: &str) -> Key {
        Key::new(datacenter, Form::Service, service)
    }

    fn names(roster: &Roster) -> Vec<&str> {
        roster.keys().map(|key| &*key.service).collect()
    }

    #[test]
    fn there_is_room_for_so_many() {
        let parent = CancellationToken::new();
        let mut roster = Roster::new(2);
        assert!(roster.enter(&key("dc1", "a"), &parent).is_some());
        assert!(roster.enter(&key("dc1", "a"), &parent).is_none());
        assert!(roster.has_room());
        assert!(roster.enter(&key("dc1", "b"), &parent).is_some());
        assert!(roster.enter(&key("dc1", "c"), &parent).is_none());
        assert_eq!(names(&roster), ["a", "b"]);
    }

    #[test]
    fn who_is_no_longer_listed_goes_and_its_watch_ends() {
        let parent = CancellationToken::new();
        let mut roster = Roster::new(9);
        let cancel = roster.enter(&key("dc1", "a"), &parent).unwrap();
        let kept = roster.enter(&key("dc2", "a"), &parent).unwrap();
        roster.retain("dc1", |key| key.service == "b");
        assert!(cancel.at_once.is_cancelled() && !kept.at_once.is_cancelled());
        assert!(!roster.has(&key("dc1", "a")) && roster.has(&key("dc2", "a")));
    }

    #[test]
    fn a_watch_is_overtaken_by_what_was_fetched_while_it_asked() {
        let (parent, start) = (CancellationToken::new(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let position = |address, index: u64| Position {
            address,
            index: Index::from_header(&index.to_string()).unwrap(),
        };
        let mut roster = Roster::new(9);
        let a = key("dc1", "a");
        roster.enter(&a, &parent);
        let read = |asked, position| Read { asked: at(asked), position };
        assert!(!roster.is_overtaken(&a, read(1, Some(position(0, 7)))));
        roster.set_fetched(&a, Some(position(0, 8)), at(2));
        for (read, expected) in [
            (read(1, Some(position(0, 7))), true),
            (read(1, Some(position(0, 8))), false),
            // Asked for later: Consul's history went back.
            (read(3, Some(position(0, 7))), false),
            // Numbers of another address, and none at all, say nothing.
            (read(1, Some(position(1, 7))), false),
            (read(1, None), false),
        ] {
            assert_eq!(roster.is_overtaken(&a, read), expected, "{read:?}");
        }
    }

    #[test]
    fn a_place_given_away_ends_a_watch_if_need_be() {
        let parent = CancellationToken::new();
        let mut roster = Roster::new(3);
        roster.enter(&key("dc1", "a"), &parent);
        let last = roster.enter(&key("dc1", "b"), &parent).unwrap();
        assert_eq!(roster.reserve(1), []);
        assert_eq!(roster.reserve(1), [key("dc1", "b")]);
        assert!(last.at_once.is_cancelled() && !roster.has_room());
        assert!(roster.could_reserve(1) && !roster.could_reserve(2));
        assert_eq!(roster.reserve(1), [key("dc1", "a")]);
        assert!(!roster.could_reserve(1));
        roster.give_back(3);
        assert!(roster.has_room());
    }

    #[test]
    fn a_watch_is_known_to_have_spoken_while_it_is_on_duty() {
        let (parent, now) = (CancellationToken::new(), Instant::now());
        let mut roster = Roster::new(9);
        let a = key("dc1", "a");
        assert!(!roster.set_told(&a, now));
        roster.enter(&a, &parent);
        assert_eq!(roster.told(&a), None);
        assert!(roster.set_told(&a, now));
        assert_eq!(roster.told(&a), Some(now));
        roster.retain("dc1", |_| false);
        roster.enter(&a, &parent);
        assert_eq!(roster.told(&a), None, "another watch has not");
    }
}
