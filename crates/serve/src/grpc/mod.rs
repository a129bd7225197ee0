//! The Open Inference Protocol over gRPC: the same models, batches, limits and words as over HTTP. The messages are made
//! of `proto/inference.proto`; what is of them and what is of the protocol's own types meets in `convert`.

mod convert;
#[allow(clippy::all, missing_docs, unused_qualifications)]
mod messages;
#[allow(clippy::all, missing_docs, unused_qualifications)]
mod service;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State as Of;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use futures_util::{Stream, StreamExt};
use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;
use prost::Message;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::access::{Needs, Scope};
use crate::http::log::{self, Told, Why};
use crate::http::{Limits, ModelPath, Site, apart, aside, refuse_at_the_end};
use crate::models::Loaded;
use crate::protocol::{InferResponse, Kind, ModelStatistics, Rejected, ServerMetadata, State, parse_load};
use crate::raw::Form;
use crate::tally::Times;
use messages::*;
use service::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};

/// What reflection says of the service.
const DESCRIPTOR: &[u8] = include_bytes!("../../proto/descriptor.bin");
/// Larger requests are read and written aside: the threads of connections have others to serve.
const BYTES_INLINE_MAX: usize = 1 << 20;
/// Requests of one connection at once.
const STREAMS_MAX: u32 = 1024;
/// How long a client may take to agree on keys.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often a client that says nothing is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Serves until `end` is over; then requests that are in are answered, for `drain_max` at most. Says whether all were
/// answered. With `pem`, a certificate and the key to it, everything is encrypted.
pub async fn serve_grpc(
    listener: TcpListener,
    site: Arc<Site>,
    pem: Option<[Vec<u8>; 2]>,
    end: impl Future<Output = ()>,
    drain_max: Duration,
) -> bool {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<GrpcInferenceServiceServer<Service>>().await;
    let mut routes = Routes::new(service(&site)).add_service(health_service);
    // The descriptor is a constant; a test asks for it.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    if let (Ok(newer), Ok(older)) = (reflection().build_v1(), reflection().build_v1alpha()) {
        routes = routes.add_service(newer).add_service(older);
    }
    let routes = Routes::from(watched(routes, site));
    let mut server =
        Server::builder().max_concurrent_streams(STREAMS_MAX).http2_keepalive_interval(Some(ASK_EVERY));
    if let Some([certificate, key]) = pem {
        // HTTP has taken the same certificate and key.
        // Tonic takes the process's provider. Where another feature brings a second one, Rustls does not choose; who has
        // chosen before, has.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        let Ok(encrypted) = server.tls_config(tls.timeout(HANDSHAKE_MAX)) else { return false };
        server = encrypted;
    }
    let server = server.add_routes(routes);
    let (ended, over) = tokio::sync::oneshot::channel::<()>();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tokio::spawn(server.serve_with_incoming_shutdown(incoming, async {
        let _ = over.await;
    }));
    end.await;
    health.set_not_serving::<GrpcInferenceServiceServer<Service>>().await;
    let _ = ended.send(());
    matches!(tokio::time::timeout(drain_max, serving).await, Ok(Ok(Ok(()))))
}

/// What answers all calls of the protocol, to those who may ask; without health and reflection.
pub fn grpc_router(site: Arc<Site>) -> Router {
    watched(Routes::new(service(&site)), site)
}

fn service(site: &Arc<Site>) -> GrpcInferenceServiceServer<Service> {
    let mut service = GrpcInferenceServiceServer::new(Service(Arc::clone(site)))
        // Of a message that was compressed, too.
        .max_decoding_message_size(site.limits().body_bytes_max)
        .max_encoding_message_size(usize::MAX);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
        service = service.accept_compressed(encoding).send_compressed(encoding);
    }
    service
}

/// Calls that pass by those who let in and who tell of them.
fn watched(routes: Routes, site: Arc<Site>) -> Router {
    let mut router = routes.into_axum_router().layer(from_fn(as_it_came));
    if site.is_guarded() {
        router = router.layer(from_fn_with_state(Arc::clone(&site), guard));
    }
    if site.is_logged() {
        router = router.layer(from_fn(why)).layer(from_fn_with_state(site, log::record));
    }
    router
}

/// Has the log say why a call is refused.
async fn why(request: axum::extract::Request, next: Next) -> axum::response::Response {
    let mut answer = next.run(request).await;
    let refused = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok);
    if let Some(status) = refused {
        answer.extensions_mut().insert(Why(status.message().to_owned()));
    }
    answer
}

