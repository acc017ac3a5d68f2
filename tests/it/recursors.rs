//! Which recursor's word counts, what counts as one, and what becomes of those that have none.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fingerpost::config::Strategy;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::support::dns::{ask, exchange, extended_error, question, with_edns, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::program::{ANY_PORT, Program};
use crate::support::recursor::{Recursor, a, answer, reply_to};
use crate::support::server::Server;
use crate::support::wait::eventually;

/// An address of which nobody listens at the port.
async fn nobody() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.local_addr().unwrap()
}

#[tokio::test]
async fn the_next_recursor_is_asked_where_one_has_no_answer() {
    let good = Recursor::of(|query| answer(query, a(1))).await;
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::NotImp,
        ResponseCode::FormErr,
        ResponseCode::BADCOOKIE,
    ] {
        let bad = Recursor::saying(code).await;
        let server = Server::forwarding(&[bad.address(), good.address()], |_| ());
        let reply = ask(server.dns(), "www.example.", RecordType::A).await;
        assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
        assert_eq!(bad.seen().len(), 1, "{code}");
    }
    for bad in [nobody().await, Recursor::silent().await.address()] {
        let server = Server::forwarding(&[bad, good.address()], |config| {
            config.recursion.recursor_timeout = Duration::from_millis(500);
        });
        let reply = ask(server.dns(), "www.example.", RecordType::A).await;
        assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
    }
}

#[tokio::test]
async fn the_order_may_be_a_new_one_for_each_question() {
    let one = Recursor::of(|query| answer(query, a(1))).await;
    let other = Recursor::of(|query| answer(query, a(2))).await;
    let addresses = [one.address(), other.address()];
    for (strategy, both) in [(Strategy::Sequential, false), (Strategy::Random, true)] {
        let server = Server::forwarding(&addresses, |config| {
            config.recursion.recursor_strategy = strategy;
        });
        // By chance alone one of two would be left out once in a billion runs.
        for at in 0..31 {
            ask(server.dns(), &format!("{at}.example."), RecordType::A).await;
        }
        assert_eq!(!other.seen().is_empty(), both, "{strategy:?}");
    }
}

#[tokio::test]
async fn an_answer_ends_the_search() {
    let first = Recursor::saying(ResponseCode::NXDomain).await;
    let second = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[first.address(), second.address()], |_| ());
    let reply = ask(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!(zone_text(&reply), "NXDOMAIN rd ra");
    assert_eq!(second.seen().len(), 0);
}

#[tokio::test]
async fn a_silent_recursor_is_asked_last_for_a_while() {
    let silent = Recursor::silent().await;
    let good = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[silent.address(), good.address()], |config| {
        config.recursion.recursor_timeout = Duration::from_millis(500);
    });
    ask(server.dns(), "a.example.", RecordType::A).await;
    let asked = silent.seen().len();
    ask(server.dns(), "b.example.", RecordType::A).await;
    assert_eq!((silent.seen().len(), good.seen().len()), (asked, 2));
}

#[tokio::test]
async fn without_an_answer_it_is_servfail_and_says_why() {
    let (dead, silent) = (nobody().await, Recursor::silent().await);
    let refusing = Recursor::saying(ResponseCode::Refused).await;
    let silent = silent.address();
    for (recursors, expected) in [
        (vec![dead], "23 no recursor can be reached"),
        (vec![silent], "22 no recursor answered in time"),
        (vec![dead, silent], "22 no recursor answered in time"),
        (vec![refusing.address(), dead], "22 no recursor had an answer"),
    ] {
        let server = Server::forwarding(&recursors, |config| {
            config.recursion.recursor_timeout = Duration::from_millis(500);
        });
        let query = with_edns(question("www.example.", RecordType::A), 1232, false);
        let reply = exchange(server.dns(), &query).await;
        assert_eq!(zone_text(&reply), "SERVFAIL rd ra");
        assert_eq!(extended_error(&reply).as_deref(), Some(expected));
        let metrics = scrape(&server).await;
        assert_eq!(value(&metrics, "fingerpost_forward_unanswered_total"), 1.0);
    }
}

