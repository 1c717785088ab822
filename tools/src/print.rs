//! How values look: bytes in JSON, one group in JSON and in a line of text.
//!
//! I own the shapes that `status`, `dump` and `read` share. Numbers stay numbers, digests are
//! base16, and bytes are a string if they are UTF-8 and base16 under another name if they are not,
//! so that a reader never has to guess. I do not know where the values come from.

use std::fmt::Write as _;

use seawall::{GroupId, GroupStatus, SnapshotPointer, Vote};
use serde::Serialize;

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

    #[test]
    fn bytes_that_are_not_text_have_another_name() {
        let text = |bytes: &[u8]| serde_json::to_string(&Data::new(bytes)).expect("plain JSON");
        assert_eq!(text(b"caf\xc3\xa9\n"), "{\"data\":\"caf\u{e9}\\n\"}");
        assert_eq!(text(b""), r#"{"data":""}"#);
        assert_eq!(text(&[0xff, 0x00]), r#"{"data_hex":"ff00"}"#);
    }
}
