//! What vanishes, when it is believed, and when it is read again.

#[cfg(test)]
mod churn;
#[cfg(test)]
mod raised;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod told;

use prometheus::Registry;

use super::*;
use crate::catalog::model::{Address, Health, Instance, Node, Weights};
use crate::catalog::queries::{Queries, QueryEntry};
use crate::catalog::{Builder, Executed, Held, Rules, Usage};
use crate::consul::Key;
use crate::name::Zone;

/// A guard in front of a catalogue, and a time that a test sets.
struct Trial {
    guard: Guard,
    builder: Builder,
    start: Instant,
    at_ms: u64,
    /// What is to be read again, and was not told yet.
    rechecks: Vec<String>,
}

impl Trial {
    /// At least four things count; half of them may vanish; what vanishes stays a second, or a minute.
    fn new() -> Self {
        let metrics = GuardMetrics::register(&Registry::new()).unwrap();
        let config = GuardConfig {
            share: 50,
            least: 4,
            settle: Duration::from_secs(1),
            hold: Duration::from_secs(60),
            min_nodes: 0,
        };
        let rules = Rules::new(Zone::new("consul").unwrap());
        let mut builder = Builder::new(rules, 1, 0, std::sync::Arc::new(Usage::new(1, false)));
        let names = vec!["dc1".to_owned()];
        builder.apply(Change::Datacenters { local: "dc1".to_owned(), names });
        let guard = Guard::new(config, metrics);
        Self { guard, builder, start: Instant::now(), at_ms: 0, rechecks: Vec::new() }
    }

    /// With services of two instances each, and `consul`.
    fn of(names: &str) -> Self {
        let mut trial = Self::new();
        trial.hear(services(&format!("consul {names}")));
        for name in names.split_whitespace() {
            trial.hear(instances(name, "n1/1 n2/2"));
        }
        trial
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.at_ms)
    }

    fn hear(&mut self, mut change: Change) {
        let now_ms = self.at_ms as i64;
        self.guard.weigh(&mut change, &self.builder.snapshot(), self.now(), now_ms);
        self.builder.apply(change);
    }

    /// Goes to a time, by all that is due before. What is read again is listed.
    fn pass(&mut self, to_ms: u64) -> String {
        loop {
            self.settle();
            let next = self.guard.next(self.now());
            let next = next.map(|at| (at - self.start).as_millis() as u64);
            match next.filter(|at| *at <= to_ms) {
                // A time that does not pass would be a loop for ever.
                Some(at) => {
                    assert!(at > self.at_ms, "{at}");
                    self.at_ms = at;
                }
                None => break,
            }
        }
        self.at_ms = to_ms;
        std::mem::take(&mut self.rechecks).join(", ")
    }

    fn settle(&mut self) {
        let Due { changes, rechecks } = self.guard.due(&self.builder.snapshot(), self.now());
        self.rechecks.extend(rechecks.iter().map(Watched::to_string));
        for change in changes {
            self.builder.apply(change);
        }
    }

    /// What was read again, just now.
    fn confirm(&mut self, change: Change) {
        let watched = missing::watched(&change).unwrap();
        let (snapshot, now) = (self.builder.snapshot(), self.now());
        if let Some(change) = self.guard.confirm(&watched, Some(change), &snapshot, now, now) {
            self.builder.apply(change);
        }
        self.settle();
    }

    /// That could not be read again.
    fn fail(&mut self, service: &str) {
        let watched = Watched::Service(Key::new("dc1", Form::Service, service));
        let (snapshot, now) = (self.builder.snapshot(), self.now());
        assert!(self.guard.confirm(&watched, None, &snapshot, now, now).is_none());
        self.settle();
    }

    fn lower(&mut self) -> bool {
        self.guard.lower("dc1", &self.builder.snapshot(), self.now())
    }

    /// `web=2 db=0`: the services with their instances; then the nodes and queries, if there are any.
    fn shown(&self) -> String {
        let snapshot = self.builder.snapshot();
        let Found::Here(datacenter) = snapshot.datacenter(None) else { panic!("no dc1") };
        let mut shown: Vec<String> = datacenter
            .services()
            .filter(|service| &*service.name != CONSUL)
            .map(|service| format!("{}={}", service.name, service.instances.len()))
            .collect();
        let unlisted = datacenter.all_unlisted();
        shown.extend(unlisted.map(|(form, service)| {
            format!("{}.{}={}", service.name, form.as_str(), service.instances.len())
        }));
        shown.sort();
        if datacenter.has_nodes() {
            shown.push(format!("nodes={}", datacenter.node_count()));
        }
        shown.extend(datacenter.queries().map(|all| format!("queries={}", all.entries().len())));
        let marks = [(self.guard.is_holding("dc1"), "holding"), (self.is_uneasy(), "uneasy")];
        shown.extend(marks.iter().find(|(is_so, _)| *is_so).map(|(_, mark)| (*mark).to_owned()));
        shown.join(" ")
    }

    fn is_uneasy(&self) -> bool {
        self.guard.is_uneasy("dc1")
    }
}

