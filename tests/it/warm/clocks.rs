//! Snapshot files of a clock that was wrong when they were written, or is now.

use std::fs;
use std::time::{Duration, SystemTime};

use fingerpost::warm::seal;
use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::warm::ground::{Ground, metric, told};

/// A file of the services `a`, right when it was written, and `b` and `c`, last fetched so many
/// seconds before.
fn write(ground: &Ground, saved_unix_ms: i64, modified: SystemTime) {
    let service = |name: &str, age_secs: Option<i64>| {
        let mut service = json!({ "name": name, "instances": [{
            "id": name, "on": "n1", "port": 80, "weights": [1, 1], "health": "passing",
        }] });
        if let Some(secs) = age_secs {
            service["since_unix_ms"] = Value::from(saved_unix_ms - 1_000 * secs);
        }
        service
    };
    let place = json!({
        "name": "dc1",
        "nodes": [{ "name": "n1", "address": "10.0.0.1" }],
        "services": [service("a", None), service("b", Some(600)), service("c", Some(7_200))],
    });
    let text = json!({ "datacenters": [place] }).to_string();
    let head = seal::head(text.as_bytes(), saved_unix_ms);
    fs::write(ground.file(), [&head[..], text.as_bytes()].concat()).unwrap();
    let file = fs::File::options().append(true).open(ground.file()).unwrap();
    file.set_modified(modified).unwrap();
}

/// What is said of the services by a program that hears no Consul and answers what is an hour old at
/// most, and how old its file seems.
async fn said(saved_unix_ms: i64, modified: SystemTime) -> (String, f64) {
    let mut ground = Ground::new("http://127.0.0.1:9");
    ground.set("FINGERPOST_DNS_CONFIG_MAX_STALE", "1h");
    write(&ground, saved_unix_ms, modified);
    let program = ground.serve().await;
    let mut codes = Vec::new();
    for name in ["a", "b", "c"] {
        let (text, code) = told(&program, &format!("{name}.service.consul"), RecordType::A).await;
        codes.push(format!("{} {}", text.split(' ').next().unwrap(), code.unwrap_or_default()));
    }
    (codes.join(", "), metric(&program, "fingerpost_snapshot_age_seconds").await)
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64
}

#[tokio::test]
async fn a_file_from_the_future_is_answered_as_old_and_not_refused() {
    let later = SystemTime::now() + Duration::from_secs(86_400);
    let (codes, age_secs) = said(unix_ms(later), later).await;
    // When c was fetched seems to be in the future too.
    assert_eq!(codes, "NOERROR 3, NOERROR 3, NOERROR 3");
    assert!((0.0..60.0).contains(&age_secs), "{age_secs}");
}

#[tokio::test]
async fn a_file_of_a_machine_that_did_not_know_the_time_is_answered() {
    // Some hours after it was switched on, when it is in 1970 still.
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
    for modified in [begin, SystemTime::now() - Duration::from_secs(60)] {
        let (codes, age_secs) = said(unix_ms(begin), modified).await;
        assert_eq!(codes, "NOERROR 3, NOERROR 3, SERVFAIL 22", "{modified:?}");
        assert!((0.0..120.0).contains(&age_secs), "{age_secs}");
    }
}

#[tokio::test]
async fn how_old_each_thing_was_counts_with_the_age_of_the_file() {
    for (age_secs, expected) in [
        (60, "NOERROR 3, NOERROR 3, SERVFAIL 22"),
        (3_500, "NOERROR 3, SERVFAIL 22, SERVFAIL 22"),
        (3_700, "SERVFAIL 22, SERVFAIL 22, SERVFAIL 22"),
    ] {
        let saved = SystemTime::now() - Duration::from_secs(age_secs);
        assert_eq!(said(unix_ms(saved), saved).await.0, expected, "{age_secs} s old");
    }
}
