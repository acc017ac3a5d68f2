//! What is told of queries, on its way to who tells it: bounded, and the same buffers again.
//!
//! ```text
//!   UDP threads, tasks --put--> full --take--> one task that tells
//!          ^------------------- free <--give_back--┘
//! ```
//! A record is made where none is free and fewer exist than may; what finds none is not told. So there are
//! as many as once waited together, and no more. Nobody is woken: who takes comes by itself, as a
//! wake-up would be a system call of the UDP threads.
//!
//! **Hot.** Nothing locks, and nothing allocates once there are enough records and their buffers have
//! grown.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tokio::time::Instant;

use crate::answer::Transport;

/// One query and its reply, copied.
#[derive(Debug)]
pub struct Record {
    /// The query, or what is wanted of it, from its start.
    pub query: Vec<u8>,
    /// The reply; empty where it is not wanted.
    pub reply: Vec<u8>,
    /// The length of the reply.
    pub reply_bytes: usize,
    /// How both travelled.
    pub transport: Transport,
    /// Who asked.
    pub client: (IpAddr, u16),
    /// Who was asked; the address where that is known.
    pub local: (Option<IpAddr>, u16),
    /// When the query came.
    pub since: Instant,
    /// How long the reply took.
    pub took: Duration,
    /// All twelve bits of the reply's.
    pub rcode: u16,
    /// Whether TC is set.
    pub is_truncated: bool,
    /// Whether the answer may be old.
    pub is_stale: bool,
    /// Whether something had to be had first.
    pub has_waited: bool,
}

/// Records that wait to be told.
#[derive(Debug)]
pub struct Queue {
    full: ArrayQueue<Box<Record>>,
    free: ArrayQueue<Box<Record>>,
    /// At least as many as there are.
    made: AtomicUsize,
}

impl Queue {
    /// Room for `records_max`, at least one.
    pub fn new(records_max: usize) -> Self {
        let room = records_max.max(1);
        Self { full: ArrayQueue::new(room), free: ArrayQueue::new(room), made: AtomicUsize::new(0) }
    }

    /// Puts a record that `fill` fills, whatever it held before. Returns whether there was room.
    pub fn put(&self, fill: impl FnOnce(&mut Record)) -> bool {
        let Some(mut record) = self.free.pop().or_else(|| self.make()) else { return false };
        fill(&mut record);
        self.full.push(record).is_ok()
    }

    /// The record that waits the longest.
    pub fn take(&self) -> Option<Box<Record>> {
        self.full.pop()
    }

    /// Takes one back that was told.
    pub fn give_back(&self, mut record: Box<Record>) {
        for buffer in [&mut record.query, &mut record.reply] {
            buffer.clear();
            // One large message must not make all records large.
            buffer.shrink_to(KEPT_BYTES);
        }
        // There is room for all that are made.
        self.free.push(record).ok();
    }

    /// Another record, while there may be more.
    fn make(&self) -> Option<Box<Record>> {
        let has_room = |made: &AtomicUsize| made.load(Ordering::Relaxed) < self.full.capacity();
        // It is looked at first, so that it does not grow for ever.
        let may = has_room(&self.made)
            && self.made.fetch_add(1, Ordering::Relaxed) < self.full.capacity();
        may.then(|| Box::new(Record::empty()))
    }
}

impl Record {
    fn empty() -> Self {
        Self {
            query: Vec::new(),
            reply: Vec::new(),
            reply_bytes: 0,
            transport: Transport::Udp,
            client: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            local: (None, 0),
            since: Instant::now(),
            took: Duration::ZERO,
            rcode: 0,
            is_truncated: false,
            is_stale: false,
            has_waited: false,
        }
    }
}

/// What a buffer keeps: more than nearly all queries and replies need.
const KEPT_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(queue: &Queue, text: &str) -> bool {
        queue.put(|record| record.query.extend_from_slice(text.as_bytes()))
    }

    fn take(queue: &Queue) -> String {
        let Some(record) = queue.take() else { return "none".to_owned() };
        let text = String::from_utf8_lossy(&record.query).into_owned();
        queue.give_back(record);
        text
    }

    #[test]
    fn what_finds_no_room_is_not_told() {
        let queue = Queue::new(2);
        assert_eq!([put(&queue, "a"), put(&queue, "b"), put(&queue, "c")], [true, true, false]);
        assert_eq!([take(&queue), take(&queue), take(&queue)], ["a", "b", "none"]);
        assert_eq!([put(&queue, "d"), put(&queue, "e"), put(&queue, "f")], [true, true, false]);
        assert_eq!([take(&queue), take(&queue), take(&queue)], ["d", "e", "none"]);
    }

    #[test]
    fn buffers_are_used_again_and_large_ones_are_cut() {
        let queue = Queue::new(100);
        for _ in 0..1000 {
            assert!(put(&queue, "query"));
            assert_eq!(take(&queue), "query");
        }
        assert_eq!(queue.made.load(Ordering::Relaxed), 1, "one at a time needs one record");
        assert!(put(&queue, &"x".repeat(60_000)));
        take(&queue);
        let kept = queue.free.pop().unwrap();
        assert!((1..=KEPT_BYTES).contains(&kept.query.capacity()), "{}", kept.query.capacity());
    }

    #[test]
    fn many_writers_lose_nothing_that_was_taken() {
        let queue = Queue::new(64);
        let (mut seen, writers, ended) = (0, 4, AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let (queue, ended) = (&queue, &ended);
            let writing: Vec<_> = (0..writers)
                .map(|_| {
                    scope.spawn(move || {
                        let count = (0..10_000).filter(|_| put(queue, "q")).count();
                        ended.fetch_add(1, Ordering::Release);
                        count
                    })
                })
                .collect();
            loop {
                let is_last = ended.load(Ordering::Acquire) == writers;
                while take(queue) == "q" {
                    seen += 1;
                }
                if is_last {
                    break;
                }
                std::thread::yield_now();
            }
            let told: usize = writing.into_iter().map(|writer| writer.join().unwrap()).sum();
            assert_eq!(seen, told);
        });
        assert_eq!(queue.free.len(), 64.min(queue.made.load(Ordering::Relaxed)));
    }
}
