//! The file with which others join: where the first worker is, the token, and the certificates. Whoever can read it
//! belongs to the group, so only its owner can.

use super::identity::Identity;
use super::{JoinError, Settings, Token, failed};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// More than any such file is long.
const BYTES_MAX: u64 = 64 << 10;

/// The names of the certificates and their key.
const PARTS: [&str; 3] = ["authority", "certificate", "key"];

/// Writes such a file, which only its owner can read, in place of one that may be there: lines of TOML.
///
/// # Errors
/// When the system does not allow it.
pub fn write_join_file(path: &Path, address: &str, settings: &Settings) -> Result<(), JoinError> {
    let mut text = "# Whoever has this file can join.\n".to_owned();
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name} = \"{value}\"");
    };
    line("address", address);
    line("token", &settings.token.to_hex());
    if let Some(identity) = &settings.identity {
        PARTS.iter().zip(&identity.parts).for_each(|(name, part)| line(name, &hex(part)));
    }
    let new = path.with_extension("new");
    let write = || {
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(failed(format!("write {}", path.display())))
}

/// The address of the first worker and what its group agrees on, from such a file.
///
/// # Errors
/// When it cannot be read, or is no such file.
pub fn read_join_file(path: &Path) -> Result<(String, Settings), JoinError> {
    let cannot_read = || failed(format!("read {}", path.display()));
    if fs::metadata(path).map_err(cannot_read())?.len() > BYTES_MAX {
        return Err(wrong(path, "it is too long"));
    }
    let text = fs::read_to_string(path).map_err(cannot_read())?;
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.strip_prefix(" = \"")?;
            value.strip_suffix('"')
        })
    };
    let missing = |name: &str| wrong(path, &format!("it has no line `{name} = \"…\"`"));
    let address = value("address").ok_or_else(|| missing("address"))?;
    let token = value("token").ok_or_else(|| missing("token"))?;
    let token = Token::of_hex(token).ok_or_else(|| wrong(path, "its token is not one"))?;
    let mut settings = Settings::new(token);
    if PARTS.iter().any(|name| value(name).is_some()) {
        let mut parts = [const { Vec::new() }; 3];
        for (name, part) in PARTS.iter().zip(&mut parts) {
            let text = value(name).ok_or_else(|| missing(name))?;
            *part = of_hex(text).ok_or_else(|| wrong(path, &format!("its {name} is not hexadecimal")))?;
        }
        let identity = Identity::of_parts(parts).map_err(|error| wrong(path, &error.to_string()))?;
        settings.identity = Some(Arc::new(identity));
    }
    Ok((address.to_owned(), settings))
}

fn wrong(path: &Path, what: &str) -> JoinError {
    JoinError::File { path: path.to_owned(), what: what.to_owned() }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits spell.
pub(super) fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let bytes = digits.chunks(2).map(|pair| Some((pair[0] * 16 + pair.get(1)?) as u8));
    bytes.collect()
}
