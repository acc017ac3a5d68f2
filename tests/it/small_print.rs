//! The protocol's small print: cookies, NSID, padding, keepalive and signatures, of which each way
//! to ask has its own share.

mod by_dig;

use std::net::SocketAddr;

use fingerpost::answer::{
    Asked, CookieCheck, Cookies, Draft, Outcome, Policy, Transport, Turn, respond,
};
use fingerpost::config::{Config, Secret};
use fingerpost::file;
use fingerpost::wire::query::has_keepalive;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::checklist::server;
use crate::support::dns::{Tcp, Udp, exchange, question, with_edns, zone_text};
use crate::support::metrics::{scrape, value};
use crate::support::recursor::{Recursor, reply_to};
use crate::support::server::Server;
use crate::support::straight::{Core, policy, rules};

const NODE: &str = "NOERROR aa rd\nanswer n1.node.consul. 0 IN A 10.0.0.1";

/// As in the IANA registry of EDNS options.
const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

const ALL: [Transport; 6] = [
    Transport::Https,
    Transport::Https3,
    Transport::Quic,
    Transport::Tcp,
    Transport::Tls,
    Transport::Udp,
];

/// A core with the demo's catalogue.
fn demo(policy: Policy) -> Core {
    Core::new(rules(), policy, file::parse(file::DEMO).unwrap().changes())
}

/// A query for a node's address with these options.
fn query(options: &[(u16, &[u8])]) -> Message {
    asking("n1.node.consul.", RecordType::A, options)
}

fn asking(name: &str, qtype: RecordType, options: &[(u16, &[u8])]) -> Message {
    let mut message = with_edns(question(name, qtype), 1232, false);
    for (code, data) in options {
        let option = EdnsOption::Unknown(*code, data.to_vec());
        message.edns.as_mut().unwrap().options_mut().insert(option);
    }
    message
}

/// What an option of a reply holds.
fn option(reply: &Message, code: u16) -> Option<Vec<u8>> {
    let option = reply.edns.as_ref()?.option(EdnsCode::from(code))?;
    Some(Vec::try_from(option).unwrap())
}

fn read(reply: &[u8]) -> Message {
    Message::from_vec(reply).unwrap()
}

/// RFC 7830 §4, RFC 8467 §4.1.
#[test]
fn replies_that_nobody_can_read_on_the_way_hide_their_length_too() {
    let mut core = demo(policy());
    let names = [("n1.node.consul.", RecordType::A), ("many.service.consul.", RecordType::SRV)];
    for (name, qtype) in names.into_iter().chain([("nope.consul.", RecordType::A)]) {
        let padded = asking(name, qtype, &[(PADDING, &[0; 100])]).to_vec().unwrap();
        let bare = asking(name, qtype, &[]).to_vec().unwrap();
        for transport in ALL {
            let is_encrypted = !matches!(transport, Transport::Tcp | Transport::Udp);
            let reply = core.ask(&padded, transport, 7).to_vec();
            let padding = option(&read(&reply), PADDING);
            assert_eq!(padding.is_some(), is_encrypted, "{name} {transport:?}");
            if let Some(padding) = padding {
                assert_eq!(reply.len() % 468, 0, "{name} {transport:?}: {}", reply.len());
                assert!(padding.iter().all(|byte| *byte == 0));
            }
            // Who pads nothing gets nothing padded.
            assert_eq!(option(&read(core.ask(&bare, transport, 7)), PADDING), None);
        }
    }
}

/// RFC 7828 §3.2.1, §3.3.1, §3.3.2, RFC 9250 §5.5.2.
#[test]
fn a_connection_is_told_how_long_it_may_be_idle() {
    let mut core = demo(policy());
    let (asked, timed) = (query(&[(KEEPALIVE, &[])]), query(&[(KEEPALIVE, &[0, 1])]));
    let (asked, timed) = (asked.to_vec().unwrap(), timed.to_vec().unwrap());
    let bare = query(&[]).to_vec().unwrap();
    for transport in ALL {
        let is_connection = matches!(transport, Transport::Tcp | Transport::Tls);
        let reply = read(core.ask(&asked, transport, 7));
        assert_eq!(zone_text(&reply), NODE, "{transport:?}");
        // 30 s, which is the default of dns.idle, in units of 100 ms.
        let told = is_connection.then(|| 300_u16.to_be_bytes().to_vec());
        assert_eq!(option(&reply, KEEPALIVE), told, "{transport:?}");
        assert_eq!(option(&read(core.ask(&bare, transport, 7)), KEEPALIVE), None);

        let reply = zone_text(&read(core.ask(&timed, transport, 7)));
        let expected = if is_connection { "FORMERR rd" } else { NODE };
        assert_eq!(reply, expected, "{transport:?}");
    }
    // Over QUIC this ends the connection, which its listener has to know.
    assert!(has_keepalive(&asked) && has_keepalive(&timed) && !has_keepalive(&bare));
    // So it does where the rest of the message is refused.
    let mut notify = asked.clone();
    notify[2] |= 0x20;
    assert!(has_keepalive(&notify));
}

