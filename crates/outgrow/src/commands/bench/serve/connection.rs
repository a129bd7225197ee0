//! One connection to a server of HTTP/1.1, kept alive, encrypted or not: requests as bytes, answers by their status and body. It does as
//! little as can be, for whoever measures a server shares its processor.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// Most header lines of an answer.
const HEADERS_MAX: usize = 64;
/// Most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// By how much is read at least.
const READ_BYTES: usize = 16 << 10;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lost {
    /// The server could not be reached.
    Unreachable,
    /// The connection broke.
    Broken,
    /// The answer did not come in time.
    Late,
    /// What came is no answer of HTTP.
    NotHttp,
}

impl Lost {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::Late => "no answer in time",
            Self::NotHttp => "no HTTP",
        }
    }
}

/// Where a server is reached, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address.
    pub address: SocketAddr,
    /// What is trusted and whose name the server is to have, where everything is encrypted.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A connection, which is made again when it is lost.
#[derive(Debug)]
pub struct Connection {
    target: Target,
    /// How long an answer may take.
    patience: Duration,
    stream: Option<Stream>,
    buffer: Vec<u8>,
    filled: usize,
}

/// What goes to and fro.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Where an answer is in the buffer.
struct Found {
    status: u16,
    body: Body,
    /// Where the body begins.
    start: usize,
    keep: bool,
}

/// How long a body is.
enum Body {
    Length(usize),
    Chunks,
    UntilClosed,
}

impl Connection {
    /// A connection that is made when it is first needed.
    pub fn new(target: Target, patience: Duration) -> Self {
        Self { target, patience, stream: None, buffer: vec![0; READ_BYTES], filled: 0 }
    }

    /// Connects, if it is not connected.
    ///
    /// # Errors
    /// When the server cannot be reached, or is not trusted.
    pub fn connect(&mut self) -> io::Result<&mut Stream> {
        if self.stream.is_none() {
            let mut stream = TcpStream::connect_timeout(&self.target.address, self.patience)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(self.patience))?;
            stream.set_write_timeout(Some(self.patience))?;
            self.stream = Some(match &self.target.tls {
                None => Stream::Plain(stream),
                Some((config, name)) => {
                    let client = ClientConnection::new(Arc::clone(config), name.clone());
                    let mut client = client.map_err(io::Error::other)?;
                    // All of it now, so that no request is measured with it.
                    while client.is_handshaking() {
                        client.complete_io(&mut stream)?;
                    }
                    Stream::Tls(Box::new(StreamOwned::new(client, stream)))
                }
            });
        }
        self.stream.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }

    /// Sends a request and waits for its answer: its status, and its body until the next request. A server may have
    /// closed a connection that was idle, so a request that meets such a one is sent once more.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn ask(&mut self, request: &[u8]) -> Result<(u16, &[u8]), Lost> {
        let fresh = self.stream.is_none();
        let answered = match self.try_once(request) {
            Err(Lost::Broken) if !fresh && self.filled == 0 => {
                self.stream = None;
                self.try_once(request)
            }
            other => other,
        };
        match answered {
            Ok((status, body)) => Ok((status, &self.buffer[body])),
            Err(lost) => {
                self.stream = None;
                Err(lost)
            }
        }
    }

    fn try_once(&mut self, request: &[u8]) -> Result<(u16, Range<usize>), Lost> {
        self.filled = 0;
        let start = Instant::now();
        let stream = self.connect().map_err(|_| Lost::Unreachable)?;
        stream.write_all(request).and_then(|()| stream.flush()).map_err(|error| lost(&error))?;
        let found = loop {
            match head(&self.buffer[..self.filled])? {
                // What is only said on the way.
                Some(found) if (100..200).contains(&found.status) => {
                    self.buffer.copy_within(found.start..self.filled, 0);
                    self.filled -= found.start;
                }
                Some(found) => break found,
                None => self.more(start).and_then(some)?,
            }
        };
        let end = match found.body {
            Body::Length(length) => {
                let end = found.start.checked_add(length).filter(|end| *end <= ANSWER_BYTES_MAX);
                let end = end.ok_or(Lost::NotHttp)?;
                while self.filled < end {
                    self.more(start).and_then(some)?;
                }
                end
            }
            Body::Chunks => loop {
                if let Some(end) = self.unchunked(found.start)? {
                    break end;
                }
                self.more(start).and_then(some)?;
            },
            Body::UntilClosed => {
                while self.more(start)? > 0 {}
                self.filled
            }
        };
        if !found.keep {
            self.stream = None;
        }
        Ok((found.status, found.start..end))
    }

    /// Reads what there is, and waits for it if there is nothing; says how much, which is 0 at the end.
    fn more(&mut self, start: Instant) -> Result<usize, Lost> {
        if self.filled == self.buffer.len() {
            if self.filled >= ANSWER_BYTES_MAX {
                return Err(Lost::NotHttp);
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let stream = self.stream.as_mut().ok_or(Lost::Broken)?;
        let read = loop {
            match stream.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|error| lost(&error))?,
            }
        };
        self.filled += read;
        // A server that sends a byte now and then is late all the same.
        if start.elapsed() > self.patience { Err(Lost::Late) } else { Ok(read) }
    }

    /// Where a body in chunks ends once these are put together, if all of them are there.
    fn unchunked(&mut self, start: usize) -> Result<Option<usize>, Lost> {
        let mut chunks: Vec<Range<usize>> = Vec::new();
        let mut at = start;
        loop {
            let size = httparse::parse_chunk_size(&self.buffer[at..self.filled]);
            let httparse::Status::Complete((line, size)) = size.map_err(|_| Lost::NotHttp)? else {
                return Ok(None);
            };
            let from = at + line;
            let to = usize::try_from(size).ok().and_then(|size| from.checked_add(size));
            let to = to.filter(|to| *to <= ANSWER_BYTES_MAX).ok_or(Lost::NotHttp)?;
            // Trailers are not looked for: servers of models send none.
            if to + 2 > self.filled {
                return Ok(None);
            }
            if size == 0 {
                break;
            }
            chunks.push(from..to);
            at = to + 2;
        }
        let mut end = start;
        for chunk in chunks {
            let length = chunk.len();
            self.buffer.copy_within(chunk, end);
            end += length;
        }
        Ok(Some(end))
    }
}

