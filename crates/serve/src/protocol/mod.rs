//! The Open Inference Protocol, version 2, as functions from bytes to typed requests and from typed answers to bytes.
//! Nothing here does I/O or knows which models there are: HTTP reads and writes by these functions, and whatever else
//! carries the protocol shares the types.
//!
//! Numbers in JSON are read as the tensor's own type, rounded once, and written with the fewest digits that give the
//! same number again. JSON has no NaN and no infinity: a request that has them in JSON is refused, and so is one whose
//! answer would need them in JSON. As binary data they are like any other number.

mod asking;
mod byte_data;
mod config;
mod data;
mod datatype;
mod explain;
mod metadata;
mod rejected;
mod repository;
mod request;
mod response;
mod statistics;

use std::time::Duration;

use bytes::Bytes;
use outgrow_tensor::Tensor;

pub use asking::encode_request;
#[cfg(feature = "grpc")]
pub(crate) use byte_data::{BYTES, elements as byte_elements};
pub use config::{ConfigTensor, ModelConfig};
pub use data::read as read_data;
pub use datatype::Datatype;
pub use metadata::{ModelMetadata, ModelReady, ServerMetadata, TensorMetadata};
pub use rejected::{Kind, Rejected};
pub use repository::{IndexEntry, Policy, State, parse_index, parse_load};
pub use request::parse_request;
#[cfg(feature = "grpc")]
pub(crate) use request::{bounded, no_classes, no_shared_memory, shape};
pub use response::{Encoded, encode_response};
pub use statistics::ModelStatistics;

/// The header that says how many bytes of a body are JSON, where binary data follows.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
/// Most dimensions of a tensor.
pub const RANK_MAX: usize = 16;
/// Most tensors of a request.
pub const TENSORS_MAX: usize = 256;

/// What a client asks for, of a model that the path of the request names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    /// What the answer is to carry, so that the client knows it again.
    pub id: Option<String>,
    /// Smaller numbers go first; 0 where the client does not say.
    pub priority: u32,
    /// In which time an answer is of use.
    pub timeout: Option<Duration>,
    /// The tensors, in the client's order.
    pub inputs: Vec<Input>,
    /// A body that is nothing but the tensor of the model's one input, in place of `inputs`.
    pub whole: Option<Bytes>,
    /// What is asked for; all outputs where it is empty.
    pub outputs: Vec<Wanted>,
    /// Whether outputs are to be binary data where they do not say themselves.
    pub binary: bool,
}

/// What is given for an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The input's name.
    pub name: String,
    /// What is given.
    pub data: Data,
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Numbers.
    Tensor(Tensor),
    /// Elements of any bytes, as raw records are, and their shape.
    Bytes(Vec<usize>, Vec<Bytes>),
}

/// An output that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The output's name.
    pub name: String,
    /// Whether as binary data.
    pub binary: Option<bool>,
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct InferResponse {
    /// The model's name.
    pub model: String,
    /// Which version of it has answered.
    pub version: String,
    /// As in the request.
    pub id: Option<String>,
    /// The outputs, each with whether it is sent as binary data.
    pub outputs: Vec<Output>,
}

/// An output.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// What it is.
    pub tensor: Tensor,
    /// Whether it is sent as binary data.
    pub binary: bool,
}
