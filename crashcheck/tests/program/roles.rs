//! What is recorded, and what checks it: small stores with known faults.
//!
//! I own the stores. Each writes values under a directory and says `durable-ack` for what it holds for
//! durable; its checker reads them back as a program would after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Condvar, Mutex};
use std::thread;
use std::time::Duration;
use std::{env, process};

use io_uring::{IoUring, opcode, types};
use rustix::fs::{FallocateFlags, RenameFlags};

type Done = io::Result<()>;

/// Plays a role on the directory in the second argument.
pub(crate) fn play(role: &str) -> ExitCode {
    let dir = PathBuf::from(env::args().nth(2).unwrap_or_default());
    let done = match role {
        "publish" => publish(&dir, false, false),
        "publish-file-sync" => publish(&dir, true, false),
        "publish-synced" => publish(&dir, true, true),
        "publish-and-retry" => publish_and_retry(&dir),
        "map" => map(&dir, false),
        "map-synced" => map(&dir, true),
        "ring" => ring(&dir, false),
        "ring-synced" => ring(&dir, true),
        "group-commit" => group_commit(&dir, true),
        "group-commit-late" => group_commit(&dir, false),
        "everything" => everything(&dir),
        "dsync" => dsync(&dir),
        "gigabytes" => gigabytes(&dir),
        "sleep" => sleep(&dir),
        "fail" => File::create(dir.join("f")).and_then(|_| Err(io::Error::other("on purpose"))),
        "spawn" => spawn(&dir),
        "lookup" => lookup(&dir),
        "many" => many(&dir),
        "lines" => store(&dir, &LINES, false),
        "lines-synced" => store(&dir, &LINES, true),
        "pairs" => store(&dir, &PAIRS, false),
        "pairs-synced" => store(&dir, &PAIRS, true),
        "entries" => store(&dir, &ENTRIES, false),
        "entries-synced" => store(&dir, &ENTRIES, true),
        "check-publish" => check_publish(&dir),
        "check-map" => check_map(&dir),
        "check-slots" => check_slots(&dir),
        "check-dsync" => check_dsync(&dir),
        "check-many" => check_many(&dir),
        "check-and-meddle" => check_and_meddle(&dir),
        "recover-in-place" => recover(&dir, false),
        "recover-by-rename" => recover(&dir, true),
        "call" => call(&dir),
        "publish-without-rights" => rightless(&dir).and_then(|()| publish(&dir, true, true)),
        "check-without-rights" => rightless(&dir).and_then(|()| check_publish(&dir)),
        "serve-without-rights" => serve(|dir| rightless(dir).and_then(|()| check_publish(dir))),
        "check-lock-files" => lock_files(&dir),
        "odd-words" => super::words::write_odd(&dir),
        "check-odd-words" => super::words::check_odd(&dir),
        "check-nothing" => Ok(()),
        "check-hangs" => loop {
            thread::sleep(Duration::from_secs(1));
        },
        "check-dies" => process::abort(),
        "check-leaves-a-child" => spawn(&dir),
        "serve-publish" => serve(check_publish),
        "serve-twice" => serve(|dir| check_publish(dir).inspect(|()| println!("{{\"ok\": true}}"))),
        "serve-before" => {
            println!("{{\"ok\": true}}");
            serve(check_publish)
        }
        "serve-and-die" => serve(|dir| check_publish(dir).inspect_err(|_| process::abort())),
        _ => Err(io::Error::other(format!("no role {role}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Says to a socket what a tracer says, and prints what it hears.
fn call(socket: &Path) -> Done {
    let name = SocketAddr::from_abstract_name(socket.as_os_str().as_bytes())?;
    let mut to = UnixStream::connect_addr(&name)?;
    // Whoever hangs up at once may not even hear it.
    let _ = to.write_all(b"begins\n");
    let mut heard = String::new();
    let _ = io::BufReader::new(to).read_line(&mut heard);
    println!("{}", if heard.is_empty() { "nothing" } else { &heard });
    Ok(())
}

/// Fails if this program may do what only root may, or sees a process that is not its own.
fn rightless(dir: &Path) -> Done {
    let status = fs::read_to_string("/proc/self/status")?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let none = ["CapInh:", "CapPrm:", "CapEff:"].iter().all(|name| field(name) == "0000000000000000");
    let is_anybody = field("Uid:").split('\t').all(|uid| uid == "65534") && field("Groups:").is_empty();
    if !none || !is_anybody || field("NoNewPrivs:") != "1" {
        return Err(io::Error::other(format!("rights are left: {status}")));
    }
    let outer: u32 = env::var("OUTER_PID").ok().and_then(|pid| pid.parse().ok()).unwrap_or(u32::MAX);
    if Path::new(&format!("/proc/{outer}")).exists() || fs::read("/proc/1/environ").is_ok() {
        return Err(io::Error::other("others' processes are seen"));
    }
    if fs::write("/etc/crashcheck-was-here", "").is_ok() {
        return Err(io::Error::other("/etc can be written"));
    }
    File::create(dir.join("may-write")).and_then(|_| fs::remove_file(dir.join("may-write")))
}

/// Where a program may put what is for the moment.
pub(crate) const PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Takes a lock by a file in each such place that must not be there, and leaves it behind, as a program does that is
/// killed. What else is there it sees, and may change.
fn lock_files(dir: &Path) -> Done {
    let mark = env::var("MARK").map_err(io::Error::other)?;
    let named = env::var_os("TMPDIR").map(PathBuf::from);
    for place in PLACES.iter().map(PathBuf::from).chain(named) {
        let path = place.join(format!("{mark}-{}", process::id()));
        let taken = OpenOptions::new().write(true).create_new(true).open(&path);
        taken.map_err(|e| io::Error::other(format!("{} is taken: {e}", path.display())))?;
        fs::create_dir(place.join(format!("{mark}-dir-{}", process::id())))?;
    }
    let beside = dir.join("../beside");
    if fs::read_to_string(&beside)? != "as it was" {
        return fail("the file beside the directory was changed by another");
    }
    fs::write(beside, "changed")?;
    thread::sleep(Duration::from_millis(2));
    // A directory of states is still the one that was asked about.
    check_publish(dir)
}

fn ack(text: &str) {
    println!("durable-ack {text}");
}

/// The acknowledgements that a checker is told of.
fn acks() -> Vec<String> {
    let acks =
        fs::read_to_string(env::var_os("CRASHCHECK_ACKS").expect("a checker is told")).expect("a file");
    acks.lines().map(str::to_owned).collect()
}

fn fail(text: impl Into<String>) -> Done {
    Err(io::Error::other(text.into()))
}

fn sync_dir(dir: &Path) -> Done {
    File::open(dir)?.sync_all()
}

/// Three values, each written to a temporary file that is renamed over the last.
fn publish(dir: &Path, file: bool, name: bool) -> Done {
    for value in 1..=3 {
        let mut temporary = File::create(dir.join("conf.tmp"))?;
        temporary.write_all(format!("value {value}\n").as_bytes())?;
        if file {
            temporary.sync_all()?;
        }
        fs::rename(dir.join("conf.tmp"), dir.join("conf"))?;
        if name {
            sync_dir(dir)?;
        }
        ack(&value.to_string());
    }
    Ok(())
}

/// Operations, and what the store holds after each.
type Story = [(&'static str, &'static str); 3];
const LINES: Story = [("one", "one\n"), ("two", "one\ntwo\n"), ("three", "one\ntwo\nthree\n")];
const PAIRS: Story = [("set a 1", "a 1\n"), ("set b 2", "a 1\nb 2\n"), ("del a", "b 2\n")];
const ENTRIES: Story = [
    ("vote 1 me", "vote 1 me\n"),
    ("append 1 1 x", "vote 1 me\nentry 1 1 x\n"),
    ("append 2 1 y", "vote 1 me\nentry 1 1 x\nentry 2 1 y\n"),
];

/// A store that announces each operation and replaces its whole file.
fn store(dir: &Path, story: &Story, synced: bool) -> Done {
    for (operation, holds) in story {
        println!("durable-begin {operation}");
        let mut temporary = File::create(dir.join("store.tmp"))?;
        temporary.write_all(holds.as_bytes())?;
        temporary.sync_all()?;
        fs::rename(dir.join("store.tmp"), dir.join("store"))?;
        if synced {
            sync_dir(dir)?;
        }
        ack(operation);
    }
    Ok(())
}

/// The same, but a sync that failed is tried again until it succeeds.
fn publish_and_retry(dir: &Path) -> Done {
    for value in 1..=2 {
        let mut temporary = File::create(dir.join("conf.tmp"))?;
        temporary.write_all(format!("value {value}\n").as_bytes())?;
        while temporary.sync_all().is_err() {}
        fs::rename(dir.join("conf.tmp"), dir.join("conf"))?;
        while sync_dir(dir).is_err() {}
        ack(&value.to_string());
    }
    Ok(())
}

/// A checker whose recovery counts its openings in a file: in place, where a crash leaves it empty, or by
/// a synced file that is renamed over the last.
fn recover(dir: &Path, by_rename: bool) -> Done {
    check_publish(dir)?;
    let path = dir.join("openings");
    let before = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().map_err(|_| io::Error::other("openings holds no number"))?,
        Err(_) => 0,
    };
    let mut file = File::create(if by_rename { dir.join("openings.tmp") } else { path.clone() })?;
    writeln!(file, "{}", before + 1)?;
    file.sync_all()?;
    if by_rename {
        fs::rename(dir.join("openings.tmp"), path)?;
    }
    sync_dir(dir)
}

fn check_publish(dir: &Path) -> Done {
    let acked = acks().len();
    let text = match fs::read_to_string(dir.join("conf")) {
        Ok(text) => text,
        Err(_) if acked == 0 => return Ok(()),
        Err(e) => return fail(format!("acknowledged {acked}: {e}")),
    };
    let value: usize = match text.strip_prefix("value ").and_then(|value| value.trim_end().parse().ok()) {
        Some(value) => value,
        None => return fail(format!("conf holds {text:?}")),
    };
    if value < acked { fail(format!("acknowledged {acked}, conf has {value}")) } else { Ok(()) }
}

/// A value in the second page, then a header in the first that says it is there; through a mapping alone.
fn map(dir: &Path, synced: bool) -> Done {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(dir.join("m"))?;
    file.set_len(8192)?;
    file.sync_all()?;
    sync_dir(dir)?;
    #[expect(unsafe_code, reason = "a program that writes through a mapping has to map")]
    // SAFETY: nobody else has the file.
    let mut mapped = unsafe { memmap2::MmapMut::map_mut(&file)? };
    mapped[4096..4101].copy_from_slice(b"value");
    if synced {
        mapped.flush_range(4096, 4096)?;
    }
    mapped[..5].copy_from_slice(b"there");
    mapped.flush()?;
    ack("there");
    Ok(())
}

/// The same by the calls of an io_uring.
fn ring(dir: &Path, synced: bool) -> Done {
    let file = OpenOptions::new().write(true).create_new(true).open(dir.join("m"))?;
    file.set_len(8192)?;
    file.sync_all()?;
    sync_dir(dir)?;
    let fd = types::Fd(file.as_raw_fd());
    let write = |bytes: &'static [u8], offset| {
        opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(offset).build()
    };
    let mut ring = IoUring::new(4)?;
    let mut call = |entry| {
        #[expect(unsafe_code, reason = "what a ring is given must outlive the call")]
        // SAFETY: the bytes are static, and the file is open until the call is done.
        unsafe { ring.submission().push(&entry) }.expect("there is room for one");
        ring.submit_and_wait(1)?;
        let done = ring.completion().next().expect("one was waited for").result();
        if done < 0 { Err(io::Error::from_raw_os_error(-done)) } else { Ok(()) }
    };
    call(write(b"value", 4096))?;
    if synced {
        call(opcode::Fsync::new(fd).build())?;
    }
    call(write(b"there", 0))?;
    call(opcode::Fsync::new(fd).build())?;
    ack("there");
    Ok(())
}

fn check_map(dir: &Path) -> Done {
    let Ok(bytes) = fs::read(dir.join("m")) else {
        return if acks().is_empty() { Ok(()) } else { fail("m is missing") };
    };
    let starts = |at: usize, text: &[u8]| bytes.get(at..).is_some_and(|bytes| bytes.starts_with(text));
    match (starts(0, b"there"), starts(4096, b"value")) {
        (true, false) => fail("the header is there and the value is not"),
        (false, _) if !acks().is_empty() => fail("acknowledged, and there is no header"),
        _ => Ok(()),
    }
}

/// Two threads write slots of one file; one of them syncs for both. What the other one wrote is covered by
/// the next sync that *begins* afterwards; `right` waits for that, else the next that ends will do.
fn group_commit(dir: &Path, right: bool) -> Done {
    const SLOTS: u64 = 40;
    let file = OpenOptions::new().write(true).create_new(true).open(dir.join("slots"))?;
    file.set_len(2 * SLOTS * 512)?;
    file.sync_all()?;
    sync_dir(dir)?;
    let (begun, ended) = (AtomicU64::new(0), (Mutex::new(0u64), Condvar::new()));
    let too_late = Barrier::new(2);
    let write = |slot: u64| file.write_all_at(format!("slot {slot}").as_bytes(), slot * 512);
    // What is wrong is pinned: the write comes between the end of a sync and the word that it ended.
    let late = || (!right).then(|| too_late.wait());
    thread::scope(|scope| {
        let leader = scope.spawn(|| {
            for i in 0..SLOTS {
                write(2 * i)?;
                begun.fetch_add(1, Ordering::SeqCst);
                file.sync_data()?;
                late();
                late();
                *ended.0.lock().expect("no panic") += 1;
                ended.1.notify_all();
                ack(&(2 * i).to_string());
            }
            *ended.0.lock().expect("no panic") = u64::MAX;
            ended.1.notify_all();
            io::Result::Ok(())
        });
        for i in 0..SLOTS {
            late();
            write(2 * i + 1)?;
            let wanted = if right {
                begun.load(Ordering::SeqCst) + 1
            } else {
                ended.0.lock().expect("no panic").saturating_add(1)
            };
            late();
            let mut done = ended.0.lock().expect("no panic");
            while *done < wanted {
                done = ended.1.wait(done).expect("no panic");
            }
            if *done == u64::MAX {
                break;
            }
            drop(done);
            ack(&(2 * i + 1).to_string());
        }
        leader.join().expect("no panic")
    })
}

fn check_slots(dir: &Path) -> Done {
    let bytes = fs::read(dir.join("slots")).unwrap_or_default();
    for ack in acks() {
        let slot: usize = ack.parse().map_err(io::Error::other)?;
        let text = format!("slot {slot}");
        if bytes.get(slot * 512..).is_none_or(|bytes| !bytes.starts_with(text.as_bytes())) {
            return fail(format!("acknowledged slot {slot} is not there"));
        }
    }
    Ok(())
}

/// Everything that a tree can go through.
fn everything(dir: &Path) -> Done {
    let at = |path: &str| dir.join(path);
    fs::write(at("f"), [b'x'; 10_000])?;
    fs::hard_link(at("f"), at("hard"))?;
    symlink("f", at("soft"))?;
    fs::create_dir_all(at("a/b/c"))?;
    fs::write(at("a/b/c/deep"), "deep")?;
    fs::rename(at("a/b"), at("b"))?;
    fs::write(at("b/c/deep"), "deeper")?;
    fs::write(at("g"), "g")?;
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, at("f"), cwd, at("g"), RenameFlags::EXCHANGE)?;
    rustix::fs::renameat_with(cwd, at("g"), cwd, at("g2"), RenameFlags::NOREPLACE)?;
    assert!(rustix::fs::renameat_with(cwd, at("f"), cwd, at("g2"), RenameFlags::NOREPLACE).is_err());
    // An inode without a name lives while it is open; one that takes its number is another file.
    let unlinked = OpenOptions::new().read(true).write(true).create_new(true).open(at("gone"))?;
    unlinked.write_all_at(b"alive", 0)?;
    fs::remove_file(at("gone"))?;
    unlinked.write_all_at(b"still", 5)?;
    unlinked.sync_all()?;
    drop(unlinked);
    for i in 0..20 {
        fs::write(at("again"), format!("{i}"))?;
        fs::remove_file(at("again"))?;
    }
    fs::write(at("again"), "last")?;
    let file = OpenOptions::new().read(true).write(true).open(at("g2"))?;
    rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 512, 5000)?;
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 30_000)?;
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 90_000)?;
    file.set_len(20_000)?;
    file.set_len(25_000)?;
    let copy = OpenOptions::new().write(true).create_new(true).open(at("copy"))?;
    assert_eq!(rustix::fs::copy_file_range(&file, None, &copy, None, 7000)?, 7000);
    let mut append = OpenOptions::new().append(true).open(at("again"))?;
    append.write_all(b" and more")?;
    append.write_all(b" and more")?;
    drop(OpenOptions::new().write(true).truncate(true).open(at("soft"))?);
    fs::remove_file(at("hard"))?;
    fs::create_dir(at("empty"))?;
    fs::remove_dir(at("empty"))?;
    fs::rename(at("b/c"), at("a/c"))?;
    fs::remove_file(at("a/c/deep"))?;
    fs::write(at("\u{e9} name"), "utf-8")?;
    fs::write(dir.join(<std::ffi::OsStr as FromBytesName>::from_bytes_name(b"odd\xff")), "not utf-8")?;
    let locked = File::open(at("copy"))?;
    locked.try_lock()?;
    assert!(File::open(at("copy"))?.try_lock().is_err(), "a lock holds");
    assert_eq!(fs::read(at("copy"))?.len(), 7000);
    Ok(())
}

