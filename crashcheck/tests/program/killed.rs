//! The tool is killed at any moment, whatever it does, and nothing of it stays.
//!
//! I own the moments and the marks by which what stays is known: a word in the environment of every process, paths in
//! mounts, the size of loop devices, and a place for temporary files that nobody else has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::tool::{Bench, me};

/// How often the tool is killed, unless [`COUNT`] says.
const USUAL: usize = 36;
const COUNT: &str = "CRASHCHECK_KILLS";
/// Names the moments, unless [`SEED`] says.
const USUAL_SEED: u64 = 1;
const SEED: &str = "CRASHCHECK_KILL_SEED";
/// Only what has this in its name.
const KIND: &str = "CRASHCHECK_KILL_KIND";

/// How long the kernel may take to take it all away.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is killed, by name, with the arguments of the tool; `{me}` is this program and `{mib}` the size of a device.
const KINDS: [(&str, &[&str]); 14] = [
    ("record", &["record", "--dir", "data", "-o", "new.trace", "--", "{me}", "many", "data"]),
    ("record-again", &["record", "--dir", "data", "-o", "new.trace", "--", "{me}", "publish", "data"]),
    (
        "ptrace",
        &["record", "--by", "ptrace", "--dir", "data", "-o", "new.trace", "--", "{me}", "many", "data"],
    ),
    ("explore", &["explore", "run.trace", "--at", "data", "--check", "{me} check-publish data"]),
    (
        "persistent",
        &["explore", "run.trace", "--at", "data", "--persistent", "--check", "{me} serve-publish data"],
    ),
    (
        "nested",
        &["explore", "run.trace", "--at", "data", "--nested", "9", "--check", "{me} recover-by-rename data"],
    ),
    (
        "fault",
        &[
            "fault",
            "--dir",
            "data",
            "--call",
            "fsync",
            "--error",
            "EIO",
            "--check",
            "{me} check-publish data",
            "--",
            "{me}",
            "publish-synced",
            "data",
        ],
    ),
    ("mutate-syncs", &["mutate-syncs", "run.trace", "--at", "data", "--check", "{me} check-publish data"]),
    ("replay", &["replay", "3", "run.trace", "--into", "laid"]),
    (
        "block",
        &[
            "block",
            "--size-mib",
            "{mib}",
            "--states",
            "6",
            "--jobs",
            "2",
            "--",
            "sh",
            "-c",
            "echo 1 > f; sync f",
        ],
    ),
    ("block-load", &["block", "--load", "device.log", "--size-mib", "{mib}", "--states", "6", "--jobs", "2"]),
    (
        "user",
        &[
            "explore",
            "run.trace",
            "--at",
            "data",
            "--user",
            "nobody",
            "--persistent",
            "--check",
            "/bin/sh -c 'while read line; do echo {\\\"ok\\\":true}; done'",
        ],
    ),
    ("subjects", &["subjects", "--from", "from", "--cache", "cache"]),
    ("kill", &["kill", "--cycles", "20"]),
];

/// A subject that takes its time.
const SUBJECT: &str = r#"[{"name": "slow", "expected": "PASS", "prepare": ["/bin/sh", "-c", "echo 0 > {dir}/e"],
    "workload": ["/bin/sh", "-c", "for i in 1 2 3 4 5; do echo $i > {dir}/$i; sleep 0.05; done"],
    "check": ["/bin/sh", "-c", "[ -e e ]"]}]"#;

/// What the case found to be there.
struct Marks<'b> {
    bench: &'b Bench,
    word: String,
    mib: u64,
}

