//! Frames between workers: however a stream is cut into pieces and however little is taken at a time, a decoder shows
//! what a plain reading of the whole shows, and holds no more memory than it was given.

use outgrow_env::transport::frame::{Decoder, FrameError, HEADER_BYTES, Kind, Next};
use outgrow_env::transport::tcp::Token;
use outgrow_env::transport::tcp::messages::{Purpose, Welcome};

/// What a stream holds: data, put together, and whole frames of other kinds.
type Found = (Vec<(Option<Kind>, Vec<u8>)>, bool);

fn push(found: &mut Found, kind: Option<Kind>, content: &[u8]) {
    match found.0.last_mut() {
        Some((None, last)) if kind.is_none() => last.extend(content),
        _ if kind.is_none() && content.is_empty() => {}
        _ => found.0.push((kind, content.to_vec())),
    }
}

/// All at once, and as obvious as it gets.
fn plainly(mut bytes: &[u8], buffer: usize) -> Found {
    let mut found = Found::default();
    while bytes.len() >= HEADER_BYTES {
        let (header, rest) = bytes.split_at(HEADER_BYTES);
        let length = u32::from_le_bytes(header[4..].try_into().expect("four bytes")) as usize;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == header[2]);
        let Some(kind) = kind.filter(|_| header[..2] == [0x9E, 0x47] && header[3] == 0) else {
            found.1 = true;
            break;
        };
        if length > kind.bytes_max() || (kind != Kind::Data && length > buffer - HEADER_BYTES) {
            found.1 = true;
            break;
        }
        if kind == Kind::Data {
            push(&mut found, None, &rest[..length.min(rest.len())]);
        } else if rest.len() >= length {
            push(&mut found, Some(kind), &rest[..length]);
        }
        bytes = rest.get(length..).unwrap_or_default();
    }
    found
}

fn understand(kind: Kind, content: &[u8]) {
    let token = Token::of_hex(&"5a".repeat(32)).expect("a token");
    let again = match kind {
        Kind::Hello => Purpose::of_hello(content, &token).ok().map(|purpose| purpose.hello(&token)),
        Kind::Welcome => Welcome::of_content(content).map(|welcome| welcome.frame()),
        _ => None,
    };
    assert!(again.is_none_or(|again| &again[HEADER_BYTES..] == content));
}

pub fn check(data: &[u8]) {
    let Some((&[small, piece, taken], mut rest)) = data.split_first_chunk::<3>() else { return };
    let buffer = if small & 1 == 0 { 1 << 10 } else { 68 << 10 };
    let expected = plainly(rest, buffer);
    let mut decoder = Decoder::new(buffer);
    let mut found = Found::default();
    loop {
        let next: Result<Next<'_>, FrameError> = decoder.peek();
        match next {
            Ok(Next::Data(shown)) => {
                let some = shown.len().min(usize::from(taken) * 8 + 1);
                push(&mut found, None, &shown[..some]);
                decoder.take(some);
            }
            Ok(Next::Control(kind, content)) => {
                understand(kind, content);
                push(&mut found, Some(kind), content);
                decoder.pass();
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(decoder.peek(), Err(error), "an error stays");
                found.1 = true;
                break;
            }
            Ok(Next::Nothing) if rest.is_empty() => break,
            Ok(Next::Nothing) => {
                let space = decoder.space();
                assert!(!space.is_empty() && space.len() <= buffer);
                let read = rest.len().min(space.len()).min(usize::from(piece) * 16 + 1);
                space[..read].copy_from_slice(&rest[..read]);
                decoder.filled(read);
                rest = &rest[read..];
            }
        }
        let _ = decoder.behind_data();
    }
    assert_eq!(found, expected);
}