fn services(names: &str) -> Change {
    let listing = names.split_whitespace().map(|name| (name.to_owned(), Vec::new())).collect();
    Change::Services { datacenter: "dc1".to_owned(), listing }
}

/// `n1/1 n2/2!`: nodes and IDs; with an exclamation mark, critical.
fn instances(service: &str, instances: &str) -> Change {
    of_form(Form::Service, service, instances)
}

fn of_form(form: Form, service: &str, instances: &str) -> Change {
    let instances = instances.split_whitespace().map(|text| {
        let (text, health) = match text.strip_suffix('!') {
            Some(text) => (text, Health::Critical),
            None => (text, Health::Passing),
        };
        let (node, id) = text.split_once('/').unwrap();
        Instance {
            id: id.to_owned(),
            node: node_of(node),
            address: None,
            port: 80,
            ports: Vec::new(),
            tagged: None,
            tags: Vec::new(),
            weights: Weights::default(),
            health,
            worst: None,
        }
    });
    let executed = (form == Form::Query).then(|| Executed {
        datacenter: "dc1".to_owned(),
        service: service.to_owned(),
        ttl_secs: None,
        is_sorted: false,
    });
    Change::Service {
        datacenter: "dc1".to_owned(),
        form,
        service: service.to_owned(),
        instances: instances.collect(),
        held: Held::Watched,
        executed,
    }
}

fn node_of(name: &str) -> Node {
    Node::new(name.to_owned(), Address::from_text("10.0.0.1").unwrap())
}

fn nodes(names: &str) -> Change {
    let nodes = names.split_whitespace().map(node_of).collect();
    Change::Nodes { datacenter: "dc1".to_owned(), nodes }
}

fn queries(names: &str) -> Change {
    let entry = |name: &str| QueryEntry {
        name: name.to_owned(),
        id: format!("id-of-{name}"),
        is_template: false,
        near: String::new(),
        modified: 1,
    };
    let queries = Queries::new(names.split_whitespace().map(entry).collect());
    Change::Queries { datacenter: "dc1".to_owned(), queries: Some(queries) }
}

#[test]
fn a_few_that_vanish_are_gone_after_a_second() {
    let mut trial = Trial::of("a b c");
    trial.hear(instances("a", "n2/2"));
    assert_eq!(trial.shown(), "a=2 b=2 c=2 uneasy");
    trial.pass(999);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 uneasy");
    assert_eq!(trial.pass(1000), "", "nothing is read again");
    assert_eq!(trial.shown(), "a=1 b=2 c=2");
}

/// Each has a second of its own, and one that is back is not missing.
#[test]
fn what_vanishes_one_by_one_goes_one_by_one() {
    let mut trial = Trial::of("a b c d e");
    trial.hear(instances("a", "n2/2"));
    trial.pass(500);
    trial.hear(instances("b", "n1/1"));
    trial.pass(700);
    trial.hear(instances("b", "n1/1 n2/2"));
    trial.hear(instances("c", "n1/1"));
    trial.pass(1000);
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2 e=2 uneasy");
    trial.pass(1700);
    assert_eq!(trial.shown(), "a=1 b=2 c=1 d=2 e=2");
}

#[test]
fn critical_is_believed_at_once() {
    let mut trial = Trial::of("a b");
    trial.hear(instances("a", "n1/1! n2/2!"));
    trial.hear(instances("b", "n1/1! n2/2!"));
    assert_eq!(trial.shown(), "a=2 b=2", "they are there, and critical");
    let snapshot = trial.builder.snapshot();
    let Found::Here(datacenter) = snapshot.datacenter(None) else { panic!("no dc1") };
    let shows = datacenter
        .services()
        .any(|it| it.rrsets.as_ref().is_some_and(|it| !it.all().srv.is_empty()));
    assert!(!shows);
}

