//! TLS to Consul: whom we trust, what we show of ourselves.
//!
//! The crypto provider is named, ring, and no process-wide default is needed or set. Whoever asks
//! gets what the files hold now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;

use crate::config::ConsulConfig;
use crate::pem::{self, PemError};

/// Why TLS to Consul cannot be set up. For the operator to mend.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TlsError {
    #[error("cannot list the folder {}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("the certificate and the key for consul do not fit")]
    Identity(#[source] rustls::Error),
    #[error("the system has no root certificates; give consul's with ca_file")]
    NoSystemRoots,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("cannot set up TLS")]
    Provider(#[source] rustls::Error),
    #[error("cannot trust a certificate of {}", path.display())]
    Root { path: PathBuf, source: rustls::Error },
}

/// What the configuration asks for.
///
/// # Errors
///
/// Fails when a file is missing or is no PEM, or when there is nobody to trust.
pub fn configured(config: &ConsulConfig) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    let builder = if config.tls_verify {
        let roots = roots(config.ca_file.as_deref(), config.ca_path.as_deref())?;
        builder.with_root_certificates(roots)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    };
    let mut tls = match (&config.cert_file, &config.key_file) {
        (Some(cert_file), Some(key_file)) => builder
            .with_client_auth_cert(pem::certificates(cert_file)?, pem::key(key_file)?)
            .map_err(TlsError::Identity)?,
        _ => builder.with_no_client_auth(),
    };
    // Consul speaks HTTP/2 over TLS only; its watches then share a few connections.
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// What addresses without TLS are given, since reqwest builds no client without one.
///
/// # Errors
///
/// Fails only when the provider lacks a protocol version, which is a bug.
pub fn unused() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The certificates of the file and the folder; the system's where neither is given.
fn roots(file: Option<&Path>, folder: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = file {
        trust(&mut roots, path, pem::certificates(path)?)?;
    }
    if let Some(folder) = folder {
        trust_folder(&mut roots, folder)?;
    }
    if file.is_none() && folder.is_none() {
        // A certificate that cannot be read is no reason to refuse the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoSystemRoots);
        }
    }
    Ok(roots)
}

fn trust_folder(roots: &mut RootCertStore, folder: &Path) -> Result<(), TlsError> {
    let unlisted = |source| TlsError::Folder { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unlisted)? {
        paths.push(entry.map_err(unlisted)?.path());
    }
    paths.sort();

    // Folders lie in it too where Kubernetes mounts a secret; files of other kinds may.
    for path in paths.iter().filter(|path| path.is_file()) {
        match pem::certificates(path) {
            Ok(found) => trust(roots, path, found)?,
            Err(PemError::NoCertificate { .. }) => (),
            Err(error) => return Err(error.into()),
        }
    }
    match roots.is_empty() {
        true => Err(PemError::NoCertificate { path: folder.to_owned() }.into()),
        false => Ok(()),
    }
}

fn trust(
    roots: &mut RootCertStore,
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<(), TlsError> {
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Root { path: path.to_owned(), source })?;
    }
    Ok(())
}

/// Takes any certificate, as `tls_verify = false` asks; the handshake's signatures still count.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
