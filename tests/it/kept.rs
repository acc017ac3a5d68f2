//! What is kept of a recursor's reply, and for how long: without sockets, and with no clock but
//! the test's.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use fingerpost::config::RecursionConfig;
use fingerpost::demand::{Demand, HostRecord, Supply, Wanted};
use fingerpost::forward::Forwarder;
use fingerpost::forward::cache::Cache;
use fingerpost::forward::host::records;
use fingerpost::forward::message::Message as Kept;
use fingerpost::forward::question::Question;
use fingerpost::metrics::ForwardMetrics;
use fingerpost::wire::Query;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use prometheus::Registry;
use proptest::prelude::*;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::dns::{question, with_edns, zone_text};
use crate::support::recursor::{Recursor, reply_to};
use crate::support::wait::{eventually, within};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(192, 0, 2, last))))
}

fn alias(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 7, 60, 60, 60, minimum);
    Record::from_rdata(name("example."), ttl, RData::SOA(data))
}

/// What is kept of the reply to `www.example. A` that `fill` makes.
fn kept(fill: impl FnOnce(&mut Message)) -> (Message, Kept) {
    let query = with_edns(question("www.example.", RecordType::A), 1232, false);
    let mut reply = reply_to(&query, ResponseCode::NoError);
    fill(&mut reply);
    let bytes = query.to_vec().unwrap();
    let kept = Kept::read(&reply.to_vec().unwrap(), &Question::of(&parsed(&bytes)).bytes);
    (query, kept.unwrap())
}

fn parsed(bytes: &[u8]) -> Query<'_> {
    Query::parse(bytes).unwrap()
}