/// With 1 of 3 services of a big catalogue that is no more than a second.
#[test]
fn a_service_goes_with_its_name() {
    let mut trial = Trial::of("a b c");
    trial.hear(instances("a", ""));
    trial.hear(services("consul b c"));
    trial.pass(999);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 uneasy");
    trial.pass(1000);
    assert_eq!(trial.shown(), "b=2 c=2");
}

#[test]
fn the_list_may_come_late() {
    let mut trial = Trial::of("a b c");
    trial.hear(instances("a", ""));
    trial.pass(3000);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 uneasy", "it is listed");
    trial.hear(services("consul b c"));
    trial.pass(4000);
    assert_eq!(trial.shown(), "b=2 c=2");
}

#[test]
fn the_last_instance_of_a_listed_service_is_read_again_after_the_hold() {
    let mut trial = Trial::of("a b c");
    trial.hear(instances("a", ""));
    assert_eq!(trial.pass(59_999), "");
    assert_eq!(trial.pass(60_000), "the instances of a in dc1");
    assert_eq!(trial.shown(), "a=2 b=2 c=2 uneasy");
    let watched = Watched::Service(Key::new("dc1", Form::Service, "a"));
    let (snapshot, now) = (trial.builder.snapshot(), trial.now());
    assert!(trial.guard.confirm(&watched, None, &snapshot, now, now).is_none(), "the read failed");
    assert_eq!(trial.pass(64_999), "");
    assert_eq!(trial.pass(65_000), "the instances of a in dc1");
    trial.confirm(instances("a", ""));
    assert_eq!(trial.shown(), "a=0 b=2 c=2");
}

/// A token that was narrowed, or a cluster that is another: everything vanishes, piece by piece.
#[test]
fn nothing_goes_where_much_has_vanished() {
    let mut trial = Trial::of("a b c d");
    for (name, at_ms) in [("a", 100), ("b", 900)] {
        trial.pass(at_ms);
        trial.hear(instances(name, "n1/1"));
    }
    trial.pass(1500);
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2 uneasy");
    trial.hear(instances("c", ""));
    trial.hear(instances("d", "n2/2"));
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2 holding", "5 of 8 within ten seconds");
    trial.hear(services("d"));
    trial.hear(instances("a", "n1/1 n9/9"));
    assert_eq!(trial.pass(61_499), "");
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 holding", "what is new is believed");
    assert_eq!(trial.pass(61_500), "the services of dc1");
    trial.confirm(services("d e"));
    assert_eq!(trial.pass(61_501), "the instances of d in dc1");
    assert_eq!(trial.shown(), "d=2 e=0 holding");
    trial.confirm(instances("d", ""));
    assert_eq!(trial.shown(), "d=1 e=0 uneasy", "the other one of d was there until now");
    assert_eq!((trial.guard.metrics.alarms.get(), trial.guard.metrics.held_back.get()), (1, 1));
}

#[test]
fn what_comes_back_ends_the_hold() {
    let mut trial = Trial::of("a b");
    trial.hear(services(""));
    assert_eq!(trial.shown(), "a=2 b=2 holding");
    trial.hear(instances("a", ""));
    trial.pass(30_000);
    trial.hear(services("consul a b c"));
    assert_eq!(trial.shown(), "a=2 b=2 c=0 holding");
    trial.hear(instances("a", "n1/1 n2/2"));
    trial.pass(30_001);
    assert_eq!(trial.shown(), "a=2 b=2 c=0");
    assert_eq!(trial.guard.metrics.holding.get(), 0);
}

/// A service that went while everything was missing is gone soon after the rest is back.
#[test]
fn what_is_missing_when_the_rest_is_back_settles() {
    let mut trial = Trial::of("a b c d e f");
    trial.hear(services(""));
    trial.pass(5_000);
    trial.hear(services("consul b c"));
    trial.pass(9_000);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 e=2 f=2 holding", "4 of 7 are not back");
    trial.hear(services("consul b c d e f"));
    trial.pass(11_000);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 e=2 f=2 holding");
    trial.hear(instances("b", "n1/1"));
    trial.pass(11_900);
    trial.hear(instances("b", "n1/1 n2/2"));
    assert_eq!(trial.pass(14_899), "", "something came back meanwhile");
    assert_eq!(trial.pass(14_900), "the services of dc1");
    trial.confirm(services("consul b c d e f"));
    assert_eq!(trial.shown(), "b=2 c=2 d=2 e=2 f=2");
}

