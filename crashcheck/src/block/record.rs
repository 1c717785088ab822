//! One recorded run: a device that records, a real file system on it, and the end of both.
//!
//! I own the order of setting up and taking down: image, server, loop device, mount; then back. I do not
//! know what is done between.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::block::disk::Disk;
use crate::block::fs::FileSystem;
use crate::block::log::{self, Entry};
use crate::block::present::Loop;
use crate::block::room::Room;
use crate::block::server::{DISK, SERVER};
use crate::block::tools::AMPLE;

/// A run that is being recorded.
#[derive(Debug)]
pub struct Recording<'a> {
    room: &'a Room,
    fs: FileSystem,
    server: Child,
    /// Its end is the server's end.
    _leash: ChildStdin,
    on: Loop,
    marks: File,
    log: PathBuf,
}

impl<'a> Recording<'a> {
    /// Mounts `base` on a device that records.
    ///
    /// # Errors
    /// If it cannot.
    pub fn start(
        room: &'a Room,
        base: &Disk,
        fs: FileSystem,
        options: &str,
        max_log: u64,
    ) -> anyhow::Result<Self> {
        let (image, log) = (room.file("disk.img"), room.file("log"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&image)
            .context("an image")?;
        file.set_len(base.size())?;
        base.store(&file)?;
        let fifos = ["marks", "stdout", "stderr"].map(|name| room.file(name));
        for fifo in fifos.iter().filter(|fifo| !fifo.exists()) {
            mkfifo(fifo, Mode::from_bits_truncate(0o600)).context("a FIFO")?;
        }
        let mut server = Command::new(&room.program)
            .args([SERVER, "--max-log", &max_log.to_string()])
            .args([Path::new("--image"), &image, Path::new("--log"), &log])
            .args([Path::new("--mount"), &room.device_dir(), Path::new("--marks"), &fifos[0]])
            .args([Path::new("--output"), &fifos[1], Path::new("--output"), &fifos[2]])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the recording device")?;
        let leash = server.stdin.take().expect("it is piped");
        let out = server.stdout.as_mut().expect("it is piped");
        out.read_exact(&mut [0]).context("the recording device did not start")?;
        let marks = OpenOptions::new().write(true).open(&fifos[0]).context("a FIFO")?;
        let on = Loop::mount(room, &room.device_dir().join(DISK), fs, options, AMPLE)?;
        Ok(Self { room, fs, server, _leash: leash, on, marks, log })
    }

    /// Adds a mark before everything that the device is told from now on.
    ///
    /// # Errors
    /// If the recording device is gone.
    pub fn mark(&mut self, text: &str) -> anyhow::Result<()> {
        self.marks.write_all(format!("{text}\n").as_bytes()).context("the recording device is gone")
    }

    /// The two outputs that a workload writes to: acknowledgements are marks, the rest goes to standard error.
    ///
    /// # Errors
    /// If the recording device is gone.
    pub fn outputs(&self) -> anyhow::Result<[File; 2]> {
        let open = |name| OpenOptions::new().write(true).open(self.room.file(name)).context("a FIFO");
        Ok([open("stdout")?, open("stderr")?])
    }

    /// Unmounts, takes the device down, and gives back the log.
    ///
    /// # Errors
    /// If something still uses the file system, or the recording device failed.
    pub fn finish(self) -> anyhow::Result<Vec<Entry>> {
        let Self { room, fs, mut server, _leash, on, marks, log } = self;
        let quiet = room.unmount(&room.mount_point()).context("unmounting what was recorded")?;
        fs.forget(&on.device)?;
        drop((on, marks));
        let gone = room.unmount(&room.device_dir()).context("unmounting the recording device")?;
        anyhow::ensure!(quiet && gone, "something still uses the file system after the workload's end");
        let status = server.wait()?;
        anyhow::ensure!(status.success(), "the recording device failed: {status}");
        Ok(log::read(&mut BufReader::new(File::open(&log)?))?)
    }
}
