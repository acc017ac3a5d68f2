//! The one place where the parts meet.
//!
//! [`App::bind`] opens every socket, so that a taken port stops the program before it has
//! promised anything; [`App::run`] starts the parts, and ends when all of them have.
//!
//! ```text
//!   source (Consul or file) --publisher--> store <--front-- UDP threads, TCP and admin tasks
//!        ^------------------ demands: what an answer lacked -----------------┤
//!   forwarder (recursors) <--- demands: names that are not ours --------------┘
//!   warm (the snapshot file) --at start--> publisher;  store --if it changed--> warm
//! ```

pub mod cookies;
pub mod handing;
pub mod listening;
pub mod reload;
pub mod reporting;
pub mod settings;
pub mod source;
pub mod tapping;
pub mod warming;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::admin::{self, Admin, Explain};
use crate::answer::{Policy, Transport};
use crate::app::listening::{Addresses, Listening, Workers};
use crate::app::reload::Reloader;
use crate::app::reporting::{Reporting, Subject};
use crate::app::source::Source;

use crate::board::Board;
use crate::catalog::Change;
use crate::clock::Clock;
use crate::config::{Config, ShutdownConfig};
use crate::consul;
use crate::demand::{Demand, Demands, Served};
use crate::dns::accept;
use crate::dns::handed::{Handed, Role};
use crate::dns::peer::Peer;
use crate::dns::{Front, Limit, Limits, Parts};
use crate::file;
use crate::forward;
use crate::forward::Forwarder;
use crate::metrics::Metrics;
use crate::name::Zone;
use crate::news::News;
use crate::publisher::Publisher;
use crate::store::{Cell, Store};
use crate::supervisor::Supervisor;
use crate::tap::Tap;

pub use settings::{policy, rules};

/// Where the catalogue comes from.
#[derive(Debug)]
pub enum Origin {
    /// A Consul, by its blocking queries.
    Consul(consul::Client),
    /// A file: its contents when the program started, and where it is.
    File {
        /// Published at once.
        catalog: file::Catalog,
        /// Followed as it changes.
        path: PathBuf,
    },
    /// What is compiled in, or what a test says. It never changes.
    Fixed(Vec<Change>),
}

impl Origin {
    /// Who asks Consul, where that is where it comes from.
    fn client(&self) -> Option<consul::Client> {
        match self {
            Self::Consul(client) => Some(client.clone()),
            Self::File { .. } | Self::Fixed(_) => None,
        }
    }
}

/// The program, with every socket open and nothing running.
#[derive(Debug)]
pub struct App {
    config: Config,
    origin: Origin,
    listening: Listening,
    admin: TcpListener,
    front: Front,
    served: Served,
    publisher: Publisher,
    reloader: Arc<Reloader>,
    hosts: Arc<Cell<Vec<String>>>,
    supervisor: Option<Supervisor>,
}

impl App {
    /// Opens every socket.
    ///
    /// # Errors
    ///
    /// Fails when an address cannot be listened on; the error names it.
    pub fn bind(config: Config, origin: Origin) -> anyhow::Result<Self> {
        Self::open(config, origin, Handed::default())
    }

    /// The same, with the sockets that were `handed` over where they are.
    ///
    /// # Errors
    ///
    /// Fails as [`App::bind`] does, and when something is handed over that nobody takes.
    pub fn open(config: Config, origin: Origin, mut handed: Handed) -> anyhow::Result<Self> {
        let listening = Listening::bind(&config.dns, &mut handed)?;
        refuse_loops(&config.recursion.recursors, &listening.addresses()?.dns)?;
        let admin = config.admin.listen;
        let admin = handed
            .take_tcp(Role::Admin, admin)
            .map_or_else(|| accept::bind(admin), accept::adopt)
            .with_context(|| format!("cannot listen on {admin} for the admin port"))?;
        handed.check_taken()?;

        let zone = Zone::new(&config.domain)?;
        let clock = Clock::start();
        let cookies = cookies::make(&config.dns, clock)?;
        let store = Arc::new(Store::new(Policy { cookies, ..policy(&config)? }));
        // One lane for each UDP thread, and one that all tasks share.
        let lanes = listening.threads() + 1;
        let metrics = Metrics::register(&store, clock, lanes, config.metrics.health_series_max)?;
        let (demands, served) =
            Demands::new(config.dns.waiting_max, 3 * config.recursion.waiting_max);
        let limits = limits(&config);
        let tap = Arc::new(Tap::new(&config.log, &config.dnstap, metrics.tap.clone()));
        let (seen, counted) = (Arc::clone(&store), metrics.clone());
        let parts = Parts { store: seen, metrics: counted, clock, demands, tap: Arc::clone(&tap) };
        let front = Front::new(parts, limits);
        let (tell_rules, rules) = watch::channel(rules(&config, zone));
        let hosts = Arc::new(Cell::new(config.admin.hosts.clone()));
        let reloader = Reloader::new(
            Arc::clone(&store),
            metrics.clone(),
            clock,
            tell_rules,
            (Arc::clone(&hosts), tap),
        );
        let publisher = Publisher::new(store, metrics, rules, lanes, config.metrics.services_max);
        let (reloader, supervisor) = (Arc::new(reloader), None);
        Ok(Self {
            config,
            origin,
            listening,
            admin,
            front,
            served,
            publisher,
            reloader,
            hosts,
            supervisor,
        })
    }

