//! All addresses of Consul, made anew when the files of TLS change.
//!
//! Certificates are renewed by replacing their files. The files' times and lengths are looked at
//! before a request, every five seconds at most, so no signal and no restart is needed. Requests
//! that are open end on the connections that they have; the next ones open others.
//!
//! **Invariant:** files that cannot be used change nothing: a certificate without its key, as
//! there is for a moment while both are replaced, is looked at again.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::config::ConsulConfig;
use crate::consul::address::Address;
use crate::consul::client::{Costs, SetupError};
use crate::consul::tls;
use crate::stamp::Stamp;
use crate::store::Cell;

/// The addresses, as the files of TLS are now.
pub struct Addresses {
    config: ConsulConfig,
    costs: Costs,
    /// Never empty.
    all: Cell<Vec<Address>>,
    /// `None` where no address has TLS.
    files: Option<Mutex<Files>>,
}

/// What is known of the files.
struct Files {
    /// As they were when they were read.
    stamps: Vec<Seen>,
    looked_at: Instant,
    /// Whether the last look failed, so that a bad file is one log line.
    failing: bool,
}

/// A file, as it was; nothing where there was none.
type Seen = (PathBuf, Option<Stamp>);

impl Addresses {
    /// Reads certificates; opens no connection.
    ///
    /// # Errors
    ///
    /// Fails when a file cannot be read, or when an address is none.
    pub fn new(config: &ConsulConfig, costs: Costs) -> Result<Self, SetupError> {
        let is_secure = config.addresses.iter().any(Address::is_secure);
        let files = is_secure.then(|| {
            let (stamps, looked_at) = (stamps(config), Instant::now());
            Mutex::new(Files { stamps, looked_at, failing: false })
        });
        let all = Cell::new(make(config, &costs)?);
        Ok(Self { config: config.clone(), costs, all, files })
    }

    /// The addresses to ask now, in the order in which they are configured.
    pub fn current(&self) -> Arc<Vec<Address>> {
        if let Some(files) = &self.files {
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            if files.looked_at.elapsed() >= LOOK_EVERY {
                self.look_again(&mut files);
            }
        }
        Arc::clone(&self.all.load())
    }

    fn look_again(&self, files: &mut Files) {
        files.looked_at = Instant::now();
        // The stamps are taken first: a file replaced in between is read once more.
        let stamps = stamps(&self.config);
        if stamps == files.stamps {
            return;
        }
        match make(&self.config, &self.costs) {
            Ok(all) => {
                info!("certificates for consul read again");
                self.all.publish(all);
                (files.stamps, files.failing) = (stamps, false);
            }
            Err(error) => {
                if !files.failing {
                    let error = error.to_string();
                    warn!(error, "certificates for consul unusable, keeping the last ones");
                }
                files.failing = true;
            }
        }
    }
}

fn make(config: &ConsulConfig, costs: &Costs) -> Result<Vec<Address>, SetupError> {
    let is_secure = config.addresses.iter().any(Address::is_secure);
    let tls = if is_secure { tls::configured(config)? } else { tls::unused()? };
    let addresses = config.addresses.iter();
    let addresses = addresses.map(|address| Address::new(address, config, &tls, costs));
    Ok(addresses.collect::<Result<_, _>>()?)
}

/// Each file that TLS is made from.
fn stamps(config: &ConsulConfig) -> Vec<Seen> {
    let named = [&config.ca_file, &config.cert_file, &config.key_file];
    let mut paths: Vec<PathBuf> = named.into_iter().flatten().cloned().collect();
    // A folder that cannot be listed is told of when it is read.
    if let Some(Ok(entries)) = config.ca_path.as_ref().map(fs::read_dir) {
        paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        paths.sort();
    }
    let seen = |path: PathBuf| {
        let stamp = Stamp::of(&path).ok();
        (path, stamp)
    };
    paths.into_iter().map(seen).collect()
}

const LOOK_EVERY: Duration = Duration::from_secs(5);
