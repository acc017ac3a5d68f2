//! What the tests of this folder share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::config::{ConsulAddress, ConsulConfig};

/// A configuration for the URLs `addresses`, patient enough for a slow machine.
pub(super) fn config(addresses: &[&str]) -> ConsulConfig {
    ConsulConfig {
        addresses: addresses.iter().map(|&url| ConsulAddress::Http(url.to_owned())).collect(),
        datacenter: None,
        token: None,
        token_file: None,
        http_auth: None,
        ca_file: None,
        ca_path: None,
        cert_file: None,
        key_file: None,
        tls_server_name: None,
        tls_verify: true,
        namespace: None,
        partition: None,
        wait: Duration::from_secs(10),
        timeout: Duration::from_secs(10),
        connections_max: 8,
        connections_spare: 2,
        streams_max: 8,
        response_bytes_max: 1_000_000,
        backoff_min: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
    }
}

/// What the server does with one request.
pub(super) enum Act {
    Closes,
    Hangs,
    Sends(String),
}

/// Listens on a free port until its test ends.
pub(super) struct Server {
    pub(super) address: String,
    /// The heads of the requests so far, as sent.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Does `acts` in order, then hangs.
    pub(super) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let heads = Arc::clone(&requests);
        let mut acts: VecDeque<Act> = acts.into_iter().collect();
        TaskTracker::new().spawn(async move {
            let mut open = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                match acts.pop_front() {
                    Some(Act::Closes) => (),
                    Some(Act::Sends(reply)) => stream.write_all(reply.as_bytes()).await.unwrap(),
                    Some(Act::Hangs) | None => open.push(stream),
                }
            }
        });
        Self { address, requests }
    }

    /// The first lines of the requests, without the method and the version.
    pub(super) fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    pub(super) fn head(&self) -> String {
        self.requests.lock().unwrap()[0].clone()
    }
}

pub(super) fn sends(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Sends(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

pub(super) fn ok(index: u64, body: &str) -> Act {
    sends("200 OK", &format!("X-Consul-Index: {index}\r\n"), body)
}