/// Has answers compressed where their requests are. Clients say that they can read what is compressed without wanting
/// it, and numbers hardly become fewer bytes by it.
async fn as_it_came(mut request: axum::extract::Request, next: Next) -> axum::response::Response {
    let came = request.headers().get("grpc-encoding").filter(|coding| *coding != "identity").cloned();
    match came {
        Some(coding) => request.headers_mut().insert("grpc-accept-encoding", coding),
        None => request.headers_mut().remove("grpc-accept-encoding"),
    };
    next.run(request).await
}

/// What answers.
#[derive(Clone, Debug)]
struct Service(Arc<Site>);

fn status(rejected: &Rejected) -> Status {
    Status::new(code(rejected), rejected.message())
}

fn code(rejected: &Rejected) -> Code {
    match rejected.kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NoToken | Kind::WrongToken => Code::Unauthenticated,
        Kind::Forbidden(_) => Code::PermissionDenied,
        Kind::TooOften(_) => Code::ResourceExhausted,
        Kind::NotFound => Code::NotFound,
        Kind::Slow => Code::DeadlineExceeded,
        Kind::TooLarge => Code::ResourceExhausted,
        Kind::Method | Kind::Coding | Kind::Unsupported => Code::Unimplemented,
        Kind::Unavailable(_) => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// What a call needs, by its path: `/SERVICE/METHOD`.
fn needs(path: &str) -> Needs {
    let method = path.strip_prefix("/inference.GRPCInferenceService/").unwrap_or_default();
    match method {
        "ServerLive" | "ServerReady" => Needs::Nothing,
        "ModelInfer" | "ModelStreamInfer" => Needs::Scope(Scope::Infer),
        "RepositoryModelLoad" | "RepositoryModelUnload" => Needs::Scope(Scope::Admin),
        _ if path.starts_with("/grpc.health.v1.Health/") => Needs::Nothing,
        _ => Needs::Token,
    }
}

/// Lets a call in, or says why not, before its message is read.
async fn guard(
    Of(site): Of<Arc<Site>>,
    mut request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let admitted = match path {
        stream::PATH => site.admit_call(headers, needs(path)),
        _ => site.admit(headers, needs(path)),
    };
    match admitted {
        Ok(limits) => {
            request.extensions_mut().insert(limits);
            next.run(request).await
        }
        Err(rejected) => status(&rejected).into_http(),
    }
}

/// Refuses a message that is larger than the token of whoever sends it may send.
fn within_limits<T: Message>(request: Request<T>) -> Result<Request<T>, Status> {
    let Some(limits) = request.extensions().get::<Limits>() else { return Ok(request) };
    let max = limits.body_bytes_max;
    if request.get_ref().encoded_len() <= max {
        return Ok(request);
    }
    Err(status(&too_large(max)))
}

fn too_large(bytes_max: usize) -> Rejected {
    let problem = Diagnostic::new("serve.body", "the message is too large").item("message");
    Rejected::new(Kind::TooLarge, problem.expected(format!("at most {bytes_max} bytes")))
}

type Answer<T> = Result<Response<T>, Status>;

fn answered<T>(answer: Result<T, Rejected>) -> Answer<T> {
    answer.map(Response::new).map_err(|rejected| status(&rejected))
}

impl Service {
    fn model(&self, name: &str, version: &str) -> Result<Loaded, Rejected> {
        let version = Some(version.to_owned()).filter(|version| !version.is_empty());
        self.0.model(&ModelPath(name.to_owned(), version, None))
    }

    async fn infer(
        &self,
        request: ModelInferRequest,
        budget: Option<Duration>,
    ) -> Result<(ModelInferResponse, Option<Told>), Rejected> {
        let site = &*self.0;
        let start = site.now();
        let loaded = self.model(&request.model_name, &request.model_version).inspect_err(|rejected| {
            site.others.failed(rejected.status(), Duration::ZERO);
        })?;
        let tally = Arc::clone(&loaded.tally);
        self.infer_of(loaded, request, budget, start).await.inspect_err(|rejected| {
            tally.failed(rejected.status(), site.now().saturating_sub(start));
        })
    }

    async fn infer_of(
        &self,
        loaded: Loaded,
        request: ModelInferRequest,
        budget: Option<Duration>,
        start: Duration,
    ) -> Result<(ModelInferResponse, Option<Told>), Rejected> {
        let site = &*self.0;
        let is_open = loaded.serving.served().model().is_open();
        let is_long = is_open || loaded.form == Form::Raw || convert::bytes(&request) > BYTES_INLINE_MAX;
        let asking = loaded.clone();
        let read = move || -> Result<_, Rejected> {
            let request = convert::request(request)?;
            let prepared = asking.serving.served().prepare(asking.form, &request)?;
            Ok((request, prepared))
        };
        let (request, prepared) = if is_long { aside(read).await? } else { read()? };
        let input = site.now().saturating_sub(start);
        let engine = site.models.engine();
        let timeout = [request.timeout, budget].into_iter().flatten().min();
        let ticket = engine.submit(&loaded.serving, &loaded.tally, &prepared, request.priority, timeout)?;
        let ran = ticket.answer().await?;
        let begun = site.now();
        let is_long = ran.outputs.iter().map(Tensor::bytes).sum::<usize>() > BYTES_INLINE_MAX;
        let (rows, queue, infer, tally) = (prepared.rows, ran.queue, ran.infer, Arc::clone(&loaded.tally));
        let told = site.is_logged().then(|| Told { rows, queue, infer, ..Told::of(&loaded) });
        let write = move || {
            let served = loaded.serving.served();
            Ok(convert::response(InferResponse {
                model: loaded.label(),
                version: served.version().to_string(),
                id: request.id,
                outputs: served.chosen(&prepared.outputs, &ran.outputs),
            }))
        };
        let answer = if is_long { aside(write).await? } else { write()? };
        let now = site.now();
        let (total, output) = (now.saturating_sub(start), now.saturating_sub(begun));
        let times = Times { total, input, queue, infer, output };
        tally.answered(rows, times, Duration::from_secs(engine.clock().unix_s()));
        Ok((answer, told))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Service {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        answered(Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        answered(Ok(ServerReadyResponse { ready: self.0.is_ready() }))
    }

    /// Of a model that is not there, that it is not ready.
    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let request = request.into_inner();
        let ready = self.0.is_ready() && self.model(&request.name, &request.version).is_ok();
        answered(Ok(ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Answer<ServerMetadataResponse> {
        let ServerMetadata { name, version, extensions } = ServerMetadata::new();
        // Binary data is HTTP's; here it is a part of the protocol itself.
        let extensions = extensions.iter().filter(|name| **name != "binary_tensor_data");
        answered(Ok(ServerMetadataResponse {
            name: name.to_owned(),
            version: version.to_owned(),
            extensions: extensions.map(|name| (*name).to_owned()).collect(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Answer<ModelMetadataResponse> {
        let request = request.into_inner();
        answered(self.model(&request.name, &request.version).map(|loaded| {
            let versions = self.0.models.served(&request.name);
            convert::metadata(loaded.serving.served().metadata(loaded.form, versions))
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let request = within_limits(request)?;
        let budget = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let budget = budget.and_then(convert::timeout);
        let (answer, told) =
            self.infer(request.into_inner(), budget).await.map_err(|rejected| status(&rejected))?;
        let mut answer = Response::new(answer);
        if let Some(told) = told {
            answer.extensions_mut().insert(told);
        }
        Ok(answer)
    }

    type ModelStreamInferStream =
        Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send + 'static>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Self::ModelStreamInferStream> {
        let (head, _, requests) = request.into_parts();
        Ok(Response::new(stream::answers(self.clone(), head, requests).boxed()))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Answer<ModelConfigResponse> {
        let request = request.into_inner();
        answered(self.model(&request.name, &request.version).map(|loaded| {
            let config = loaded.serving.served().config(loaded.form, self.0.models.engine().threads());
            ModelConfigResponse { config: Some(convert::config(config)) }
        }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let request = request.into_inner();
        let all = self.0.models.loaded();
        let counted = match (request.name.as_str(), request.version.as_str()) {
            ("", _) => Ok(all),
            (name, "") => self.model(name, "").map(|loaded| {
                let label = loaded.label();
                all.into_iter().filter(|other| other.label() == label).collect()
            }),
            (name, version) => self.model(name, version).map(|loaded| vec![loaded]),
        };
        answered(counted.map(|counted| {
            let of = |loaded: &Loaded| {
                let version = loaded.serving.served().version();
                convert::statistics(&ModelStatistics::new(&loaded.label(), version, &loaded.tally))
            };
            ModelStatisticsResponse { model_stats: counted.iter().map(of).collect() }
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let (site, ready) = (Arc::clone(&self.0), request.into_inner().ready);
        let index = aside(move || Ok(site.models.index())).await;
        answered(index.map(|mut index| {
            index.retain(|entry| !ready || entry.state == State::Ready);
            RepositoryIndexResponse { models: index.into_iter().map(convert::entry).collect() }
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let (site, request) = (Arc::clone(&self.0), request.into_inner());
        let load = async {
            let policy = parse_load(&convert::parameters(&request.parameters))?;
            refuse_at_the_end(&site)?;
            apart(move || site.models.load(&request.model_name, &policy)).await
        };
        answered(load.await.map(|()| RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let (site, request) = (Arc::clone(&self.0), request.into_inner());
        let unload = async {
            // What parameters there are concerns models that depend on others, of which there are none.
            refuse_at_the_end(&site)?;
            apart(move || site.models.unload(&request.model_name)).await
        };
        answered(unload.await.map(|()| RepositoryModelUnloadResponse {}))
    }
}
