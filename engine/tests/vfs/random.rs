//! Random calls: the simulated disk beside the real one, and its durable state beside one that is
//! worked out from the recording alone. A failure names its seed.

use seawall::vfs::mem::{Image, Ino, MemVfs, Op, PAGE, Trace};
use seawall::vfs::os::OsVfs;
use seawall::vfs::{Access, File, Vfs};

use super::contents;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn path(&mut self) -> &'static str {
        const PATHS: [&str; 6] = ["a", "b", "d/a", "d/b", "d", "e/a"];
        PATHS[usize::try_from(self.below(6)).unwrap()]
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.below(1500)).unwrap();
        vec![u8::try_from(self.below(4)).unwrap(); len]
    }
}

/// One random call on a path; what came of it, as text.
fn random_call<V: Vfs>(vfs: &V, random: &mut Random) -> String {
    let (path, to) = (random.path(), random.path());
    let (offset, bytes) = (random.below(3000), random.bytes());
    let open = || vfs.open(path, Access::ReadWrite);
    let result = match random.below(11) {
        0 => vfs.create(path).map(|_| 0),
        1 => vfs.create_dir("d").map(|()| 0),
        // A directory's rename is not in the contract.
        2 if path != "d" => vfs.rename(path, to).map(|()| 0),
        3 if path != "d" => vfs.remove(path).map(|()| 0),
        4 => open().and_then(|f| f.set_len(offset)).map(|()| 0),
        5 => open().and_then(|f| f.sync_data()).map(|()| 0),
        6 => open().and_then(|f| f.sync_all()).map(|()| 0),
        7 => vfs.sync_dir(if offset % 2 == 0 { "" } else { "d" }).map(|()| 0),
        _ => open().and_then(|f| f.write_at(&bytes, offset)),
    };
    format!("{:?}", result.map_err(|e| e.kind()))
}

/// The whole tree, read through the seam.
fn tree<V: Vfs>(vfs: &V, dir: &str, into: &mut Image) {
    for name in vfs.list(dir).unwrap() {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        if vfs.list(&path).is_ok() {
            into.dirs.insert(path.clone());
            tree(vfs, &path, into);
        } else {
            into.put(&path, &contents(vfs, &path));
        }
    }
}

#[test]
fn the_simulated_disk_does_what_the_real_one_does() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let (real, simulated) = (OsVfs::at(dir.path()), MemVfs::new());
        if seed % 2 == 0 {
            simulated.track();
        }
        let (mut left, mut right) = (Random(seed), Random(seed));
        for step in 0..150 {
            let (real, simulated) = (random_call(&real, &mut left), random_call(&simulated, &mut right));
            assert_eq!(real, simulated, "seed {seed}, step {step}");
        }
        let mut image = Image::default();
        tree(&real, "", &mut image);
        assert_eq!(simulated.image(), image, "seed {seed}");
    }
}

/// What is durable of one file, worked out from the recording in the plainest way.
fn durable_bytes(trace: &Trace, ino: Ino) -> Vec<u8> {
    let start = trace.inos.iter().find(|(_, i)| **i == ino);
    let mut live = start.map(|(path, _)| trace.initial.read(path).unwrap()).unwrap_or_default();
    let mut durable = live.clone();
    for recorded in &trace.ops {
        match &recorded.op {
            Op::Write { ino: i, offset, data } if *i == ino => {
                let at = usize::try_from(*offset).unwrap();
                live.resize(live.len().max(at + data.len()), 0);
                live[at..at + data.len()].copy_from_slice(data);
            }
            Op::SetLen { ino: i, len } if *i == ino => live.resize(usize::try_from(*len).unwrap(), 0),
            Op::SyncAll { ino: i, .. } if *i == ino => durable.clone_from(&live),
            Op::SyncData { ino: i, .. } if *i == ino => {
                let whole = live.len().next_multiple_of(PAGE).min(durable.len().max(live.len()));
                durable.resize(durable.len().max(live.len()), 0);
                durable[..whole].fill(0);
                durable[..live.len()].copy_from_slice(&live);
            }
            _ => {}
        }
    }
    durable
}

#[test]
fn what_is_durable_follows_from_the_recording() {
    for seed in 100..400 {
        let vfs = MemVfs::new();
        let mut random = Random(seed);
        for _ in 0..20 {
            random_call(&vfs, &mut random);
        }
        vfs.record(true);
        for step in 0..60 {
            random_call(&vfs, &mut random);
            if step % 20 != 19 {
                continue;
            }
            // Names reach the disk in the end; each file then shows what was synced of it.
            let now = vfs.image();
            vfs.sync_dir("").unwrap();
            now.dirs.iter().for_each(|dir| vfs.sync_dir(dir).unwrap());
            let durable = vfs.durable_image();
            assert!(durable.files.keys().eq(now.files.keys()), "seed {seed}, step {step}");
            assert_eq!(durable.dirs, now.dirs);
            let files: Vec<_> = now.files.keys().map(|path| vfs.open(path, Access::Read).unwrap()).collect();
            vfs.record(false);
            let trace = vfs.take_trace();
            for (file, (path, content)) in files.iter().zip(&durable.files) {
                let want = durable_bytes(&trace, file.ino());
                assert!(content.to_bytes() == want, "seed {seed}, step {step}, {path}");
            }
            vfs.record(true);
        }
    }
}
