//! Records a program from its start to its end: by a recording file system over its directory, or by its
//! calls alone.
//!
//! I own the run. (R1) What the directory holds before is read and becomes durable. (R2) At the end the
//! directory is read again and compared with what the steps make of it: a recording that does not lead
//! there says so, file by file, and no verdict speaks of such a file. (R3) However it ends, with a limit
//! reached or a signal too, the program is ended, the directory is unmounted and what it holds stays.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fuser::{Config, MountOption, Session, SessionACL};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Mode, OFlags};

use crate::core::body::Tree;
use crate::core::image::{Content, Image};
use crate::core::micro::split;
use crate::core::profile::{Profile, Unit};
use crate::core::trace::{Ino, Trace};
use crate::program::calls::{Rings, Traced};
use crate::program::fuse::{Fault, Recorder};
use crate::program::recording::{Gap, Origin, Recording};
use crate::program::tape::{Onward, Pipe, Start, Tape};
use crate::program::tracer::{self, desk::Desk};
use crate::program::{names, rights, sandbox};

/// What is recorded, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory.
    pub dir: PathBuf,
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// How many bytes a recording may take.
    pub limit: u64,
    /// How long the command may run.
    pub patience: Option<Duration>,
    /// Who sees what it does.
    pub by: By,
    /// Whether the stacks of its calls are kept.
    pub stacks: bool,
    /// An error to put in the place of a call's result; for a file system alone.
    pub fault: Option<Fault>,
    /// Where the command's output goes.
    pub output: [Onward; 2],
    /// What is added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory on a file system of ours; the one that we are in unless given.
    pub cwd: Option<PathBuf>,
    /// Whether what it puts into places for temporary files is forgotten; for a file system alone.
    pub own_places: bool,
}

/// Who sees what a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A file system over the directory.
    Fuse {
        /// Whether the command is traced too, for the syncs that no file system is told of.
        traced: bool,
    },
    /// A tracer, which needs no more than the right to trace a child.
    Ptrace {
        /// What becomes of rings.
        rings: Rings,
    },
}

impl By {
    /// Its name in a recording.
    fn name(self) -> &'static str {
        match self {
            Self::Fuse { .. } => "fuse",
            Self::Ptrace { .. } => "ptrace",
        }
    }
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The command ended.
    Ended,
    /// The recording reached its limit.
    Full,
    /// The command ran longer than it may.
    TooLong,
    /// We were told to stop.
    Interrupted,
}

/// A recording and how it came to its end.
#[derive(Debug)]
pub struct Recorded {
    /// What was recorded.
    pub recording: Recording,
    /// Why it ended.
    pub end: End,
    /// How many calls there were that a fault is for.
    pub met: u64,
}

/// Records a command. For a file system this process must have entered its namespace
/// ([`sandbox::enter`]).
///
/// # Errors
/// If it cannot be recorded here.
pub fn record(options: &Options, stop: &AtomicBool) -> anyhow::Result<Recorded> {
    let dir = fs::canonicalize(&options.dir).with_context(|| {
        format!("{}: it must be there before the recording begins", options.dir.display())
    })?;
    if !dir.is_dir() {
        bail!("{} is not a directory", dir.display());
    }
    raise_file_limit();
    // What is looked at in the end, whatever is mounted over its path by then or not any more.
    let under = open_dir(&dir)?;
    let start = read_start(&dir, options.limit)?;
    let tape = Arc::new(Tape::new(start, options.limit, options.stacks));
    let met = Arc::new(AtomicU64::new(0));
    let (end, exit) = match options.by {
        By::Fuse { traced } => on_file_system(options, traced, &dir, &tape, &met, stop)?,
        By::Ptrace { rings } => run(options, &tape, stop, None, |prepare| {
            Traced::start(&options.command, rings, &dir, Arc::clone(&tape), prepare)
        })?,
    };
    let mut recording = tape.take();
    recording.origin = origin(options, &dir, exit);
    if end == End::Ended {
        let under = PathBuf::from(format!("/proc/self/fd/{}", under.as_raw_fd()));
        recording.gaps.extend(differences(&recording.trace, &read_tree(&under, u64::MAX)?.0));
    }
    Ok(Recorded { recording, end, met: met.load(Ordering::Relaxed) })
}

