//! The bare fetches beside a start: the same bodies, over as many connections, and nothing done with
//! them.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::catalog::name;
use crate::figures::pin;
use crate::site::line;
use crate::support::authority::SERVER;

/// What one run of the fetches took, from the start of its process.
pub struct Fetched {
    pub taken: Duration,
    pub bytes: u64,
}

/// Fetches all of a catalog in a process of its own, on core 0.
pub fn run(consul: SocketAddr, services: usize, connections: usize, ca: &Path) -> Fetched {
    let program = std::env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    command.arg("--fetch").arg(consul.to_string());
    command.args([services.to_string(), connections.to_string()]).arg(ca);
    command.stdout(Stdio::piped());
    pin("0");
    let since = Instant::now();
    let mut child = command.spawn().expect("a process that fetches");
    pin("1");
    let bytes = line(&mut child).parse().expect("a number of bytes");
    let taken = since.elapsed();
    child.wait().expect("its end");
    Fetched { taken, bytes }
}

/// The role: fetches, and prints how many bytes there were.
pub fn fetch(arguments: &[&str]) {
    let [consul, services, connections, ca] = arguments else { panic!("{arguments:?}") };
    let consul: SocketAddr = consul.parse().expect("an address");
    let [services, connections] =
        [services, connections].map(|number| number.parse::<usize>().expect("a number"));
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca).expect("a file of PEM"));
    let ca = ca.expect("a certificate");
    let client = || {
        let client = reqwest::Client::builder().tls_certs_only([ca.clone()]).no_proxy();
        client.resolve(SERVER, consul).build().expect("a client")
    };
    let clients: Vec<reqwest::Client> = (0..connections).map(|_| client()).collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let bytes = runtime.block_on(async {
        let base = format!("https://{SERVER}:{}/v1", consul.port());
        // One each first, so that each has one connection.
        let leader = format!("{base}/status/leader");
        stream::iter(&clients)
            .for_each_concurrent(None, async |client| {
                client.get(&leader).send().await.expect("a reply");
            })
            .await;
        let lists = ["catalog/services", "catalog/nodes"].map(str::to_owned);
        let services = (0..services).map(|service| format!("health/service/{}", name(service)));
        let bodies = stream::iter(lists.into_iter().chain(services).enumerate());
        let bodies = bodies.map(async |(at, path)| {
            let url = format!("{base}/{path}?consistent");
            get(&clients[at % clients.len()], &url).await
        });
        let bodies = bodies.buffer_unordered(STREAMS * clients.len());
        bodies.fold(0, async |sum, bytes| sum + bytes).await
    });
    println!("{bytes}");
}

/// The length of a body.
async fn get(client: &reqwest::Client, url: &str) -> u64 {
    let reply = client.get(url).send().await.expect("a reply");
    assert_eq!(reply.status(), 200, "{url}");
    reply.bytes().await.expect("a whole body").len() as u64
}

/// Streams of a connection at once, as the server has them.
const STREAMS: usize = 200;