#[test]
fn the_outcome_says_whether_the_client_is_where_it_seems_to_be() {
    let mut policy = policy();
    let snapshot = demo(policy.clone()).snapshot;
    let check = |policy: &Policy, options: &[(u16, &[u8])]| {
        let bytes = query(options).to_vec().unwrap();
        let client = "10.0.0.7".parse().unwrap();
        let asked = Asked {
            bytes: &bytes,
            transport: Transport::Udp,
            client,
            local: None,
            seed: 0,
            now_ms: 0,
            turn: Turn::First,
            near: None,
            hosts: &[],
        };
        let mut draft = Draft::default();
        match respond(&snapshot, policy, &asked, &mut draft) {
            Outcome::Replied(replied) => (replied.cookie, option(&read(&draft.reply), COOKIE)),
            outcome => panic!("{outcome:?}"),
        }
    };
    let cookie = (COOKIE, &b"myCookie"[..]);
    assert_eq!(check(&policy, &[cookie]), (CookieCheck::Absent, None));
    policy.cookies = Some(Cookies::new(&[[1; 16]], 1_700_000_000_000));
    assert_eq!(check(&policy, &[]), (CookieCheck::Absent, None));
    let (alone, first) = check(&policy, &[cookie]);
    let first = first.unwrap();
    assert_eq!((alone, &first[..8], first.len()), (CookieCheck::Alone, &b"myCookie"[..], 24));
    assert_eq!(check(&policy, &[(COOKIE, &first)]), (CookieCheck::Valid, Some(first.clone())));
    let other = [&first[..20], &[0; 4]].concat();
    assert_eq!(check(&policy, &[(COOKIE, &other)]), (CookieCheck::Wrong, Some(first)));
}

/// RFC 7873 §5.2.
#[tokio::test]
async fn cookies_are_learned_and_known_again_over_udp_and_tcp() {
    let server = server(|_| ()).await;
    let learned = learn(server.dns()).await;
    assert_eq!((&learned[..8], learned.len(), learned[8]), (&b"myCookie"[..], 24, 1));
    // The one that came is good still, over the other transport too.
    let mut tcp = Tcp::connect(server.dns()).await;
    tcp.send(&query(&[(COOKIE, &learned)]).to_vec().unwrap()).await;
    let reply = read(&tcp.receive().await.unwrap());
    assert_eq!((zone_text(&reply).as_str(), option(&reply, COOKIE)), (NODE, Some(learned.clone())));
    // A wrong one costs nothing: forwarders carry cookies from one replica to another.
    let mut wrong = learned.clone();
    wrong[23] ^= 1;
    let reply = exchange(server.dns(), &query(&[(COOKIE, &wrong)])).await;
    assert_eq!(zone_text(&reply), NODE);
    assert_eq!(option(&reply, COOKIE).unwrap()[..9], learned[..9]);
    let metrics = scrape(&server).await;
    for result in ["alone", "valid", "wrong"] {
        let series = format!("fingerpost_dns_cookies_total{{result=\"{result}\"}}");
        assert_eq!(value(&metrics, &series), 1.0, "{result}");
    }
    // Of a length that no cookie has (§5.2.2).
    let udp = Udp::connect(server.dns()).await;
    for len in [0, 7, 9, 15, 41] {
        udp.send(&query(&[(COOKIE, &vec![7; len])]).to_vec().unwrap()).await;
        let reply = read(&udp.receive().await);
        assert_eq!(zone_text(&reply), "FORMERR rd", "{len}");
        assert_eq!((reply.edns.is_some(), option(&reply, COOKIE)), (true, None));
    }
}

/// RFC 7873 §5.4: without a question there is a reply all the same, and it says what the cookie in
/// it is worth.
#[tokio::test]
async fn a_cookie_may_be_asked_for_alone() {
    let server = server(|_| ()).await;
    let learned = learn(server.dns()).await;
    let mut wrong = learned.clone();
    wrong[23] ^= 1;
    let udp = Udp::connect(server.dns()).await;
    for (sent, expected) in [
        (&learned[..8], ResponseCode::NoError),
        (&learned, ResponseCode::NoError),
        (&wrong, ResponseCode::BADCOOKIE),
    ] {
        let mut asked = query(&[(COOKIE, sent)]);
        asked.queries.clear();
        udp.send(&asked.to_vec().unwrap()).await;
        let reply = read(&udp.receive().await);
        assert_eq!((reply.metadata.response_code, reply.queries.len()), (expected, 0));
        assert_eq!(option(&reply, COOKIE).unwrap()[..9], learned[..9]);
    }
}