/// A name of any bytes.
trait FromBytesName {
    fn from_bytes_name(bytes: &[u8]) -> &Self;
}

impl FromBytesName for std::ffi::OsStr {
    fn from_bytes_name(bytes: &[u8]) -> &Self {
        std::os::unix::ffi::OsStrExt::from_bytes(bytes)
    }
}

/// Records of 16 bytes through a descriptor that syncs each write.
fn dsync(dir: &Path) -> Done {
    let flags = rustix::fs::OFlags::DSYNC.bits().cast_signed();
    let mut file = OpenOptions::new().append(true).create(true).custom_flags(flags).open(dir.join("log"))?;
    sync_dir(dir)?;
    for i in 0..8 {
        file.write_all(format!("record {i:8}\n").as_bytes())?;
        ack(&i.to_string());
    }
    Ok(())
}

fn check_dsync(dir: &Path) -> Done {
    let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
    let whole = (0..).take_while(|i| text.contains(&format!("record {i:8}\n"))).count();
    if whole < acks().len() { fail(format!("acknowledged {}, has {whole}", acks().len())) } else { Ok(()) }
}

fn gigabytes(dir: &Path) -> Done {
    let mut file = File::create(dir.join("big"))?;
    let block = vec![7; 1 << 20];
    (0..1 << 12).try_for_each(|_| file.write_all(&block))
}

