//! Replicas that heal each other: every combination of damaged copies of the same entries.
//!
//! I own the cases and their judgement, after the matrix of protocol-aware recovery (Alagappan et al., FAST
//! 2018): each replica has the same entries, and each copy of each entry is whole or damaged. (H1) Every
//! damaged copy is named, by the open or by one scrub, and no other. (H2) A replica that lacks something takes no vote.
//! (H3) Bytes that were not acknowledged are refused as a repair. (H4) An entry with one whole copy is back
//! everywhere after one exchange; one without is named still, and nothing takes its place. All of it holds
//! after the next open too. I know real bytes and the engine's interface, not the format.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use seawall::types::{Entry, GroupId, Index, Vote};
use seawall::vfs::mem::{Image, MemVfs, PAGE};
use seawall::{CreateOptions, Engine, Error, Lost};
use serde::Serialize;

use super::execute::{create_options, open_options};
use super::planted::Disk;
use super::step::payload;
use crate::core::pool::pool;

/// Entries in each replica's log.
pub const ENTRIES: u32 = 4;
/// The bytes of an entry: some sectors hold nothing else.
const ENTRY_BYTES: usize = 1300;
const GROUP: GroupId = GroupId(7);
/// How many findings are told.
const TOLD: usize = 5;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Replicas, 2 to 6.
    pub replicas: u32,
    /// The first case; a sample goes on where an earlier one ended.
    pub first: u64,
    /// At most this many cases.
    pub cases: u64,
    /// Names the order of the cases and the places that are damaged.
    pub seed: u64,
    /// Threads.
    pub jobs: usize,
    /// When to stop.
    pub limit: Option<Duration>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Replicas.
    pub replicas: u32,
    /// Cases tried.
    pub cases: u64,
    /// All cases that there are.
    pub of: u64,
    /// The case to go on with; `of` when all are done.
    pub next: u64,
    /// Cases in which every entry had a whole copy, and all were healed.
    pub healed: u64,
    /// Cases in which an entry had none, and was named everywhere.
    pub unavailable: u64,
    /// Damaged copies.
    pub damaged: u64,
    /// Copies given back.
    pub repaired: u64,
    /// Cases that were judged wrong.
    pub wrong: u64,
    /// The seed.
    pub seed: u64,
    /// Seconds.
    pub seconds: f64,
    /// The first few that are wrong.
    pub findings: Vec<String>,
}

/// How many cases there are.
#[must_use]
pub fn all_cases(replicas: u32) -> u64 {
    1 << (replicas * ENTRIES)
}

/// Tries the cases; `progress` hears of each thousand.
pub fn run<V: Disk>(settings: &Settings, mut progress: impl FnMut(u64) + Send) -> Counts {
    let begun = Instant::now();
    let of = all_cases(settings.replicas);
    let last = of.min(settings.first.saturating_add(settings.cases));
    let mut counts = Counts { replicas: settings.replicas, of, seed: settings.seed, ..Counts::default() };
    let replicas: Vec<Replica> = (0..settings.replicas).map(Replica::new::<V>).collect();
    let each = |_, number: u64, _: &_| {
        let case = Case { number: scatter(number, settings.seed, of), seed: settings.seed };
        Some((case, super::quiet_result(|| case.run::<V>(&replicas))))
    };
    let reached =
        pool(settings.jobs, settings.first, settings.first..last, settings.limit, each, |_, (case, done)| {
            counts.take(case, done.unwrap_or_else(|| Err("a panic".into())));
            if counts.cases.is_multiple_of(1000) {
                progress(counts.cases);
            }
            ControlFlow::Continue(())
        });
    counts.next = reached.next;
    counts.seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    counts
}

/// The first case that is judged wrong, in order, in this thread.
#[must_use]
pub fn first_finding<V: Disk>(replicas: u32) -> Option<String> {
    let stores: Vec<Replica> = (0..replicas).map(Replica::new::<V>).collect();
    let cases = (0..all_cases(replicas)).map(|number| Case { number, seed: 1 });
    cases
        .filter_map(|case| Some((case, case.run::<V>(&stores).err()?)))
        .map(|(case, text)| case.tell(replicas, &text))
        .next()
}

/// A permutation of the cases, so that the first of them are a sample of all.
fn scatter(number: u64, seed: u64, of: u64) -> u64 {
    // An odd factor permutes the numbers below a power of two.
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15 | 1).wrapping_add(seed) & (of - 1)
}

