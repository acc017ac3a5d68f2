//! Each instance is answered as often as any other, whatever made the answer a choice.
//!
//! Pearson's test on how often each address was among those answered, over 10,000 seeds. The
//! bounds are the 99.9 % points of chi-square with one degree of freedom less than there are
//! addresses. To draw without putting back makes the sum smaller than that, never larger. The
//! seeds are fixed, so this holds for ever or never.

use std::collections::BTreeMap;

use fingerpost::answer::Transport;
use hickory_proto::op::Message;

use crate::support::generate::query;
use crate::support::scenario::Scenario;
use crate::support::straight::{self, Core};

#[test]
fn three_of_ten_addresses_are_drawn_fairly() {
    let times = drawn(10, A, None);
    assert_eq!(times.values().sum::<u32>(), 3 * SEEDS);
    check(&times, 10, 27.88);
}

#[test]
fn three_of_ten_srv_records_are_drawn_fairly() {
    let times = drawn(10, SRV, None);
    assert_eq!(times.values().sum::<u32>(), 3 * SEEDS);
    check(&times, 10, 27.88);
}

/// 12 bytes of header, 24 of question and 11 of OPT leave room for 74 addresses in 1232.
#[test]
fn what_fits_of_a_hundred_addresses_is_drawn_fairly() {
    let times = drawn(100, A, Some(1232));
    assert_eq!(times.values().sum::<u32>(), 74 * SEEDS);
    check(&times, 100, 148.23);
}

/// The fixed part of a record is 12 bytes, SRV's numbers are 6, the target's name is 23: of 41
/// bytes each, 28 fit.
#[test]
fn what_fits_of_a_hundred_srv_records_is_drawn_fairly() {
    let times = drawn(100, SRV, Some(1232));
    assert_eq!(times.values().sum::<u32>(), 28 * SEEDS);
    check(&times, 100, 148.23);
}

/// How often each answer came, of `count` instances whose records are all of one length.
fn drawn(count: usize, qtype: u16, edns: Option<u16>) -> BTreeMap<String, u32> {
    let last = 99 + count;
    let text = format!(
        "node n-{{100..{last}}} 10.0.0.{{100..{last}}}
         service web on n-{{100..{last}}} port 80 passing
         query consul A
         reply NOERROR"
    );
    let scenario = Scenario::parse("fairness", &text).unwrap();
    let mut core = Core::new(straight::rules(), straight::policy(), scenario.changes);
    let query = query("web.service", qtype, edns);
    let mut times = BTreeMap::new();
    for seed in 0..SEEDS {
        let reply = core.ask(&query, Transport::Udp, u64::from(seed));
        for record in Message::from_vec(reply).unwrap().answers {
            *times.entry(record.data.to_string()).or_default() += 1;
        }
    }
    times
}

#[track_caller]
fn check(times: &BTreeMap<String, u32>, count: usize, bound: f64) {
    assert_eq!(times.len(), count, "not every instance was answered: {times:?}");
    let expected = f64::from(times.values().sum::<u32>()) / count as f64;
    let chi: f64 = times.values().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
    assert!(chi < bound, "chi-square {chi} is over {bound}: {times:?}");
}

const SEEDS: u32 = 10_000;

const A: u16 = 1;

const SRV: u16 = 33;
