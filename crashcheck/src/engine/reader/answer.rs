//! What the engine says of given bytes, as the line of text that the second reader writes too.
//!
//! I own the words and their order, which are those of `engine/spec/reader/answer.py`, and nothing of what
//! they mean: every fact comes from the engine's own readers. A panic is an answer.

use std::fmt::Write as _;
use std::io::Read as _;

use seawall::evidence::{self, Act};
use seawall::facts::{self, SegmentFact};
use seawall::frame::{self, Place, Probe};
use seawall::log::Shape;
use seawall::log::held::Shelf;
use seawall::record::{self, Item};
use seawall::scan::Scan;
use seawall::segment::{self, HeaderFact};
use seawall::snapshot::reader::{SnapshotReader, verify};
use seawall::state::{self, Groups};
use seawall::types::{Digest, EntryKind, GroupId, Index, Position, SnapshotOwner, SnapshotPointer, Vote};
use seawall::vfs::Access;
use seawall::{
    Error, GroupStatus, Lost, RecoveryReport, SnapshotFault, Store, Tail, checksum, highwater, identity,
};

use super::super::planted::Disk;

/// Of a group, this many entries are read at most.
const MOST_ENTRIES: u64 = 512;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn list<T>(all: impl IntoIterator<Item = T>, separator: &str, one: impl Fn(T) -> String) -> String {
    all.into_iter().map(one).collect::<Vec<_>>().join(separator)
}

/// Bytes as a directory or an echo.
pub(super) fn directory(bytes: &[u8], is_echo: bool) -> String {
    record::take_items(bytes, is_echo).map_or_else(|| "none".into(), |found| items(&found))
}

fn items(all: &[Item]) -> String {
    format!("{{{}}}", list(all, " ", item))
}

fn item(item: &Item) -> String {
    let n = &item.name;
    let sizes = list(&item.sizes, ",", |(len, sum)| format!("{len}:{sum:x}"));
    let (kind, leader) = (n.kind as u8, hex(n.leader.as_bytes()));
    let name = format!("{kind}.{}.{}.{}.{}.{leader}", n.group, n.incarnation, n.id.index, n.id.term);
    format!("{name}x{}[{sizes}]", item.count)
}

/// Bytes as a state.
pub(super) fn coded_state(bytes: &[u8]) -> String {
    groups(state::decode(bytes).as_ref())
}

fn groups(all: Option<&Groups>) -> String {
    let Some(all) = all else { return "none".into() };
    let one = |(id, g): (&GroupId, &state::Group)| {
        let vote = g.vote.as_ref().map(|(p, v)| format!("{p}:{}", vote_text(v)));
        let snapshot = g.snapshot.as_ref().map(|(p, s)| format!("{p}:{}", pointer_text(s)));
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let (vote, snapshot) = (dash(vote), dash(snapshot));
        format!("{id}={} {} {} {} {vote} {snapshot}", g.incarnation, g.purged, g.last, g.commit)
    };
    format!("{{{}}}", list(all, "; ", one))
}

fn vote_text(vote: &Vote) -> String {
    format!("{}.{}.{}", vote.key.term, vote.key.rank, hex(&vote.data))
}

fn pointer_text(pointer: &SnapshotPointer) -> String {
    let owner = if pointer.owner == SnapshotOwner::Owned { 1 } else { 2 };
    format!("{}.{}.{owner}.{}", pointer.id.index, pointer.id.term, pointer.digest)
}

