//! Criterion benches of the engine on a real disk: durable appends, reopen, read.
//!
//! Figures are of one disk and one moment; `seawall-bench compare` gives ratios to the raw limit.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seawall::{CreateOptions, Engine, Entry, GroupId, Index, Options, Outcome, WriteBatch};

const GROUP: GroupId = GroupId(1);

fn open(dir: &Path) -> Engine {
    if !dir.exists() {
        Engine::create(dir, &CreateOptions::new(1, 1)).expect("a new store");
    }
    let (engine, _) = Engine::open(dir, Options::default()).expect("a store");
    if engine.groups().is_empty() {
        engine.create_group(GROUP).expect("a new group");
    }
    engine
}

/// Appends `count` entries as one batch and waits until it is durable.
fn append(engine: &Engine, next: &mut u64, count: u64, data: &Arc<[u8]>) {
    let mut batch = WriteBatch::new();
    for _ in 0..count {
        batch.append(GROUP, Entry::command(*next, 1, data.clone()));
        *next += 1;
    }
    assert_eq!(engine.write(batch).expect("admitted").wait(), Outcome::Durable);
}

fn durable_append(c: &mut Criterion) {
    let mut benches = c.benchmark_group("durable_append");
    for (count, bytes) in [(1, 256), (1, 4096), (64, 256), (100, 1024)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = open(&dir.path().join("store"));
        let data: Arc<[u8]> = vec![0x5a; bytes].into();
        let mut next = 1;
        benches.throughput(Throughput::Bytes(count * bytes as u64));
        benches.bench_function(BenchmarkId::from_parameter(format!("{count}x{bytes}B")), |b| {
            b.iter(|| append(&engine, &mut next, count, &data));
        });
    }
    benches.finish();
}

/// A store of 20,000 entries of 1 KiB, closed cleanly.
fn filled(dir: &Path) {
    let engine = open(dir);
    let data: Arc<[u8]> = vec![0x5a; 1024].into();
    let mut next = 1;
    while next <= 20_000 {
        append(&engine, &mut next, 1000, &data);
    }
    engine.close().expect("closed");
}

fn reopen(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");
    filled(&store);
    c.bench_function("reopen/20000x1024B", |b| {
        b.iter(|| open(&store).close().expect("closed"));
    });
}

fn read(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = dir.path().join("store");
    filled(&store);
    let engine = open(&store);
    let mut benches = c.benchmark_group("read");
    for count in [1, 1000] {
        let mut at = 1;
        benches.throughput(Throughput::Elements(count));
        benches.bench_function(BenchmarkId::from_parameter(format!("{count}x1024B")), |b| {
            b.iter(|| {
                at = (at * 7919) % (20_000 - count) + 1;
                black_box(engine.read(GROUP, Index(at)..Index(at + count), 16 << 20).expect("entries"))
            });
        });
    }
    benches.finish();
}

criterion_group!(benches, durable_append, reopen, read);
criterion_main!(benches);