impl Counts {
    /// Whether something was tried and nothing was wrong.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.cases > 0 && self.wrong == 0
    }

    fn take(&mut self, case: Case, done: Result<Done, String>) {
        self.cases += 1;
        match done {
            Ok(done) => {
                self.damaged += done.damaged;
                self.repaired += done.repaired;
                *if done.healed { &mut self.healed } else { &mut self.unavailable } += 1;
            }
            Err(text) => {
                self.wrong += 1;
                if self.findings.len() < TOLD {
                    self.findings.push(case.tell(self.replicas, &text));
                }
            }
        }
    }
}

/// One replica before anything is damaged.
struct Replica {
    image: Image,
    /// For each entry the file and the offset of its bytes.
    places: Vec<(String, u64)>,
}

fn entry(index: u32) -> Entry {
    Entry::command(u64::from(index), 2, payload(u64::from(index), ENTRY_BYTES))
}

impl Replica {
    fn new<V: Disk>(node: u32) -> Self {
        let mem = MemVfs::new();
        let mut seed = *b"replica number 0";
        seed[15] += u8::try_from(node).expect("a few replicas");
        let options = CreateOptions { node: u64::from(node), seed: Some(seed), ..create_options() };
        Engine::create_in(&V::over(mem.clone()), &options).expect("an empty disk");
        let (engine, _) = Engine::open_in(V::over(mem.clone()), open_options()).expect("just created");
        engine.create_group(GROUP).expect("nothing fails");
        for index in 1..=ENTRIES {
            engine.append(GROUP, &[entry(index)]).expect("nothing fails");
        }
        // Its mark covers the entries.
        engine.commit(GROUP, Index(u64::from(ENTRIES))).expect("nothing fails");
        if node.is_multiple_of(2) {
            engine.close().expect("nothing fails");
        } else {
            drop(engine);
        }
        let image = mem.image();
        let places = (1..=ENTRIES).map(|index| find(&image, &entry(index).data)).collect();
        Self { image, places }
    }
}

/// Where some bytes stand.
fn find(image: &Image, bytes: &[u8]) -> (String, u64) {
    let found = image.files.iter().find_map(|(name, content)| {
        let all = content.to_bytes();
        let at = all.windows(bytes.len()).position(|window| window == bytes)?;
        Some((name.clone(), at as u64))
    });
    found.expect("an entry's bytes stand somewhere")
}

/// One combination.
#[derive(Clone, Copy)]
struct Case {
    number: u64,
    seed: u64,
}

/// What a case did when it was right.
struct Done {
    healed: bool,
    damaged: u64,
    repaired: u64,
}

impl Case {
    /// Whether a copy is damaged.
    fn hits(self, replica: usize, index: u32) -> bool {
        self.number >> (replica * ENTRIES as usize + index as usize - 1) & 1 == 1
    }

    fn tell(self, replicas: u32, text: &str) -> String {
        format!("case {:#x} of {replicas} replicas, seed {}: {text}", self.number, self.seed)
    }

    fn damaged(self, replica: usize) -> BTreeSet<Index> {
        (1..=ENTRIES)
            .filter(|index| self.hits(replica, *index))
            .map(|index| Index(u64::from(index)))
            .collect()
    }

    /// The bytes of a replica with its copies damaged: a flipped bit, or a sector of zeros or of ones.
    fn image(self, replicas: &[Replica], replica: usize) -> Image {
        let Replica { image, places } = &replicas[replica];
        let mut image = image.clone();
        for index in (1..=ENTRIES).filter(|index| self.hits(replica, *index)) {
            let (file, at) = &places[index as usize - 1];
            let content = image.files.get_mut(file).expect("a file of the image");
            let chance = mix(self.number ^ self.seed << 40 ^ (replica as u64) << 32 ^ u64::from(index) << 48);
            let sector = at.next_multiple_of(PAGE as u64);
            match chance % 4 {
                0 => content.write(sector, &[0; PAGE]),
                1 => content.write(sector, &[0xff; PAGE]),
                _ => {
                    let byte = at + (chance >> 8) % ENTRY_BYTES as u64;
                    let mut value = [0];
                    content.read(byte, &mut value);
                    content.write(byte, &[value[0] ^ 1 << (chance >> 4 & 7)]);
                }
            }
        }
        image
    }

