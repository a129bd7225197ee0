//! Frames: how a stream of bytes between two workers is divided into pieces of a known kind and length.
//!
//! A frame is a header of eight bytes (two that every frame begins with, its kind, a zero, its length as a little-endian
//! `u32`) and so many bytes of content. A [`Decoder`] never holds more than the memory it was made with: a length is
//! checked as soon as the header is there.

use thiserror::Error;

/// Bytes before the content.
pub const HEADER_BYTES: usize = 8;

/// What every frame begins with. No text protocol does, so whoever speaks one to a worker's port is found out at once.
const MAGIC: [u8; 2] = [0x9E, 0x47];

/// Pieces of data shorter than this are put together with those that follow them: a number of several bytes lies in one
/// piece when it is there, however the frames divide it.
const SHORT: usize = 64;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who begins: a token, and what the sender is.
    Hello = 1,
    /// The answer: the group and one's place in it.
    Welcome = 2,
    /// Bytes of the stream that the workers exchange.
    Data = 3,
    /// The last frame: nothing, or why the sender failed.
    Goodbye = 4,
    /// The answer to who cannot join: why not.
    Refusal = 5,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Hello, Self::Welcome, Self::Data, Self::Goodbye, Self::Refusal];

    /// The longest content that such a frame may have, in bytes.
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Hello => 64 << 10,
            Self::Welcome | Self::Data => 256 << 10,
            Self::Goodbye | Self::Refusal => 4 << 10,
        }
    }
}

/// What is wrong with bytes that should be frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// They do not begin as a frame does.
    #[error("these bytes begin no frame: {0:02x?}")]
    NoFrame([u8; 4]),
    /// Its length is more than such a frame may have, or than is expected here.
    #[error("a frame of kind {kind:?} is {bytes} bytes long, more than {max}")]
    TooLong {
        /// What it is for.
        kind: Kind,
        /// How long it claims to be.
        bytes: u32,
        /// How long it may be.
        max: usize,
    },
}

/// The header of a frame.
///
/// # Panics
/// When its kind may not have so many bytes.
pub fn header(kind: Kind, bytes: usize) -> [u8; HEADER_BYTES] {
    assert!(bytes <= kind.bytes_max(), "{bytes} bytes for {kind:?}");
    let mut header = [MAGIC[0], MAGIC[1], kind as u8, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&(bytes as u32).to_le_bytes());
    header
}

/// A whole frame.
///
/// # Panics
/// When its kind may not have so many bytes.
pub fn frame(kind: Kind, content: &[u8]) -> Vec<u8> {
    [&header(kind, content.len()), content].concat()
}

/// A text as the content of a frame, cut to what its kind may have.
pub fn text(kind: Kind, text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(kind.bytes_max())]
}

