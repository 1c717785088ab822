//! Words from outside that a terminal would obey, a report could not hold, or a line would be forged with.
//!
//! I own a program and a checker that use them wherever they can, and the case that looks at all that is printed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;

use super::tool::{Bench, Ran, me};

/// Names with controls, a line of their own, a turned direction, and bytes that are no text.
const DIR: &[u8] = b"d\x1b[31m\xe2\x80\xaed";
const OLD: &[u8] = b"a\x1b[31m\nFAIL: forged\x7f\xc2\x85<&\"'\xff";
const NEW: &[u8] = b"b\t\r\x1b]0;title\x07\xef\xbf\xbe\xe2\x80\xa8";
const TRACE: &[u8] = b"run\x1b[31m\xff.trace";
/// What the program says.
const ACK: &str = "one\x1b[2J\u{202e}\0\u{9b}31m\u{feff}";

/// What the checker says, in its last line.
const SAYS: &[u8] = b"lost\0\x1b[31m \xe2\x80\xae<&> ]]> \xef\xbf\xbe\xef\xbf\xbf\x7f\\ \xff";

/// A thread with such a name makes such files.
pub(crate) fn write_odd(dir: &Path) -> io::Result<()> {
    let dir = dir.join(OsStr::from_bytes(DIR));
    let work = move || -> io::Result<()> {
        fs::create_dir(&dir)?;
        File::open(dir.parent().expect("it has one"))?.sync_all()?;
        let (old, new) = (dir.join(OsStr::from_bytes(OLD)), dir.join(OsStr::from_bytes(NEW)));
        File::create(&old)?.write_all(b"new")?;
        fs::rename(&old, &new)?;
        std::os::unix::fs::symlink(OsStr::from_bytes(OLD), dir.join("link"))?;
        println!("durable-begin {ACK}");
        println!("durable-ack {ACK}");
        io::stdout().flush()
    };
    thread::Builder::new().name("\x1b[31mevil".to_owned()).spawn(work)?.join().expect("it does not panic")
}

/// Asks for what was acknowledged.
pub(crate) fn check_odd(dir: &Path) -> io::Result<()> {
    let acks = fs::read_to_string(std::env::var_os("CRASHCHECK_ACKS").unwrap_or_default())?;
    assert!(acks.is_empty() || acks == format!("{ACK}\n"), "{acks:?}");
    let file = dir.join(OsStr::from_bytes(DIR)).join(OsStr::from_bytes(NEW));
    let read = fs::read(&file).unwrap_or_default();
    if !acks.is_empty() && read != b"new" || file.exists() && read.is_empty() {
        io::stderr().write_all(SAYS)?;
        std::process::exit(1);
    }
    Ok(())
}

/// Fails at a character that a terminal obeys: a control that is no new line, or one that has no width of its own.
#[track_caller]
fn harmless(what: &str, bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
    let is_obeyed = |c: char| {
        c.is_control() && c != '\n'
            || matches!(u32::from(c), 0xad | 0x61c | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff)
            || matches!(u32::from(c), 0xe000..=0xf8ff | 0xfff9..=0xfffb | 0xfffe | 0xffff)
    };
    let at = text.char_indices().find(|(_, c)| is_obeyed(*c));
    assert!(at.is_none(), "{what}: {at:?} of {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FAIL: forged")), "{what}: {text}");
}

/// Runs the command, and looks at both streams.
fn run(bench: &Bench, arguments: &[&OsStr]) -> Ran {
    let output = bench.command(&[]).args(arguments).output().unwrap();
    harmless("standard output", &output.stdout);
    harmless("standard error", &output.stderr);
    output.into()
}

fn words<'w>(words: &[&'w str]) -> Vec<&'w OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

pub(crate) fn odd_words() {
    let bench = Bench::new();
    let (me, trace) = (me(), OsStr::from_bytes(TRACE));
    let check = format!("{me} check-odd-words data");
    let command = words(&["--", &me, "odd-words", "data", "\x1b[31m\n\u{202e}"]);
    for json in [words(&[]), words(&["--json"])] {
        let _ = fs::remove_dir_all(bench.data());
        fs::create_dir(bench.data()).unwrap();
        let head = words(&["record", "--quiet", "--dir", "data", "-o"]);
        let ran = run(&bench, &[&head[..], &[trace], &json, &command].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    let ran = run(&bench, &[OsStr::new("show"), trace]);
    assert!(
        ran.out.contains(
            "the rename of d\\x1b[31m\\u{202e}d/a\\x1b[31m\\nFAIL: forged\\x7f\\u{85}<&\"'\\xff to "
        )
    );
    assert!(ran.out.contains("ack one\\x1b[2J\\u{202e}\\x00\\u{9b}31m\\u{feff}"), "{}", ran.out);
    let explore = [&[OsStr::new("explore"), trace][..], &words(&["--check", &check])].concat();
    let reports =
        words(&["--html", "page.html", "--junit", "junit.xml", "--ratchet", "known\x1b.json", "--json"]);
    let ran = run(&bench, &[&explore[..], &reports].concat());
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains(": lost\\x00\\x1b[31m \\u{202e}<&> ]]> \\u{fffe}\\u{ffff}\\x7f\\\\ \u{fffd}\n"),
        "{}",
        ran.out
    );
    let class = &ran.json()["classes"][0];
    assert_eq!(
        class["symptom"].as_str(),
        Some(&*String::from_utf8_lossy(SAYS)),
        "JSON has the words themselves"
    );
    let read = |name: &str| fs::read(bench.home.path().join(name)).unwrap();
    for name in ["page.html", "junit.xml", "known\x1b.json"] {
        harmless(name, &read(name));
    }
    let junit = String::from_utf8(read("junit.xml")).unwrap();
    // What makes it well-formed with any text is tested where texts are escaped.
    assert!(junit.contains("<failure "), "{junit}");
    // The second time, all of it is known.
    assert_eq!(run(&bench, &[&explore[..], &reports].concat()).code, 0);
    shown_again(&bench, class["id"].as_str().unwrap(), trace, &String::from_utf8(read("page.html")).unwrap());
    let head = [&[OsStr::new("mutate-syncs"), trace][..], &words(&["--check", &check, "--json"])].concat();
    run(&bench, &head);
    let _ = fs::remove_dir_all(bench.data());
    fs::create_dir(bench.data()).unwrap();
    let head = words(&["fault", "--dir", "data", "--call", "rename", "--error", "EIO", "--check", &check]);
    run(&bench, &[&head[..], &command].concat());
    let ran = run(&bench, &words(&["explore", "no\x1b[31m\nFAIL: forged", "--check", "true"]));
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(run(&bench, &words(&["explore", "--\x1b[31m\u{202e}", "--check", "true"])).code, 2);
}

/// The page's command lays the state out, as a shell takes it.
fn shown_again(bench: &Bench, id: &str, trace: &OsStr, page: &str) {
    let ran =
        run(bench, &[&words(&["replay", id])[..], &[trace], &words(&["--into", "laid\x1b[31m"])].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let line = format!("crashcheck replay {id} $'run\\033[31m\\377.trace' --into state");
    assert!(page.contains(&line), "{line} is not in {page}");
}
