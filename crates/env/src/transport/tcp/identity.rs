//! Who belongs to a group, by certificates: the first worker makes an authority of its own, lets it sign one certificate
//! for all workers, and forgets the authority's key. Both ends of every connection show that certificate.

use mio::net::TcpStream;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};
use std::fmt::{self, Debug};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

/// The name in the workers' certificate. Any machine may be a worker, so it is no machine's.
const NAME: &str = "worker.outgrow.internal";

/// Bytes that wait to be encrypted, or encrypted to be sent.
const WAITING_BYTES: usize = 256 << 10;

/// A group's certificates, with the key that proves them. `Debug` does not show them.
pub struct Identity {
    /// The authority's certificate, the workers', and the key to it: X.509 and PKCS #8 in DER.
    pub(super) parts: [Vec<u8>; 3],
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// A new one, that no other group has.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> io::Result<Self> {
        let parts = Self::signed().map_err(io::Error::other)?;
        Self::of_parts(parts).map_err(io::Error::other)
    }

    fn signed() -> Result<[Vec<u8>; 3], rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let mut worker = CertificateParams::new(vec![NAME.to_owned()])?;
        worker.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        worker.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = worker.signed_by(&key, &authority)?;
        Ok([authority.der().to_vec(), certificate.der().to_vec(), key.serialize_der()])
    }

    /// The one with these certificates and this key.
    ///
    /// # Errors
    /// When they do not make sense or do not belong together.
    pub(super) fn of_parts(parts: [Vec<u8>; 3]) -> Result<Self, rustls::Error> {
        let [authority, certificate, key] = parts.clone();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority))?;
        let roots = Arc::new(roots);
        let certificates = vec![CertificateDer::from(certificate)];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
        // The suite that processors are quickest with: both ends are of one version of this program.
        let provider = CryptoProvider {
            cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256],
            ..default_provider()
        };
        let provider = Arc::new(provider);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates.clone(), key())?;
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates, key())?;
        client.resumption = Resumption::disabled();
        Ok(Self { parts, client: Arc::new(client), server: Arc::new(server) })
    }

    /// The end of who connects.
    fn connecting(&self) -> Result<Connection, rustls::Error> {
        let name = ServerName::try_from(NAME).map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Connection::Client(ClientConnection::new(self.client.clone(), name)?))
    }

    /// The end of who is connected to.
    fn accepting(&self) -> Result<Connection, rustls::Error> {
        Ok(Connection::Server(ServerConnection::new(self.server.clone())?))
    }
}

impl Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The one that connects.
    Connecting,
    /// The other.
    Accepting,
}

/// A connection as it is, or encrypted. No call waits.
#[derive(Debug)]
pub struct Stream {
    pub socket: TcpStream,
    tls: Option<Box<Connection>>,
}

impl Stream {
    /// Over a socket, encrypted if there is an identity.
    pub fn new(socket: TcpStream, end: End, identity: Option<&Identity>) -> io::Result<Self> {
        let connection = |identity: &Identity| match end {
            End::Connecting => identity.connecting(),
            End::Accepting => identity.accepting(),
        };
        let mut tls = identity.map(connection).transpose().map_err(io::Error::other)?;
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(Some(WAITING_BYTES));
        }
        Ok(Self { socket, tls: tls.map(Box::new) })
    }

    /// Whether all that was written is with the system.
    pub fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    /// Gives the system what waits here.
    ///
    /// # Errors
    /// `WouldBlock` when the system does not take all of it; others when the connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }

    /// Writes some of these.
    pub fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write_vectored(parts);
        }
        self.flush_or_wait()?;
        let Some(tls) = &mut self.tls else { return Ok(0) };
        let written = tls.writer().write_vectored(parts)?;
        if written == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.flush_or_wait()?;
        Ok(written)
    }

    /// What cannot go out now is sent later.
    fn flush_or_wait(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Reads what has come.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(into);
        };
        loop {
            match tls.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets().map(|_| ());
            // The answer, or what is wrong with what came.
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok() {}
            processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Ends this direction.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.socket);
        }
        // It may be closed already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}
