//! How values look: bytes in JSON, one group in JSON and in a line of text.
//!
//! I own the shapes that `status`, `dump` and `read` share. Numbers stay numbers, digests are
//! base16, and bytes are a string if they are UTF-8 and base16 under another name if they are not,
//! so that a reader never has to guess. A character that a terminal would obey, in a name or in what a
//! store holds, is printed by its number. I do not know where the values come from.

use std::fmt::Write as _;
use std::io;

use seawall::{GroupId, GroupStatus, SnapshotPointer, Vote};
use serde::Serialize;

use crate::exit::Failure;

/// Bytes as one of two fields: `data` for UTF-8, `data_hex` for everything else.
#[derive(Serialize)]
pub(crate) struct Data<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hex: Option<String>,
}

impl<'a> Data<'a> {
    /// The one field that fits.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { data: Some(text), data_hex: None },
            Err(_) => Self { data: None, data_hex: Some(base16(bytes)) },
        }
    }
}

impl std::fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.data.map(|text| text.escape_debug().to_string());
        f.write_str(&text.or_else(|| self.data_hex.clone()).unwrap_or_default())
    }
}

/// Whether a terminal shows a character, and does nothing else with it.
fn is_plain(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().eq([c])
}

/// Text that may come from outside, within a line.
pub(crate) fn word(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) && c != '\\' { out.push(c) } else { out.extend(c.escape_debug()) }
    }
    out
}

/// A value as one line of JSON.
pub(crate) fn json(out: &mut impl io::Write, value: &impl Serialize) -> Result<(), Failure> {
    let mut line = String::new();
    for c in serde_json::to_string(value)?.chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            // It stands within a string, where its number is the same.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(line, "\\u{unit:04x}");
            });
        }
    }
    line.push('\n');
    Ok(out.write_all(line.as_bytes())?)
}

/// Lower-case base16.
pub(crate) fn base16(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A vote.
#[derive(Serialize)]
pub(crate) struct VoteView<'a> {
    term: u64,
    rank: u128,
    #[serde(flatten)]
    data: Data<'a>,
}

impl<'a> VoteView<'a> {
    fn new(vote: &'a Vote) -> Self {
        Self { term: vote.key.term.0, rank: vote.key.rank, data: Data::new(&vote.data) }
    }
}

/// A group.
#[derive(Serialize)]
pub(crate) struct GroupView<'a> {
    group: u64,
    incarnation: u64,
    first_index: u64,
    last_index: u64,
    last_term: u64,
    durable_index: u64,
    commit_index: u64,
    purged_index: u64,
    purged_term: u64,
    vote: Option<VoteView<'a>>,
    snapshot: Option<SnapshotPointer>,
}

impl<'a> GroupView<'a> {
    /// What is said of a group.
    pub(crate) fn new(group: GroupId, status: &'a GroupStatus) -> Self {
        Self {
            group: group.0,
            incarnation: status.incarnation.0,
            first_index: status.first.0,
            last_index: status.last.index.0,
            last_term: status.last.term.0,
            durable_index: status.durable_last.0,
            commit_index: status.commit.0,
            purged_index: status.purged.index.0,
            purged_term: status.purged.term.0,
            vote: status.vote.as_ref().map(VoteView::new),
            snapshot: status.snapshot,
        }
    }

    /// The group in one line.
    pub(crate) fn line(&self) -> String {
        let mut text = format!("group {}: ", self.group);
        if self.last_index < self.first_index {
            let _ = write!(text, "no entries, next index {}", self.first_index);
        } else {
            let _ = write!(
                text,
                "entries {}..={} (last term {}, durable through {})",
                self.first_index, self.last_index, self.last_term, self.durable_index
            );
        }
        let _ = write!(text, ", commit {}", self.commit_index);
        match &self.vote {
            Some(vote) => {
                let _ = write!(text, ", vote term {} rank {}", vote.term, vote.rank);
            }
            None => text.push_str(", no vote"),
        }
        if let Some(snapshot) = &self.snapshot {
            let _ = write!(text, ", snapshot {} {}", snapshot.id, snapshot.digest);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Controls, what turns the direction of what is read, and the like.
    const OBEYED: &str =
        "\0\u{1b}\r\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{200f}\u{2028}\u{202e}\u{2066}\u{feff}\u{e0041}";

    #[test]
    fn what_a_terminal_obeys_is_a_number() {
        let is_odd = |text: &str| text.chars().any(|c| c.is_control() || OBEYED.contains(c));
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            assert!(!is_odd(&word(&text)), "U+{:04X}", u32::from(c));
            let mut line = Vec::new();
            json(&mut line, &text).expect("it is written");
            let line = String::from_utf8(line).expect("text");
            let line = line.strip_suffix('\n').expect("a line");
            assert!(!is_odd(line), "U+{:04X}", u32::from(c));
            assert_eq!(serde_json::from_str::<String>(line).expect("JSON"), text);
        }
        assert_eq!(word("it's\n\u{1b}[31m\\\u{e9}"), "it's\\n\\u{1b}[31m\\\\\u{e9}");
    }

    #[test]
    fn bytes_that_are_not_text_have_another_name() {
        let text = |bytes: &[u8]| serde_json::to_string(&Data::new(bytes)).expect("plain JSON");
        assert_eq!(text(b"caf\xc3\xa9\n"), "{\"data\":\"caf\u{e9}\\n\"}");
        assert_eq!(text(b""), r#"{"data":""}"#);
        assert_eq!(text(&[0xff, 0x00]), r#"{"data_hex":"ff00"}"#);
    }
}
