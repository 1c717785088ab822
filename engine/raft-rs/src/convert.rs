//! Between raft's values and the engine's, in a format of our own whatever raft's codec.
//!
//! I own two layouts. An entry's data: one byte, the kind in its low two bits, bit 2 for `sync_log`, bit 3
//! for a context; the context's length in four bytes and the context, if there is one; the data. A
//! configuration: four lists of node ids, each a count in four bytes and eight bytes an id, then one byte for
//! `auto_leave`. All numbers are little-endian. I know no file.

use raft::eraftpb::{ConfState, Entry, EntryType};
use raft::{Error, StorageError};
use seawall::{EntryKind, LeaderTag, LogId};

const SYNC_LOG: u8 = 1 << 2;
const CONTEXT: u8 = 1 << 3;

/// An engine's error as raft's own, with the engine's as its source.
pub(crate) fn failed(e: seawall::Error) -> Error {
    Error::Store(match e {
        seawall::Error::Compacted { .. } => StorageError::Compacted,
        seawall::Error::PastEnd { .. } => StorageError::Unavailable,
        seawall::Error::StaleSnapshot { .. } => StorageError::SnapshotOutOfDate,
        other => StorageError::Other(Box::new(other)),
    })
}

/// The error for what this adapter cannot have stored.
pub(crate) fn malformed(what: &str) -> Error {
    Error::Store(StorageError::Other(format!("what is stored is not {what} of raft").into()))
}

/// An entry of raft as the engine stores it.
pub(crate) fn stored(entry: &Entry) -> seawall::Entry {
    let kind: u8 = match entry.get_entry_type() {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    };
    let sync_log = if entry.sync_log { SYNC_LOG } else { 0 };
    let context = if entry.context.is_empty() { 0 } else { CONTEXT };
    let mut data = Vec::with_capacity(5 + entry.context.len() + entry.data.len());
    data.push(kind | sync_log | context);
    if context != 0 {
        let len = u32::try_from(entry.context.len()).expect("a context is below 4 GiB");
        data.extend_from_slice(&len.to_le_bytes());
        data.extend_from_slice(&entry.context);
    }
    data.extend_from_slice(&entry.data);
    seawall::Entry {
        id: LogId::new(entry.index, entry.term),
        leader: LeaderTag::NONE,
        kind: if kind == 0 { EntryKind::Command } else { EntryKind::Membership },
        data: data.into(),
    }
}

/// The entry of raft that was stored.
pub(crate) fn found(entry: &seawall::Entry) -> Result<Entry, Error> {
    let (flags, mut rest) = entry.data.split_first().ok_or_else(|| malformed("an entry"))?;
    let mut back = Entry::default();
    back.set_entry_type(match flags & 3 {
        0 => EntryType::EntryNormal,
        1 => EntryType::EntryConfChange,
        2 => EntryType::EntryConfChangeV2,
        _ => return Err(malformed("an entry")),
    });
    back.index = entry.id.index.0;
    back.term = entry.id.term.0;
    back.sync_log = flags & SYNC_LOG != 0;
    if flags & CONTEXT != 0 {
        let len = take_u32(&mut rest).ok_or_else(|| malformed("an entry"))?;
        let (context, data) = rest.split_at_checked(len).ok_or_else(|| malformed("an entry"))?;
        back.context = context.to_vec().into();
        rest = data;
    }
    back.data = rest.to_vec().into();
    Ok(back)
}

fn take_u32(bytes: &mut &[u8]) -> Option<usize> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

/// A configuration as the snapshot's membership.
pub(crate) fn stored_configuration(conf: &ConfState) -> Vec<u8> {
    let mut out = Vec::new();
    for list in [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next] {
        out.extend_from_slice(&u32::try_from(list.len()).expect("few nodes").to_le_bytes());
        list.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
    }
    out.push(u8::from(conf.auto_leave));
    out
}

/// The configuration that was stored.
pub(crate) fn found_configuration(bytes: &[u8]) -> Result<ConfState, Error> {
    let configuration = parse_configuration(bytes);
    configuration.ok_or_else(|| malformed("a configuration"))
}

fn parse_configuration(mut bytes: &[u8]) -> Option<ConfState> {
    let mut lists = [const { Vec::new() }; 4];
    for list in &mut lists {
        let count = take_u32(&mut bytes)?;
        let (ids, rest) = bytes.split_at_checked(count.checked_mul(8)?)?;
        bytes = rest;
        *list = ids.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id)).collect();
    }
    let [voters, learners, voters_outgoing, learners_next] = lists;
    let mut conf = ConfState::default();
    conf.voters = voters;
    conf.learners = learners;
    conf.voters_outgoing = voters_outgoing;
    conf.learners_next = learners_next;
    conf.auto_leave = match bytes {
        [0] => false,
        [1] => true,
        _ => return None,
    };
    Some(conf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_and_no_cut_one_passes_for_it() {
        for (kind, context) in [
            (EntryType::EntryNormal, &b""[..]),
            (EntryType::EntryConfChange, b"why"),
            (EntryType::EntryConfChangeV2, b""),
        ] {
            let mut entry = Entry::default();
            entry.set_entry_type(kind);
            (entry.index, entry.term, entry.sync_log) = (7, 3, true);
            entry.context = context.to_vec().into();
            entry.data = b"data".to_vec().into();
            let stored = stored(&entry);
            assert_eq!(found(&stored).unwrap(), entry);
            assert_eq!(stored.kind == EntryKind::Membership, kind != EntryType::EntryNormal);
            let cut = |len: usize| seawall::Entry { data: stored.data[..len].into(), ..stored.clone() };
            assert!((0..stored.data.len()).all(|len| found(&cut(len)).ok() != Some(entry.clone())));
        }
    }

    #[test]
    fn a_configuration_comes_back_and_no_prefix_passes() {
        let mut conf = ConfState::default();
        conf.voters = vec![1, 2, 3];
        conf.learners = vec![4];
        conf.voters_outgoing = vec![1, 9];
        conf.auto_leave = true;
        let bytes = stored_configuration(&conf);
        assert_eq!(found_configuration(&bytes).unwrap(), conf);
        assert!((0..bytes.len()).all(|len| found_configuration(&bytes[..len]).is_err()));
    }
}