/// Runs the command on a recording file system.
fn on_file_system(
    options: &Options,
    traced: bool,
    dir: &Path,
    tape: &Arc<Tape>,
    met: &Arc<AtomicU64>,
    stop: &AtomicBool,
) -> anyhow::Result<(End, i32)> {
    // The command keeps its mask, which can only be read by setting it; ours lets nobody else in meanwhile.
    let mask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::umask(mask);
    let mask = mask.bits();
    let recorder = Recorder::new(open_dir(dir)?, Arc::clone(tape), options.fault.clone(), Arc::clone(met))?;
    let session = Session::new(recorder, dir, &config()).map_err(|e| cannot_mount(dir, &e))?;
    let session = session.spawn().context("the thread of the recording file system")?;
    let awake = stay_awake();
    let desk = (traced && tracer::is_supported()).then(Desk::open).transpose();
    let ended = desk.map_err(anyhow::Error::from).and_then(|desk| {
        let how = sandbox::Supervision {
            mask,
            desk: desk.as_ref().map(Desk::name),
            dir,
            own_places: options.own_places,
            cwd: options.cwd.as_deref(),
        };
        let arguments = how.arguments(&options.command);
        run(options, tape, stop, desk.as_ref(), |prepare| sandbox::Ward::start(arguments, prepare, |_| ()))
    });
    // Nothing of the command is left: the mount is not in use.
    sandbox::unmount(dir);
    drop((session, awake));
    ended
}

/// Keeps idle processors polling while the file is open: each call of the command wakes a thread here and is
/// woken by it, and from a processor that sleeps that takes longer than all else. Where it may not be asked
/// for, recording is slower. (Documentation/power/pm_qos_interface.rst of Linux.)
fn stay_awake() -> Option<File> {
    let mut file = File::options().write(true).open("/dev/cpu_dma_latency").ok()?;
    file.write_all(&0_i32.to_ne_bytes()).ok()?;
    Some(file)
}

fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("crashcheck".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::Suid,
        MountOption::Exec,
    ];
    config.acl = SessionACL::All;
    // A sync takes its time while other threads of the program go on.
    config.n_threads = Some(4);
    config
}

fn cannot_mount(dir: &Path, e: &io::Error) -> anyhow::Error {
    let fuse = Path::new("/dev/fuse");
    let why = if fuse.exists() {
        "may this user open /dev/fuse and mount? Run it as root, or record with --by ptrace"
    } else {
        "there is no /dev/fuse here: load the kernel's module `fuse`, give the device to the container, or \
         record with --by ptrace"
    };
    anyhow::anyhow!("cannot mount a recording file system over {}: {e}; {why}", dir.display())
}

/// Each file of the directory stays open while it is known.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it cannot be raised, a program with very many files gets EMFILE, which it reports.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn open_dir(dir: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty()).with_context(|| dir.display().to_string())
}

/// A command that runs.
trait Running {
    /// Its exit code, if it ended within a time.
    fn wait(&self, limit: Duration) -> anyhow::Result<Option<i32>>;
    /// Ends it and all that it started.
    fn kill(&self);
}

impl Running for sandbox::Ward {
    fn wait(&self, limit: Duration) -> anyhow::Result<Option<i32>> {
        Ok(sandbox::Ward::wait(self, limit).context("waiting for the command")?.map(sandbox::code))
    }

    fn kill(&self) {
        sandbox::Ward::kill(self);
    }
}

impl Running for Traced {
    fn wait(&self, limit: Duration) -> anyhow::Result<Option<i32>> {
        Traced::wait(self, limit)
    }

    fn kill(&self) {
        Traced::kill(self);
    }
}