    fn run<V: Disk>(self, replicas: &[Replica]) -> Result<Done, String> {
        let disks: Vec<MemVfs> =
            (0..replicas.len()).map(|replica| MemVfs::from_image(self.image(replicas, replica))).collect();
        let wanted: Vec<BTreeSet<Index>> = (0..replicas.len()).map(|replica| self.damaged(replica)).collect();
        let engines = open_all::<V>(&disks, &wanted)?;
        let mut repaired = 0;
        for (replica, engine) in
            engines.iter().enumerate().filter(|(replica, _)| !wanted[*replica].is_empty())
        {
            refuses_votes(engine).map_err(|e| format!("replica {replica}: {e}"))?;
            repaired += exchange(engine, &engines, &wanted[replica])
                .map_err(|e| format!("replica {replica}: {e}"))?;
        }
        // What no replica has a whole copy of.
        let gone = wanted.iter().skip(1).fold(wanted[0].clone(), |all, own| &all & own);
        let left = vec![gone.clone(); replicas.len()];
        check_all(&engines, &left)?;
        drop(engines);
        let engines = open_all::<V>(&disks, &left)?;
        for (replica, engine) in engines.iter().enumerate() {
            let voted = engine.save_vote(GROUP, Vote::new(9, 0, *b"after"));
            match voted {
                Ok(()) if gone.is_empty() => {}
                Err(Error::Blocked { .. }) if !gone.is_empty() => {}
                other => return Err(format!("replica {replica}, after the exchange, a vote gave {other:?}")),
            }
        }
        let damaged = wanted.iter().map(|own| own.len() as u64).sum();
        Ok(Done { healed: gone.is_empty(), damaged, repaired })
    }
}

fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (n ^ n >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53) ^ n >> 29
}

/// Opens and scrubs every replica; what each lacks is as `wanted` says.
fn open_all<V: Disk>(disks: &[MemVfs], wanted: &[BTreeSet<Index>]) -> Result<Vec<Engine<V>>, String> {
    let open = |disk: &MemVfs| Engine::open_in(V::over(disk.clone()), open_options());
    let opened: Result<Vec<_>, Error> = disks.iter().map(open).collect();
    let opened = opened.map_err(|e| format!("open refused: {e}"))?;
    for (replica, (engine, report)) in opened.iter().enumerate() {
        if !named(&report.lost).is_subset(&wanted[replica]) {
            return Err(format!(
                "replica {replica}: the report names {:?} of {:?}",
                report.lost, wanted[replica]
            ));
        }
        engine.scrub(u64::MAX).map_err(|e| format!("replica {replica}: scrub: {e}"))?;
    }
    let engines: Vec<_> = opened.into_iter().map(|(engine, _)| engine).collect();
    check_all(&engines, wanted)?;
    Ok(engines)
}

/// The lost entries of the group; anything else that is lost counts as entry 0.
fn named(lost: &[Lost]) -> BTreeSet<Index> {
    lost.iter()
        .flat_map(|lost| match lost {
            Lost::Entries { group: GROUP, from, to, term: Some(term) } if term.0 == 2 => from.0..=to.0,
            _ => 0..=0,
        })
        .map(Index)
        .collect()
}

/// Every replica has all entries but those, byte for byte, and says so.
fn check_all<V: Disk>(engines: &[Engine<V>], lacking: &[BTreeSet<Index>]) -> Result<(), String> {
    for (replica, (engine, lacking)) in engines.iter().zip(lacking).enumerate() {
        let said = named(&engine.lost());
        if said != *lacking {
            return Err(format!("replica {replica} says that it lacks {said:?}, and lacks {lacking:?}"));
        }
        for index in 1..=ENTRIES {
            let at = Index(u64::from(index));
            match engine.read(GROUP, at..at.next(), u64::MAX) {
                Ok(read) if !lacking.contains(&at) && read == [entry(index)] => {}
                Err(Error::Damaged { .. }) if lacking.contains(&at) => {}
                other => return Err(format!("replica {replica}, entry {index}: {other:?}")),
            }
        }
    }
    Ok(())
}

/// A replica that lacks something takes no vote and no entry.
fn refuses_votes<V: Disk>(engine: &Engine<V>) -> Result<(), String> {
    match engine.save_vote(GROUP, Vote::new(8, 0, *b"early")) {
        Err(Error::Blocked { .. }) => Ok(()),
        other => Err(format!("a vote above damage gave {other:?}")),
    }
}

/// Gives a replica what its peers have; false bytes first. Says how many entries came back.
fn exchange<V: Disk>(
    engine: &Engine<V>,
    peers: &[Engine<V>],
    lacking: &BTreeSet<Index>,
) -> Result<u64, String> {
    let mut repaired = 0;
    for index in lacking {
        let mut data = entry(u32::try_from(index.0).expect("a few entries")).data.to_vec();
        data[0] ^= 1;
        match engine.repair(GROUP, &Entry::command(index.0, 2, data)) {
            Err(Error::RepairMismatch { .. }) => {}
            other => return Err(format!("false bytes for entry {index} gave {other:?}")),
        }
        let whole = peers.iter().find_map(|peer| peer.read(GROUP, *index..index.next(), u64::MAX).ok());
        let Some(whole) = whole else { continue };
        match engine.repair_range(GROUP, &whole) {
            Ok(1) => repaired += 1,
            other => return Err(format!("the repair of entry {index} gave {other:?}")),
        }
    }
    Ok(repaired)
}
