//! A server from its addresses to its end: listens, says where, serves until the process is asked to end, drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outgrow_ir::Diagnostic;
use tokio::net::TcpListener;

use crate::engine::no_thread;
use crate::http::Site;
use crate::server::serve;
use crate::tls::Tls;

/// How often is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long requests that are in are waited for at the end.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Where a server listens, by HTTP and, if it is to, by gRPC too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses<T> {
    /// By HTTP.
    pub http: T,
    /// By gRPC.
    pub grpc: Option<T>,
}

/// Serves at these addresses, with `tls` encrypted, until it is asked to end; `told` learns them, as ports may have been
/// left open. Says whether everything that was in was answered.
///
/// # Errors
/// When an address cannot be listened at, or this build has no gRPC.
pub fn run_until(
    addresses: &Addresses<String>,
    site: Site,
    tls: Option<&Tls>,
    asked_to_end: impl Fn() -> bool,
    told: impl FnOnce(Addresses<SocketAddr>),
) -> Result<bool, Diagnostic> {
    if cfg!(not(feature = "grpc")) && addresses.grpc.is_some() {
        let problem = Diagnostic::new("serve.grpc", "this build does not serve gRPC").item("--grpc");
        return Err(problem.hint("build it with `--features grpc`, or leave out `--grpc`"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        let problem = Diagnostic::new("serve.listen", format!("the server cannot start: {error}"));
        problem.hint("see what the system says")
    })?;
    runtime.block_on(async {
        let (http, http_address) = listen(&addresses.http).await?;
        let grpc = match &addresses.grpc {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let site = Arc::new(site);
        if let Some(every) = site.watch {
            crate::watch::start(&site, every).map_err(no_thread)?;
        }
        let grpc_address = grpc.as_ref().map(|(_, address)| *address);
        let shown = grpc_address.map(tracing::field::display);
        tracing::info!(target: "outgrow::server", http = %http_address, grpc = shown, "listening");
        told(Addresses { http: http_address, grpc: grpc_address });
        let end = async {
            while !asked_to_end() {
                tokio::time::sleep(LOOK).await;
            }
            tracing::info!(target: "outgrow::server", "asked to end: what is in is answered, nothing else let in");
        };
        #[cfg(feature = "grpc")]
        if let Some((grpc, _)) = grpc {
            return Ok(both(http, grpc, site, tls, end).await);
        }
        Ok(serve(http, site, tls, end, DRAIN_MAX).await)
    })
}

/// Serves by HTTP and by gRPC, which end together.
#[cfg(feature = "grpc")]
async fn both(
    http: TcpListener,
    grpc: TcpListener,
    site: Arc<Site>,
    tls: Option<&Tls>,
    end: impl Future<Output = ()>,
) -> bool {
    let (ended, over) = tokio::sync::oneshot::channel::<()>();
    let also = Arc::clone(&site);
    let pem = tls.map(|tls| tls.pem.clone());
    // Over HTTP, new requests are still told that they are too late; so are they here, for as long.
    let over = async {
        let _ = over.await;
        tokio::time::sleep(crate::server::LAST_CALL).await;
    };
    let grpc = tokio::spawn(crate::grpc::serve_grpc(grpc, also, pem, over, DRAIN_MAX));
    let end = async {
        end.await;
        let _ = ended.send(());
    };
    let http = serve(http, site, tls, end, DRAIN_MAX).await;
    matches!(grpc.await, Ok(true)) && http
}

/// A listener at an address, and which that is.
async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), Diagnostic> {
    let problem = |what: &str, error: std::io::Error| {
        Diagnostic::new("serve.listen", format!("{what}: {error}")).item(address)
    };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        problem("cannot listen there", error).hint("name an address of this machine and a port that is free")
    })?;
    let local = listener.local_addr();
    let local =
        local.map_err(|error| problem("the address is not known", error).hint("see what the system says"))?;
    Ok((listener, local))
}