/// Sets a command's streams.
type Prepare = Box<dyn FnOnce(&mut std::process::Command) + Send>;

/// Runs the command to its end, or to ours.
fn run<R: Running>(
    options: &Options,
    tape: &Arc<Tape>,
    stop: &AtomicBool,
    desk: Option<&Desk>,
    start: impl FnOnce(Prepare) -> anyhow::Result<R>,
) -> anyhow::Result<(End, i32)> {
    let (out_reader, out_writer) = io::pipe()?;
    let (err_reader, err_writer) = io::pipe()?;
    let watched = [out_reader.try_clone()?, err_reader.try_clone()?];
    tape.listen(Pipe::new(out_reader, options.output[0])?);
    tape.listen(Pipe::new(err_reader, options.output[1])?);
    let env = options.env.clone();
    let prepare = Box::new(|command: &mut std::process::Command| {
        command.stdout(Stdio::from(out_writer)).stderr(Stdio::from(err_writer)).envs(env);
    });
    let running = start(prepare)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| pump(tape, &watched, &done));
        desk.map(|desk| scope.spawn(|| desk.serve(tape)));
        let ended = wait(options, tape, &running, stop);
        if !matches!(ended, Ok((End::Ended, _))) {
            // It may start more while it is being ended.
            for _ in 0..100 {
                running.kill();
                if !matches!(running.wait(Duration::from_millis(100)), Ok(None)) {
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        desk.inspect(|desk| desk.close());
        ended
    })
}

/// Passes the command's output on while it does nothing else, and prepares the tape.
fn pump(tape: &Tape, streams: &[io::PipeReader; 2], done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) && !tape.is_silent() {
        let mut polled = streams.each_ref().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN));
        tape.prepare();
        if poll(&mut polled, PollTimeout::from(4u8)).is_ok_and(|ready| ready > 0) {
            let hung_up =
                polled.iter().any(|fd| fd.revents().is_some_and(|e| e.contains(PollFlags::POLLHUP)));
            drop(tape.lock());
            if hung_up {
                // One stream has ended and the other has not: its end is not to be polled for.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    drop(tape.lock());
}

fn wait(
    options: &Options,
    tape: &Tape,
    running: &impl Running,
    stop: &AtomicBool,
) -> anyhow::Result<(End, i32)> {
    let started = Instant::now();
    loop {
        if let Some(code) = running.wait(Duration::from_millis(20))? {
            let end = if tape.lock().is_full() { End::Full } else { End::Ended };
            return Ok((end, code));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok((End::Interrupted, 0));
        }
        if tape.lock().is_full() {
            return Ok((End::Full, 0));
        }
        if options.patience.is_some_and(|limit| started.elapsed() > limit) {
            return Ok((End::TooLong, 0));
        }
    }
}

fn origin(options: &Options, dir: &Path, exit: i32) -> Origin {
    let uname = rustix::system::uname();
    let kind = rustix::fs::statfs(dir).map(|stat| format!("{:#x}", stat.f_type)).unwrap_or_default();
    Origin {
        recorder: options.by.name().to_owned(),
        dir: names::text(dir.as_os_str()),
        given: names::text(options.dir.as_os_str()),
        command: rights::own(&options.command).iter().map(|word| names::text(word)).collect(),
        cwd: std::env::current_dir().map(|dir| names::text(dir.as_os_str())).unwrap_or_default(),
        kernel: uname.release().to_string_lossy().into_owned(),
        filesystem: kind,
        exit,
        here: true,
    }
}

/// What a walk knows of the host's inode numbers.
#[derive(Debug, Default)]
struct Hosts {
    inos: HashMap<u64, Ino>,
    dirs: HashMap<u64, (u64, String)>,
    modes: BTreeMap<Ino, u32>,
}

/// A tape's beginning: the directory as it is, all of it durable.
///
/// # Errors
/// If it cannot be read, or holds more than a recording may.
pub fn read_start(dir: &Path, limit: u64) -> anyhow::Result<Start> {
    let (trace, hosts) = read_tree(dir, limit)?;
    let recording = Recording { trace, modes: hosts.modes, ..Recording::default() };
    let root = fs::metadata(dir)?.ino();
    Ok(Start { recording, inos: hosts.inos, dirs: hosts.dirs, root })
}

/// A directory as a trace without steps.
fn read_tree(dir: &Path, limit: u64) -> anyhow::Result<(Trace, Hosts)> {
    let (mut trace, mut hosts, mut left) = (Trace::default(), Hosts::default(), limit);
    let root = fs::metadata(dir)?.ino();
    let mut waiting = vec![(dir.to_owned(), String::new(), root)];
    while let Some((dir, above, host)) = waiting.pop() {
        let mut entries = fs::read_dir(&dir)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .with_context(|| dir.display().to_string())?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = names::text(&entry.file_name());
            let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
            let meta = entry.metadata().with_context(|| entry.path().display().to_string())?;
            if meta.is_dir() {
                trace.initial.dirs.insert(path.clone());
                hosts.dirs.insert(meta.ino(), (host, name));
                waiting.push((entry.path(), path, meta.ino()));
            } else if meta.is_symlink() {
                let target = fs::read_link(entry.path())?;
                trace.initial.links.insert(path, names::text(target.as_os_str()));
            } else if meta.is_file() {
                left = left.checked_sub(meta.len()).with_context(|| {
                    format!("{} holds more than the {limit} bytes that a recording may", dir.display())
                })?;
                read_file(&mut trace, &mut hosts, &entry.path(), path, &meta)?;
            }
        }
    }
    Ok((trace, hosts))
}

