//! One connection to another worker: frames both ways, and what became of it.

use super::super::LinkProblem;
use super::super::frame::{self, Decoder, Kind, Next};
use super::Settings;
use super::identity::{End, Stream};
use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, ErrorKind, IoSlice};
use std::time::Duration;

/// Bytes of a data frame as they are sent: what is left of one that the system takes in part is copied.
const SENT_BYTES: usize = 64 << 10;

/// Frames of data that are given to the system at once.
const SENT_AT_ONCE: usize = 16;

/// Bytes that are read at once, and may lie here unread. They stay in a cache until they are taken.
pub const RECEIVED_BYTES: usize = 256 << 10;

/// One connection.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    decoder: Decoder,
    /// What is left of a frame that the system has taken in part, and frames other than data.
    outbox: Vec<u8>,
    /// How much of it the system has taken.
    outbox_sent: usize,
    /// Whether an event has said that something came, or that there is room, since there was nothing or none.
    pub readable: bool,
    pub writable: bool,
    /// What the other worker's last frame said, or that what came is no frame.
    said: Option<LinkProblem>,
    /// What the system says of the connection.
    broken: Option<LinkProblem>,
    silence: Duration,
}

impl Link {
    /// Over a connection.
    pub fn new(stream: TcpStream, end: End, decoder: Decoder, settings: &Settings) -> io::Result<Self> {
        let silence = settings.silence;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        // Systems count these in seconds.
        let seconds = |part: u32| (silence / part).max(Duration::from_secs(1));
        let keepalive = TcpKeepalive::new().with_time(seconds(2)).with_interval(seconds(10));
        #[cfg(any(target_os = "linux", target_os = "macos", target_os = "windows"))]
        let keepalive = keepalive.with_retries(5);
        socket.set_tcp_keepalive(&keepalive)?;
        // What was sent and is not acknowledged for so long.
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(silence))?;
        let stream = Stream::new(stream, end, settings.identity.as_deref())?;
        Ok(Self {
            stream,
            decoder,
            outbox: Vec::new(),
            outbox_sent: 0,
            readable: true,
            writable: true,
            said: None,
            broken: None,
            silence,
        })
    }

    /// The connection, to be watched.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream.socket
    }

    /// This one, ready for data.
    pub fn for_data(mut self) -> Self {
        self.decoder = self.decoder.with_buffer(RECEIVED_BYTES);
        self
    }

    /// Takes on the first of these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, LinkProblem> {
        self.push()?;
        if !self.outbox.is_empty() || bytes.is_empty() {
            return Ok(0);
        }
        let headers: [_; SENT_AT_ONCE] = std::array::from_fn(|i| {
            let rest = bytes.len().saturating_sub(i * SENT_BYTES);
            frame::header(Kind::Data, rest.min(SENT_BYTES))
        });
        let mut parts = [IoSlice::new(&[]); 2 * SENT_AT_ONCE];
        let mut count = 0;
        for (header, content) in headers.iter().zip(bytes.chunks(SENT_BYTES)) {
            parts[count] = IoSlice::new(header);
            parts[count + 1] = IoSlice::new(content);
            count += 2;
        }
        let mut written = match self.write(|stream| stream.write_vectored(&parts[..count])) {
            Some(written) => written,
            None => return self.sendable().map(|()| 0),
        };
        let mut taken = 0;
        for frame in parts[..count].chunks_exact(2) {
            let whole = frame[0].len() + frame[1].len();
            if written == 0 {
                break;
            }
            if written < whole {
                // A frame that has been begun must be ended.
                let header = frame[0].get(written..).unwrap_or_default();
                let content = &frame[1][written.saturating_sub(frame[0].len())..];
                self.outbox.extend(header);
                self.outbox.extend(content);
                written = whole;
            }
            written -= whole;
            taken += frame[1].len();
        }
        Ok(taken)
    }

    /// Sends frames other than data, which must be few and short: all of it is kept until the system takes it.
    pub fn say(&mut self, frames: &[u8]) -> Result<(), LinkProblem> {
        self.outbox.extend(frames);
        self.push()
    }

    /// Gives the system what is kept here.
    pub fn push(&mut self) -> Result<(), LinkProblem> {
        self.sendable()?;
        while self.outbox_sent < self.outbox.len() {
            let from = self.outbox_sent;
            let rest = std::mem::take(&mut self.outbox);
            let written = self.write(|stream| stream.write_vectored(&[IoSlice::new(&rest[from..])]));
            self.outbox = rest;
            self.outbox_sent += written.unwrap_or(0);
            self.sendable()?;
            if !self.writable {
                break;
            }
        }
        if self.outbox_sent == self.outbox.len() {
            self.outbox.clear();
            self.outbox_sent = 0;
            if !self.stream.is_flushed() {
                let _ = self.write(|stream| stream.flush().map(|()| 0));
                self.sendable()?;
            }
        }
        Ok(())
    }

    /// Whether the system has all that was taken on.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && self.stream.is_flushed()
    }

    /// Reads once, if there is room. Says whether that changed anything.
    pub fn fill(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        let space = self.decoder.space();
        if space.is_empty() {
            return false;
        }
        match self.stream.read(space) {
            Ok(0) => self.broken = Some(LinkProblem::Gone),
            Ok(bytes) => self.decoder.filled(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return false;
            }
            Err(error) => self.broken = Some(self.problem_of(&error)),
        }
        true
    }

    /// What has come and was not taken.
    pub fn received(&mut self) -> Result<&[u8], LinkProblem> {
        while !self.shows_something() {
            self.still_comes()?;
            if !self.fill() {
                return Ok(&[]);
            }
        }
        match self.decoder.peek() {
            Ok(Next::Data(data)) => Ok(data),
            _ => Ok(&[]),
        }
    }

    /// Takes so much of it.
    pub fn take(&mut self, bytes: usize) {
        self.decoder.take(bytes);
    }

    /// What became of the other worker, if it is lost and nothing is left to be taken.
    pub fn lost(&mut self) -> Option<LinkProblem> {
        if self.said.is_none() && self.broken.is_none() || self.shows_something() {
            return None;
        }
        self.still_comes().err().filter(|problem| *problem != LinkProblem::Left)
    }

    /// The next frame of a conversation before there is data, if it has come: its kind and content.
    pub fn heard(&mut self) -> Result<Option<(Kind, Vec<u8>)>, LinkProblem> {
        loop {
            match self.decoder.peek() {
                Err(error) => return Err(LinkProblem::Garbled(error.to_string())),
                Ok(Next::Data(_)) => return Err(LinkProblem::Garbled("data before a greeting".to_owned())),
                Ok(Next::Control(kind, content)) => {
                    let content = content.to_vec();
                    self.decoder.pass();
                    return Ok(Some((kind, content)));
                }
                Ok(Next::Nothing) => {}
            }
            self.still_comes()?;
            if !self.fill() {
                return Ok(None);
            }
        }
    }

    /// Says nothing more.
    pub fn close(&mut self) {
        self.stream.close();
    }

    /// Takes no more notice of what comes. Says whether the other one has closed the link too, or it is broken: what comes
    /// to a socket that is gone makes the system drop what it was still to send.
    pub fn is_over(&mut self) -> bool {
        while self.broken.is_none() && self.fill() {
            self.decoder = Decoder::new(RECEIVED_BYTES);
        }
        self.broken.is_some()
    }

    /// Neither sends nor receives any more.
    pub fn end(&mut self) {
        self.said = Some(LinkProblem::Left);
    }

    /// Whether there is data to be shown. Other frames are taken notice of.
    fn shows_something(&mut self) -> bool {
        if self.said.is_some() {
            return false;
        }
        let said = match self.decoder.peek() {
            Ok(Next::Data(_)) => return true,
            Ok(Next::Nothing) => return false,
            Ok(Next::Control(kind, content)) => last_word(kind, content),
            Err(error) => LinkProblem::Garbled(error.to_string()),
        };
        self.said = Some(said);
        false
    }

    /// Whether more may come.
    fn still_comes(&self) -> Result<(), LinkProblem> {
        self.said.as_ref().or(self.broken.as_ref()).map_or(Ok(()), |problem| Err(problem.clone()))
    }

    /// Whether the other worker may take more; if not, why: what it said last may lie behind data that was not taken.
    fn sendable(&mut self) -> Result<(), LinkProblem> {
        self.still_comes().map_err(|problem| match self.decoder.behind_data() {
            Some((kind, content)) if self.said.is_none() => last_word(kind, content),
            _ => problem,
        })
    }

    /// Writes. Nothing when there is no room now, or the connection is broken: then it is known why.
    fn write(&mut self, write: impl FnOnce(&mut Stream) -> io::Result<usize>) -> Option<usize> {
        match write(&mut self.stream) {
            Ok(written) => {
                self.writable = true;
                return Some(written);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) => {
                // What the other one said last may have come.
                while self.fill() {}
                let problem = self.problem_of(&error);
                self.broken.get_or_insert(problem);
            }
        }
        None
    }

    fn problem_of(&self, error: &io::Error) -> LinkProblem {
        match error.kind() {
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => LinkProblem::Gone,
            ErrorKind::TimedOut => LinkProblem::Silent(self.silence),
            _ => LinkProblem::Broken(error.to_string()),
        }
    }
}

/// What a frame other than data says among workers that are linked.
fn last_word(kind: Kind, content: &[u8]) -> LinkProblem {
    match kind {
        Kind::Goodbye if content.is_empty() => LinkProblem::Left,
        Kind::Goodbye => LinkProblem::Failed(String::from_utf8_lossy(content).into_owned()),
        _ => LinkProblem::Garbled(format!("a frame of kind {kind:?} among data")),
    }
}
