//! What a server shows that it is itself by: its certificate, and the key to it, from files in PEM.

use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::Arc;

use outgrow_ir::{Diagnostic, Problem};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;

use crate::secret;

/// Most bytes of a file with certificates or a key.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A certificate with its key. `Debug` does not show them.
pub struct Tls {
    /// For HTTP/1.1.
    pub(crate) config: Arc<ServerConfig>,
    /// The certificates and the key, in PEM.
    #[cfg(feature = "grpc")]
    pub(crate) pem: [Vec<u8>; 2],
}

impl Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the server's certificate, with those between it and the authority behind it, and the key to it.
    ///
    /// # Errors
    /// When a file cannot be read or holds something else, they do not belong together, or anybody on this machine may
    /// read the key.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, Diagnostic> {
        let pem = [(certificate, "--tls-cert"), (key, "--tls-key")];
        let [certificate_pem, key_pem] =
            pem.map(|(path, item)| secret::read(path, "serve.tls", item, FILE_BYTES_MAX));
        let (certificate_pem, key_pem) = (certificate_pem?, key_pem?);
        secret::refuse_if_open(key, "serve.tls", "`chmod o-rw` it, and take a new key if others were here")?;
        let wrong =
            |problem: String, path: &Path, item| Diagnostic::new("serve.tls", problem).file(path).item(item);
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&certificate_pem).collect::<Result<_, _>>().map_err(|error| {
                wrong(format!("the certificate cannot be read: {error}"), certificate, "--tls-cert")
                    .expected("certificates in PEM, the server's own first")
            })?;
        if chain.is_empty() {
            return Err(wrong("there is no certificate in it".to_owned(), certificate, "--tls-cert")
                .expected("certificates in PEM, the server's own first"));
        }
        let key_of = |problem: Problem| problem.expected("a private key in PEM, without a password");
        let secret = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|error| key_of(wrong(format!("the key cannot be read: {error}"), key, "--tls-key")))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map(|config| config.with_no_client_auth());
        let config = config.and_then(|config| config.with_single_cert(chain, secret)).map_err(|error| {
            wrong(format!("the key and the certificate cannot be used: {error}"), key, "--tls-key")
                .expected("the key to the certificate of `--tls-cert`")
        })?;
        let mut config = config;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            #[cfg(feature = "grpc")]
            pem: [certificate_pem, key_pem],
        })
    }
}
