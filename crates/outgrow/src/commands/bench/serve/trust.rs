//! How a server is asked: by which token, and by whose word its name is believed.

use std::path::Path;
use std::sync::Arc;

use outgrow_ir::{Diagnostic, Problem};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

use super::connection::Target;
use super::url::Url;
use crate::cli::BenchServeArgs;

/// The token to ask by, if one is given.
///
/// # Errors
/// When its file cannot be read, or it cannot stand in a header.
pub fn token(args: &BenchServeArgs) -> Result<Option<String>, Diagnostic> {
    let (token, item) = match (&args.token, &args.token_file) {
        (Some(token), _) => (token.clone(), "--token"),
        (None, Some(path)) => (read(path, "bench.token", "--token-file")?, "--token-file"),
        (None, None) => return Ok(None),
    };
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Diagnostic::new("bench.token", "it is no token")
            .item(item)
            .expected("one word of ASCII, as the server has it"));
    }
    Ok(Some(token.to_owned()))
}

/// Where a server is reached, and whom it is trusted by.
///
/// # Errors
/// When there is no such host, or nobody by whom an encrypted one is trusted.
pub fn target(url: &Url, ca: Option<&Path>) -> Result<Target, Diagnostic> {
    let address = url.address()?;
    if !url.is_encrypted {
        return match ca {
            None => Ok(Target { address, tls: None }),
            Some(_) => {
                let problem = Diagnostic::new("bench.tls", format!("{url} is not encrypted")).item("--ca");
                Err(problem.hint("ask it by https://, or leave out `--ca`"))
            }
        };
    }
    let ca = ca.ok_or_else(|| {
        Diagnostic::new("bench.tls", format!("it is not said by whom {url} is trusted"))
            .item("--ca")
            .hint("name the certificate of its authority: `--ca FILE`")
    })?;
    let wrong = |problem: String| -> Problem { Diagnostic::new("bench.tls", problem).file(ca).item("--ca") };
    let pem = read(ca, "bench.tls", "--ca")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
        added.map_err(|error| {
            wrong(format!("a certificate cannot be used: {error}")).expected("certificates in PEM")
        })?;
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()).expected("certificates in PEM"));
    }
    let name = ServerName::try_from(url.name().to_owned()).map_err(|_| {
        let problem = format!("`{}` is no name that a certificate can have", url.name());
        Diagnostic::new("bench.url", problem).item("URL").expected("a host's name or address")
    })?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Diagnostic::fault("bench.tls", error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Target { address, tls: Some((Arc::new(config), name)) })
}

fn read(path: &Path, code: &'static str, item: &str) -> Result<String, Diagnostic> {
    std::fs::read_to_string(path).map_err(|error| {
        Diagnostic::new(code, format!("it cannot be read: {error}"))
            .file(path)
            .item(item)
            .hint("name a file of text that is there")
    })
}