fn sleep(dir: &Path) -> Done {
    fs::write(dir.join("started"), "")?;
    thread::sleep(Duration::from_secs(600));
    Ok(())
}

/// Leaves a child behind that would write for ever.
fn spawn(dir: &Path) -> Done {
    process::Command::new(env::current_exe()?).arg("sleep").arg(dir).spawn().map(drop)
}

fn lookup(dir: &Path) -> Done {
    fs::write(dir.join("f"), "1")?;
    assert!(fs::metadata(dir.join(".crashcheck/ack/one")).is_err());
    fs::write(dir.join("f"), "22")?;
    assert!(!dir.join(".crashcheck/ack/two words").exists());
    assert!(!dir.join(".crashcheck/ack/two words").exists());
    assert_eq!(fs::read_dir(dir)?.count(), 1, "the way in is not listed");
    Ok(())
}

/// A few hundred operations on many files.
fn many(dir: &Path) -> Done {
    for i in 0..60 {
        let path = dir.join(format!("file-{}", i % 20));
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(&vec![b'a' + (i % 26) as u8; 900])?;
        if i % 3 == 0 {
            file.sync_all()?;
        }
        if i % 7 == 0 {
            sync_dir(dir)?;
        }
    }
    Ok(())
}

fn check_many(dir: &Path) -> Done {
    for entry in fs::read_dir(dir)? {
        fs::read(entry?.path())?;
    }
    Ok(())
}

