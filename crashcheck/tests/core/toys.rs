//! A recorder over plain byte vectors, and small stores with known faults.

use std::collections::{BTreeMap, BTreeSet};

use crashcheck::core::image::{Content, Image};
use crashcheck::core::subject::{Checked, Subject, Violation};
use crashcheck::core::trace::{Cut, Ino, Op, Step, Trace};

/// Does operations to plain byte vectors, and records them.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) trace: Trace,
    pub(crate) names: BTreeMap<String, Ino>,
    pub(crate) files: BTreeMap<Ino, Vec<u8>>,
    pub(crate) dirs: BTreeSet<String>,
}

impl Disk {
    pub(crate) fn on(image: Image) -> Self {
        let mut disk = Self { dirs: image.dirs.clone(), ..Self::default() };
        for (path, content) in &image.files {
            let ino = Ino(u32::try_from(disk.files.len()).unwrap());
            disk.names.insert(path.clone(), ino);
            disk.files.insert(ino, content.bytes());
        }
        disk.trace = Trace { initial: image, inos: disk.names.clone(), steps: Vec::new() };
        disk
    }

    pub(crate) fn with(files: &[(&str, &[u8])]) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), Content::of(bytes)));
        Self::on(Image { files: files.collect(), ..Image::default() })
    }

    pub(crate) fn step(&mut self, op: Op) {
        self.trace.steps.push(op.into());
    }

    pub(crate) fn fail(&mut self, op: Op) {
        self.trace.steps.push(Step { failed: true, ..op.into() });
    }

    pub(crate) fn create(&mut self, path: &str) -> Ino {
        let ino = Ino(u32::try_from(self.files.len()).unwrap());
        self.files.insert(ino, Vec::new());
        self.names.insert(path.to_owned(), ino);
        self.step(Op::Create { path: path.to_owned(), ino });
        ino
    }

    pub(crate) fn write(&mut self, ino: Ino, offset: usize, data: &[u8]) {
        let file = self.files.get_mut(&ino).unwrap();
        file.resize(file.len().max(offset + data.len()), 0);
        file[offset..offset + data.len()].copy_from_slice(data);
        self.step(Op::Write { ino, offset: offset as u64, data: data.into() });
    }

    pub(crate) fn set_len(&mut self, ino: Ino, len: usize) {
        self.files.get_mut(&ino).unwrap().resize(len, 0);
        self.step(Op::SetLen { ino, len: len as u64 });
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let ino = self.names.remove(from).unwrap();
        self.names.insert(to.to_owned(), ino);
        self.step(Op::Rename { from: from.to_owned(), to: to.to_owned() });
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.names.remove(path).unwrap();
        self.step(Op::Remove { path: path.to_owned() });
    }

    pub(crate) fn sync_dir(&mut self) {
        self.step(Op::SyncDir { path: String::new() });
    }

    pub(crate) fn image(&self) -> Image {
        let files = self.names.iter().map(|(path, ino)| (path.clone(), Content::of(&self.files[ino])));
        Image { dirs: self.dirs.clone(), files: files.collect(), ..Image::default() }
    }
}

/// Two toy stores. Marks: `2v` a value was issued, `2v + 1` it was acknowledged.
pub(crate) struct Toy {
    pub(crate) kind: Kind,
    pub(crate) right: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value is written to `tmp` and renamed over `cur`; recovery removes what is left of `tmp`.
    Publish,
    /// Records of 40 bytes are appended to a file of zeros; recovery counts those that are valid, copies
    /// them to a new file and publishes that, and panics if told to.
    Append,
}

pub(crate) struct Ran {
    pub(crate) trace: Trace,
    pub(crate) values: u32,
}

pub(crate) const RECORD: usize = 40;

impl Toy {
    pub(crate) fn run(&self, values: u32) -> Ran {
        let mut disk = match self.kind {
            Kind::Publish => Disk::with(&[("cur", &value(0))]),
            Kind::Append => Disk::with(&[("log", &[0; 2048])]),
        };
        for v in 1..=values {
            disk.step(Op::Mark(2 * v));
            match self.kind {
                Kind::Publish => self.publish(&mut disk, &value(v)),
                Kind::Append => {
                    let log = disk.names["log"];
                    disk.write(log, RECORD * (v as usize - 1), &self.record(v));
                    disk.step(Op::SyncData { ino: log });
                }
            }
            disk.step(Op::Mark(2 * v + 1));
        }
        Ran { trace: disk.trace, values }
    }

    pub(crate) fn publish(&self, disk: &mut Disk, bytes: &[u8]) {
        let tmp = disk.create("tmp");
        disk.write(tmp, 0, bytes);
        if self.right {
            disk.step(Op::SyncAll { ino: tmp });
        }
        disk.rename("tmp", "cur");
        disk.sync_dir();
    }