/// A question of 255 bytes and an identity of as many are more than 512 together.
#[test]
fn a_long_identity_gives_way_to_a_long_question() {
    let nsid = "i".repeat(255);
    let mut core = demo(Policy { nsid: Some(nsid.as_bytes().into()), ..policy() });
    let long = format!("{0}.{0}.{0}.{1}.consul.", "a".repeat(63), "b".repeat(50));
    for (name, is_told) in [("n1.node.consul.", true), (&long, false)] {
        let mut asked = asking(name, RecordType::A, &[(NSID, b"")]);
        asked.edns.as_mut().unwrap().set_max_payload(512);
        let reply = core.ask(&asked.to_vec().unwrap(), Transport::Udp, 7).to_vec();
        assert!(reply.len() <= 512, "{name}: {} bytes", reply.len());
        let told = option(&read(&reply), NSID);
        assert_eq!(told, is_told.then(|| nsid.clone().into_bytes()), "{name}");
    }
}

/// The server cookie that a client without one gets, with the client's own.
async fn learn(server: SocketAddr) -> Vec<u8> {
    let reply = exchange(server, &query(&[(COOKIE, b"myCookie")])).await;
    assert_eq!(zone_text(&reply), NODE);
    option(&reply, COOKIE).expect("a cookie")
}

#[tokio::test]
async fn replicas_with_one_secret_know_each_others_cookies() {
    let secret = |text: &str| Secret::new(text.repeat(16));
    let with = async |secrets: Vec<Secret>| server(|it| it.dns.cookie_secrets = secrets).await;
    let first = with(vec![secret("1a")]).await;
    let second = with(vec![secret("1a"), secret("2b")]).await;
    let rolled = with(vec![secret("2b"), secret("1a")]).await;
    let alien = server(|_| ()).await;
    let learned = learn(first.dns()).await;
    let again = async |server: &Server| {
        let reply = exchange(server.dns(), &query(&[(COOKIE, &learned)])).await;
        option(&reply, COOKIE).unwrap()
    };
    assert_eq!(again(&second).await, learned);
    // What was made with the secret before is replaced, and so is what nobody here made.
    for server in [&rolled, &alien] {
        let fresh = again(server).await;
        assert_eq!(fresh[..9], learned[..9]);
        assert_ne!(fresh[16..], learned[16..]);
    }
}

#[tokio::test]
async fn who_wants_no_cookies_makes_none() {
    let server = server(|it| it.dns.cookies = false).await;
    let reply = exchange(server.dns(), &query(&[(COOKIE, b"myCookie")])).await;
    assert_eq!((zone_text(&reply).as_str(), option(&reply, COOKIE)), (NODE, None));
}

#[tokio::test]
async fn secrets_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cookies");
    std::fs::write(&path, format!("# one\n{}\n", "1a".repeat(16))).unwrap();
    let from_file = server(|it| it.dns.cookie_secrets_file = Some(path.clone())).await;
    let given = server(|it| it.dns.cookie_secrets = vec![Secret::new("1a".repeat(16))]).await;
    let learned = learn(from_file.dns()).await;
    let reply = exchange(given.dns(), &query(&[(COOKIE, &learned)])).await;
    assert_eq!(option(&reply, COOKIE), Some(learned));
}

/// What the recursors say goes out with options of ours, and with none of theirs.
#[tokio::test]
async fn forwarded_replies_have_the_options_too() {
    let recursor = Recursor::of(|query| {
        let mut reply = reply_to(query, ResponseCode::NoError);
        let options = reply.edns.as_mut().unwrap().options_mut();
        options.insert(EdnsOption::Unknown(COOKIE, vec![9; 24]));
        let owner = Name::from_ascii("www.example.").unwrap();
        reply.add_answer(Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 1))));
        reply
    })
    .await;
    let change = |config: &mut Config| {
        config.dns.nsid = true;
        config.dns.identity = Some("ns-7".to_owned());
    };
    let server = Server::forwarding(&[recursor.address()], change);
    let options: [(u16, &[u8]); 3] = [(COOKIE, b"myCookie"), (NSID, b""), (KEEPALIVE, b"")];
    let asked = asking("www.example.", RecordType::A, &options);
    let expected = "NOERROR rd ra\nanswer www.example. 60 IN A 192.0.2.1";
    let over_udp = exchange(server.dns(), &asked).await;
    let mut tcp = Tcp::connect(server.dns()).await;
    tcp.send(&asked.to_vec().unwrap()).await;
    let over_tcp = read(&tcp.receive().await.unwrap());
    for (reply, told) in [(&over_udp, None), (&over_tcp, Some(vec![1, 0x2c]))] {
        assert_eq!(zone_text(reply), expected);
        assert_eq!(option(reply, COOKIE).unwrap()[..8], *b"myCookie");
        assert_eq!(option(reply, NSID).unwrap(), b"ns-7");
        assert_eq!(option(reply, KEEPALIVE), told);
    }
    // Of these options the recursor hears nothing.
    let seen = recursor.seen();
    assert!(seen.iter().all(|it| it.message.edns.as_ref().unwrap().options().options.is_empty()));
}
