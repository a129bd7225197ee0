//! A server from its address to its end: listens, says where, serves until the process is asked to end, drains.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outgrow_ir::Diagnostic;
use tokio::net::TcpListener;

use crate::http::Site;
use crate::server::serve;

/// How often is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long requests that are in are waited for at the end.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Serves at `address` until it is asked to end; `told` learns the address, whose port may have
/// been left open. Says whether everything that was in was answered.
///
/// # Errors
/// When the address cannot be listened at.
pub fn run_until(
    address: &str,
    site: Site,
    asked_to_end: impl Fn() -> bool,
    told: impl FnOnce(SocketAddr),
) -> Result<bool, Diagnostic> {
    let system = |what: &str, error: std::io::Error| {
        Diagnostic::new("serve.listen", format!("{what}: {error}")).item(address)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| system("the server cannot start", error).hint("see what the system says"))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            system("cannot listen there", error)
                .hint("name an address of this machine and a port that is free")
        })?;
        let local = listener.local_addr();
        let local = local
            .map_err(|error| system("the address is not known", error).hint("see what the system says"))?;
        let end = async {
            while !asked_to_end() {
                tokio::time::sleep(LOOK).await;
            }
        };
        told(local);
        Ok(serve(listener, Arc::new(site), end, DRAIN_MAX).await)
    })
}