/// Bytes as a frame that stands at `at`.
pub(super) fn frame<V: Disk>(bytes: &[u8], place: &Place, at: u32) -> String {
    let Probe::Frame(h) = frame::probe::<V>(bytes, place, at) else { return "none".into() };
    let salt = place.salt::<V>();
    let (grade, items_, whole) = match frame::open::<V>(bytes, &h, salt) {
        Ok(frame) => ("whole", frame.items.clone(), Some(frame)),
        Err(bad) => match bad.hollow {
            Some(frame) => ("hollow", bad.items, Some(*frame)),
            None if bad.what.starts_with("the directory") || bad.what.starts_with("the echo") => {
                ("nameless", bad.items, None)
            }
            None if bad.what.contains("cut short") => ("nameless", bad.items, None),
            None => ("named", bad.items, None),
        },
    };
    let mut text = format!(
        "{} {} {} {} {} {} {} {} {} {:x} {} {} {:x} {:x} {grade} {}",
        h.offset,
        h.kind as u8,
        u8::from(h.is_twin),
        h.frame_len,
        h.directory_len,
        h.echo_len,
        h.payload_len,
        h.records,
        h.twin,
        h.content_crc,
        h.first,
        h.mark,
        h.chain,
        h.chain_after(),
        items(&items_)
    );
    if let Some(frame) = whole {
        let start = frame.payload_offset - h.offset;
        let payload = &bytes[start as usize..(start + h.payload_len) as usize];
        let names = frame.items.iter().flat_map(|i| (0..i.count).map(|n| i.name.at(n)));
        let bad = frame::bad_payloads::<V>(&frame.items, payload, salt);
        let bad: Vec<usize> =
            names.enumerate().filter(|(_, name)| bad.contains(name)).map(|(n, _)| n).collect();
        let _ = write!(text, " {} bad {bad:?}", items(&frame.echo));
    }
    text
}

/// The identity file.
pub(super) fn identity<V: Disk>(vfs: &V) -> String {
    let file = vfs.open(identity::NAME, Access::Read).expect("the case has the file");
    match identity::read::<V>(&file) {
        Ok(found) => {
            let (s, i) = (found.shape, found.shape.identity);
            let mend = u8::from(found.mend.is_some());
            format!("{} {} {} {} {} {mend}", s.unit, s.size, i.cluster, i.node, hex(&i.store))
        }
        Err(e) => refusal(&e),
    }
}

fn refusal(error: &Error) -> String {
    let word = match error {
        Error::UnsupportedVersion { .. } => "newer",
        Error::UnsupportedFeature { .. } => "features",
        Error::NotAStore { .. } | Error::WrongIdentity { .. } => "foreign",
        Error::CreationIncomplete => "unfinished",
        Error::Damaged { .. } => "damaged",
        Error::Corrupt { .. } => "corrupt",
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => "unparsed",
        other => return format!("{other:?}"),
    };
    word.into()
}

/// The high-water file.
pub(super) fn high_water<V: Disk>(vfs: &V, store: &[u8; 16]) -> String {
    match highwater::read(vfs, store) {
        Ok(Some(high)) => {
            format!("{} {} {} {}", high.epoch, high.segment, high.position, high.evidence)
        }
        Ok(None) => "none".into(),
        Err(e) => format!("{e:?}"),
    }
}

/// The evidence file.
pub(super) fn events<V: Disk>(vfs: &V, store: &[u8; 16]) -> String {
    let found = match evidence::read(vfs, store) {
        Ok(found) if found.missing => return "missing".into(),
        Ok(found) => found,
        Err(e) => return format!("{e:?}"),
    };
    let noted = list(&found.events, ", ", |n| {
        let (e, sum) = (&n.event, checksum::crc(0, n.event.text.as_bytes()));
        let act = Act::ALL.iter().position(|act| *act == e.act).map_or(0, |at| at + 1);
        let bytes = format!("{}..{}", e.bytes.start, e.bytes.end);
        format!("{} {} {act} {bytes} {} {} {} {sum:x}", n.sequence, n.epoch, e.group, e.index, e.position)
    });
    format!("[{noted}] gone {:?} half {:?}", found.gone, found.half)
}

/// One segment file.
pub(super) fn segment<V: Disk>(vfs: &V, name: &str, shape: &Shape) -> String {
    let id = segment::parse_name(name).expect("the case names a segment");
    let looked = facts::look(&Shelf::new(vfs), name, id, shape, Position(0)).and_then(|mut fact| {
        let text = ends(&fact)?;
        if fact.scan.is_none() {
            fact.rescan(shape)?;
        }
        Ok((text, fact))
    });
    match looked {
        Ok((text, fact)) => match &fact.scan {
            Some(scan) => format!("{text} walk {}", walk(scan)),
            None => format!("{text} no walk"),
        },
        Err(e) => format!("refused {}", refusal(&e)),
    }
}

