//! What is wanted, whose turn it is, and who is told.

use tokio::sync::oneshot::Receiver;

use super::*;
use crate::catalog::Form;

struct Desk {
    waiting: Waiting,
    now: Instant,
}

fn service(datacenter: &str, service: &str) -> Wanted {
    Wanted::Service {
        datacenter: datacenter.to_owned(),
        form: Form::Service,
        service: service.to_owned(),
    }
}

impl Desk {
    /// With `places`, and patience for a second; dc1 is near.
    fn new(places: usize) -> Self {
        let mut waiting = Waiting::new(places, Duration::from_secs(1));
        waiting.set_local("dc1");
        Self { waiting, now: Instant::now() }
    }

    fn join(&mut self, datacenter: &str, name: &str) -> Receiver<Supply> {
        let (done, answered) = oneshot::channel();
        self.waiting.join(Demand { wanted: service(datacenter, name), done }, self.now);
        answered
    }

    /// Whether what nobody waits for is fetched now.
    fn refresh(&mut self, datacenter: &str, name: &str) -> bool {
        self.waiting.has_place_behind(datacenter)
            && self.waiting.begin_behind(&service(datacenter, name), self.now)
    }

    /// `dc1/a dc2/b`: what begins now.
    fn begin(&mut self) -> String {
        let begun = std::iter::from_fn(|| self.waiting.next(self.now));
        let names = begun.map(|wanted| match wanted {
            Wanted::Service { datacenter, service, .. } => format!("{datacenter}/{service}"),
            Wanted::Datacenter { datacenter } => datacenter,
            other => format!("{other:?}"),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    fn end(&mut self, datacenter: &str, name: &str, outcome: Ended) {
        self.waiting.end(&service(datacenter, name), outcome, self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }
}

/// Whether a question still waits, was told, or was sent away.
fn state(answered: &mut Receiver<Supply>) -> &'static str {
    match answered.try_recv() {
        Ok(_) => "told",
        Err(oneshot::error::TryRecvError::Closed) => "sent away",
        Err(oneshot::error::TryRecvError::Empty) => "waits",
    }
}

#[test]
fn one_fetch_is_for_all_who_ask() {
    let mut desk = Desk::new(4);
    let mut one = desk.join("dc1", "a");
    assert_eq!(desk.begin(), "dc1/a");
    let mut other = desk.join("dc1", "a");
    assert_eq!(desk.begin(), "");
    desk.end("dc1", "a", Ended::Came);
    assert_eq!((state(&mut one), state(&mut other)), ("told", "told"));
    let _again = desk.join("dc1", "a");
    assert_eq!(desk.begin(), "dc1/a");
}

#[test]
fn a_far_datacenter_that_hangs_leaves_places_to_the_others() {
    let mut desk = Desk::new(8);
    let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let mut waiting = Vec::new();
    for datacenter in ["dc2", "dc3"] {
        waiting.extend(names.iter().map(|name| desk.join(datacenter, name)));
    }
    assert_eq!(desk.begin(), "dc2/0 dc3/0 dc2/1 dc3/1 dc2/2 dc3/2", "six of eight");
    desk.end("dc3", "0", Ended::Came);
    assert_eq!(desk.begin(), "dc3/3");
    waiting.extend(names.iter().map(|name| desk.join("dc1", name)));
    assert_eq!(desk.begin(), "dc1/0 dc1/1");
    desk.end("dc2", "0", Ended::Failed);
    assert_eq!(desk.begin(), "dc1/2", "who has least goes first, and then who is near");
}

#[test]
fn one_far_datacenter_has_half_of_the_places() {
    let mut desk = Desk::new(8);
    let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let _waiting: Vec<_> = names.iter().map(|name| desk.join("dc2", name)).collect();
    assert_eq!(desk.begin(), "dc2/0 dc2/1 dc2/2 dc2/3");
    let mut desk = Desk::new(2);
    let _waiting: Vec<_> = names.iter().map(|name| desk.join("dc2", name)).collect();
    assert_eq!(desk.begin(), "dc2/0");
}

#[test]
fn what_nobody_waits_for_has_a_quarter_of_the_places_and_never_the_last() {
    for (places, near, far) in [(1, 0, 0), (2, 1, 0), (3, 1, 0), (4, 1, 1), (8, 2, 1), (32, 8, 4)] {
        for (datacenter, expected) in [("dc1", near), ("dc2", far)] {
            let mut desk = Desk::new(places);
            let begun = (0..99).filter(|number| desk.refresh(datacenter, &number.to_string()));
            assert_eq!(begun.count(), expected, "{places} places, {datacenter}");
        }
    }
    // Where questions have taken all, there is none.
    let mut desk = Desk::new(4);
    let _waiting: Vec<_> = ["a", "b", "c", "d"].map(|name| desk.join("dc1", name)).into();
    desk.begin();
    assert!(!desk.refresh("dc1", "e"));
    desk.end("dc1", "a", Ended::Came);
    assert!(desk.refresh("dc1", "e"));
}

#[test]
fn what_is_fetched_behind_the_answers_is_fetched_once() {
    let mut desk = Desk::new(8);
    let mut asked = desk.join("dc1", "a");
    assert!(!desk.refresh("dc1", "a"), "it is about to be fetched");
    assert_eq!(desk.begin(), "dc1/a");
    assert!(!desk.refresh("dc1", "a"), "it is fetched");
    assert!(desk.refresh("dc1", "b") && !desk.refresh("dc1", "b"));
    let mut joined = desk.join("dc1", "b");
    assert_eq!((state(&mut joined), &*desk.begin()), ("waits", ""));
    // That one is a question's now.
    assert!(desk.refresh("dc1", "c") && desk.refresh("dc1", "d") && !desk.refresh("dc1", "e"));
    ["a", "b", "c"].into_iter().for_each(|name| desk.end("dc1", name, Ended::Came));
    assert_eq!((state(&mut asked), state(&mut joined)), ("told", "told"));
    desk.end("dc1", "d", Ended::Failed);
    assert!(!desk.refresh("dc1", "d"), "it rests");
    desk.pass(500);
    assert!(desk.refresh("dc1", "d"));
}

#[test]
fn what_hangs_behind_the_answers_is_no_questions_matter() {
    let mut desk = Desk::new(2);
    assert!(desk.refresh("dc1", "a"));
    desk.pass(10_000);
    let mut other = desk.join("dc1", "b");
    assert_eq!((&*desk.begin(), state(&mut other)), ("dc1/b", "waits"));
    assert_eq!(state(&mut desk.join("dc1", "a")), "sent away", "in vain so far");
    desk.end("dc1", "a", Ended::Failed);
    // Nothing is suspected of the datacenter: all wait.
    let mut more = [desk.join("dc1", "b"), desk.join("dc1", "c"), desk.join("dc1", "d")];
    assert_eq!(more.each_mut().map(state), ["waits"; 3]);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    let mut desk = Desk::new(1);
    let _held = desk.join("dc1", "a");
    assert_eq!(desk.begin(), "dc1/a");
    let left: Vec<_> = (0..100).map(|number| desk.join("dc1", &number.to_string())).collect();
    drop(left);
    let _stays = desk.join("dc1", "b");
    desk.end("dc1", "a", Ended::Came);
    assert_eq!(desk.begin(), "dc1/b");
    desk.waiting.sweep(desk.now);
    assert_eq!((desk.waiting.wanted.len(), desk.waiting.queues.len()), (1, 0));
}

#[test]
fn nobody_waits_for_what_another_has_given_up() {
    let mut desk = Desk::new(4);
    let mut first = desk.join("dc1", "a");
    desk.begin();
    assert_eq!(state(&mut desk.join("dc1", "a")), "waits");
    drop(first);
    assert_eq!(state(&mut desk.join("dc1", "a")), "sent away");
    // Until it has come after all.
    desk.end("dc1", "a", Ended::Came);
    first = desk.join("dc1", "a");
    assert_eq!(state(&mut first), "waits");
}

#[test]
fn nobody_waits_where_every_place_is_late() {
    let mut desk = Desk::new(4);
    let _hanging: Vec<_> = ["a", "b"].map(|name| desk.join("dc2", name)).into();
    assert_eq!(desk.begin(), "dc2/a dc2/b");
    assert_eq!(state(&mut desk.join("dc2", "c")), "waits", "they may still come");
    desk.pass(1_000);
    assert_eq!(state(&mut desk.join("dc2", "d")), "sent away");
    assert_eq!(state(&mut desk.join("dc1", "d")), "waits", "another has its places");
}

#[test]
fn where_a_fetch_hung_as_many_wait_as_there_are_places() {
    let mut desk = Desk::new(4);
    let _hung = desk.join("dc1", "a");
    desk.begin();
    desk.pass(10_000);
    desk.end("dc1", "a", Ended::Failed);
    desk.pass(500);
    let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
    let mut waiting = Vec::new();
    for name in &names {
        waiting.extend([desk.join("dc1", name), desk.join("dc1", name)]);
        desk.begin();
    }
    let count = |waiting: &mut Vec<Receiver<Supply>>| {
        waiting.iter_mut().filter_map(|one| (state(one) == "waits").then_some(())).count()
    };
    assert_eq!(count(&mut waiting), 4, "one for each place");
    desk.end("dc1", "0", Ended::Came);
    assert_eq!(state(&mut desk.join("dc1", "1")), "waits", "it answers again");
}

#[test]
fn what_failed_rests() {
    let mut desk = Desk::new(4);
    let mut asked = desk.join("dc1", "a");
    desk.begin();
    desk.end("dc1", "a", Ended::Failed);
    assert_eq!(state(&mut asked), "sent away");
    desk.pass(499);
    assert_eq!(state(&mut desk.join("dc1", "a")), "sent away");
    desk.pass(1);
    let _asked = desk.join("dc1", "a");
    assert_eq!(desk.begin(), "dc1/a");
}

#[test]
fn what_a_watch_brings_is_told_too() {
    let mut desk = Desk::new(1);
    let (mut asked, mut queued) = (desk.join("dc1", "a"), desk.join("dc1", "b"));
    assert_eq!(desk.begin(), "dc1/a");
    for name in ["a", "b"] {
        desk.waiting.tell(&service("dc1", name));
    }
    assert_eq!((state(&mut asked), state(&mut queued)), ("told", "told"));
    desk.end("dc1", "a", Ended::Came);
    assert_eq!(desk.begin(), "", "b is there");
}

#[test]
fn what_is_asked_once_more_keeps_those_who_wait() {
    let mut desk = Desk::new(1);
    let mut asked = desk.join("dc1", "a");
    desk.begin();
    desk.end("dc1", "a", Ended::Again);
    assert_eq!((state(&mut asked), &*desk.begin()), ("waits", "dc1/a"));
    drop(asked);
    desk.end("dc1", "a", Ended::Again);
    assert_eq!(desk.begin(), "", "nobody waits");
}