    /// Has the configuration read again, from the sources that it is told.
    pub fn reloader(&self) -> Arc<Reloader> {
        Arc::clone(&self.reloader)
    }

    /// Tells `supervisor` from now on, if there is one.
    pub fn report_to(&mut self, supervisor: Option<Supervisor>) {
        self.supervisor = supervisor;
    }

    /// The addresses that DNS is answered on, with the ports that the system chose.
    ///
    /// # Errors
    ///
    /// Fails when the system does not tell.
    pub fn addresses(&self) -> io::Result<Addresses> {
        self.listening.addresses()
    }

    /// The address of the admin port.
    ///
    /// # Errors
    ///
    /// Fails when the system does not tell.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Where the catalogue comes from, in words.
    pub fn source(&self) -> String {
        match &self.origin {
            Origin::Consul(client) => format!("consul at {}", client.labels()),
            Origin::File { path, .. } => format!("catalogue file {}", path.display()),
            Origin::Fixed(_) => "a catalogue that is compiled in".to_owned(),
        }
    }

    /// The zone that is answered for.
    pub fn domain(&self) -> &str {
        &self.config.domain
    }

    /// What the program counts.
    pub fn metrics(&self) -> &Metrics {
        &self.front.metrics
    }

    /// Runs until `stop`, then finishes what is in flight, for no longer than the grace.
    ///
    /// # Errors
    ///
    /// Fails when a part cannot be started, or ends before `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let task = format!("{} from {}", self.domain(), self.source());
        let reloader = Arc::clone(&self.reloader);
        let own = (Arc::clone(&reloader), Arc::clone(&self.hosts));
        let Self { config, origin, listening, admin: port, front, served, .. } = self;
        let (mut publisher, supervisor) = (self.publisher, self.supervisor);
        // The source and the admin port outlive the listeners: queries may still wait for the
        // one, and a shutdown may be watched at the other.
        let (parts, parts_cancel) = (TaskTracker::new(), CancellationToken::new());
        port.set_nonblocking(true)?;
        let port = tokio::net::TcpListener::from_std(port)?;
        let board = Arc::new(Board::default());
        let seen = (front.clone(), Arc::clone(&board), publisher.news());
        let shown = shown(&config, seen, own, stop.clone());
        let operator = Admin::new(shown, &config.admin, parts_cancel.clone());
        let mut serving = parts.spawn(operator.serve(port, config.admin.clone()));
        let ShutdownConfig { grace, lameduck } = config.shutdown;
        let subject = Subject {
            task,
            store: Arc::clone(&front.store),
            stop: stop.clone(),
            listening: front.cancel.clone(),
            longest: lameduck + grace,
        };
        let reporting = Reporting::new(supervisor, subject);
        let client = origin.client();
        // Answers must be there before the first question is.
        let warm = warming::start(&config, &origin, &front, &mut publisher);
        let warm_cancel = CancellationToken::new();
        let kept = Arc::clone(&front.store);
        let mut keeping = parts.spawn(warming::keep(warm, kept, warm_cancel.clone()));
        let source =
            Source { origin, publisher, demands: served.source, board, clock: front.clock };
        let workers = listening.start(&config.dns, &front)?;
        tapping::start(&config.dnstap, &front, &parts, &parts_cancel);
        reporting.ready();
        reloader.report_to(reporting.clone());
        parts.spawn(reporting.clone().watch(workers.pulses(), parts_cancel.clone()));
        let forwarding = forward(&config, &front.metrics, served.forwarder, parts_cancel.clone());
        let mut forwarding = parts.spawn(forwarding);
        let metrics = front.metrics.clone();
        let mut filling = parts.spawn(source.run(config, metrics, parts_cancel.clone()));

        // No part ends by itself. Without the source answers would grow old unnoticed, so
        // whoever started us is to start us again.
        let ended = tokio::select! {
            () = last_answers(&stop, lameduck, &reporting) => Ok(()),
            ended = &mut filling => Err(broken("the source of the catalogue", ended.err())),
            ended = &mut forwarding => Err(broken("the forwarder", ended.err())),
            ended = &mut keeping => Err(broken("the keeper of the snapshot file", ended.err())),
            ended = &mut serving => Err(broken("the admin port", ended.err())),
        };
        // Where a part has ended, nobody else has said so yet.
        stop.cancel();
        info!(?grace, "stopping");
        client.iter().for_each(consul::Client::hold_no_more);
        // Written while the listeners finish, as these may take all of the grace.
        warm_cancel.cancel();
        let stopped = finish(&front, workers, (&parts, &parts_cancel));
        if timeout(grace, stopped).await.is_err() {
            warn!(?grace, "not everything was finished within the grace, the rest is dropped");
        }
        info!("stopped");
        ended
    }
}