#[tokio::test]
async fn replies_to_something_else_are_passed_over() {
    let recursor = Recursor::start(|asked| {
        let good = answer(&asked.message, a(1));
        let mut other_id = answer(&asked.message, a(2));
        other_id.metadata.id = good.metadata.id.wrapping_add(1);
        let mut other_question = answer(&asked.message, a(3));
        other_question.queries[0].set_name(Name::from_ascii("evil.example.").unwrap());
        let mut no_question = answer(&asked.message, a(4));
        no_question.queries.clear();
        [other_id, other_question, no_question, good]
            .iter()
            .map(|reply| reply.to_vec().unwrap())
            .chain([b"short".to_vec()])
            .collect()
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let reply = ask(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    let good = Recursor::of(|query| answer(query, a(1))).await;
    let garbage: [fn(&Message) -> Vec<u8>; 5] = [
        // a record of another class than was asked for
        |query| {
            let mut reply = answer(query, a(2));
            reply.answers[0].dns_class = DNSClass::CH;
            reply.to_vec().unwrap()
        },
        // a record that is cut off
        |query| {
            let mut bytes = answer(query, a(2)).to_vec().unwrap();
            bytes.truncate(bytes.len() - 2);
            bytes
        },
        // the query itself
        |query| query.to_vec().unwrap(),
        // more records than there are
        |query| {
            let mut bytes = answer(query, a(2)).to_vec().unwrap();
            bytes[7] = 9;
            bytes
        },
        // a name that points at itself
        |query| {
            let mut reply = answer(query, a(2));
            reply.edns = None;
            let mut bytes = reply.to_vec().unwrap();
            let at = bytes.len() - 16;
            let pointer = (0xc000 | at as u16).to_be_bytes();
            bytes[at..at + 2].copy_from_slice(&pointer);
            bytes
        },
    ];
    for script in garbage {
        let bad = Recursor::start(move |asked| vec![script(&asked.message)]).await;
        let server = Server::forwarding(&[bad.address(), good.address()], |config| {
            config.recursion.recursor_timeout = Duration::from_millis(500);
        });
        let reply = ask(server.dns(), "www.example.", RecordType::A).await;
        assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
    }
}

#[tokio::test]
async fn a_recursor_without_edns_is_asked_without() {
    let recursor = Recursor::of(|query| {
        if query.edns.is_none() {
            return answer(query, a(1));
        }
        let mut reply = reply_to(query, ResponseCode::FormErr);
        reply.edns = None;
        reply
    })
    .await;
    let server = Server::forwarding(&[recursor.address()], |_| ());
    let query = with_edns(question("www.example.", RecordType::A), 1232, false);
    let reply = exchange(server.dns(), &query).await;
    assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
    assert!(reply.edns.is_some());
}

#[tokio::test]
async fn the_log_says_what_is_wrong_with_a_recursor() {
    let garbage = Recursor::start(|asked| {
        let mut bytes = answer(&asked.message, a(2)).to_vec().unwrap();
        bytes.truncate(bytes.len() - 2);
        vec![bytes]
    })
    .await;
    for (recursor, expected) in [
        (garbage.address(), "replied with something that is no DNS message for the question"),
        (nobody().await, "does not reply"),
    ] {
        let address = recursor.to_string();
        let env = [("FINGERPOST_RECURSORS", address.as_str())];
        let args = ["demo", "--dns", ANY_PORT, "--admin", ANY_PORT];
        let demo = Program::start(&args, &env);
        demo.ready().await;
        ask(demo.dns_address().await, "www.example.", RecordType::A).await;
        let said = async || demo.stderr().contains(&format!("a recursor {expected}"));
        eventually(expected, said).await;
    }
}

/// What a recursor sends back to a query.
type Script = Box<dyn Fn(&Message) -> Vec<u8> + Send + Sync>;

/// Whatever it says of EDNS, nobody waits for it, and no other is asked.
#[tokio::test]
async fn who_cannot_read_edns_may_say_so_in_any_way() {
    let without_question = |code: u8| {
        move |query: &Message| {
            let [high, low] = query.metadata.id.to_be_bytes();
            // RFC 1035 §4.1.1: QR and RD, RA and the code, and four counts.
            vec![high, low, 0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    };
    let badvers = |query: &Message| reply_to(query, ResponseCode::BADVERS).to_vec().unwrap();
    let scripts: [(Script, &str); 3] = [
        (Box::new(without_question(1)), "FORMERR without a question"),
        (Box::new(without_question(4)), "NOTIMP without a question"),
        (Box::new(badvers), "BADVERS"),
    ];
    for (script, what) in scripts {
        let recursor = Recursor::start(move |asked| {
            let query = &asked.message;
            let good = || answer(query, a(1)).to_vec().unwrap();
            vec![if query.edns.is_none() { good() } else { script(query) }]
        })
        .await;
        let other = Recursor::of(|query| answer(query, a(2))).await;
        let server = Server::forwarding(&[recursor.address(), other.address()], |config| {
            config.recursion.recursor_timeout = Duration::from_secs(60);
        });
        let reply = ask(server.dns(), "www.example.", RecordType::A).await;
        let expected = "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1";
        assert_eq!(zone_text(&reply), expected, "{what}");
        assert_eq!((recursor.seen().len(), other.seen().len()), (2, 0), "{what}");
    }
}

#[tokio::test]
async fn an_error_without_its_question_makes_the_next_be_asked() {
    let refusing = Recursor::start(|asked| {
        let mut reply = reply_to(&asked.message, ResponseCode::Refused);
        reply.queries.clear();
        vec![reply.to_vec().unwrap()]
    })
    .await;
    let good = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[refusing.address(), good.address()], |config| {
        config.recursion.recursor_timeout = Duration::from_secs(60);
    });
    let reply = ask(server.dns(), "www.example.", RecordType::A).await;
    assert_eq!(zone_text(&reply), "NOERROR rd ra\nanswer www.example. 3600 IN A 192.0.2.1");
    assert_eq!(refusing.seen().len(), 1);
}

#[tokio::test]
async fn a_code_that_needs_edns_is_passed_on_to_who_has_it() {
    // RFC 8945 §5.3: 18 is BADTIME, which no other recursor knows better.
    let recursor = Recursor::saying(ResponseCode::BADTIME).await;
    let other = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[recursor.address(), other.address()], |_| ());
    let query = question("www.example.", RecordType::A);
    let reply = exchange(server.dns(), &with_edns(query.clone(), 1232, false)).await;
    assert_eq!(zone_text(&reply), "BADTIME rd ra");
    assert_eq!(zone_text(&exchange(server.dns(), &query).await), "SERVFAIL rd ra");
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn questions_under_way_have_a_bound() {
    let recursor =
        Recursor::held(|asked| vec![answer(&asked.message, a(1)).to_vec().unwrap()]).await;
    let server = Server::forwarding(&[recursor.address()], |config| {
        config.recursion.in_flight_max = 1;
        config.recursion.recursor_timeout = Duration::from_secs(60);
    });
    let first = ask(server.dns(), "a.example.", RecordType::A);
    let second = ask(server.dns(), "b.example.", RecordType::A);
    let releasing = async {
        eventually("both wait", async || {
            value(&scrape(&server).await, "fingerpost_forward_cache_misses_total") == 2.0
        })
        .await;
        assert_eq!(value(&scrape(&server).await, "fingerpost_forward_in_flight"), 1.0);
        assert_eq!(recursor.seen().len(), 1);
        recursor.release(2);
    };
    let (first, second, ()) = tokio::join!(first, second, releasing);
    assert_eq!((first.answers.len(), second.answers.len()), (1, 1));
}

#[tokio::test]
async fn each_recursor_is_counted() {
    let bad = Recursor::saying(ResponseCode::Refused).await;
    let good = Recursor::of(|query| answer(query, a(1))).await;
    let server = Server::forwarding(&[nobody().await, bad.address(), good.address()], |config| {
        config.recursion.recursor_timeout = Duration::from_millis(500);
    });
    ask(server.dns(), "www.example.", RecordType::A).await;
    let metrics = scrape(&server).await;
    let of = |recursor: SocketAddr, rcode| {
        let labels = format!("{{rcode=\"{rcode}\",recursor=\"{recursor}\"}}");
        value(&metrics, &format!("fingerpost_forward_responses_total{labels}"))
    };
    assert_eq!(of(bad.address(), "REFUSED"), 1.0);
    assert_eq!(of(bad.address(), "NOERROR"), 0.0);
    assert_eq!(of(good.address(), "NOERROR"), 1.0);
    assert!(metrics.contains("fingerpost_forward_failures_total{kind=\"network\""));
}