fn read_file(
    trace: &mut Trace,
    hosts: &mut Hosts,
    from: &Path,
    path: String,
    meta: &fs::Metadata,
) -> anyhow::Result<()> {
    let next = Ino(u32::try_from(hosts.inos.len()).context("too many files")?);
    let ino = *hosts.inos.entry(meta.ino()).or_insert(next);
    let known = trace.inos.iter().find(|(_, known)| **known == ino && meta.nlink() > 1);
    let content = match known {
        Some((other, _)) => trace.initial.files[other].clone(),
        None => Content::of(&fs::read(from).with_context(|| from.display().to_string())?),
    };
    trace.initial.files.insert(path.clone(), content);
    trace.inos.insert(path, ino);
    hosts.modes.insert(ino, meta.permissions().mode() & 0o7777);
    Ok(())
}

/// The tree after the last step of a trace.
fn last_tree(trace: &Trace) -> Image {
    let mut tree = Tree::initial(trace);
    let micro = split(&tree, &trace.steps, Profile::PosixStrict, Unit::Block);
    for op in &micro.ops {
        match op.effect.file() {
            Some(ino) => op.effect.apply_to(tree.bodies.entry(ino).or_default()),
            None => op.effect.apply_to_names(&mut tree),
        }
    }
    for body in tree.bodies.values_mut() {
        body.clip();
    }
    for entry in tree.names.values() {
        if let crate::core::body::Entry::File(ino) = entry {
            tree.bodies.entry(*ino).or_default();
        }
    }
    tree.image()
}

/// Where a directory is not what the recording says.
fn differences(trace: &Trace, real: &Trace) -> Vec<Gap> {
    let (told, real) = (last_tree(trace), &real.initial);
    let mut paths: Vec<&String> = told.files.keys().chain(real.files.keys()).collect();
    paths.extend(told.dirs.symmetric_difference(&real.dirs));
    paths.sort_unstable();
    paths.dedup();
    let mut gaps = Vec::new();
    for path in paths {
        let (told_file, real_file) = (told.files.get(path), real.files.get(path));
        if told_file.map(Content::bytes) != real_file.map(Content::bytes)
            || told.dirs.contains(path) != real.dirs.contains(path)
        {
            let reason = "the directory holds something else than the recorded operations make".to_owned();
            gaps.push(Gap { path: path.clone(), reason });
        }
    }
    gaps
}