/// Three services are too few to be doubted as such; not so with ten instances each.
#[test]
fn instances_vanish_with_the_name_of_their_service() {
    let mut trial = Trial::new();
    trial.hear(services("consul a b"));
    for name in ["a", "b"] {
        trial.hear(instances(name, "n1/1 n1/2 n1/3"));
    }
    trial.hear(services("consul"));
    assert_eq!(trial.shown(), "a=3 b=3 holding");
}

#[test]
fn a_list_without_consul_is_doubted_whatever_its_size() {
    let mut trial = Trial::of("a b c d e f");
    trial.hear(services("a b c d e f"));
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 e=2 f=2 holding");
}

/// No more than so many reads at once, and none twice.
#[test]
fn what_is_missing_is_read_again_a_few_at_a_time() {
    let mut trial = Trial::of("a b c d e f");
    for name in ["a", "b", "c", "d", "e", "f"] {
        trial.hear(instances(name, ""));
    }
    let asked = trial.pass(90_000);
    assert_eq!(asked.split(", ").count(), RECHECKS_MAX, "{asked}");
    trial.confirm(instances("a", "n1/1"));
    assert_eq!(trial.pass(90_001), "the instances of e in dc1");
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2 e=2 f=2 holding");
}

#[test]
fn what_a_watch_heard_since_the_read_was_asked_for_is_newer() {
    let mut trial = Trial::of("a b");
    trial.hear(instances("a", ""));
    assert_eq!(trial.pass(60_000), "the instances of a in dc1");
    let asked = trial.now();
    trial.pass(60_100);
    trial.hear(instances("a", "n2/2"));
    let watched = Watched::Service(Key::new("dc1", Form::Service, "a"));
    let (snapshot, now) = (trial.builder.snapshot(), trial.now());
    let read = Some(instances("a", ""));
    let change = trial.guard.confirm(&watched, read, &snapshot, asked, now);
    trial.builder.apply(change.unwrap());
    assert_eq!(trial.shown(), "a=1 b=2");
}

#[test]
fn nodes_and_queries_vanish_like_services() {
    let mut trial = Trial::of("a");
    trial.hear(nodes("n1 n2 n3 n4"));
    trial.hear(queries("q1 q2 q3 q4"));
    trial.hear(nodes("n1 N3 n4"));
    trial.hear(queries("q1 q2 q3"));
    assert_eq!(trial.shown(), "a=2 nodes=4 queries=4 uneasy");
    trial.pass(1000);
    assert_eq!(trial.shown(), "a=2 nodes=3 queries=3");
    trial.hear(nodes("n1"));
    assert_eq!(trial.shown(), "a=2 nodes=3 queries=3 holding");
    trial.hear(queries(""));
    assert_eq!(trial.pass(61_000), "the nodes of dc1, the prepared queries of dc1");
    trial.confirm(nodes("n1"));
    trial.confirm(queries("q2"));
    assert_eq!(trial.shown(), "a=2 nodes=1 queries=1");
}

/// A query leaves out what is not healthy, so that its result may shrink; not so a list of proxies.
#[test]
fn results_of_queries_shrink_and_do_not_vanish() {
    let mut trial = Trial::of("a b c d");
    trial.hear(of_form(Form::Query, "q", "n1/1 n2/2"));
    trial.hear(of_form(Form::Connect, "a", "n1/1 n2/2"));
    trial.hear(of_form(Form::Query, "q", "n1/1"));
    trial.hear(of_form(Form::Connect, "a", "n1/1"));
    assert_eq!(trial.shown(), "a.connect=2 a=2 b=2 c=2 d=2 q.query=1 uneasy");
    trial.hear(of_form(Form::Query, "q", ""));
    assert_eq!(trial.shown(), "a.connect=2 a=2 b=2 c=2 d=2 q.query=1 uneasy");
    trial.pass(1000);
    assert_eq!(trial.shown(), "a.connect=1 a=2 b=2 c=2 d=2 q.query=0");
}

/// Consul says that it hides something: more will vanish, watch by watch.
#[test]
fn what_is_hidden_is_held_back_from_the_first_on() {
    let mut trial = Trial::of("a b c d");
    trial.guard.alarm("dc1", trial.now());
    trial.pass(20_000);
    trial.hear(instances("a", "n1/1"));
    trial.pass(59_999);
    assert_eq!(trial.shown(), "a=2 b=2 c=2 d=2 holding");
    assert_eq!(trial.pass(60_000), "the instances of a in dc1");
    trial.confirm(instances("a", "n1/1"));
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2");
    trial.guard.alarm("dc1", trial.now());
    trial.pass(120_000);
    assert_eq!(trial.shown(), "a=1 b=2 c=2 d=2", "nothing vanished");
}