/// What comes next in a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// It is not all there yet.
    Nothing,
    /// Data, as much as lies in one piece; of a frame's data what has come is shown before the rest of it.
    Data(&'a [u8]),
    /// A whole frame of another kind.
    Control(Kind, &'a [u8]),
}

/// Takes a stream apart into frames, in a buffer that is read into directly and in which data is shown.
#[derive(Debug)]
pub struct Decoder {
    /// All of it is always there; `start..end` is what has been read and not been taken.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the present data frame from `start` on, some of which may not have come.
    data: usize,
}

impl Decoder {
    /// With a buffer of so many bytes (and enough for a header). Frames other than data must fit in it as a whole;
    /// longer ones are refused.
    pub fn new(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes.max(2 * (HEADER_BYTES + SHORT))], start: 0, end: 0, data: 0 }
    }

    /// This one with another buffer, which must hold what has been read.
    ///
    /// # Panics
    /// When it does not.
    pub fn with_buffer(self, bytes: usize) -> Self {
        let mut other = Self::new(bytes);
        let rest = &self.buffer[self.start..self.end];
        other.buffer[..rest.len()].copy_from_slice(rest);
        other.end = rest.len();
        other.data = self.data;
        other
    }

    /// Where to read more to; empty when there is no room before something is taken.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        // What is left is moved to the front only when that is little to move for what it gains, or when a frame that is
        // needed as a whole does not fit otherwise.
        let scarce = self.buffer.len() - self.end < self.buffer.len() / 4;
        if scarce && (self.start >= self.buffer.len() / 2 || (self.data == 0 && self.start > 0)) {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes have been read to where [`Decoder::space`] says.
    ///
    /// # Panics
    /// When there is no room for so many.
    pub fn filled(&mut self, bytes: usize) {
        assert!(bytes <= self.buffer.len() - self.end, "more was read than there is room for");
        self.end += bytes;
    }

    /// What comes next. It stays until it is taken: data by [`Decoder::take`], other frames by [`Decoder::pass`].
    ///
    /// # Errors
    /// When these are no frames; and from then on.
    pub fn peek(&mut self) -> Result<Next<'_>, FrameError> {
        loop {
            let short = self.data < SHORT && self.end - self.start >= self.data;
            let after = if short { self.header_at(self.start + self.data) } else { Ok(None) };
            if self.data > 0 {
                // An error behind it is told when it has been taken.
                if let Ok(Some((Kind::Data, more))) = after {
                    self.buffer.copy_within(self.start..self.start + self.data, self.start + HEADER_BYTES);
                    self.start += HEADER_BYTES;
                    self.data += more;
                    continue;
                }
                let there = self.data.min(self.end - self.start);
                if there == 0 {
                    return Ok(Next::Nothing);
                }
                return Ok(Next::Data(&self.buffer[self.start..self.start + there]));
            }
            match after? {
                None => return Ok(Next::Nothing),
                Some((Kind::Data, bytes)) => {
                    self.start += HEADER_BYTES;
                    self.data = bytes;
                }
                Some((kind, bytes)) => {
                    let content = self.start + HEADER_BYTES;
                    if self.end - content < bytes {
                        return Ok(Next::Nothing);
                    }
                    return Ok(Next::Control(kind, &self.buffer[content..content + bytes]));
                }
            }
        }
    }

    /// Takes bytes of the data that [`Decoder::peek`] shows.
    ///
    /// # Panics
    /// When it does not show so many.
    pub fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.data.min(self.end - self.start), "more is taken than there is");
        self.start += bytes;
        self.data -= bytes;
    }

    /// Goes on after the frame that [`Decoder::peek`] shows.
    ///
    /// # Panics
    /// When that shows no whole frame.
    pub fn pass(&mut self) {
        let frame = if self.data == 0 { self.header_at(self.start).ok().flatten() } else { None };
        let bytes = frame.map(|(_, bytes)| HEADER_BYTES + bytes).filter(|b| *b <= self.end - self.start);
        self.start += bytes.expect("a frame that was shown");
    }

    /// The first whole frame behind all data that has come, if it has come too.
    pub fn behind_data(&self) -> Option<(Kind, &[u8])> {
        let mut at = self.start + self.data;
        while at < self.end
            && let Ok(Some((kind, bytes))) = self.header_at(at)
        {
            at += HEADER_BYTES;
            if kind != Kind::Data {
                return self.buffer[..self.end].get(at..at + bytes).map(|content| (kind, content));
            }
            at += bytes;
        }
        None
    }

    /// The header at a place of the buffer, if all of it has come.
    fn header_at(&self, at: usize) -> Result<Option<(Kind, usize)>, FrameError> {
        let Some(header) = self.buffer[..self.end].get(at..at + HEADER_BYTES) else {
            return Ok(None);
        };
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == header[2]);
        let Some(kind) = kind.filter(|_| header[..2] == MAGIC && header[3] == 0) else {
            return Err(FrameError::NoFrame([header[0], header[1], header[2], header[3]]));
        };
        let bytes = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let room = if kind == Kind::Data { usize::MAX } else { self.buffer.len() - HEADER_BYTES };
        let max = kind.bytes_max().min(room);
        if bytes as usize > max {
            return Err(FrameError::TooLong { kind, bytes, max });
        }
        Ok(Some((kind, bytes as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Vec<(Option<Kind>, Vec<u8>)>;

    /// Feeds a decoder in pieces of so many bytes; all data and all other frames in their order, up to the first error.
    fn decoded(bytes: &[u8], piece: usize, mut decoder: Decoder) -> (Found, Option<FrameError>) {
        let (mut rest, mut found) = (bytes, Found::new());
        loop {
            match decoder.peek() {
                Ok(Next::Data(data)) => {
                    // Half of it at a time, so that the rest is shown again.
                    let taken = data.len().div_ceil(2);
                    match found.last_mut() {
                        Some((None, last)) => last.extend(&data[..taken]),
                        _ => found.push((None, data[..taken].to_vec())),
                    }
                    decoder.take(taken);
                }
                Ok(Next::Control(kind, content)) => {
                    found.push((Some(kind), content.to_vec()));
                    decoder.pass();
                }
                Err(error) => return (found, Some(error)),
                Ok(Next::Nothing) if rest.is_empty() => return (found, None),
                Ok(Next::Nothing) => {
                    let space = decoder.space();
                    let read = rest.len().min(space.len()).min(piece);
                    assert!(read > 0, "a decoder that shows nothing has room");
                    space[..read].copy_from_slice(&rest[..read]);
                    decoder.filled(read);
                    rest = &rest[read..];
                }
            }
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let data: Vec<u8> = (0..100_000u32).map(|i| (i % 253) as u8).collect();
        let mut bytes = frame(Kind::Hello, &data[..3000]);
        for part in data.chunks(4099) {
            bytes.extend(frame(Kind::Data, part));
        }
        bytes.extend(frame(Kind::Data, &[]));
        bytes.extend(frame(Kind::Goodbye, b"why"));
        let expected = vec![
            (Some(Kind::Hello), data[..3000].to_vec()),
            (None, data.clone()),
            (Some(Kind::Goodbye), b"why".to_vec()),
        ];
        for piece in [1, 2, 3, 7, 8, 9, 64, 1000, 4099, usize::MAX] {
            for buffer in [3008, 3500, 5000, 1 << 18] {
                assert_eq!(decoded(&bytes, piece, Decoder::new(buffer)), (expected.clone(), None));
            }
        }
    }

    #[test]
    fn what_is_no_frame_or_too_long_is_refused_before_it_comes() {
        let long = |kind: Kind, bytes: u32| {
            let mut header = header(kind, 0);
            header[4..].copy_from_slice(&bytes.to_le_bytes());
            header
        };
        let request: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
        let mut unknown = header(Kind::Data, 0);
        unknown[2] = 9;
        for (bytes, expected) in [
            (request, "these bytes begin no frame: [47, 45, 54, 20]"),
            (&unknown[..], "these bytes begin no frame: [9e, 47, 09, 00]"),
            (&long(Kind::Data, u32::MAX)[..], "Data is 4294967295 bytes long, more than 262144"),
            (&long(Kind::Goodbye, 4097)[..], "Goodbye is 4097 bytes long, more than 992"),
        ] {
            let (found, error) = decoded(bytes, 1, Decoder::new(1000));
            assert!(found.is_empty());
            let error = error.expect("an error").to_string();
            assert!(error.contains(expected), "{error}");
        }
        // What came before it can still be taken.
        let mut bytes = frame(Kind::Data, b"good");
        bytes.extend(request);
        let (found, error) = decoded(&bytes, 5, Decoder::new(1000));
        assert_eq!(found, [(None, b"good".to_vec())]);
        assert!(error.is_some());
    }

    #[test]
    fn half_frames_show_their_data_and_nothing_else() {
        for (kind, shown) in [(Kind::Data, 7), (Kind::Goodbye, 0)] {
            let bytes = frame(kind, b"0123456789");
            let (found, error) = decoded(&bytes[..HEADER_BYTES + 7], 100, Decoder::new(1000));
            assert_eq!((found.iter().map(|(_, b)| b.len()).sum::<usize>(), error), (shown, None));
        }
    }

    #[test]
    fn a_number_that_two_frames_share_lies_in_one_piece() {
        let mut decoder = Decoder::new(1000);
        let put = |decoder: &mut Decoder, bytes: &[u8]| {
            decoder.space()[..bytes.len()].copy_from_slice(bytes);
            decoder.filled(bytes.len());
        };
        put(&mut decoder, &frame(Kind::Data, b"ab"));
        assert_eq!(decoder.peek(), Ok(Next::Data(b"ab")));
        put(&mut decoder, &frame(Kind::Data, b"cdef"));
        assert_eq!(decoder.peek(), Ok(Next::Data(b"abcdef")));
        decoder.take(4);
        put(&mut decoder, &frame(Kind::Goodbye, b""));
        assert_eq!(decoder.behind_data(), Some((Kind::Goodbye, &b""[..])));
        assert_eq!(decoder.peek(), Ok(Next::Data(b"ef")));
        decoder.take(2);
        assert_eq!(decoder.peek(), Ok(Next::Control(Kind::Goodbye, b"")));
        decoder.pass();
        assert_eq!(decoder.peek(), Ok(Next::Nothing));
    }

    #[test]
    fn a_decoder_goes_on_with_another_buffer() {
        let bytes = [frame(Kind::Data, b"abcdef"), frame(Kind::Goodbye, b"x")].concat();
        let mut decoder = Decoder::new(200);
        decoder.space()[..bytes.len()].copy_from_slice(&bytes);
        decoder.filled(bytes.len());
        assert_eq!(decoder.peek(), Ok(Next::Data(b"abcdef")));
        decoder.take(1);
        let mut decoder = decoder.with_buffer(5000);
        assert_eq!(decoder.peek(), Ok(Next::Data(b"bcdef")));
        decoder.take(5);
        assert_eq!(decoder.peek(), Ok(Next::Control(Kind::Goodbye, b"x")));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(3000);
        assert_eq!(text(Kind::Refusal, &long).len(), 4096);
        assert_eq!(text(Kind::Refusal, &format!("x{long}")).len(), 4095);
        assert_eq!(text(Kind::Refusal, "short"), b"short");
    }
}
