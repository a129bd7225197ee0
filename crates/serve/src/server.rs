//! Connections: accepted up to a bound, each answered by itself, and brought to an end when the server drains.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::http::{Site, router};
use crate::tls::Tls;

/// How long a failure to accept, as when there are no file handles left, is waited out.
const PAUSE: Duration = Duration::from_millis(50);

/// How long requests are still read at the end, to be told that they are too late. Some lie in connections already, and
/// connections in the listener, that nobody has looked at: closed without a word, they would be lost.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(500);

/// How long a client may take to agree on keys.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Most header lines of a request.
const HEADERS_MAX: usize = 100;

/// Serves until `end` is over; then requests that are in are answered, for `drain_max` at most, and new ones refused.
/// Says whether all were answered. With `tls`, everything is encrypted.
pub async fn serve(
    listener: TcpListener,
    site: Arc<Site>,
    tls: Option<&Tls>,
    end: impl Future<Output = ()>,
    drain_max: Duration,
) -> bool {
    let graceful = Arc::new(GracefulShutdown::new());
    let places = Arc::new(Semaphore::new(site.limits().connections_max));
    let tls = tls.map(|tls| TlsAcceptor::from(Arc::clone(&tls.config)));
    let accepting = tokio::spawn(accept(listener, Arc::clone(&site), tls, Arc::clone(&graceful), places));
    end.await;
    site.drain();
    tokio::time::sleep(LAST_CALL).await;
    accepting.abort();
    // The task holds the listener and its share of what is to be shut down.
    let _ = accepting.await;
    match Arc::try_unwrap(graceful) {
        Ok(graceful) => tokio::time::timeout(drain_max, graceful.shutdown()).await.is_ok(),
        Err(_) => false,
    }
}

async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    tls: Option<TlsAcceptor>,
    graceful: Arc<GracefulShutdown>,
    places: Arc<Semaphore>,
) {
    let limits = site.limits();
    let router = router(site);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_time_max);
    http.max_buf_size(limits.head_bytes_max).max_headers(HEADERS_MAX);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Nagle's algorithm would hold small answers back; where it cannot be turned off, they are late and not lost.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        // What goes wrong with a connection is the client's to notice.
        let Some(tls) = &tls else {
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                let _ = connection.await;
                drop(place);
            });
            continue;
        };
        let (shaking, watcher, http) = (tls.accept(stream), graceful.watcher(), http.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_MAX, shaking).await {
                let _ = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await;
            }
            drop(place);
        });
    }
}
