//! Readers of every kind beside a writer that does everything: no look is a false alarm.
//!
//! `SEAWALL_BESIDE_SECONDS=600 cargo test --release -p seawall --test beside -- --nocapture` looks for longer.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use seawall::{
    CreateOptions, Engine, Entry, GroupId, Index, LogId, Options, Outcome, Store, Vote, WriteBatch,
};

const GROUPS: [GroupId; 3] = [GroupId(1), GroupId(2), GroupId(3)];

/// Rotates, compacts, truncates, publishes the same few snapshots again and again, installs, removes and makes
/// groups, until it is told to stop.
fn write(engine: &Engine, stop: &AtomicBool) {
    for round in 1.. {
        for group in GROUPS {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let now = engine.group(group).unwrap();
            let (next, term) = (now.last.index.0 + 1, round);
            let mut batch = WriteBatch::new();
            batch.vote(group, Vote::new(term, 0, *b"me"));
            for index in next..next + 12 {
                batch.append(
                    group,
                    Entry::command(index, term, vec![u8::try_from(round % 251).unwrap(); 900]),
                );
            }
            batch.commit(group, Index(next + 3));
            assert_eq!(engine.write(batch).unwrap().wait(), Outcome::Durable);
            engine.truncate_suffix(group, Index(next + 8)).unwrap();
            let id = LogId::new(next + 3, term);
            // The content comes again, so that the same chunks are dropped and written again.
            let mut writer = engine.snapshot_writer(group, id, b"membership").unwrap();
            writer.write_all(&vec![u8::try_from(round % 2).unwrap(); 9_000]).unwrap();
            if round % 7 == 0 {
                let mut beyond = engine.snapshot_writer(group, LogId::new(next + 40, term), b"").unwrap();
                beyond.write_all(b"from a leader").unwrap();
                beyond.install().unwrap();
            } else {
                writer.publish().unwrap();
                engine.compact_prefix(group, id.index).unwrap();
            }
            if round % 23 == 0 {
                engine.remove_group(group).unwrap();
                engine.create_group(group).unwrap();
            }
        }
    }
}

/// One look of each kind; what it found wrong.
fn look(dir: &Path) -> Result<u64, String> {
    let (store, report) = Store::open_read_only(dir).map_err(|e| format!("status: {e}"))?;
    if report.is_alarm() {
        return Err(format!("status: {report}"));
    }
    let verified = store.verify().map_err(|e| format!("verify: {e}"))?;
    if let Some(damage) = verified.damage.first() {
        return Err(format!("verify: {damage:?}"));
    }
    let records = store.records().map_err(|e| format!("dump: {e}"))?;
    for record in records {
        record.map_err(|e| format!("dump: {e}"))?;
    }
    Store::evidence(dir).map_err(|e| format!("history: {e}"))?;
    Store::memberships(dir).map_err(|e| format!("history: {e}"))?;
    Ok(5)
}

#[test]
fn no_look_beside_a_writer_is_a_false_alarm() {
    let seconds = std::env::var("SEAWALL_BESIDE_SECONDS").ok().and_then(|text| text.parse().ok());
    let dir = tempfile::tempdir().unwrap();
    let create = CreateOptions { segment_bytes: 64 << 10, unit: 512, ..CreateOptions::new(1, 1) };
    Engine::create(dir.path(), &create).unwrap();
    let options = Options { chunk_bytes: 2_048, ..Options::default() };
    let (engine, _) = Engine::open(dir.path(), options).unwrap();
    for group in GROUPS {
        engine.create_group(group).unwrap();
    }
    let (stop, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let more = |n: u64| match seconds {
        Some(seconds) => begun.elapsed() < Duration::from_secs(seconds),
        None => n < 60,
    };
    let reader = || {
        let mut wrong = Vec::new();
        for _ in (0..).take_while(|n| more(*n)) {
            match look(dir.path()) {
                Ok(kinds) => drop(looks.fetch_add(kinds, Ordering::Relaxed)),
                Err(text) => wrong.push(text),
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        scope.spawn(|| write(&engine, &stop));
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let wrong = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        wrong
    });
    println!("{} looks, {} false alarms", looks.into_inner(), wrong.len());
    assert!(wrong.is_empty(), "{} alarms, the first: {}", wrong.len(), wrong[0]);
    engine.close().unwrap();
}