/// Lets the listeners answer what they have, and then ends the other parts.
async fn finish(
    front: &Front,
    workers: Workers,
    (parts, cancel): (&TaskTracker, &CancellationToken),
) {
    front.cancel.cancel();
    workers.join().await;
    front.tasks.close();
    front.tasks.wait().await;
    cancel.cancel();
    parts.close();
    parts.wait().await;
}

/// What the admin port shows.
fn shown(
    config: &Config,
    (front, board, news): (Front, Arc<Board>, News),
    (reloader, hosts): (Arc<Reloader>, Arc<Cell<Vec<String>>>),
    stopping: CancellationToken,
) -> admin::Parts {
    admin::Parts {
        store: Arc::clone(&front.store),
        metrics: front.metrics.clone(),
        board,
        news,
        clock: front.clock,
        explain: explainer(config, &front),
        reload: Arc::new(move || reloader.reload()),
        hosts,
        stopping,
    }
}

/// Until `stop`, and for the lameduck from then on, which whoever asks `/ready` has to go elsewhere.
async fn last_answers(stop: &CancellationToken, lameduck: Duration, reporting: &Reporting) {
    stop.cancelled().await;
    reporting.stopping();
    if !lameduck.is_zero() {
        info!(?lameduck, "not ready any more, answering still");
        sleep(lameduck).await;
    }
}

/// Explains what `front` would answer over UDP.
fn explainer(config: &Config, front: &Front) -> Explain {
    let front = front.clone();
    // Where it listens everywhere, nobody knows which address would be asked.
    let local = config.dns.listen.first().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
    Arc::new(move |query, client| {
        let front = front.clone();
        let peer = Peer { transport: Transport::Udp, client, client_port: 0, local, local_port: 0 };
        Box::pin(async move { front.explain(&query, &peer).await })
    })
}

/// Serves names that are not ours. Without recursors nobody asks for them.
fn forward(
    config: &Config,
    metrics: &Metrics,
    demands: mpsc::Receiver<Demand>,
    cancel: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let payload = config.dns.udp_payload_max;
    let forwarder = Forwarder::new(&config.recursion, payload, metrics.forward.clone());
    forwarder.run(demands, cancel)
}

/// Fails where a recursor is one of our own sockets: a question would come back for ever.
///
/// The configuration knows no ports that the system chose, and not what a wildcard stands for.
fn refuse_loops(recursors: &[SocketAddr], listeners: &[SocketAddr]) -> anyhow::Result<()> {
    for (recursor, listen) in
        recursors.iter().flat_map(|recursor| listeners.iter().map(move |listen| (recursor, listen)))
    {
        let is_same_port = recursor.port() == listen.port();
        let is_same_ip = recursor.ip() == listen.ip() || {
            let is_of_family = listen.is_ipv4() == recursor.is_ipv4();
            let is_wildcard = listen.ip().is_unspecified() && is_of_family;
            // An address that can be bound is one of this machine.
            is_wildcard && std::net::UdpSocket::bind((recursor.ip(), 0)).is_ok()
        };
        if is_same_port && is_same_ip {
            anyhow::bail!("the recursor {recursor} is this server, which listens on {listen}");
        }
    }
    Ok(())
}

/// A part that ended before it was told to.
fn broken(part: &str, panic: Option<JoinError>) -> anyhow::Error {
    match panic {
        Some(panic) => anyhow::Error::new(panic).context(format!("{part} broke")),
        None => anyhow::anyhow!("{part} ended"),
    }
}

fn limits(config: &Config) -> Limits {
    let (dns, recursion) = (&config.dns, &config.recursion);
    Limits {
        source: Limit { waiting_max: dns.waiting_max, patience: config.cache.patience },
        // The forwarder itself refuses what is beyond its bounds: so many questions, and as many that
        // wait for the same. What it has in memory needs a place as well, if only for a moment.
        forwarder: Limit {
            waiting_max: 3 * recursion.waiting_max,
            patience: forward::patience(recursion),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recursor_that_is_this_server_is_refused() {
        for (recursor, listen, expected) in [
            ("127.0.0.1:5300", "127.0.0.1:5300", "refused"),
            ("127.0.0.1:5300", "127.0.0.1:5301", "ok"),
            ("127.0.0.2:5300", "127.0.0.1:5300", "ok"),
            // of a wildcard are the addresses of this machine, and no others
            ("127.0.0.9:5300", "0.0.0.0:5300", "refused"),
            ("192.0.2.1:5300", "0.0.0.0:5300", "ok"),
            ("127.0.0.9:5300", "0.0.0.0:5301", "ok"),
            ("127.0.0.9:5300", "[::]:5300", "ok"),
        ] {
            let listen = listen.parse().unwrap();
            let refused = refuse_loops(&[recursor.parse().unwrap()], &[listen]);
            let got = refused.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            let expected = match expected {
                "refused" => {
                    format!("the recursor {recursor} is this server, which listens on {listen}")
                }
                other => other.to_owned(),
            };
            assert_eq!(got, expected, "{recursor} and {listen}");
        }
    }
}
