//! The `seawall` command as its user meets it: one file for each subcommand.
//!
//! I own the way to run the binary. Every test runs the real program on a real directory and knows
//! nothing of the bytes in it, except where a test damages one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, io::Write};

mod cli {
    pub(crate) mod append;
    pub(crate) mod create;
    pub(crate) mod dump;
    pub(crate) mod history;
    pub(crate) mod read;
    pub(crate) mod status;
    pub(crate) mod usage;
    pub(crate) mod verify;
}

/// A temporary directory with a store in `store`, and the command to look at it.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A store of small segments that holds the given lines in group 1.
    fn with_lines(input: &str) -> Self {
        let bench = Self::new();
        let args = ["--cluster", "7", "--node", "1", "--segment-bytes", "65536"];
        bench.run("create", &args, b"").expect_code(0);
        bench.run("append", &["--quiet"], input.as_bytes()).expect_code(0);
        bench
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("a file in a temporary directory");
        path.to_str().expect("a plain path").to_owned()
    }

    /// `seawall SUBCOMMAND store ARGS < input`.
    fn run(&self, subcommand: &str, args: &[&str], input: &[u8]) -> Ran {
        let store = self.store();
        let mut all = vec![subcommand, store.to_str().expect("a plain path")];
        all.extend_from_slice(args);
        run(&all, input)
    }

    /// One flipped bit in every place that holds `needle`: no copy is left whole.
    fn damage(&self, needle: &[u8]) {
        let mut copies = 0;
        for path in files(&self.store()) {
            let mut bytes = fs::read(&path).expect("a readable file");
            while let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                bytes[at + needle.len() / 2] ^= 1;
                copies += 1;
            }
            fs::write(&path, bytes).expect("a writable file");
        }
        assert!(copies > 0, "no file of the store holds {:?}", String::from_utf8_lossy(needle));
    }

    /// The bytes of every file, to see whether a command wrote.
    fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.store())
            .into_iter()
            .map(|path| {
                let bytes = fs::read(&path).expect("a readable file");
                (path, bytes)
            })
            .collect()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What a run of the binary printed.
struct Ran {
    args: String,
    output: Output,
}

impl Ran {
    #[track_caller]
    fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.output.status.code(), Some(code), "seawall {}\n{}", self.args, self.all());
        self
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    fn all(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.out(), self.err())
    }

    /// Standard output as one JSON value a line.
    #[track_caller]
    fn json(&self) -> Vec<serde_json::Value> {
        self.out().lines().map(|line| serde_json::from_str(line).expect("a JSON value a line")).collect()
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(args).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A command that does not read its input closes the pipe; that is not what is tested.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the binary ends");
    feeder.join().expect("the feeder ends");
    Ran { args: args.join(" "), output }
}
