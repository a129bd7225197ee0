//! The HTTP stack of the server with nothing behind it: every request for inference is answered with its own body. What
//! `outgrow serve` takes longer than this is its own. `outgrow bench serve URL --model echo` measures it, and
//! `benchmarks/serve_overhead.py` both in turns.
//!
//! `echo PORT COLUMNS` listens at 127.0.0.1 and says that its model takes that many numbers in a row.

use std::error::Error;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |name: &str| Ok::<u16, Box<dyn Error>>(args.next().ok_or(name.to_owned())?.parse()?);
    let (port, columns) = (number("the port is missing")?, number("the number of columns is missing")?);
    let metadata = format!(
        "{{\"name\":\"echo\",\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,{columns}]}}]}}"
    );
    let router = Router::new()
        .route(
            "/v2/models/echo",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], metadata) }),
        )
        .route("/v2/models/echo/infer", post(echo));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = TowerToHyperService::new(router.clone());
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new());
            tokio::spawn(async move {
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn echo(body: Body) -> impl IntoResponse {
    let body = body.collect().await.map_or_else(|_| Bytes::new(), |body| body.to_bytes());
    ([(CONTENT_TYPE, "application/octet-stream")], body)
}
