//! What vanishes while an alarm is raised for another reason, and what a snapshot file had.

use super::*;

/// No leader, or too few servers: nothing that is missing is believed until there are.
#[test]
fn an_alarm_that_is_raised_lasts_until_it_is_lowered() {
    let mut trial = Trial::of("a b c");
    trial.guard.raise("dc1");
    trial.hear(instances("a", "n1/1"));
    assert_eq!(trial.pass(600_000), "");
    assert_eq!(trial.shown(), "a=2 b=2 c=2 holding");
    assert!(trial.lower() && !trial.lower());
    assert_eq!(trial.pass(600_001), "the instances of a in dc1");
    trial.confirm(instances("a", "n1/1"));
    assert_eq!(trial.shown(), "a=1 b=2 c=2");
    trial.guard.raise("dc1");
    trial.lower();
    trial.pass(600_002);
    assert_eq!(trial.shown(), "a=1 b=2 c=2", "nothing was missing");
}

/// Servers that come back without their data have no leader at first, and soon one again.
#[test]
fn what_is_missing_once_there_is_a_leader_has_its_hold() {
    for is_heard_before in [true, false] {
        let mut trial = Trial::of("a b c d");
        trial.guard.raise("dc1");
        if is_heard_before {
            trial.hear(services("consul"));
        }
        trial.pass(600_000);
        assert!(trial.lower());
        // A little that is missing, so that it is not over yet.
        trial.hear(instances("a", "n1/1"));
        if !is_heard_before {
            trial.hear(services("consul"));
        }
        assert_eq!(trial.pass(659_999), "");
        assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 holding", "heard before: {is_heard_before}");
        assert_eq!(trial.pass(660_000), "the services of dc1");
        assert_eq!(trial.guard.metrics.alarms.get(), 1);
    }
}

/// The catalogue is as a snapshot file had it that was right at `since_ms`: services of two instances
/// each, and `consul`; and as many nodes.
fn loaded(names: &str, since_ms: i64) -> Trial {
    let mut trial = Trial::new();
    trial.builder.apply(services(&format!("consul {names}")));
    for name in names.split_whitespace() {
        let mut change = instances(name, "n1/1 n2/2");
        if let Change::Service { held, .. } = &mut change {
            *held = Held::Loaded { since_ms };
        }
        trial.builder.apply(change);
    }
    trial.builder.apply(nodes(names));
    trial.builder.apply(Change::Loaded { datacenter: "dc1".to_owned(), since_ms });
    trial
}

/// It may have been right days ago; a start without a file would not have it either.
#[test]
fn what_a_file_had_and_consul_has_not_is_gone_at_once() {
    let mut trial = loaded("a b c d e f", -600_001);
    trial.hear(services("a new"));
    assert_eq!(trial.shown(), "a=2 new=0 nodes=6");
    trial.hear(nodes("a"));
    trial.hear(instances("a", "n9/9"));
    assert_eq!(trial.shown(), "a=1 new=0 nodes=1");
    // From here on it was heard, and what vanishes waits.
    trial.hear(instances("a", ""));
    assert_eq!(trial.shown(), "a=1 new=0 nodes=1 uneasy");
}

#[test]
fn what_a_file_had_stays_while_nothing_that_vanishes_is_believed() {
    let mut trial = loaded("a b c", -7_000_000);
    trial.guard.raise("dc1");
    trial.hear(services("a consul"));
    trial.hear(instances("a", "n1/1"));
    assert_eq!(trial.shown(), "a=2 b=2 c=2 nodes=3 holding");
}

/// A restart, while a cluster is emptied or comes back as another.
#[test]
fn what_a_file_had_just_now_vanishes_like_what_was_heard() {
    for change in [services("consul new"), nodes("a"), services("a b c d e f")] {
        let mut trial = loaded("a b c d e f", -600_000);
        trial.hear(change.clone());
        let shown = trial.shown();
        assert!(shown.starts_with("a=2 b=2 c=2 d=2 e=2 f=2 "), "{change:?}: {shown}");
        assert!(shown.ends_with("nodes=6 holding"), "{change:?}: {shown}");
    }
    let mut trial = loaded("a b c d e f", -600_000);
    trial.hear(services("consul a b c d e f"));
    trial.hear(instances("a", "n9/9"));
    assert_eq!(trial.shown(), "a=3 b=2 c=2 d=2 e=2 f=2 nodes=6 uneasy");
    trial.pass(1_000);
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2 e=2 f=2 nodes=6");
}

/// A read is under way for a little that is missing, and meanwhile all of it vanishes.
#[test]
fn what_was_read_before_much_vanished_is_not_believed() {
    let mut trial = Trial::of("a b c d e");
    trial.guard.raise("dc1");
    trial.hear(services("consul a b c d"));
    trial.lower();
    assert_eq!(trial.pass(0), "the services of dc1");
    trial.hear(services("consul"));
    trial.confirm(services("consul"));
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 e=2 holding");
    assert_eq!(trial.pass(59_999), "");
    assert_eq!(trial.pass(60_000), "the services of dc1");
    trial.confirm(services("consul"));
    assert_eq!(trial.shown(), "");
}

/// A cluster that is emptied just before a hold for something else is over.
#[test]
fn what_vanishes_late_in_a_hold_has_one_of_its_own() {
    let mut trial = Trial::of("a b c d e f g h");
    trial.hear(nodes("n1 n2 n3 n4 n5"));
    trial.hear(nodes("n1"));
    assert!(trial.shown().ends_with("nodes=5 holding"));
    trial.pass(59_500);
    trial.hear(services("consul"));
    assert_eq!(trial.pass(60_000), "the nodes of dc1");
    // That it lacks even more now is news.
    trial.confirm(nodes(""));
    assert!(trial.shown().starts_with("a=2 "), "{}", trial.shown());
    assert!(trial.shown().ends_with("h=2 nodes=1 holding"), "{}", trial.shown());
    assert_eq!(trial.guard.metrics.alarms.get(), 2);
    assert_eq!(trial.pass(119_999), "");
    assert!(trial.shown().starts_with("a=2 "), "{}", trial.shown());
    let rechecks = trial.pass(120_000);
    assert_eq!(rechecks, "the nodes of dc1, the services of dc1");
}
