//! A secret goes to Consul and nowhere else, whatever is logged and whatever Consul answers.

use serde_json::json;

use crate::support::fake_consul::{FakeConsul, Reply};
use crate::support::program::{ANY_PORT, Program};
use crate::support::stage::{self, NODES, SERVICES, health};
use crate::support::wait::eventually;

#[tokio::test]
async fn token_and_password_are_sent_and_never_shown() {
    let consul = stage::consul(&["web"]).await;
    consul.set("/v1/catalog/datacenters", 1, &json!(["dc1", "dc2"]));
    for (level, auth) in [("info", ""), ("trace", ""), ("trace", AUTH)] {
        check(&consul, level, auth).await;
    }
}

async fn check(consul: &FakeConsul, level: &str, auth: &str) {
    // Whatever is between us and Consul may send back what it was sent.
    let echo = format!("{TOKEN} of {PASSWORD}: {ENCODED}");
    for path in [SERVICES, NODES, &health("web")] {
        consul.script(path, Reply::status(403, &echo));
        consul.script(path, Reply::status(500, &echo));
        consul.script(path, Reply::close());
        consul.script(path, Reply::ok(9, &json!([echo])).half());
        consul.script(path, Reply::ok(9, &json!(echo)));
    }
    let asked_before = consul.requests().len();
    let url = consul.url();
    let args = ["serve", "--dns", ANY_PORT, "--admin", ANY_PORT, "--consul", &url];
    let env = [
        ("CONSUL_HTTP_TOKEN", TOKEN),
        // Empty is not set.
        ("CONSUL_HTTP_AUTH", auth),
        ("FINGERPOST_LOG_LEVEL", level),
        ("FINGERPOST_CONSUL_BACKOFF_MIN", "10ms"),
        ("FINGERPOST_CONSUL_BACKOFF_MAX", "50ms"),
    ];
    let mut program = Program::start(&args, &env);
    program.ready().await;
    let admin = program.admin_address().await;
    let mut shown = String::new();
    for path in ["metrics", "ready", "health"] {
        let url = format!("http://{admin}/{path}");
        shown += &reqwest::get(url).await.unwrap().text().await.unwrap();
    }
    let lost = async || program.stderr().contains("does not tell of this datacenter");
    eventually("the log tells of a failure", lost).await;
    program.signal("TERM");
    assert_eq!(program.status().await, Some(0));

    shown += &(program.stdout() + &program.stderr());
    let hidden = if auth.is_empty() { &[TOKEN][..] } else { &[TOKEN, PASSWORD, ENCODED] };
    for secret in hidden {
        assert!(!shown.contains(secret), "{secret} is shown at level {level}:\n{shown}");
    }
    for request in &consul.requests()[asked_before..] {
        let sent = ["x-consul-token", "authorization"].map(|name| request.headers.get(name));
        let basic = (!auth.is_empty()).then(|| format!("Basic {ENCODED}"));
        assert_eq!(sent, [Some(&TOKEN.to_owned()), basic.as_ref()], "{request:?}");
    }
}

const TOKEN: &str = "70c3d2aa-1b5e-0000-4000-00000000f00d";

const PASSWORD: &str = "open-sesame";

const AUTH: &str = "user:open-sesame";

/// The same as RFC 7617 sends it.
const ENCODED: &str = "dXNlcjpvcGVuLXNlc2FtZQ==";
