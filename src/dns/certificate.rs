//! The server's certificate: read from its files, and again when they change.
//!
//! Every encrypted listener shows the one that is there when a client comes. Connections that are
//! open keep theirs.
//!
//! **Invariant:** a certificate that was once read stays in use until another was read whole, with
//! its key. Files that are half written, or do not fit each other yet, are read again later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::pem::{self, PemError};
use crate::stamp::Stamp;
use crate::store::Cell;

/// A certificate with its key. Listeners share it.
#[derive(Debug)]
pub struct Certificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: Cell<Arc<CertifiedKey>>,
}

/// Why there is no certificate. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CertificateError {
    #[error("{} and {} do not fit each other", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("certificate {number} of {} cannot be read", cert.display())]
    Malformed { cert: PathBuf, number: usize, source: rustls::Error },
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("cannot set up TLS")]
    Provider(#[source] rustls::Error),
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    ///
    /// Fails when one cannot be read, or when the key is another certificate's.
    pub fn read(cert_file: &Path, key_file: &Path) -> Result<Arc<Self>, CertificateError> {
        let current = Cell::new(Arc::new(read(cert_file, key_file)?));
        let (cert_file, key_file) = (cert_file.to_owned(), key_file.to_owned());
        Ok(Arc::new(Self { cert_file, key_file, current }))
    }

    /// How a listener speaks TLS with it, for clients that speak one of `protocols` then (ALPN).
    ///
    /// # Errors
    ///
    /// Fails only where the system has no randomness, or the provider lacks a version of TLS.
    pub fn server(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<ServerConfig, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(CertificateError::Provider)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // What a client needs for a shorter handshake next time, it keeps itself.
        config.ticketer = ring::Ticketer::new().map_err(CertificateError::Provider)?;
        Ok(config)
    }

    /// Reads the files again whenever they change, until cancelled.
    pub async fn follow(
        &self,
        (loads, failures): (IntCounter, IntCounter),
        cancel: CancellationToken,
    ) {
        let mut known = self.stamps();
        let mut failing = false;
        while cancel.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
            // Taken first: what is replaced in between is read once more.
            let stamps = self.stamps();
            if stamps == known {
                continue;
            }
            match read(&self.cert_file, &self.key_file) {
                Ok(current) => {
                    info!(path = %self.cert_file.display(), "certificate read again");
                    self.current.publish(Arc::new(current));
                    loads.inc();
                    (known, failing) = (stamps, false);
                }
                Err(error) => {
                    failures.inc();
                    if !std::mem::replace(&mut failing, true) {
                        let error = anyhow::Error::from(error);
                        warn!("cannot read the new certificate, keeping the last: {error:#}");
                    }
                }
            }
        }
    }

    fn stamps(&self) -> [Option<Stamp>; 2] {
        [&self.cert_file, &self.key_file].map(|path| Stamp::of(path).ok())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load()))
    }
}

fn read(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, CertificateError> {
    let (chain, key) = (pem::certificates(cert_file)?, pem::key(key_file)?);
    // Of the chain rustls reads the first alone, and clients read all.
    for (at, certificate) in chain.iter().enumerate() {
        ParsedCertificate::try_from(certificate).map_err(|source| CertificateError::Malformed {
            cert: cert_file.to_owned(),
            number: at + 1,
            source,
        })?;
    }
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|source| {
        let (cert, key) = (cert_file.to_owned(), key_file.to_owned());
        CertificateError::Mismatch { cert, key, source }
    })
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