/// The end of a connection that should have gone on.
fn some(read: usize) -> Result<(), Lost> {
    if read == 0 { Err(Lost::Broken) } else { Ok(()) }
}

fn lost(error: &io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Lost::Late,
        _ => Lost::Broken,
    }
}

/// The head of an answer, if it is whole.
fn head(bytes: &[u8]) -> Result<Option<Found>, Lost> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let parsed = answer.parse(bytes).map_err(|_| Lost::NotHttp)?;
    let httparse::Status::Complete(start) = parsed else { return Ok(None) };
    let value = |name: &str| {
        let header = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    let status = answer.code.unwrap_or_default();
    let chunked = value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let body = match value("content-length") {
        _ if status == 204 || status == 304 => Body::Length(0),
        _ if chunked => Body::Chunks,
        Some(length) => Body::Length(length.parse().map_err(|_| Lost::NotHttp)?),
        None => Body::UntilClosed,
    };
    let keep = answer.version == Some(1)
        && !matches!(body, Body::UntilClosed)
        && !value("connection").is_some_and(|said| said.eq_ignore_ascii_case("close"));
    Ok(Some(Found { status, body, start, keep }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What a client makes of two requests to a server that sends these bytes in these pieces for each, and then closes.
    fn answers(pieces: &'static [&'static str]) -> Vec<Result<(u16, String), Lost>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                let mut request = [0; 3];
                while stream.read_exact(&mut request).is_ok() {
                    for piece in pieces {
                        stream.write_all(piece.as_bytes()).unwrap();
                        thread::yield_now();
                    }
                    if !pieces.concat().contains("keep") {
                        break;
                    }
                }
            }
        });
        let mut connection = Connection::new(Target { address, tls: None }, Duration::from_secs(30));
        let mut ask = || {
            let (status, body) = connection.ask(b"ask")?;
            Ok((status, String::from_utf8(body.to_vec()).unwrap()))
        };
        let found = vec![ask(), ask()];
        drop(connection);
        // A server that waits for its second client.
        drop(TcpStream::connect(address));
        server.join().unwrap();
        found
    }

    #[test]
    fn answers_of_every_form_are_read() {
        type Case = (&'static [&'static str], Result<(u16, &'static str), Lost>);
        let cases: [Case; 9] = [
            (&["HTTP/1.1 200 OK\r\nA: keep\r\nContent-Length: 3\r\n\r\nabc"], Ok((200, "abc"))),
            (&["HTTP/1.1 503 N", "o\r\nA: keep\r\ncontent-length: 3\r\n", "\r\na", "bc"], Ok((503, "abc"))),
            (&["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 None\r\nA: keep\r\n\r\n"], Ok((204, ""))),
            (
                &[
                    "HTTP/1.1 200 OK\r\nA: keep\r\nTransfer-Encoding: chunked\r\n\r\n2\r",
                    "\nab\r\n",
                    "1\r\nc\r\n0\r\n\r\n",
                ],
                Ok((200, "abc")),
            ),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"], Ok((200, "abc"))),
            (&["HTTP/1.0 200 OK\r\n\r\nab", "c"], Ok((200, "abc"))),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"], Err(Lost::Broken)),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nabc"], Err(Lost::NotHttp)),
            (&["SSH-2.0-x\r\n"], Err(Lost::NotHttp)),
        ];
        for (pieces, expect) in cases {
            let expect = expect.map(|(status, body)| (status, body.to_owned()));
            assert_eq!(answers(pieces), [expect.clone(), expect], "{pieces:?}");
        }
    }
}
