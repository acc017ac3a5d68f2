//! What PEM files hold: certificates, and the key of one.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::stamp;

/// Why a file gives nothing. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PemError {
    #[error("no certificate in {}", path.display())]
    NoCertificate { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Unread { path: PathBuf, source: pem::Error },
}

/// All certificates of a file, in its order; at least one.
///
/// # Errors
///
/// Fails when the file cannot be read, is no PEM, or has no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let unread = |source| PemError::Unread { path: path.to_owned(), source };
    let text = stamp::read(path).map_err(pem::Error::Io).map_err(unread)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(unread)?;
    match found.is_empty() {
        true => Err(PemError::NoCertificate { path: path.to_owned() }),
        false => Ok(found),
    }
}

/// The first key of a file.
///
/// # Errors
///
/// Fails when the file cannot be read, is no PEM, or has no key.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = stamp::read(path).map_err(pem::Error::Io);
    let key = text.and_then(|text| PrivateKeyDer::from_pem_slice(&text));
    key.map_err(|source| PemError::Unread { path: path.to_owned(), source })
}