/// What a client gets that asks `query`.
fn given(kept: &Kept, query: &Message, age: Option<Duration>) -> Message {
    let bytes = query.to_vec().unwrap();
    Message::from_vec(&kept.reply(&parsed(&bytes), age, 1232)).unwrap()
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn metrics() -> ForwardMetrics {
    ForwardMetrics::register(&Registry::new()).unwrap()
}

#[test]
fn ttls_count_down_in_every_section_until_the_first_is_over() {
    let (query, kept) = kept(|reply| {
        reply.metadata.authoritative = true;
        reply.add_answer(a("www.example.", 60, 1));
        reply.add_authority(a("x.example.", 90, 2));
        reply.add_additional(a("y.example.", 120, 3));
    });
    let (cache, came) = (Cache::new(1 << 20, metrics()), Instant::now());
    let bytes = query.to_vec().unwrap();
    let key = Question::of(&parsed(&bytes)).key();
    cache.keep(key.clone(), &Arc::new(kept), came);
    for (after, expected) in [
        (Duration::ZERO, Some((60, 90, 120))),
        (Duration::from_millis(1999), Some((59, 89, 119))),
        (secs(59), Some((1, 31, 61))),
        (secs(60), None),
        (secs(3600), None),
    ] {
        let found = cache.find(&key, came + after).map(|(kept, age)| {
            let reply = given(&kept, &query, Some(age));
            assert!(!reply.metadata.authoritative, "a cache has no authority");
            (reply.answers[0].ttl, reply.authorities[0].ttl, reply.additionals[0].ttl)
        });
        assert_eq!(found, expected, "{after:?}");
    }
}

#[test]
fn what_has_just_come_is_as_it_came() {
    let (query, kept) = kept(|reply| {
        reply.metadata.authoritative = true;
        reply.metadata.authentic_data = true;
        reply.add_answer(a("www.example.", 60, 1));
    });
    let expected = "NOERROR aa rd ra ad\nanswer www.example. 60 IN A 192.0.2.1";
    assert_eq!(zone_text(&given(&kept, &query, None)), expected);
}

#[test]
fn how_long_a_reply_lasts() {
    let lifetime = |code: ResponseCode, answers: &[Record], authorities: &[Record]| {
        let (query, kept) = kept(|reply| {
            reply.metadata.response_code = code;
            reply.add_answers(answers.iter().cloned());
            reply.authorities.extend(authorities.iter().cloned());
        });
        let given = given(&kept, &query, None);
        let all = given.answers.iter().chain(&given.authorities);
        let ttls: Vec<u32> = all.map(|record| record.ttl).collect();
        (kept.lifetime(), ttls)
    };
    let (ok, nx) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let www = |ttl| a("www.example.", ttl, 1);
    for (code, answers, authorities, expected) in [
        (ok, vec![www(60), www(30)], vec![], (secs(30), vec![60, 30])),
        (ok, vec![www(0)], vec![], (secs(0), vec![0])),
        // a day at most; RFC 2181 §8: the first bit makes it zero
        (ok, vec![www(604_800)], vec![], (secs(86_400), vec![86_400])),
        (ok, vec![www(0x8000_0001)], vec![], (secs(0), vec![0])),
        // RFC 2308 §5: the SOA's TTL or its MINIMUM, three hours at most
        (nx, vec![], vec![soa(900, 300)], (secs(300), vec![300])),
        (nx, vec![], vec![soa(300, 900)], (secs(300), vec![300])),
        (nx, vec![], vec![soa(86_400, 86_400)], (secs(10_800), vec![10_800])),
        (ok, vec![], vec![soa(900, 300)], (secs(300), vec![300])),
        (ok, vec![alias("www.example.", 20, "x.")], vec![soa(900, 300)], (secs(20), vec![20, 300])),
        // in a positive answer the SOA is a record like others
        (ok, vec![www(600)], vec![soa(900, 300)], (secs(600), vec![600, 900])),
        // without an SOA a denial does not last
        (nx, vec![], vec![], (secs(0), vec![])),
        (ok, vec![], vec![], (secs(0), vec![])),
        (nx, vec![alias("www.example.", 20, "x.")], vec![], (secs(0), vec![20])),
        // RFC 9520 §3.2: a failure is not asked again at once
        (ResponseCode::ServFail, vec![], vec![], (secs(1), vec![])),
        (ResponseCode::YXDomain, vec![], vec![soa(900, 300)], (secs(0), vec![900])),
    ] {
        let (answer, authority) = (&answers, &authorities);
        assert_eq!(lifetime(code, answer, authority), expected, "{code} {answer:?} {authority:?}");
    }
}

#[test]
fn the_cache_is_bounded_by_bytes() {
    let metrics = metrics();
    let (cache, now) = (Cache::new(20_000, metrics.clone()), Instant::now());
    let keys: Vec<_> = (0..100)
        .map(|at| {
            let question = Question::of_host(&format!("{at}.example"), 1).unwrap();
            let mut query = question.message(None).unwrap();
            query.metadata.id = 1;
            let mut reply = reply_to(&query, ResponseCode::NoError);
            for last in 0..50 {
                reply.add_answer(a(&format!("{at}.example."), 60, last));
            }
            let kept = Kept::read(&reply.to_vec().unwrap(), &question.bytes).unwrap();
            cache.keep(question.key(), &Arc::new(kept), now);
            question.key()
        })
        .collect();
    let left = keys.iter().filter(|key| cache.find(key, now).is_some()).count();
    // An answer is 50 records of 16 bytes, and where their 50 TTLs are.
    assert!((5..=20).contains(&left), "{left}");
    assert!(cache.find(&keys[99], now).is_some(), "the newest is gone");
    assert!((1..=20_000).contains(&metrics.cache_bytes.get()), "{:?}", metrics.cache_bytes);
    assert_eq!(metrics.evictions.get(), 100 - left as u64);
}

#[test]
fn a_cache_of_no_size_keeps_nothing() {
    let question = Question::of_host("www.example", 1).unwrap();
    let (_, kept) = kept(|reply| {
        reply.add_answer(a("www.example.", 60, 1));
    });
    let cache = Cache::new(0, metrics());
    cache.keep(question.key(), &Arc::new(kept), Instant::now());
    assert!(cache.find(&question.key(), Instant::now()).is_none());
}

/// The addresses of `www.example` in a reply, 10 seconds after it came: `TTL ADDRESS` each.
fn host(fill: impl FnOnce(&mut Message)) -> (u16, Vec<String>) {
    let (_, kept) = kept(fill);
    let owner = name("WWW.example.").to_bytes().unwrap();
    let Supply::Records { rcode, records } = records(&kept, &owner, 1, secs(10)) else {
        panic!("no records")
    };
    let text = |record: &HostRecord| format!("{} {:?}", record.ttl_secs, record.rdata);
    (rcode, records.iter().map(text).collect())
}

#[test]
fn a_hosts_records_are_at_the_end_of_its_aliases() {
    let none = Vec::<String>::new();
    let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let plain = host(|reply| {
        reply.add_answer(a("www.example.", 60, 1));
        reply.add_answer(a("www.example.", 5, 2));
        reply.add_answer(a("other.example.", 60, 3));
    });
    assert_eq!(plain, (0, of(&["50 [192, 0, 2, 1]", "0 [192, 0, 2, 2]"])));
    let chain = host(|reply| {
        reply.add_answer(a("c.example.", 60, 1));
        reply.add_answer(alias("b.example.", 30, "C.example."));
        reply.add_answer(alias("www.example.", 40, "b.example."));
    });
    assert_eq!(chain, (0, of(&["20 [192, 0, 2, 1]"])));
    let circle = host(|reply| {
        reply.add_answer(alias("www.example.", 40, "b.example."));
        reply.add_answer(alias("b.example.", 40, "www.example."));
    });
    assert_eq!(circle, (0, none.clone()));
    let nothing = host(|reply| {
        reply.add_authority(soa(60, 60));
    });
    assert_eq!(nothing, (0, none.clone()));
    let missing = host(|reply| {
        reply.metadata.response_code = ResponseCode::NXDomain;
    });
    assert_eq!(missing, (3, none));
}

#[tokio::test]
async fn hosts_are_asked_of_the_recursors_and_kept() {
    let recursor = Recursor::of(|query| {
        let mut reply = reply_to(query, ResponseCode::NoError);
        reply.add_answer(a("www.example.", 60, 1));
        reply
    })
    .await;
    let config =
        RecursionConfig { recursors: vec![recursor.address()], ..RecursionConfig::default() };
    let (demands, served) = mpsc::channel(9);
    let cancel = CancellationToken::new();
    let forwarding = Forwarder::new(&config, 1232, metrics()).run(served, cancel.clone());
    let asking = async {
        for name in ["www.example", "WWW.Example."] {
            let (done, answered) = oneshot::channel();
            let wanted = Wanted::Host { name: name.to_owned(), rtype: 1 };
            demands.send(Demand { wanted, done }).await.unwrap();
            let supply = within("the records of a host", answered).await.unwrap();
            let Supply::Records { rcode: 0, records } = supply else { panic!("{supply:?}") };
            assert_eq!((records.len(), &records[0].rdata[..]), (1, &[192, 0, 2, 1][..]));
            // How long the second took is the machine's business.
            assert!((50..=60).contains(&records[0].ttl_secs), "{records:?}");
        }
        for (name, rtype, expected) in [
            ("localhost", 1, (0, vec![vec![127, 0, 0, 1]])),
            ("x.LocalHost.", 28, (0, vec![[&[0; 15][..], &[1]].concat()])),
            ("localhost", 33, (0, vec![])),
            ("x.onion", 1, (3, vec![])),
        ] {
            let (done, answered) = oneshot::channel();
            let wanted = Wanted::Host { name: name.to_owned(), rtype };
            demands.send(Demand { wanted, done }).await.unwrap();
            let supply = within("the records of a local host", answered).await.unwrap();
            let Supply::Records { rcode, records } = supply else { panic!("{supply:?}") };
            let rdata: Vec<Vec<u8>> = records.into_iter().map(|record| record.rdata).collect();
            assert_eq!((rcode, rdata), expected, "{name}");
        }
        for wanted in [
            Wanted::Host { name: "a..b".to_owned(), rtype: 1 },
            Wanted::Foreign { message: b"no query".to_vec() },
        ] {
            let (done, answered) = oneshot::channel();
            demands.send(Demand { wanted, done }).await.unwrap();
            within("a demand is dropped", answered).await.unwrap_err();
        }
        cancel.cancel();
    };
    tokio::join!(forwarding, asking);
    assert_eq!(recursor.seen().len(), 1);
}

#[test]
fn an_opt_record_in_the_middle_is_no_hindrance() {
    // The answer's name points past the OPT record, at the additional record's.
    let bytes = b"\x12\x34\x81\x80\x00\x01\x00\x00\x00\x00\x00\x03\x01x\x00\x00\x01\x00\x01\
        \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x06\x00\x0f\x00\x02\x00\x03\
        \x01y\x01z\x00\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01\
        \xc0\x26\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x02";
    let question = b"\x01X\x00\x00\x01\x00\x01";
    let stored = Kept::read(bytes, question).unwrap();
    let kept = Message::from_vec(stored.bytes()).unwrap();
    let owners: Vec<String> = kept.additionals.iter().map(|extra| extra.name.to_ascii()).collect();
    assert_eq!((owners, kept.edns), (vec!["y.z.".to_owned(), "z.".to_owned()], None));
    assert!(stored.has_reason());
}

#[test]
fn a_reply_to_another_question_is_none() {
    let query = question("www.example.", RecordType::from(66));
    let reply = reply_to(&query, ResponseCode::NoError).to_vec().unwrap();
    for (asked, expected) in [
        // type 66 is `B`, and type 98 `b`; classes 1 and 3
        (&b"\x03wWw\x07exAmple\0\0\x42\0\x01"[..], true),
        (b"\x03www\x07example\0\0\x62\0\x01", false),
        (b"\x03www\x07example\0\0\x42\0\x03", false),
        (b"\x03wwx\x07example\0\0\x42\0\x01", false),
        (b"\x03www\0\0\x42\0\x01", false),
    ] {
        assert_eq!(Kept::read(&reply, asked).is_some(), expected, "{}", asked.escape_ascii());
    }
}

#[tokio::test]
async fn questions_beyond_the_bound_are_not_asked() {
    let recursor = Recursor::held(|asked| vec![asked.message.to_vec().unwrap()]).await;
    let recursors = vec![recursor.address()];
    let config = RecursionConfig { recursors, waiting_max: 1, ..RecursionConfig::default() };
    let (demands, served) = mpsc::channel(9);
    let (cancel, metrics) = (CancellationToken::new(), metrics());
    let forwarding = Forwarder::new(&config, 1232, metrics.clone()).run(served, cancel.clone());
    let asking = async {
        let mut answers = Vec::new();
        for name in ["a.example", "b.example", "a.example"] {
            let (done, answered) = oneshot::channel();
            let wanted = Wanted::Host { name: name.to_owned(), rtype: 1 };
            demands.send(Demand { wanted, done }).await.unwrap();
            answers.push(answered);
        }
        // The third waits for the first, and costs nothing.
        within("the second is dropped", answers.remove(1)).await.unwrap_err();
        eventually("the third waits", async || metrics.merged.get() == 1).await;
        assert_eq!(metrics.refused.get(), 1);
        cancel.cancel();
    };
    tokio::join!(forwarding, asking);
}

proptest! {
    /// Whatever a recursor sends: no panic, and what passes is still a reply to the question.
    #[test]
    fn nothing_that_a_recursor_sends_is_harmful(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let query = with_edns(question("www.example.", RecordType::A), 1232, false);
        let mut reply = reply_to(&query, ResponseCode::NoError);
        reply.add_answer(alias("www.example.", 60, "b.example."));
        reply.add_answer(a("b.example.", 60, 1));
        reply.add_authority(soa(60, 60));
        let mut bytes = reply.to_vec().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let asked = query.to_vec().unwrap();
        let asked = parsed(&asked);
        let question = Question::of(&asked).bytes;
        if let Some(kept) = Kept::read(&bytes, &question) {
            let given = kept.reply(&asked, Some(secs(7)), 1232);
            prop_assert_eq!(&given[..2], &asked.head.id.to_be_bytes());
            prop_assert_eq!(given[2] & 0x80, 0x80);
            prop_assert_eq!(&given[12..12 + question.len()], &question[..]);
            records(&kept, asked.name, 1, secs(7));
        }
    }
}
