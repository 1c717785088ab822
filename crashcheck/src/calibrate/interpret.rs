//! A litmus program done for real.
//!
//! I own how each operation is done, and how a file system is pushed to write things back when nobody asked
//! for it: a crash state is only as varied as what reached the device. I do not know what is recorded.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{
    Advice, CWD, FallocateFlags, OFlags, RenameFlags, fadvise, fallocate, renameat_with, syncfs,
};

use crate::block::tools::tool;
use crate::calibrate::litmus::Act;
use crate::calibrate::outcome::BYSTANDER;

/// What makes the file system write something back that no operation of the program asked for. The kernel
/// may do each of these at any time by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// All of it: syncfs.
    All,
    /// The journal: an fsync of a file that nobody asks about.
    Journal,
    /// The bytes of a range of a file (all of it if the length is zero), and then time for them to arrive.
    Data(&'static str, u64, u64),
    /// The same without waiting.
    DataBegun(&'static str, u64, u64),
}

/// How long writeback that was begun is waited for.
const ARRIVAL: Duration = Duration::from_millis(4);

/// A mounted file system.
#[derive(Debug)]
pub struct Interpreter {
    root: PathBuf,
    xfs_io: PathBuf,
}

impl Interpreter {
    /// For what is mounted there.
    ///
    /// # Errors
    /// Without xfs_io, which does the mappings.
    pub fn new(root: &Path) -> anyhow::Result<Self> {
        Ok(Self { root: root.to_owned(), xfs_io: tool("xfs_io", "xfsprogs")? })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn write(&self, path: &str, offset: u64, data: &[u8], flags: OFlags) -> anyhow::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(flags.bits().cast_signed()).open(self.at(path))?;
        Ok(file.write_all_at(data, offset)?)
    }

    /// Runs commands of xfs_io on a file: stores through a mapping without a mapping of our own.
    fn mapped(&self, path: &str, commands: &[String]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.xfs_io);
        commands.iter().for_each(|words| {
            command.args(["-c", words]);
        });
        let output = command.arg(self.at(path)).stdin(Stdio::null()).output().context("xfs_io")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success() && said.is_empty(), "xfs_io {commands:?}: {}", said.trim());
        Ok(())
    }

    /// Does one operation.
    ///
    /// # Errors
    /// If it fails.
    pub fn act(&self, act: &Act) -> anyhow::Result<()> {
        self.do_act(act).with_context(|| format!("{act:?}"))
    }

    fn do_act(&self, act: &Act) -> anyhow::Result<()> {
        let open = |path: &str| OpenOptions::new().write(true).open(self.at(path));
        match *act {
            Act::Create(path) => drop(File::create_new(self.at(path))?),
            Act::Write(path, offset, letter, len) => {
                self.write(path, offset, &vec![letter; len], OFlags::empty())?;
            }
            Act::WriteDsync(path, offset, letter, len) => {
                self.write(path, offset, &vec![letter; len], OFlags::DSYNC)?;
            }
            Act::MapWrite(path, offset, letter, len) => {
                let store = format!("mwrite -S {letter} {offset} {len}");
                self.mapped(path, &[format!("mmap -rw {offset} {len}"), store, "munmap".to_owned()])?;
            }
            Act::MapSync(path) => {
                let len = fs::metadata(self.at(path))?.len();
                self.mapped(path, &[format!("mmap -rw 0 {len}"), format!("msync -s 0 {len}")])?;
            }
            Act::SetLen(path, len) => open(path)?.set_len(len)?,
            Act::Allocate(path, len) => fallocate(open(path)?, FallocateFlags::empty(), 0, len)?,
            Act::Punch(path, offset, len) => {
                let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(open(path)?, mode, offset, len)?;
            }
            Act::Rename(from, to) => fs::rename(self.at(from), self.at(to))?,
            Act::Exchange(one, other) => {
                renameat_with(CWD, self.at(one), CWD, self.at(other), RenameFlags::EXCHANGE)?;
            }
            Act::Link(from, to) => fs::hard_link(self.at(from), self.at(to))?,
            Act::Remove(path) => fs::remove_file(self.at(path))?,
            Act::MakeDir(path) => fs::create_dir(self.at(path))?,
            Act::RemoveDir(path) => fs::remove_dir(self.at(path))?,
            Act::Sync(path) => open(path)?.sync_all()?,
            Act::SyncData(path) => open(path)?.sync_data()?,
            Act::SyncDir(path) => File::open(self.at(path))?.sync_all()?,
        }
        Ok(())
    }

    /// Makes the file that nobody asks about.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_bystander(&self) -> anyhow::Result<()> {
        Ok(fs::write(self.at(BYSTANDER), [])?)
    }

    /// Pushes. A file that is gone by now has nothing to write back.
    ///
    /// # Errors
    /// If it fails.
    pub fn push(&self, push: Push) -> anyhow::Result<()> {
        match push {
            Push::All => syncfs(File::open(&self.root)?)?,
            Push::Journal => {
                let file = OpenOptions::new().append(true).open(self.at(BYSTANDER))?;
                file.write_all_at(b"b", file.metadata()?.len())?;
                file.sync_all()?;
            }
            Push::Data(path, offset, len) => {
                self.begin(path, offset, len)?;
                std::thread::sleep(ARRIVAL);
            }
            Push::DataBegun(path, offset, len) => self.begin(path, offset, len)?,
        }
        Ok(())
    }

    /// Begins to write back: POSIX_FADV_DONTNEED does that for dirty pages, as sync_file_range does.
    fn begin(&self, path: &str, offset: u64, len: u64) -> anyhow::Result<()> {
        match File::open(self.at(path)) {
            Ok(file) => Ok(fadvise(&file, offset, std::num::NonZeroU64::new(len), Advice::DontNeed)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}