fn ends<V: Disk>(fact: &SegmentFact<V>) -> seawall::Result<String> {
    let mut text = match &fact.header {
        HeaderFact::Ours(h) => format!("ours {}", header(h)),
        HeaderFact::Recycled(from) => format!("recycled {from}"),
        HeaderFact::Blank => "blank".into(),
        HeaderFact::Damaged => "damaged".into(),
        HeaderFact::Foreign(_) | HeaderFact::Newer(_) => unreachable!("a look refuses it"),
    };
    if let Some(footer) = &fact.footer {
        let t = &footer.trailer;
        let runs = list(&footer.runs, "; ", |r| {
            let (kind, n) = (r.name.kind as u8, &r.name);
            let leader = hex(n.leader.as_bytes());
            let name = format!("{kind}.{}.{}.{}.{}.{leader}", n.group, n.incarnation, n.id.index, n.id.term);
            format!("{name}x{}+{}", r.count, r.start)
        });
        let table = u8::from(fact.footer_fault(footer)? != Some("the entry table does not hold"));
        let _ = write!(
            text,
            " sealed {} {} {} {:x} {} {} {} {} table {table} runs [{runs}] state {}",
            t.seal as u32,
            t.next,
            t.position,
            t.chain,
            t.cut,
            t.footer,
            t.entries,
            t.lost,
            groups(fact.sealed_state()?.as_ref())
        );
    } else if let Some(seal) = fact.bad_footer {
        let _ = write!(text, " bad footer {}", seal as u32);
    }
    Ok(text)
}

fn header(h: &segment::Header) -> String {
    format!("{} {} {} {:x} {}", h.epoch, h.previous, h.cut, h.chain, h.recovered_to)
}

fn walk(scan: &Scan) -> String {
    let checkpoint = scan.checkpoint.as_ref().map_or_else(
        || "-".to_owned(),
        |c| format!("{} {} {}", c.previous, c.recovered_to, groups(Some(&c.groups))),
    );
    let place = |h: &frame::Header| format!("{}:{}+{}", h.offset, h.first, h.records);
    let walked = list(&scan.frames, ",", |f| place(&f.header));
    let later = list(&scan.later, ",", |l| {
        let names = if l.items.is_empty() { "x" } else { "n" };
        format!("{}{}", place(&l.header), if l.whole { "w" } else { names })
    });
    let broken = scan.broken.as_ref().map_or_else(|| "-".to_owned(), |b| items(&b.items));
    format!(
        "{} {} checkpoint {checkpoint} frames [{walked}] end {} {} {:x} hollow {:?} twins {:?} later [{later}] broken \
         {broken} mark {} observed {} complete {} live {}",
        u8::from(scan.header_good),
        header(&scan.header),
        scan.offset,
        scan.position,
        scan.chain,
        scan.hollow,
        scan.from_twin,
        scan.mark(),
        scan.observed(),
        u8::from(scan.is_complete()),
        u8::from(scan.was_live())
    )
}

/// One owned snapshot: its manifest, and what is wrong with which chunk.
pub(super) fn snapshot<V: Disk>(vfs: &V, shape: &Shape, digest: Digest) -> String {
    match SnapshotReader::open(vfs, &shape.identity, digest) {
        Ok(reader) => {
            let bad = list(verify(vfs, &shape.identity, digest), ", ", |fault| {
                let name = fault.file().trim_start_matches("snapshots/");
                format!("{} {}", &name[..8], fault_text(&fault))
            });
            format!(
                "{} {} {} {} {:x} {} bad [{bad}]",
                reader.group(),
                reader.incarnation(),
                reader.id(),
                reader.len(),
                checksum::crc(0, reader.membership()),
                reader.chunks().len()
            )
        }
        Err(fault) => fault_text(&fault).into(),
    }
}

fn fault_text(fault: &SnapshotFault) -> &'static str {
    match fault {
        SnapshotFault::Missing { .. } => "missing",
        SnapshotFault::NotOurs { .. } => "not ours",
        SnapshotFault::Unsupported { .. } => "newer",
        SnapshotFault::Foreign { .. } => "foreign",
        SnapshotFault::Corrupt { .. } => "corrupt",
        _ => "unreadable",
    }
}

/// A whole directory, looked at.
pub(super) fn store<V: Disk>(vfs: V) -> String {
    match Store::open_read_only_in(vfs) {
        Ok((store, report)) => {
            let mut text = report_text(&report);
            for id in store.groups() {
                let status = store.group(id).expect("it is one of the groups");
                let _ = write!(text, " | {}", group(&store, id, &status));
            }
            text
        }
        Err(Error::Corrupt { report }) => format!("refused corrupt {}", losses(&report.lost)),
        Err(e) => format!("refused {} []", refusal(&e)),
    }
}

