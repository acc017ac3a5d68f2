//! The whole program on ports that the system chose, in this process.
//!
//! It runs on a thread and a runtime of its own, so a test may pause its clock, block, or end at
//! any time: dropping the server stops it and waits until all of its threads are gone.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use fingerpost::app::listening::Addresses;
use fingerpost::app::{App, Origin};
use fingerpost::config::Config;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::support::choose_crypto;
use crate::support::wait::{eventually, within};

/// A server that answers on loopback until it is dropped.
#[derive(Debug)]
pub struct Server {
    addresses: Addresses,
    admin: SocketAddr,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<anyhow::Result<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts `config` with its sockets moved to free ports of 127.0.0.1, one UDP thread.
    ///
    /// The sockets are bound when this returns; what the origin has to say may be still to come,
    /// see [`Server::ready`].
    pub fn start(mut config: Config, origin: Origin) -> Self {
        choose_crypto();
        config.dns.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        let dns = &mut config.dns;
        for listen in [
            &mut dns.tls_listen,
            &mut dns.https_listen,
            &mut dns.https3_listen,
            &mut dns.quic_listen,
        ] {
            listen.iter_mut().for_each(|address| address.set_port(0));
        }
        config.dns.workers = 1;
        config.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let app = App::bind(config, origin).unwrap();
        let (addresses, admin) = (app.addresses().unwrap(), app.admin_address().unwrap());
        let stop = CancellationToken::new();
        let (ending, ended) = oneshot::channel();
        let until = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            // Nobody listens when the server was dropped, and then nobody needs to know.
            let _ = ending.send(runtime.block_on(app.run(until)));
        });
        Self { addresses, admin, stop, ended: Some(ended), thread: Some(thread) }
    }

    /// Starts a server with an empty catalogue and these recursors, and with what `change` says.
    pub fn forwarding(recursors: &[SocketAddr], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.recursion.recursors = recursors.to_vec();
        change(&mut config);
        Self::start(config, Origin::Fixed(Vec::new()))
    }

    /// Where DNS is answered, over UDP and TCP.
    pub fn dns(&self) -> SocketAddr {
        self.addresses.dns[0]
    }

    /// Where it is answered over TLS, if it is.
    pub fn tls(&self) -> SocketAddr {
        self.addresses.tls[0]
    }

    /// Where it is answered over HTTPS, if it is.
    pub fn https(&self) -> SocketAddr {
        self.addresses.https[0]
    }

    /// Where it is answered over HTTP/3, if it is.
    pub fn https3(&self) -> SocketAddr {
        self.addresses.https3[0]
    }

    /// Where it is answered over QUIC, if it is.
    pub fn quic(&self) -> SocketAddr {
        self.addresses.quic[0]
    }

    /// Where the operator's port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Waits until `/ready` says so.
    pub async fn ready(&self) {
        let url = format!("http://{}/ready", self.admin);
        let client = reqwest::Client::new();
        eventually("the server is ready", async || {
            client.get(&url).send().await.is_ok_and(|reply| reply.status() == 200)
        })
        .await;
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(ended) = self.ended.take() {
            within("the server has ended", ended).await.unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        let thread = self.thread.take().map(JoinHandle::join);
        if matches!(thread, Some(Err(_))) && !thread::panicking() {
            panic!("the server panicked");
        }
    }
}
