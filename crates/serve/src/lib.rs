//! Models behind a server: what clients ask for, put together into batches in time.

// Diagnostics are only made when outside input is wrong, where their size does not matter.
#![allow(clippy::result_large_err)]

mod access;
mod background;
pub mod batcher;
mod engine;
#[cfg(feature = "grpc")]
mod grpc;
mod http;
mod metrics;
mod models;
mod plain;
pub mod protocol;
mod raw;
mod run;
mod samples;
mod secret;
mod served;
mod server;
mod source;
mod tally;
mod tls;
mod watch;

pub use access::{Access, Scope};
pub use engine::{Engine, Ran, Serving, Ticket};
#[cfg(feature = "grpc")]
pub use grpc::grpc_router;
pub use http::{Limits, Site, openapi, router};
pub use models::{Loaded, Models, Open};
pub use run::{Addresses, run_until};
pub use served::{Prepared, Served};
pub use server::serve;
pub use source::{Source, models as models_of_repository};
pub use tally::Tally;
pub use tls::Tls;