fn report_text(report: &RecoveryReport) -> String {
    let tail = match report.tail {
        // The second reader has one word for both.
        Tail::Sealed | Tail::Ended => "sealed",
        Tail::Whole => "whole",
        Tail::Torn => "torn",
    };
    let maybe = report.maybe_acked.map_or("-".into(), |m| format!("{}..{}", m.above, m.observed));
    let mut repaired: Vec<String> =
        report.repaired.iter().map(|r| format!("{} {}", r.file, made_good(r.what))).collect();
    repaired.sort();
    format!(
        "epoch {} clean {} {tail} at {} maybe {maybe} lost {} repaired [{}] unknown [{}]",
        report.epoch,
        u8::from(report.clean),
        report.position,
        losses(&report.lost),
        repaired.join(", "),
        report.unknown.join(", ")
    )
}

fn made_good(what: &'static str) -> &'static str {
    match what {
        "the footer, from the segment's frames" => "footer",
        "the header, from the checkpoint" => "header",
        "the checkpoint, from its twin" => "checkpoint",
        "a batch, from its twin" => "batch",
        "a batch's padding, which holds nothing" => "padding",
        "both slots, from the log" => "slots",
        "the file, empty: its events are gone" => "empty",
        "the chain, from what is left: events are gone" => "chain",
        "a copy of an event, from the other" => "copy",
        other => other,
    }
}

fn losses(lost: &[Lost]) -> String {
    let one = |lost: &Lost| match lost {
        Lost::Entries { group, from, to, term } => {
            format!("entries {group} {from} {to} {}", term.map_or("-".into(), |t| t.to_string()))
        }
        Lost::Vote { group } => format!("vote {group}"),
        Lost::Truncate { group, from } => format!("truncate {group} {from}"),
        Lost::Purge { group, to } => format!("purge {group} {to}"),
        Lost::Commit { group, index } => format!("commit {group} {index}"),
        Lost::SnapshotPointer { group, index } => format!("snapshot {group} {index}"),
        Lost::GroupEvent { group } => format!("event {group}"),
        Lost::Unnamed { from, to } => format!("unnamed {from} {to}"),
        Lost::Unsound { position, group } => format!("unsound {position} {group}"),
        Lost::State { segment } => format!("state {segment}"),
        Lost::File { name } => format!("file {name}"),
    };
    format!("[{}]", list(lost, ", ", one))
}

fn group<V: Disk>(store: &Store<V>, id: GroupId, g: &GroupStatus) -> String {
    let vote = g.vote.as_ref().map_or("-".into(), vote_text);
    let snapshot = g.snapshot.as_ref().map_or("-".into(), pointer_text);
    let first = g.first.0;
    let read = list(first..(g.last.index.0 + 1).min(first + MOST_ENTRIES), " ", |index| {
        let read = store.read(id, Index(index)..Index(index + 1), u64::MAX);
        read.map_or("?".into(), |entries| {
            let [e] = &entries[..] else { return format!("{} entries", entries.len()) };
            let kind = if e.kind == EntryKind::Membership { "m" } else { "c" };
            let (leader, sum) = (hex(e.leader.as_bytes()), checksum::crc(0, &e.data));
            format!("{}{kind}{leader}:{}:{sum:x}", e.id.term, e.data.len())
        })
    });
    let mut text =
        format!("{id}={} {} {} {} {vote} {snapshot} [{read}]", g.incarnation, g.purged, g.last, g.commit);
    if g.snapshot.is_some_and(|s| s.owner == SnapshotOwner::Owned) {
        let _ = write!(text, " {}", content(store, id).unwrap_or_else(|| "unread".into()));
    }
    text
}

/// The bytes of an owned snapshot: length and checksum.
fn content<V: Disk>(store: &Store<V>, id: GroupId) -> Option<String> {
    let mut reader = store.snapshot_reader(id).ok()?;
    let mut raw = Vec::new();
    reader.read_to_end(&mut raw).ok()?;
    let members = checksum::crc(0, reader.membership());
    Some(format!("{} {members:x} {}:{:x}", reader.id(), raw.len(), checksum::crc(0, &raw)))
}