impl Marks<'_> {
    fn new(bench: &Bench) -> Marks<'_> {
        let name = bench.home.path().file_name().unwrap().to_str().unwrap().to_owned();
        // Others may be at it beside.
        Marks { bench, word: format!("KILL_MARK={name}"), mib: 17 + u64::from(std::process::id() % 40) }
    }

    fn temporary(&self) -> PathBuf {
        self.bench.home.path().join("temporary")
    }

    fn command(&self, words: &[&str]) -> Command {
        let fill = |word: &&str| word.replace("{me}", &me()).replace("{mib}", &self.mib.to_string());
        let words: Vec<String> = words.iter().map(fill).collect();
        let mut command = self.bench.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let (name, value) = self.word.split_once('=').unwrap();
        command
            .env(name, value)
            .env("TMPDIR", self.temporary())
            .env("XDG_STATE_HOME", self.bench.home.path().join("state"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// All that is there of the tool.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let home = self.bench.home.path().to_str().unwrap();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |what: &str| {
                String::from_utf8_lossy(&fs::read(entry.path().join(what)).unwrap_or_default()).into_owned()
            };
            let is_marked = read("environ").split('\0').any(|word| word == self.word);
            if is_marked || read("mountinfo").contains(home) {
                left.push(format!("process {:?} {}", entry.file_name(), read("cmdline").replace('\0', " ")));
            }
        }
        let sectors = (self.mib << 11).to_string();
        let size = |path: &Path| fs::read_to_string(path.join("size")).unwrap_or_default().trim() == sectors;
        let devices = fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.path());
        left.extend(devices.filter(|path| size(path)).map(|path| path.display().to_string()));
        // The second name of a file that is being replaced is in the directory itself.
        let mut files =
            vec![self.temporary(), self.bench.home.path().join("state"), self.bench.home.path().to_owned()];
        while let Some(dir) = files.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let known = [
                    "data",
                    "temporary",
                    "state",
                    "run.trace",
                    "new.trace",
                    "device.log",
                    "laid",
                    "from",
                    "cache",
                    "crashcheck",
                    "key",
                ];
                if name == "crashcheck" {
                    files.push(entry.path());
                }
                if !known.contains(&&*name) {
                    left.push(entry.path().display().to_string());
                }
            }
        }
        left
    }
}

/// A number below another, by a seed.
fn below(seed: &mut u64, most: u128) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    u64::try_from(u128::from(*seed >> 33) % most).unwrap()
}

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).ok().map_or(usual, |text| text.parse().expect(name))
}

pub(crate) fn any_moment() {
    let bench = Bench::new();
    bench.record("publish-synced");
    let marks = Marks::new(&bench);
    fs::create_dir(marks.temporary()).unwrap();
    let (count, mut seed) = (number(COUNT, USUAL as u64), number(SEED, USUAL_SEED));
    println!("  {count} kills by the seed {seed}: {COUNT} and {SEED} name others");
    let wanted = env::var(KIND).unwrap_or_default();
    let has_block = ["/usr/sbin", "/sbin"].iter().any(|dir| Path::new(dir).join("mkfs.ext4").exists())
        && crashcheck::block::room::missing().is_none();
    fs::create_dir(bench.home.path().join("from")).unwrap();
    fs::write(bench.home.path().join("from/subjects.json"), SUBJECT).unwrap();
    let save = ["block", "--size-mib", "{mib}", "--states", "1", "--save", "device.log", "--", "true"];
    assert!(!has_block || marks.command(&save).status().unwrap().success(), "no log of a device");
    let kinds: Vec<_> = KINDS
        .into_iter()
        .filter(|(name, _)| name.contains(&wanted) && (has_block || !name.starts_with("block")))
        .map(|(name, words)| {
            // How long it takes undisturbed.
            let _ = fs::remove_dir_all(bench.home.path().join("laid"));
            let begun = Instant::now();
            marks.command(words).spawn().unwrap().wait().unwrap();
            (name, words, begun.elapsed())
        })
        .collect();
    assert_eq!(marks.left(), Vec::<String>::new(), "nobody was killed");
    let (mut alive, mut longest) = (vec![(0, 0); kinds.len()], Duration::ZERO);
    for round in 0..count {
        let kind = usize::try_from(round).unwrap() % kinds.len();
        let (name, words, takes) = kinds[kind];
        let _ = fs::remove_dir_all(bench.home.path().join("laid"));
        fs::remove_dir_all(bench.data()).unwrap();
        fs::create_dir(bench.data()).unwrap();
        if below(&mut seed, 8) == 0 {
            let _ = fs::remove_dir_all(bench.home.path().join("state"));
        }
        let mut child = marks.command(words).spawn().unwrap();
        // Half of them soon: most is set up then.
        let span = if below(&mut seed, 2) == 0 { takes.min(Duration::from_millis(30)) } else { takes };
        let wait = Duration::from_micros(below(&mut seed, span.as_micros().max(1)));
        thread::sleep(wait);
        alive[kind].0 += u64::from(child.try_wait().unwrap().is_none());
        alive[kind].1 += 1;
        child.kill().unwrap();
        child.wait().unwrap();
        let since = Instant::now();
        while !marks.left().is_empty() {
            assert!(since.elapsed() < PATIENCE, "round {round}, {name} after {wait:?}: {:#?}", marks.left());
            thread::sleep(Duration::from_millis(2));
        }
        longest = longest.max(since.elapsed());
    }
    for ((name, ..), (alive, all)) in kinds.iter().zip(&alive) {
        println!("  {name}: {alive} of {all} were killed before their end");
    }
    println!("  all was gone after {longest:?} at most");
    assert!(alive.iter().map(|(alive, _)| alive).sum::<u64>() * 3 > count, "the moments are no moments");
}
