//! Names that are not ours, by way of scripted recursors: whole messages there and back.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{NS, NULL, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::support::dns::{
    ask, ask_tcp, exchange, extended_error, pipeline, question, with_edns, zone_text,
};
use crate::support::metrics::{scrape, value};
use crate::support::recursor::{Recursor, a, answer, reply_to};
use crate::support::server::Server;
use crate::support::wait::{eventually, within};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn soa(ttl: u32, minimum: u32) -> Record {
    let data = SOA::new(name("ns.example."), name("root.example."), 7, 60, 60, 60, minimum);
    record("example.", ttl, RData::SOA(data))
}

/// Signatures and what else has no type here: bytes.
fn unknown(code: u16, bytes: &[u8]) -> RData {
    RData::Unknown { code: RecordType::from(code), rdata: NULL::with(bytes.to_vec()) }
}

#[tokio::test]
async fn the_whole_message_comes_back() {
    let recursor = Recursor::of(|query| {
        let mut reply = reply_to(query, ResponseCode::NoError);
        reply.metadata.authentic_data = true;
        reply.add_answer(record("www.example.", 60, a(1)));
        reply.add_answer(record("www.example.", 60, unknown(46, b"a signature")));
        reply.add_authority(record("example.", 90, RData::NS(NS(name("ns.example.")))));
        reply.add_additional(record("ns.example.", 120, a(2)));
        reply
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let query = with_edns(question("www.example.", RecordType::A), 1232, true);
    let expected = "NOERROR rd ra ad\n\
         answer www.example. 60 IN A 192.0.2.1\n\
         answer www.example. 60 IN RRSIG YSBzaWduYXR1cmU=\n\
         authority example. 90 IN NS ns.example.\n\
         additional ns.example. 120 IN A 192.0.2.2";
    let reply = exchange(server.dns(), &query).await;
    assert_eq!(zone_text(&reply), expected);
    let edns = reply.edns.as_ref().unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
    // And from memory.
    let again = exchange(server.dns(), &query).await;
    assert_eq!((again.answers.len(), again.metadata.authentic_data), (2, true));
    assert_eq!(recursor.seen().len(), 1);
}

#[tokio::test]
async fn denials_and_other_codes_pass() {
    let recursor = Recursor::of(|query| {
        let (code, ttl, minimum) = match query.queries[0].name().to_ascii().as_str() {
            "nx.example." => (ResponseCode::NXDomain, 600, 30),
            "yx.example." => (ResponseCode::YXDomain, 600, 30),
            _ => (ResponseCode::NoError, 20, 600),
        };
        let mut reply = reply_to(query, code);
        reply.add_authority(soa(ttl, minimum));
        reply
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let numbers = "7 60 60 60";
    for (name, expected) in [
        // RFC 2308 §5: the lesser of the SOA's TTL and its MINIMUM
        (
            "nx.example.",
            format!(
                "NXDOMAIN rd ra\nauthority example. 30 IN SOA ns.example. root.example. {numbers} 30"
            ),
        ),
        (
            "no.example.",
            format!(
                "NOERROR rd ra\nauthority example. 20 IN SOA ns.example. root.example. {numbers} 600"
            ),
        ),
        (
            "yx.example.",
            format!(
                "YXDOMAIN rd ra\nauthority example. 600 IN SOA ns.example. root.example. {numbers} 30"
            ),
        ),
    ] {
        let reply = ask(server.dns(), name, RecordType::AAAA).await;
        assert_eq!(zone_text(&reply), expected);
    }
}

#[tokio::test]
async fn what_matters_to_the_answer_is_told_and_no_more() {
    let recursor = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    for (cd, ad, dnssec_ok) in [
        (false, false, None),
        (true, false, None),
        (false, true, Some(false)),
        (true, true, Some(true)),
    ] {
        let mut query = question("Www.Example.", RecordType::A);
        query.metadata.checking_disabled = cd;
        query.metadata.authentic_data = ad;
        if let Some(dnssec_ok) = dnssec_ok {
            query = with_edns(query, 4096, dnssec_ok);
            let options = query.edns.as_mut().unwrap().options_mut();
            // A cookie, and a client's subnet.
            options.insert(EdnsOption::Unknown(10, b"12345678".to_vec()));
            options.insert(EdnsOption::Unknown(65_001, b"private".to_vec()));
        }
        let reply = exchange(server.dns(), &query).await;
        assert_eq!(reply.metadata.checking_disabled, cd);
        assert_eq!(reply.edns.is_some(), dnssec_ok.is_some());

        let seen = recursor.seen().pop().unwrap();
        let (flags, edns) = (seen.message.metadata, seen.message.edns.unwrap());
        assert!(flags.recursion_desired && !seen.is_tcp);
        assert_eq!((flags.checking_disabled, flags.authentic_data), (cd, ad));
        assert_eq!(edns.flags().dnssec_ok, dnssec_ok.unwrap_or(false));
        assert_eq!(edns.max_payload(), 1232);
        assert_eq!(edns.options().as_ref(), []);
        assert_eq!(seen.message.queries, query.queries);
    }
    // None was answered with another's answer.
    assert_eq!(recursor.seen().len(), 4);
}

#[tokio::test]
async fn each_question_has_an_id_and_a_port_of_its_own() {
    let recursor = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    for at in 0..8 {
        let mut query = question(&format!("{at}.example."), RecordType::A);
        query.metadata.id = 4711;
        exchange(server.dns(), &query).await;
    }
    let seen = recursor.seen();
    let ids: std::collections::BTreeSet<u16> =
        seen.iter().map(|asked| asked.message.metadata.id).collect();
    let ports: std::collections::BTreeSet<u16> =
        seen.iter().map(|asked| asked.peer.port()).collect();
    // Of 8 random ones two may be the same by chance, once in two thousand runs; three never.
    assert!(ids.len() >= 7 && ports.len() >= 7, "{ids:?} {ports:?}");
}

#[tokio::test]
async fn answers_are_kept_by_name_in_any_case_and_type() {
    let recursor =
        Recursor::of(|query| answer(query, RData::TXT(TXT::new(vec!["x".to_owned()])))).await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    for (name, qtype, asked) in [
        ("www.example.", RecordType::TXT, 1),
        ("WWW.example.", RecordType::TXT, 1),
        ("www.example.", RecordType::MX, 2),
        ("ww.example.", RecordType::TXT, 3),
    ] {
        let reply = ask(server.dns(), name, qtype).await;
        // `exchange` holds the question to the letter.
        assert!(reply.queries[0].name().eq_case(&self::name(name)), "{name}");
        assert_eq!(recursor.seen().len(), asked, "{name} {qtype}");
    }
    let metrics = scrape(&server).await;
    assert_eq!(value(&metrics, "fingerpost_forward_cache_hits_total"), 1.0);
    // A TXT record says nothing of the type MX, so that answer was not kept.
    assert_eq!(value(&metrics, "fingerpost_forward_cache_misses_total"), 3.0);
    assert!(value(&metrics, "fingerpost_forward_cache_bytes") > 0.0);
}

#[tokio::test]
async fn types_that_are_letters_are_not_the_same() {
    // 65 is HTTPS and `A`, 97 is `a`.
    let recursor = Recursor::of(|query| {
        let code = u16::from(query.queries[0].query_type());
        answer(query, unknown(code, &[code as u8]))
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    for code in [66, 98, 66] {
        let reply = ask(server.dns(), "www.example.", RecordType::from(code)).await;
        assert_eq!(u16::from(reply.answers[0].record_type()), code);
    }
    assert_eq!(recursor.seen().len(), 2);
}

#[tokio::test]
async fn what_is_asked_already_is_not_asked_again() {
    let recursor =
        Recursor::held(|asked| vec![answer(&asked.message, a(1)).to_vec().unwrap()]).await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let queries: Vec<Message> = (0..3)
        .map(|id| {
            let mut query = question(["a.example.", "A.example.", "a.EXAMPLE."][id], RecordType::A);
            query.metadata.id = id as u16;
            query
        })
        .collect();
    let asking = pipeline(server.dns(), &queries);
    let releasing = async {
        eventually("two wait for the third", async || {
            value(&scrape(&server).await, "fingerpost_forward_merged_total") == 2.0
        })
        .await;
        recursor.release(9);
    };
    let (replies, ()) = tokio::join!(asking, releasing);
    for reply in replies {
        assert_eq!(reply.answers.len(), 1);
    }
    assert_eq!(recursor.seen().len(), 1);
    assert_eq!(value(&scrape(&server).await, "fingerpost_forward_in_flight"), 0.0);
}

#[tokio::test]
async fn a_reply_that_was_cut_is_asked_for_over_tcp() {
    let recursor = Recursor::start(|asked| {
        let mut reply = answer(&asked.message, a(if asked.is_tcp { 2 } else { 1 }));
        reply.metadata.truncation = !asked.is_tcp;
        vec![reply.to_vec().unwrap()]
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let reply = ask(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.2");
    let over: Vec<bool> = recursor.seen().iter().map(|asked| asked.is_tcp).collect();
    assert_eq!(over, [false, true]);
}

#[tokio::test]
async fn a_long_answer_is_cut_for_a_datagram_only() {
    let recursor = Recursor::start(|asked| {
        let mut reply = reply_to(&asked.message, ResponseCode::NoError);
        reply.metadata.truncation = !asked.is_tcp;
        for last in 0..200 {
            reply.add_answer(record("www.example.", 60, a(last)));
        }
        if !asked.is_tcp {
            reply.answers.clear();
        }
        vec![reply.to_vec().unwrap()]
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let plain = question("www.example.", RecordType::A);
    let reply = exchange(server.dns(), &plain).await;
    assert_eq!(zone_text(&reply), "NOERROR tc rd ra");
    let reply = exchange(server.dns(), &with_edns(plain, 4096, false)).await;
    assert_eq!((reply.metadata.truncation, reply.edns.is_some()), (true, true));
    let reply = ask_tcp(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!((reply.metadata.truncation, reply.answers.len()), (false, 200));
    assert_eq!(value(&scrape(&server).await, "fingerpost_dns_truncated_total"), 2.0);
}

#[tokio::test]
async fn a_recursors_own_reason_is_passed_on() {
    let recursor = Recursor::of(|query| {
        let mut reply = reply_to(query, ResponseCode::ServFail);
        let options = reply.edns.as_mut().unwrap().options_mut();
        options.insert(EdnsOption::Unknown(15, b"\x00\x06bad signature".to_vec()));
        options.insert(EdnsOption::Unknown(10, b"12345678".to_vec()));
        reply
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let plain = question("www.example.", RecordType::A);
    let reply = exchange(server.dns(), &with_edns(plain.clone(), 1232, true)).await;
    assert_eq!(zone_text(&reply), "SERVFAIL rd ra");
    assert_eq!(extended_error(&reply).as_deref(), Some("6 bad signature"));
    assert!(reply.edns.unwrap().option(EdnsCode::Cookie).is_none());
    assert!(exchange(server.dns(), &plain).await.edns.is_none());
}

#[tokio::test]
async fn what_never_leaves_does_not() {
    let recursor = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    for name in ["consul.", "x.service.consul.", "localhost.", "1.0.0.10.in-addr.arpa.", "x.onion."]
    {
        ask(server.dns(), name, RecordType::A).await;
    }
    let mut query = question("www.example.", RecordType::A);
    query.metadata.recursion_desired = false;
    assert_eq!(zone_text(&exchange(server.dns(), &query).await), "REFUSED ra");
    assert_eq!(recursor.seen().len(), 0);
    // And a client of another network.
    let server = Server::forwarding(&[recursor.address()], |config| {
        config.recursion.allow = vec![fingerpost::answer::Network::parse("10.0.0.0/8").unwrap()];
    });
    let reply = ask(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!(zone_text(&reply), "REFUSED rd ra");
    assert_eq!(recursor.seen().len(), 0);
}

#[tokio::test]
async fn those_that_wait_have_a_bound_of_their_own() {
    let recursor =
        Recursor::held(|asked| vec![answer(&asked.message, a(1)).to_vec().unwrap()]).await;
    let server =
        Server::forwarding(&[recursor.address()], |config| config.recursion.waiting_max = 1);
    let first = ask(server.dns(), "a.example.", RecordType::A);
    let second = async {
        eventually("the first is asked", async || recursor.seen().len() == 1).await;
        let reply = ask(server.dns(), "b.example.", RecordType::A).await;
        assert_eq!(zone_text(&reply), "SERVFAIL rd ra");
        recursor.release(1);
    };
    let (reply, ()) = within("both replies", async { tokio::join!(first, second) }).await;
    assert_eq!(reply.answers.len(), 1);
    let metrics = scrape(&server).await;
    assert_eq!(value(&metrics, "fingerpost_forward_refused_total"), 1.0);
}

#[tokio::test]
async fn what_is_kept_is_answered_however_many_wait() {
    let recursor = Recursor::start(|asked| {
        let is_kept = asked.message.queries[0].name().to_string() == "kept.example.";
        if is_kept { vec![answer(&asked.message, a(1)).to_vec().unwrap()] } else { Vec::new() }
    })
    .await;
    let server =
        Server::forwarding(&[recursor.address()], |config| config.recursion.waiting_max = 64);
    let kept = ask(server.dns(), "kept.example.", RecordType::A).await;
    assert_eq!(kept.answers.len(), 1);
    // None gets an answer: so many are asked and hold their places, the rest is refused.
    let udp = crate::support::dns::Udp::connect(server.dns()).await;
    for number in 0..150 {
        let query = question(&format!("n{number}.example."), RecordType::A);
        udp.send(&query.to_vec().unwrap()).await;
    }
    for _ in 0..20 {
        let kept = ask(server.dns(), "kept.example.", RecordType::A).await;
        assert_eq!(kept.answers.len(), 1);
    }
    assert!(value(&scrape(&server).await, "fingerpost_forward_refused_total") >= 50.0);
}
