//! File names as text and back.
//!
//! I own the mapping: a name is UTF-8 almost always; each byte that is not part of it becomes one
//! character of a private range, so that every name has a text and every such text its name. A name that
//! holds such a character itself is not told apart from the bytes; nobody has one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The character of byte 0.
const BASE: u32 = 0xF700;

/// Whether a text is a path within a directory: names between single slashes, and none that leads elsewhere.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

/// A name's text.
#[must_use]
pub fn text(name: &OsStr) -> String {
    let mut out = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        out.push_str(chunk.valid());
        let odd = chunk.invalid().iter().map(|byte| char::from_u32(BASE + u32::from(*byte)));
        out.extend(odd.map(|c| c.expect("a character of the private range")));
    }
    out
}

/// A text's name.
#[must_use]
pub fn name(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match odd_byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

/// The byte that a character stands for, if it stands for one.
#[must_use]
pub fn odd_byte(c: char) -> Option<u8> {
    let odd = u32::from(c).checked_sub(BASE).and_then(|odd| u8::try_from(odd).ok());
    odd.filter(|byte| *byte >= 0x80)
}

/// A path within JSON, whatever bytes it has.
pub mod as_text {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it as its text.
    ///
    /// # Errors
    /// Those of what it is written to.
    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::text(path.as_os_str()))
    }

    /// Reads what `serialize` wrote.
    ///
    /// # Errors
    /// If it is no text.
    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<PathBuf, D::Error> {
        String::deserialize(from).map(|text| super::name(&text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for bytes in [&b"plain"[..], "\u{e9}\u{4e16}".as_bytes(), b"\xff\xfe.db", b"a\x80b", b"\xc3"] {
            let original = OsStr::from_bytes(bytes);
            assert_eq!(name(&text(original)), original);
        }
    }
}
