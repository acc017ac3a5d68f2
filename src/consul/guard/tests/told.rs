//! What answers are to say of what is held back.

use super::*;

impl Trial {
    /// `a b, n1`: the services and the nodes that are held back from now on; `same` if that is what
    /// was told before.
    fn news(&mut self) -> String {
        let names = |names: &std::collections::BTreeSet<String>| {
            names.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        let news = self.guard.news().into_iter().map(|change| {
            self.builder.apply(change.clone());
            match change {
                Change::Missed { missed, .. } => {
                    format!("{}, {}", names(&missed.services), names(&missed.nodes))
                }
                other => format!("{other:?}"),
            }
        });
        let news: Vec<_> = news.collect();
        if news.is_empty() { "same".to_owned() } else { news.join("; ") }
    }

    /// Whether what is in memory of a service is held back.
    fn misses(&self, name: &str) -> bool {
        let snapshot = self.builder.snapshot();
        let Found::Here(local) = snapshot.datacenter(None) else { panic!("no dc1") };
        let Found::Here(service) = local.service(name.as_bytes()) else { panic!("no {name}") };
        local.misses_service(service)
    }
}

#[test]
fn what_vanishes_alone_is_not_in_doubt() {
    let mut trial = Trial::of("a b c");
    assert_eq!(trial.news(), "same");
    trial.hear(instances("a", "n2/2"));
    trial.hear(services("consul a b"));
    assert!(trial.is_uneasy());
    assert_eq!(trial.news(), "same");
    trial.pass(1_000);
    assert_eq!((&*trial.shown(), &*trial.news()), ("a=1 b=2", "same"));
}

#[test]
fn what_vanishes_with_much_else_is_until_it_is_back_or_gone() {
    let mut trial = Trial::of("a b c d");
    trial.hear(nodes("n1 n2 n3 n4"));
    trial.hear(instances("a", "n2/2"));
    trial.hear(services("consul a b c"));
    trial.hear(nodes("n1 N2 n3"));
    assert_eq!(trial.news(), "same");
    trial.hear(services("consul a"));
    assert!(trial.guard.is_holding("dc1"));
    assert_eq!(trial.news(), "a b c d, n4");
    assert_eq!(["a", "b", "consul"].map(|name| trial.misses(name)), [true, true, false]);
    trial.hear(instances("a", "n1/1 n2/2"));
    trial.hear(services("consul a b d"));
    assert_eq!(trial.news(), "c, n4");
    assert_eq!(trial.news(), "same");
    trial.hear(services("consul a b c d"));
    trial.hear(nodes("n1 n2 n3 n4"));
    assert_eq!(trial.news(), ", ");
    assert!(!trial.misses("b"));
    assert_eq!(trial.news(), "same");
}

#[test]
fn what_is_missing_still_after_a_hold_is_told_no_more() {
    let mut trial = Trial::of("a b c d");
    trial.hear(services("consul a"));
    assert_eq!(trial.news(), "b c d, ");
    trial.pass(60_000);
    trial.confirm(services("consul a"));
    assert_eq!((&*trial.shown(), &*trial.news()), ("a=2", ", "));
}

#[test]
fn the_last_instance_of_a_listed_service_is_in_doubt() {
    let mut trial = Trial::of("a b c d e f");
    trial.hear(instances("a", ""));
    assert!(!trial.guard.is_holding("dc1"));
    assert_eq!(trial.news(), "a, ");
    // On its way out of the list it goes as all others do.
    trial.hear(services("consul b c d e f"));
    assert_eq!(trial.news(), ", ");
}
