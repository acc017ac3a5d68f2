//! `fingerpost serve`: reads the configuration, binds, runs until a signal.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::app::handing;
use crate::app::listening::Addresses;
use crate::app::reload::Reloader;
use crate::app::{App, Origin};
use crate::build;
use crate::cli::files;
use crate::config::{Config, Flags, Loaded, Sources};
use crate::dns::descriptors;
use crate::dns::handed::Handed;
use crate::supervisor::Supervisor;
use crate::telemetry;

/// Serves until SIGTERM or SIGINT; returns the exit status.
pub fn run(config: Option<&Path>, env: Vec<(String, String)>, flags: Flags) -> u8 {
    let mut sources = Sources { file: None, env: env.clone(), flags };
    if let Some(path) = config {
        match std::fs::read_to_string(path) {
            Ok(text) => sources.file = Some((path.to_owned(), text)),
            Err(error) => return refuse(&format!("{}: {error}", path.display())),
        }
    }
    let Loaded { mut config, remarks } = match Config::load(sources.clone()) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors.to_string()),
    };
    let _log = telemetry::start(config.log);
    // Before there are threads, as it asks for that.
    let handed = match Handed::from_systemd(&env) {
        Ok(handed) => handed,
        Err(error) => return refuse(&format!("{:#}", anyhow::Error::from(error))),
    };
    if let Err(error) = handing::listen_on(&mut config, &handed) {
        return refuse(&format!("{error:#}"));
    }
    let supervisor = supervisor(&env);
    for remark in remarks {
        warn!("{remark}");
    }
    let origin = match files::open(&config) {
        Ok(origin) => origin,
        Err(mistakes) => return refuse(&mistakes.join("\n")),
    };
    let started = start(config, origin, handed, |app| {
        app.reloader().set_sources(sources);
        app.report_to(supervisor);
    });
    status(started)
}

/// Runs the app on a runtime of its own; `listening` is told once every socket is open. Returns the
/// exit status.
///
/// # Errors
///
/// Fails when a socket or a part cannot be opened.
pub fn start(
    config: Config,
    origin: Origin,
    handed: Handed,
    listening: impl FnOnce(&mut App),
) -> anyhow::Result<u8> {
    make_room(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut app = App::open(config, origin, handed)?;
        let Addresses { dns, tls, https, https3, quic } = app.addresses()?;
        let admin = app.admin_address()?;
        let (version, source) = (build::DESCRIPTION, app.source());
        info!(version, source, ?dns, %admin, "listening");
        if !tls.is_empty() {
            info!(?tls, "listening over TLS");
        }
        if !https.is_empty() {
            info!(?https, "listening over HTTPS");
        }
        if !https3.is_empty() {
            info!(?https3, "listening over HTTP/3");
        }
        if !quic.is_empty() {
            info!(?quic, "listening over QUIC");
        }
        listening(&mut app);

        until_signals(app).await
    });
    // What is still busy after the grace is not waited for.
    runtime.shutdown_background();
    ended
}

/// Reads the configuration again, which the log tells of.
async fn reload(reloader: Arc<Reloader>) {
    // It reads files.
    spawn_blocking(move || reloader.reload()).await.ok();
}

/// Runs the app until a first signal stops it, or a second one ends it where it is. Returns the exit
/// status.
async fn until_signals(app: App) -> anyhow::Result<u8> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let reloader = app.reloader();
    let mut running = pin!(app.run(stop.clone()));
    loop {
        let name = tokio::select! {
            ended = &mut running => return ended.map(|()| 0),
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hang_up.recv() => {
                reload(Arc::clone(&reloader)).await;
                continue;
            }
        };
        if stop.is_cancelled() {
            warn!(signal = name, "told to end a second time, all that is in flight is dropped");
            return Ok(if name == "SIGINT" { EX_INTERRUPTED } else { EX_TERMINATED });
        }
        stop.cancel();
    }
}

/// Who is told how we do. That it cannot be told is no reason not to serve.
fn supervisor(env: &[(String, String)]) -> Option<Supervisor> {
    Supervisor::find(env).unwrap_or_else(|error| {
        warn!("{:#}, it is told nothing", anyhow::Error::from(error));
        None
    })
}

/// Sees to it that there are descriptors for as many connections as are configured.
fn make_room(config: &Config) {
    let connections = [
        config.dns.connections.connections_max,
        config.admin.connections_max,
        config.consul.connections_max,
        config.recursion.in_flight_max,
    ];
    let wanted = connections.into_iter().sum::<usize>() as u64 + DESCRIPTORS_BESIDE;
    match descriptors::raise(wanted) {
        Ok(limit) if limit < wanted => {
            warn!(limit, wanted, "too few file descriptors for all connections that are allowed");
        }
        Ok(_) => (),
        Err(error) => warn!(%error, wanted, "cannot make room for file descriptors"),
    }
}

/// The exit status of an app that has ended.
pub fn status(ended: anyhow::Result<u8>) -> u8 {
    match ended {
        Ok(status) => status,
        Err(error) => {
            error!("{error:#}");
            EX_FAILURE
        }
    }
}

/// Says what is wrong with the configuration, a line each, before anything was started.
fn refuse(mistakes: &str) -> u8 {
    use std::io::Write as _;

    // If standard error is gone, the status still tells.
    writeln!(std::io::stderr(), "{mistakes}").ok();
    EX_CONFIG
}

/// `EX_CONFIG` of `sysexits.h`: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// For sockets that listen, files and the runtime.
const DESCRIPTORS_BESIDE: u64 = 600;

const EX_FAILURE: u8 = 1;

// As a shell has it for a program that a signal has ended: 128 and the signal's number.
const EX_INTERRUPTED: u8 = 130;
const EX_TERMINATED: u8 = 143;
