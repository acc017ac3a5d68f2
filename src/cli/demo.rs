//! `fingerpost demo`: the same server on a catalogue that is compiled in.

use std::io::Write as _;

use tracing::warn;

use crate::app::{App, Origin};
use crate::cli::files;
use crate::cli::serve;
use crate::config::{Config, Flags, Loaded, Sources};
use crate::dns::handed::Handed;
use crate::file;
use crate::telemetry;

/// Serves the demo catalogue until SIGTERM or SIGINT; returns the exit status.
pub fn run(env: Vec<(String, String)>, flags: Flags) -> u8 {
    let mut err = std::io::stderr();
    let Loaded { config, remarks } = match Config::load(Sources { file: None, env, flags }) {
        Ok(loaded) => loaded,
        Err(errors) => {
            writeln!(err, "{errors}").ok();
            return EX_CONFIG;
        }
    };
    let _log = telemetry::start(config.log);
    for remark in remarks {
        warn!("{remark}");
    }
    let mistakes = files::of_dns(&config);
    if !mistakes.is_empty() {
        writeln!(err, "{}", mistakes.join("\n")).ok();
        return EX_CONFIG;
    }
    let catalog = match file::parse(file::DEMO) {
        Ok(catalog) => catalog,
        Err(mistakes) => {
            writeln!(err, "the catalogue that is compiled in: {mistakes}").ok();
            return EX_FAILURE;
        }
    };
    serve::status(serve::start(
        config,
        Origin::Fixed(catalog.changes()),
        Handed::default(),
        print_hints,
    ))
}

/// What to try, with the addresses that were bound.
fn print_hints(app: &mut App) {
    let (Ok(addresses), Ok(admin)) = (app.addresses(), app.admin_address()) else { return };
    let Some(dns) = addresses.dns.first() else { return };
    let (ip, port, zone) = (dns.ip(), dns.port(), app.domain());
    // Nobody reading is no reason not to serve.
    writeln!(
        std::io::stdout(),
        "Answering from a demo catalogue. Try:\n\
         \n\
         \x20 dig @{ip} -p {port} web.dc1.{zone}\n\
         \x20 dig @{ip} -p {port} web.service.{zone} SRV\n\
         \x20 dig @{ip} -p {port} v1.web.service.{zone}\n\
         \n\
         \x20 curl http://{admin}/metrics\n\
         \x20 http://{admin}/ in a browser\n"
    )
    .ok();
}

const EX_CONFIG: u8 = 78;

const EX_FAILURE: u8 = 1;
