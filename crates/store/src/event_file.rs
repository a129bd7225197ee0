//! TensorBoard's event files: numbers over steps, for those who look at their runs there. Written only, never read.
//!
//! A file is records of a length, its checksum, the bytes and theirs (TensorFlow's `TFRecord`), and each holds an `Event` in
//! Protocol Buffers (`tensorflow/core/util/event.proto`), of which five kinds of fields are needed. No maintained crate writes
//! these alone.

use crate::StoreError;
use crate::appender::Appender;
use outgrow_env::StorageBackend;
use std::path::Path;
use std::sync::Arc;

/// By this in its name TensorBoard knows such a file.
const NAME: &str = "events.out.tfevents.";

/// Appends scalars to an event file.
#[derive(Debug)]
pub struct EventFile {
    file: Appender,
    is_first: bool,
}

impl EventFile {
    /// Whether a file of this name is an event file.
    pub fn is_named(name: &str) -> bool {
        name.starts_with(NAME)
    }

    /// Begins a file in a folder, to go on after a step. What files of earlier processes there have told of later steps no
    /// longer counts. Times are seconds since 1970.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn begin(
        storage: Arc<dyn StorageBackend>,
        folder: &Path,
        unix_s: u64,
        step: u64,
    ) -> Result<Self, StoreError> {
        let there = storage.list(folder)?;
        // TensorBoard reads them in the order of their names.
        let free = (0..).map(|n: u32| format!("{NAME}{unix_s:010}.{n:04}.outgrow"));
        let name = free.into_iter().find(|name| there.iter().all(|entry| entry.name != *name));
        let path = folder.join(name.unwrap_or_else(|| NAME.to_owned()));
        let is_first = !there.iter().any(|entry| Self::is_named(&entry.name));
        let mut file = Self { file: Appender::new(storage, path), is_first };
        let mut event = Message::default();
        event.double(1, unix_s as f64).bytes(3, b"brain.Event:2");
        file.record(&event)?;
        if !is_first {
            // A session that starts: the reader drops events of this step and later ones.
            let mut session = Message::default();
            session.varint(1, 1);
            let mut event = Message::default();
            event.double(1, unix_s as f64).varint(2, step + 1).bytes(7, &session.0);
            file.record(&event)?;
        }
        Ok(file)
    }

    /// Whether there is no other in the folder.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Adds numbers of a step by their names, with the time in seconds since 1970. They are in the file after the next
    /// [`EventFile::flush`].
    ///
    /// # Errors
    /// When much was waiting, and cannot be written.
    pub fn scalars(&mut self, unix_s: f64, step: u64, numbers: &[(String, f64)]) -> Result<(), StoreError> {
        let mut summary = Message::default();
        for (name, number) in numbers {
            let mut value = Message::default();
            value.bytes(1, name.as_bytes()).float(2, *number as f32);
            summary.bytes(1, &value.0);
        }
        let mut event = Message::default();
        event.double(1, unix_s).varint(2, step).bytes(5, &summary.0);
        self.record(&event)
    }

    /// Makes all so far durable.
    ///
    /// # Errors
    /// When it cannot be written; it goes on waiting.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        self.file.flush()
    }

    /// Has all so far written by a thread.
    ///
    /// # Errors
    /// When what was there before could not be written; it goes on waiting.
    pub fn flush_beside(&mut self) -> Result<(), StoreError> {
        self.file.flush_beside()
    }

    fn record(&mut self, event: &Message) -> Result<(), StoreError> {
        let length = (event.0.len() as u64).to_le_bytes();
        let (of_length, of_event) = (masked_crc32c(&length), masked_crc32c(&event.0));
        self.file.push(&[&length, &of_length.to_le_bytes()[..], &event.0, &of_event.to_le_bytes()].concat())
    }
}

/// A message of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

/// How a field is encoded.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    fn raw(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn varint(&mut self, field: u64, value: u64) -> &mut Self {
        self.raw(field << 3 | VARINT);
        self.raw(value);
        self
    }

    fn double(&mut self, field: u64, value: f64) -> &mut Self {
        self.raw(field << 3 | FIXED64);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.raw(field << 3 | FIXED32);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.raw(field << 3 | LENGTH);
        self.raw(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }
}

/// CRC-32C (Castagnoli), rotated and moved, as a record has it: so that bytes that hold checksums have good ones.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C of bytes (RFC 3720, appendix B.4, has values).
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_env::SimStorage;

    #[test]
    fn checksums_are_those_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expect) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(bytes), expect, "{bytes:?}");
        }
    }

    /// The bytes of the first record as TensorFlow's own writer has it, at time 1 s, and of a scalar of step 300.
    #[test]
    fn records_have_the_form_of_the_format() {
        let storage: Arc<dyn StorageBackend> = Arc::new(SimStorage::new(1));
        storage.create_folder(Path::new("r")).unwrap();
        let mut file = EventFile::begin(storage.clone(), Path::new("r"), 1, 0).unwrap();
        file.scalars(2.0, 300, &[("a".to_owned(), 1.0)]).unwrap();
        file.flush().unwrap();
        let bytes = storage.read(Path::new("r/events.out.tfevents.0000000001.0000.outgrow")).unwrap();
        let (first, rest) = bytes.split_at(8 + 4 + 24 + 4);
        assert_eq!(&first[..8], 24u64.to_le_bytes());
        assert_eq!(&first[12..36], b"\x09\0\0\0\0\0\0\xf0\x3f\x1a\x0dbrain.Event:2");
        assert_eq!(&rest[12..24], b"\x09\0\0\0\0\0\0\0\x40\x10\xac\x02");
        assert_eq!(&rest[24..rest.len() - 4], b"\x2a\x0a\x0a\x08\x0a\x01a\x15\0\0\x80\x3f");
        // Another process does not write into the same file.
        let mut next = EventFile::begin(storage.clone(), Path::new("r"), 1, 9).unwrap();
        next.flush().unwrap();
        let there = storage.list(Path::new("r")).unwrap();
        assert!(there.len() == 2 && there.iter().all(|entry| EventFile::is_named(&entry.name)), "{there:?}");
    }
}