/// A checker that changes whatever it finds, as recoveries do, and objects to what another state left.
fn check_and_meddle(dir: &Path) -> Done {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for (i, entry) in entries.iter().enumerate() {
        let bytes = fs::read(entry.path())?;
        if !entry.file_name().to_string_lossy().starts_with("file-") || bytes.contains(&b'!') {
            return fail("something is left of another state");
        }
        let file = OpenOptions::new().read(true).write(true).open(entry.path())?;
        match i % 5 {
            0 => file.write_all_at(b"!", 0)?,
            1 => file.set_len(1)?,
            2 => fs::remove_file(entry.path())?,
            3 if !bytes.is_empty() => {
                #[expect(unsafe_code, reason = "a store into a mapping changes no time of the file")]
                // SAFETY: nobody else has the file.
                let mut mapped = unsafe { memmap2::MmapMut::map_mut(&file)? };
                mapped[0] = b'!';
            }
            _ => fs::rename(entry.path(), dir.join("moved"))?,
        }
    }
    fs::create_dir(dir.join("new"))?;
    fs::write(dir.join("new/file"), "!")
}

/// A checker that is started once.
fn serve(check: impl Fn(&Path) -> Done) -> Done {
    for line in io::stdin().lock().lines() {
        let asked: serde_json::Value = serde_json::from_str(&line?)?;
        let dir = PathBuf::from(asked["dir"].as_str().unwrap_or_default());
        let told = asked["acks"].as_array().map_or(0, Vec::len);
        assert_eq!(told, acks().len(), "the line and the file say the same");
        let done = check(&dir);
        let reason = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
        println!("{}", serde_json::json!({ "ok": done.is_ok(), "reason": reason }));
    }
    Ok(())
}
