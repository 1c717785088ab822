//! A directory's files as one byte string, for the fuzzer to mutate.
//!
//! Each file is: the name's length (1 byte), the name, the content's length (4 bytes, little-endian),
//! the content. Unpacking is total: a length past the end means the rest.

use std::ops::Range;

/// The files as one byte string. A name has at most 255 bytes.
///
/// # Panics
/// If a name or a file is longer than its length field can say.
#[must_use]
pub fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        bytes.push(u8::try_from(name.len()).expect("a short name"));
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(&u32::try_from(content.len()).expect("a small file").to_le_bytes());
        bytes.extend_from_slice(content);
    }
    bytes
}

/// The files that a byte string describes. Names that are not UTF-8 are left out.
#[must_use]
pub fn unpack(bytes: &[u8]) -> Vec<(&str, &[u8])> {
    let text = |name: Range<usize>| std::str::from_utf8(&bytes[name]).ok();
    ranges(bytes).into_iter().filter_map(|(name, content)| Some((text(name)?, &bytes[content]))).collect()
}

/// The names of the files that a byte string describes, and where their contents are in it.
#[must_use]
pub fn places(bytes: &[u8]) -> Vec<(String, Range<usize>)> {
    let text = |name: Range<usize>| std::str::from_utf8(&bytes[name]).map(str::to_owned).ok();
    ranges(bytes).into_iter().filter_map(|(name, content)| Some((text(name)?, content))).collect()
}

/// Where each name and each content is.
fn ranges(bytes: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let mut files = Vec::new();
    let mut at = 0;
    let end = |from: usize, len: usize| from.saturating_add(len).min(bytes.len());
    while let Some(&len) = bytes.get(at) {
        let name = at + 1..end(at + 1, usize::from(len));
        let length = name.end..end(name.end, 4);
        let len = bytes[length.clone()].iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
        let content = length.end..end(length.end, len);
        at = content.end;
        files.push((name, content));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacks_what_was_packed() {
        let files = vec![("a".to_owned(), vec![1, 2, 3]), ("b/c".to_owned(), vec![])];
        let bytes = pack(&files);
        let back: Vec<_> = unpack(&bytes).into_iter().map(|(n, c)| (n.to_owned(), c.to_vec())).collect();
        assert_eq!(back, files);
        for len in 0..bytes.len() {
            let _ = unpack(&bytes[..len]);
        }
    }
}
