//! Instances that come and go all the time, as those of batch jobs do.

use super::*;

/// Twenty instances, those from `first` on.
fn living(first: u64) -> Change {
    let living: Vec<String> = (first..first + 20).map(|at| format!("n{at}/{at}")).collect();
    instances("a", &living.join(" "))
}

/// What vanishes one by one does not prolong a hold that something else began.
#[test]
fn a_hold_ends_though_instances_come_and_go() {
    let mut trial = Trial::of("");
    trial.hear(services("consul a"));
    trial.hear(living(0));
    for second in 1..=30 {
        trial.pass(second * 1000);
        trial.hear(living(second));
    }
    assert_eq!(trial.shown(), "a=21 uneasy", "one of 20 each second");
    trial.hear(living(100));
    assert_eq!(trial.shown(), "a=41 holding", "all at once");
    for second in 31..=89 {
        assert_eq!(trial.pass(second * 1000), "");
        trial.hear(living(70 + second));
    }
    assert_eq!(trial.shown(), "a=100 holding");
    assert_eq!(trial.pass(90_000), "the instances of a in dc1");
    trial.confirm(living(160));
    trial.pass(90_001);
    assert_eq!(trial.shown(), "a=21 uneasy", "what went within the last second");
    trial.pass(91_000);
    assert_eq!(trial.shown(), "a=20");
    assert_eq!(trial.guard.metrics.alarms.get(), 1);
}

/// Half of what is left goes within a second, late in a hold, beside what goes one by one.
#[test]
fn what_vanishes_at_once_in_a_hold_is_told_from_it() {
    let mut trial = Trial::of("");
    trial.hear(services("consul a"));
    trial.hear(living(0));
    trial.hear(living(100));
    for second in 1..=40 {
        trial.pass(second * 1000);
        trial.hear(living(100 + second));
    }
    trial.pass(45_000);
    trial.hear(instances("a", "n159/159"));
    assert_eq!(trial.pass(60_000), "the instances of a in dc1");
    trial.confirm(instances("a", "n159/159"));
    // Ten went one by one in the second half, and nineteen at once.
    assert_eq!(trial.shown(), "a=30 holding");
    assert_eq!(trial.guard.metrics.alarms.get(), 2);
}

/// What was drained before it was removed was no answer any more, so nobody misses it.
#[test]
fn what_was_critical_is_not_missed() {
    let mut trial = Trial::of("a b");
    trial.hear(instances("b", "n1/1 n2/2! n3/3! n4/4! n5/5! n6/6! n7/7!"));
    trial.hear(instances("b", "n1/1"));
    assert_eq!(trial.shown(), "a=2 b=1");
    trial.hear(instances("b", "n9/9"));
    assert_eq!(trial.shown(), "a=2 b=2 uneasy");
}

/// One service that cannot be read again does not keep the hold over all others.
#[test]
fn what_cannot_be_read_again_is_held_back_alone() {
    let mut trial = Trial::of("a b c d e f");
    for name in ["a", "b", "d", "e", "f"] {
        trial.hear(instances(name, "n1/1"));
    }
    trial.hear(instances("c", ""));
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 e=2 f=2 holding");
    let asked = trial.pass(60_000);
    let of = |name| format!("the instances of {name} in dc1");
    assert_eq!(asked, ["a", "b", "c", "d"].map(of).join(", "), "four at a time");
    for name in ["a", "b", "d"] {
        trial.confirm(instances(name, "n1/1"));
    }
    assert_eq!(trial.pass(60_000), ["e", "f"].map(of).join(", "));
    trial.fail("c");
    for name in ["e", "f"] {
        trial.confirm(instances(name, "n1/1"));
    }
    assert_eq!(trial.shown(), "a=1 b=1 c=2 d=1 e=1 f=1 uneasy");
    trial.hear(instances("a", "n1/1 n3/3"));
    trial.hear(instances("a", "n3/3"));
    assert_eq!(trial.pass(62_000), "");
    assert_eq!(trial.shown(), "a=1 b=1 c=2 d=1 e=1 f=1 uneasy", "others go after a second");
    assert_eq!(trial.pass(65_000), of("c"));
    trial.confirm(instances("c", "n1/1"));
    assert_eq!(trial.shown(), "a=1 b=1 c=1 d=1 e=1 f=1");
}
