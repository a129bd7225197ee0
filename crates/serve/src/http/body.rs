//! Bodies: read within limits and in time, unpacked and packed as HTTP has it.

use std::io::{Read, Write};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Buf, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use outgrow_ir::Diagnostic;

use super::guard::Incoming;
use super::{Limits, aside};
use crate::protocol::{Kind, Rejected};

/// Smaller answers are sent as they are: packed, they would save no packet on the network.
const PACKED_BYTES_MIN: usize = 1024;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// As gzip has it.
    Gzip,
    /// As zlib has it.
    Deflate,
}

impl Coding {
    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    /// How this body of a request is packed, if it is.
    ///
    /// # Errors
    /// When it is packed in a way that is not known here, or several times.
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Rejected> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(None) };
        let name = value.to_str().unwrap_or("?").trim();
        if name.is_empty() || name.eq_ignore_ascii_case("identity") {
            return Ok(None);
        }
        Self::of(name).map(Some).ok_or_else(|| {
            let problem =
                Diagnostic::new("serve.encoding", format!("bodies encoded as {name:?} are not read"));
            let problem = problem.item("Content-Encoding").expected("gzip, deflate or identity");
            Rejected::new(Kind::Coding, problem)
        })
    }

    /// How the client would like an answer to be packed: what it names with the greatest weight; of equal ones, gzip.
    pub fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(Self, f32)> = None;
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for part in values.flat_map(|value| value.split(',')) {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            let (Some(coding), Ok(weight)) = (Self::of(name.trim()), weight) else { continue };
            let better =
                best.is_none_or(|(known, most)| weight > most || (weight == most && known == Self::Deflate));
            if weight > 0.0 && better {
                best = Some((coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }

    /// Unpacks a body, of which at most so many bytes may come.
    ///
    /// # Errors
    /// When it is damaged, or larger.
    pub fn unpack(self, packed: &Bytes, max: usize) -> Result<Bytes, Rejected> {
        let input = packed.clone().reader();
        let decoder: Box<dyn Read> = match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(input)),
            Self::Deflate => Box::new(ZlibDecoder::new(input)),
        };
        let mut bytes = Vec::new();
        let read = decoder.take(max as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| {
            let problem = format!("the body cannot be unpacked by {}: {error}", self.name());
            Diagnostic::new("serve.encoding", problem).item("body").hint("pack it again, whole")
        })?;
        if bytes.len() > max { Err(too_large(max)) } else { Ok(bytes.into()) }
    }

    /// Packs an answer, if it is large enough to be worth it.
    pub fn pack(self, body: Vec<u8>) -> (Vec<u8>, Option<Self>) {
        if body.len() < PACKED_BYTES_MIN {
            return (body, None);
        }
        let level = Compression::fast();
        let packed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(&body).and_then(|()| encoder.finish())
            }
        };
        // Writing into memory does not fail; if it did, the answer would go as it is.
        packed.map_or((body, None), |packed| (packed, Some(self)))
    }
}

fn too_large(max: usize) -> Rejected {
    let problem = Diagnostic::new("serve.body", "the body is too large").item("body");
    Rejected::new(Kind::TooLarge, problem.expected(format!("at most {max} bytes")))
}

/// A body, read and unpacked.
pub(super) async fn whole(incoming: Incoming) -> Result<Bytes, Rejected> {
    let Incoming { headers, body, limits } = incoming;
    let (bytes, max) = (read(body, &headers, &limits).await?, limits.body_bytes_max);
    match Coding::of_request(&headers)? {
        Some(coding) => aside(move || coding.unpack(&bytes, max)).await,
        None => Ok(bytes),
    }
}

/// Why a request is refused, once its body has come too: clients that are about to send it would find the connection
/// closed, and send the next request into it.
pub(super) async fn drained(incoming: Incoming, rejected: Rejected) -> Rejected {
    let Incoming { headers, body, limits } = incoming;
    // A body that does not come whole is the greater problem: the connection ends with it.
    read(body, &headers, &limits).await.err().unwrap_or(rejected)
}

/// A body as it comes, if it is not too large and comes in time. Memory is asked for as it comes.
pub(super) async fn read(mut body: Body, headers: &HeaderMap, limits: &Limits) -> Result<Bytes, Rejected> {
    let max = limits.body_bytes_max;
    let said =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > max) {
        return Err(too_large(max));
    }
    let all = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|cause| {
                let problem = format!("the body could not be read: {cause}");
                Rejected::from(Diagnostic::new("serve.body", problem).item("body").hint("send all of it"))
            })?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > max {
                    return Err(too_large(max));
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(limits.body_time_max, all).await.unwrap_or_else(|_| {
        let problem = Diagnostic::new("serve.slow", "the body took too long to come").item("body");
        let expected = format!("all of it within {} s", limits.body_time_max.as_secs());
        Err(Rejected::new(Kind::Slow, problem.expected(expected)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &str) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        Coding::of_answer(&headers)
    }

    #[test]
    fn clients_get_the_coding_that_they_like_best() {
        for (value, expect) in [
            ("gzip", Some(Coding::Gzip)),
            ("deflate, gzip", Some(Coding::Gzip)),
            ("gzip;q=0.5, deflate;q=0.8", Some(Coding::Deflate)),
            ("gzip;q=0, deflate", Some(Coding::Deflate)),
            ("br, zstd, identity", None),
            ("gzip;q=0", None),
            ("", None),
        ] {
            assert_eq!(accepts(value), expect, "{value}");
        }
    }

    #[test]
    fn what_is_packed_comes_back_and_bombs_do_not_go_off() {
        let body: Vec<u8> = (0..100_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Deflate] {
            let (packed, by) = coding.pack(body.clone());
            assert_eq!((by, packed.len() < body.len()), (Some(coding), true));
            let packed = Bytes::from(packed);
            assert_eq!(coding.unpack(&packed, body.len()).unwrap(), body);
            assert_eq!(coding.unpack(&packed, body.len() - 1).unwrap_err().status(), 413);
            let cut = packed.slice(..packed.len() / 2);
            assert_eq!(coding.unpack(&cut, body.len()).unwrap_err().status(), 400);
            assert_eq!(
                coding.unpack(&Bytes::from_static(b"{\"inputs\":[]}"), 100).unwrap_err().status(),
                400
            );
            assert_eq!(coding.pack(vec![7; 100]), (vec![7; 100], None));
        }
    }
}
