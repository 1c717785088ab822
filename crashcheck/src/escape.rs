//! Text from outside, as each kind of output can hold it.
//!
//! I own how names, acknowledgements and the words of programs and checkers look where they are printed. (W1) A
//! character that is not plain, that is a control, a format, a private or an unassigned one or an odd space, reaches
//! no output as itself: a terminal would obey it, and XML could not hold it. (W2) Different texts look different. (W3)
//! A new line in an output is one of ours. The bytes of a name that are no text are shown as bytes
//! ([`names`]). I print nothing.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use crate::program::names;

/// Text from outside, within a line that a person reads.
#[must_use]
pub fn word(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| is_plain(c) && c != '\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if c == '\\' { out.push_str("\\\\") } else { put(&mut out, c) });
    Cow::Owned(out)
}

/// A path as a [`word`].
#[must_use]
pub fn path(path: &Path) -> String {
    word(&names::text(path.as_os_str())).into_owned()
}

/// Lines of ours for a person, in which every text from outside is a [`word`] already: what was forgotten does no
/// harm.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| is_plain(c) || c == '\n') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| if c == '\n' { out.push(c) } else { put(&mut out, c) });
    Cow::Owned(out)
}

/// [`lines`] as the text or an attribute of XML 1.0.
#[must_use]
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in lines(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A value as JSON in one line.
///
/// # Errors
/// If JSON has no such value.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(in_strings)
}

/// A value as JSON that is kept in a file for people.
///
/// # Errors
/// If JSON has no such value.
pub fn json_lines(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(in_strings)
}

/// JSON with each odd character, which stands within a string there, by its number.
fn in_strings(text: String) -> String {
    if text.chars().all(|c| is_plain(c) || c == '\n') {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| hex(&mut out, "\\u", u32::from(*unit), 4));
        }
    }
    out
}

/// A command as a line that a shell takes, and a terminal shows.
#[must_use]
pub fn shell<W: AsRef<OsStr>>(words: impl IntoIterator<Item = W>) -> String {
    let words = words.into_iter().map(|word| shell_word(word.as_ref()));
    words.collect::<Vec<_>>().join(" ")
}

/// [`shell`] of words that a recording has as text.
#[must_use]
pub fn shell_of_names(words: &[String]) -> String {
    shell(words.iter().map(|word| names::name(word)))
}

fn shell_word(word: &OsStr) -> String {
    let bytes = word.as_bytes();
    let needs_none = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:,+@%".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(needs_none) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if let Some(text) = word.to_str().filter(|text| text.chars().all(is_plain)) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut out = "$'".to_owned();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => out.extend(['\\', c]),
                c if is_plain(c) => out.push(c),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| octal(&mut out, byte)),
            }
        }
        chunk.invalid().iter().for_each(|byte| octal(&mut out, *byte));
    }
    out + "'"
}

/// Whether a terminal shows a character, and does nothing else with it: what Rust shows as itself in a string.
fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // An accent at the beginning is escaped there, and none behind a letter.
    let mut pair = [b'a'; 5];
    let len = c.encode_utf8(&mut pair[1..]).len();
    std::str::from_utf8(&pair[..=len]).is_ok_and(|pair| pair.escape_debug().count() == 2)
}

/// A character as itself, or as what stands for it.
fn put(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_plain(c) => out.push(c),
        c if c.is_ascii() => hex(out, "\\x", u32::from(c), 2),
        c => match names::odd_byte(c) {
            Some(byte) => hex(out, "\\x", u32::from(byte), 2),
            None => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
        },
    }
}

fn hex(out: &mut String, mark: &str, number: u32, digits: usize) {
    let _ = write!(out, "{mark}{number:0digits$x}");
}

fn octal(out: &mut String, byte: u8) {
    let _ = write!(out, "\\{byte:03o}");
}

#[cfg(test)]
mod tests;
