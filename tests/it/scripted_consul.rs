//! The scripted Consul shows the faults that it is told to show.

use serde_json::json;

use crate::support::choose_crypto;
use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::wait::{eventually, within};

const PATH: &str = "/v1/health/service/web";

#[tokio::test]
async fn a_request_below_the_index_is_answered_at_once() {
    let consul = FakeConsul::start().await;
    consul.set(PATH, 7, &json!(["a"]));

    assert_eq!(get(&consul, "").await, (200, "7".to_owned(), "[\"a\"]".to_owned()));
    assert_eq!(get(&consul, "?index=6&wait=60s").await.1, "7");

    let seen = consul.requests_for(PATH);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].query["index"], "6");
    assert!(seen[1].headers.contains_key("host"));
}

#[tokio::test]
async fn a_request_at_the_index_is_held_until_something_changes() {
    let consul = FakeConsul::start().await;
    consul.set(PATH, 7, &json!(["a"]));

    for (change, expected) in [
        (&(|| consul.set(PATH, 8, &json!(["b"]))) as &dyn Fn(), (200, "8", "[\"b\"]")),
        (&|| consul.release(PATH), (200, "8", "[\"b\"]")),
        (&|| consul.set(PATH, 3, &json!([])), (200, "3", "[]")),
        (&|| consul.script(PATH, Reply::status(500, "no leader")), (500, "", "no leader")),
    ] {
        let arrived = consul.requests().len() + 1;
        let held = get(&consul, "?index=8");
        let change = async {
            let requests = async || consul.requests().len() == arrived;
            eventually("the request has arrived", requests).await;
            change();
        };
        let ((status, index, body), ()) = tokio::join!(held, change);
        assert_eq!((status, index.as_str(), body.as_str()), expected);
    }
}

#[tokio::test]
async fn scripted_replies_come_in_order_and_before_the_standing_one() {
    let consul = FakeConsul::start().await;
    consul.set(PATH, 7, &json!([]));
    consul.script(PATH, Reply::status(429, "slow down").header("Retry-After", "1"));
    consul.script(PATH, Reply::ok(0, &json!(null)));
    consul.script(PATH, Reply::ok(9, &json!(["a"])).empty());
    consul.script(PATH, Reply::ok(9, &json!(["a"])).without("X-Consul-Index").body("{"));

    assert_eq!(get(&consul, "").await, (429, String::new(), "slow down".to_owned()));
    assert_eq!(get(&consul, "").await, (200, "0".to_owned(), "null".to_owned()));
    assert_eq!(get(&consul, "").await, (200, "9".to_owned(), String::new()));
    assert_eq!(get(&consul, "").await, (200, String::new(), "{".to_owned()));
    assert_eq!(get(&consul, "").await, (200, "7".to_owned(), "[]".to_owned()));
}

#[tokio::test]
async fn connections_break_where_the_script_says() {
    let consul = FakeConsul::start().await;
    choose_crypto();
    consul.script(PATH, Reply::close());
    let closed = within("an error", client().get(url(&consul)).send()).await;
    assert!(closed.is_err());

    consul.script(PATH, Reply::ok(9, &json!(["a", "b"])).half());
    let half = within("the head", client().get(url(&consul)).send()).await.unwrap();
    assert_eq!(half.content_length(), Some(9));
    assert!(within("an error", half.bytes()).await.is_err());

    consul.script(PATH, Reply::hang());
    let mut hanging = Box::pin(client().get(url(&consul)).send());
    let arrived = consul.requests().len() + 1;
    tokio::select! {
        reply = &mut hanging => panic!("a reply where none was due: {reply:?}"),
        () = eventually("the request", async || consul.requests().len() == arrived) => (),
    }
    assert!(consul.connections_most() >= 1);
}

async fn get(consul: &FakeConsul, query: &str) -> (u16, String, String) {
    choose_crypto();
    let url = format!("{}{query}", url(consul));
    let reply = within("a reply", client().get(url).send()).await.unwrap();
    let index = reply.headers().get("X-Consul-Index");
    let index = index.map_or("", |index| index.to_str().unwrap()).to_owned();
    (reply.status().as_u16(), index, reply.text().await.unwrap())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn url(consul: &FakeConsul) -> String {
    format!("{}{PATH}", consul.url())
}