    pub(crate) fn record(&self, v: u32) -> Vec<u8> {
        let mut record = vec![u8::try_from(v).unwrap(); RECORD];
        if self.right {
            let sum = checksum(&record[4..]);
            record[..4].copy_from_slice(&sum.to_le_bytes());
        }
        record
    }

    /// What a record holds, if it is one.
    pub(crate) fn value_of(&self, record: &[u8]) -> Option<u32> {
        let v = record[4];
        let valid = !self.right || record[..4] == checksum(&record[4..]).to_le_bytes();
        (v != 0 && valid).then(|| {
            let odd = record[4..].iter().any(|b| *b != v);
            if odd { 1000 } else { u32::from(v) }
        })
    }

    /// The last value of a disk, and the disk after recovery.
    pub(crate) fn recover(&self, image: Image) -> (Option<u32>, Disk) {
        let mut disk = Disk::on(image);
        let last = match self.kind {
            Kind::Publish => {
                if disk.names.contains_key("tmp") {
                    disk.remove("tmp");
                    disk.sync_dir();
                }
                let cur = &disk.files[&disk.names["cur"]];
                (0..20).find(|v| value(*v) == *cur)
            }
            Kind::Append => {
                let log = disk.names["log"];
                let records = disk.files[&log].chunks_exact(RECORD).map(|r| self.value_of(r));
                let last = records.take_while(Option::is_some).last().flatten().unwrap_or(0);
                // What is after it must not come back.
                let end = RECORD * usize::try_from(last.min(20)).unwrap();
                if disk.files[&log][end..].iter().any(|b| *b != 0) {
                    disk.write(log, end, &vec![0; 2048 - end]);
                    disk.step(Op::SyncData { ino: log });
                }
                (last < 1000).then_some(last)
            }
        };
        (last, disk)
    }
}

pub(crate) fn value(v: u32) -> Vec<u8> {
    format!("value {v:04} {}", "x".repeat(600)).into_bytes()
}

pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, b| (sum ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

impl Subject for Toy {
    type Run = Ran;
    type Exposed = u32;

    fn trace<'a>(&self, run: &'a Ran) -> &'a Trace {
        &run.trace
    }

    fn history_key(&self, _: &Ran, cut: Cut) -> u64 {
        cut.marks as u64
    }

    fn exposed_key(&self, exposed: &u32) -> u64 {
        u64::from(*exposed)
    }

    fn check(&self, run: &Ran, cut: Cut, image: Image, exposed: Option<&u32>, record: bool) -> Checked<u32> {
        let (mut issued, mut acked) = (0, 0);
        for mark in run.trace.marks().take(cut.marks) {
            if mark % 2 == 0 { issued = mark / 2 } else { acked = mark / 2 }
        }
        assert!(issued <= run.values);
        let (last, disk) = self.recover(image);
        let wrong = match (last, exposed) {
            (None, _) => Some("garbage".to_owned()),
            (Some(last), Some(shown)) if last != *shown => Some(format!("{shown} was shown, now {last}")),
            (Some(last), _) if !(acked..=issued).contains(&last) => {
                Some(format!("{last}, but {acked} was acknowledged and {issued} issued"))
            }
            _ => None,
        };
        let violation = |text| Violation { property: "P1", silent: true, false_alarm: false, text };
        Checked {
            violations: wrong.map(violation).into_iter().collect(),
            trace: record.then_some(disk.trace),
            exposed: last,
        }
    }
}

/// A store whose recovery shows what it does not make durable: found only by a crash after it.
pub(crate) struct Shows;

impl Subject for Shows {
    type Run = Trace;
    type Exposed = u8;

    fn trace<'a>(&self, run: &'a Trace) -> &'a Trace {
        run
    }

    fn history_key(&self, _: &Trace, _: Cut) -> u64 {
        0
    }

    fn exposed_key(&self, exposed: &u8) -> u64 {
        u64::from(*exposed)
    }

    fn check(&self, _: &Trace, _: Cut, image: Image, exposed: Option<&u8>, record: bool) -> Checked<u8> {
        let mut disk = Disk::on(image);
        let f = disk.names["f"];
        let shows = disk.files[&f][0] + 1;
        assert!(shows < 4, "three openings at most");
        // It counts its openings, shows the count, and syncs nothing.
        disk.write(f, 0, &[shows]);
        let fell = exposed.is_some_and(|e| shows <= *e);
        let text = format!("shows {shows} after {exposed:?}");
        let violation = Violation { property: "P10", silent: true, false_alarm: false, text };
        Checked {
            violations: if fell { vec![violation] } else { Vec::new() },
            trace: record.then_some(disk.trace),
            exposed: Some(shows),
        }
    }
}
