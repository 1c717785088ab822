//! The layering and the style of the whole workspace, as tables and one check.
//!
//! I own the tables: which module may use which, which words may stand where, how long a file and a
//! function may be. I read source text, comments left out, and know no Rust beyond what rustfmt
//! guarantees. I skip myself, because my tables hold every word that they forbid.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the engine a module may name. A module that is not here fails.
const LAYERS: &[(&str, &[&str])] = &[
    // Leaves.
    ("types", &[]),
    ("checksum", &[]),
    ("planted", &[]),
    ("report", &["types"]),
    // Carries the fault of a snapshot's file as a value.
    ("error", &["report", "snapshot", "types", "vfs"]),
    ("options", &["error", "space", "types"]),
    // The only place that touches files.
    ("vfs", &["planted"]),
    // Pure: no file, no error of the outside.
    ("record", &["checksum", "types"]),
    ("by_group", &["types"]),
    ("sync", &[]),
    ("state", &["by_group", "record", "types"]),
    // Bounds of the formats below, without a file.
    ("space", &["frame", "segment", "state"]),
    // Formats and readers: `vfs` for reading and for the planted switch.
    ("frame", &["checksum", "planted", "record", "types", "vfs"]),
    ("segment", &["checksum", "frame", "planted", "record", "types", "vfs"]),
    ("scan", &["frame", "planted", "record", "segment", "state", "types", "vfs"]),
    ("index", &["by_group", "record", "report", "segment", "state", "types"]),
    ("snapshot", &["planted", "sync", "types", "vfs"]),
    ("highwater", &["checksum", "error", "planted", "sync", "types", "vfs"]),
    ("evidence", &["checksum", "error", "planted", "sync", "types", "vfs"]),
    ("quarantine", &["error", "vfs"]),
    // The only ones that change segments.
    (
        "log",
        &[
            "by_group",
            "checksum",
            "error",
            "evidence",
            "frame",
            "highwater",
            "index",
            "options",
            "planted",
            "quarantine",
            "record",
            "scan",
            "segment",
            "space",
            "state",
            "sync",
            "types",
            "vfs",
        ],
    ),
    ("identity", &["checksum", "error", "log", "options", "planted", "segment", "types", "vfs"]),
    (
        "facts",
        &[
            "checksum",
            "error",
            "evidence",
            "highwater",
            "identity",
            "log",
            "planted",
            "quarantine",
            "scan",
            "segment",
            "state",
            "types",
            "vfs",
        ],
    ),
    (
        "recovery",
        &[
            "checksum",
            "error",
            "evidence",
            "facts",
            "frame",
            "highwater",
            "index",
            "log",
            "options",
            "planted",
            "quarantine",
            "record",
            "report",
            "scan",
            "segment",
            "snapshot",
            "state",
            "types",
            "vfs",
        ],
    ),
    (
        "create",
        &[
            "by_group",
            "error",
            "evidence",
            "facts",
            "highwater",
            "identity",
            "index",
            "log",
            "options",
            "planted",
            "segment",
            "state",
            "types",
            "vfs",
        ],
    ),
    // What a host calls: submission checks without a file, the committer, reads, and the handle.
    ("status", &["report", "types"]),
    ("submit", &["by_group", "error", "planted", "record", "space", "state", "types", "vfs"]),
    (
        "commit",
        &[
            "by_group",
            "error",
            "evidence",
            "frame",
            "highwater",
            "log",
            "options",
            "planted",
            "record",
            "report",
            "segment",
            "snapshot",
            "space",
            "state",
            "submit",
            "sync",
            "types",
            "vfs",
        ],
    ),
    (
        "engine",
        &[
            "commit",
            "create",
            "error",
            "evidence",
            "facts",
            "frame",
            "identity",
            "index",
            "log",
            "options",
            "planted",
            "quarantine",
            "record",
            "recovery",
            "report",
            "segment",
            "snapshot",
            "space",
            "state",
            "status",
            "submit",
            "sync",
            "types",
            "vfs",
        ],
    ),
    // Looking: the same facts and decisions as an open, and no writer.
    (
        "inspect",
        &[
            "checksum", "error", "evidence", "facts", "frame", "identity", "index", "log", "record",
            "recovery", "report", "scan", "segment", "snapshot", "state", "status", "types", "vfs",
        ],
    ),
    // Fuzzers come in from above.
    (
        "hostile",
        &[
            "engine", "error", "facts", "frame", "identity", "inspect", "log", "options", "record", "state",
            "types", "vfs",
        ],
    ),
];

/// Words that may stand only in some places.
struct Rule {
    name: &'static str,
    words: &'static [&'static str],
    /// Paths, from the workspace, that the rule looks at.
    within: &'static [&'static str],
    /// Paths where the words may stand.
    except: &'static [&'static str],
    /// Whether comments and tests inside a source file count too.
    everywhere: bool,
}

const RULES: &[Rule] = &[
    Rule {
        name: "only vfs/os.rs touches std::fs",
        words: &["std::fs", "fs2::", "File::open("],
        within: &["engine/src"],
        except: &["engine/src/vfs/os.rs"],
        everywhere: false,
    },
    Rule {
        name: "only vfs/os.rs is unsafe, an allocator that counts, a test that forks, recorded programs that use a mapping or a ring, a ring that is measured, and a peer's open",
        words: &["unsafe {", "unsafe fn", "unsafe impl", "#[unsafe("],
        within: &["engine", "crashcheck", "tools", "bench", "fuzz"],
        except: &[
            "engine/src/vfs/os.rs",
            "engine/tests/claims.rs",
            "engine/tests/forked.rs",
            "crashcheck/tests/program/roles.rs",
            "bench/peers/src/more/heed.rs",
            "bench/src/ring.rs",
        ],
        everywhere: true,
    },
    Rule {
        name: "readers never write: only create, recovery, log, identity, highwater, evidence, quarantine and snapshot change files",
        words: &["write_all_at", ".write_at(", ".set_len(", "vfs.remove(", "vfs.rename(", "vfs.create("],
        within: &["engine/src"],
        except: &[
            "engine/src/vfs",
            "engine/src/create",
            "engine/src/log",
            "engine/src/recovery",
            "engine/src/identity",
            "engine/src/highwater",
            "engine/src/evidence",
            "engine/src/quarantine",
            "engine/src/snapshot",
        ],
        everywhere: false,
    },
    Rule {
        name: "no clock decides anything",
        words: &["Instant::now", "SystemTime"],
        within: &["engine/src", "crashcheck/src/core"],
        // `write_timeout` waits, syncs are measured, the pool has a budget; no file and no decision about
        // one depends on it.
        except: &["engine/src/engine.rs", "engine/src/commit.rs", "crashcheck/src/core/pool.rs"],
        everywhere: false,
    },
    Rule {
        name: "no hash order in logic",
        words: &["HashMap<", "HashSet<", "HashMap::", "HashSet::"],
        within: &["engine/src"],
        // It shows its contents by the groups' numbers alone.
        except: &["engine/src/by_group.rs"],
        everywhere: false,
    },
    Rule {
        name: "the core of the checker, and what serves any program, do not know the engine",
        words: &["seawall"],
        within: &["crashcheck/src/core", "crashcheck/src/program"],
        except: &[],
        everywhere: false,
    },
    Rule {
        name: "a planted bug is switched on by the checker's wrapper alone",
        words: &["fn planted("],
        within: &["engine", "crashcheck", "tools", "bench", "fuzz"],
        except: &[
            "engine/src/vfs.rs",
            "crashcheck/src/engine/planted.rs",
            "engine/src/snapshot/tests/bugs.rs",
        ],
        everywhere: true,
    },
    Rule {
        name: "nothing is left for later, and no lint is silenced without a reason",
        words: &["TODO", "FIXME", "#[allow(", "#![allow(", "todo!(", "unimplemented!("],
        within: &["engine", "crashcheck", "tools", "bench", "fuzz"],
        except: &[],
        everywhere: true,
    },
];

const FILE_LINES: usize = 700;
/// A file of tests is a list, which is read a case at a time.
const TEST_FILE_LINES: usize = 900;
const FUNCTION_LINES: usize = 80;
/// What may stand before `fn`.
const MODIFIERS: &[&str] = &["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"];

/// A source file: its path from the workspace, its text, and its code without comments and tests.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code: code.join("\n") }
    }

    /// The module of the engine that the file belongs to, if it does.
    fn module(&self) -> Option<&str> {
        let name = self.path.strip_prefix("engine/src/")?.strip_suffix(".rs")?;
        Some(name.split('/').next().unwrap_or(name))
    }
}

fn is_within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    })
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut paths: Vec<PathBuf> = Vec::new();
    for package in ["engine", "crashcheck", "tools", "bench", "fuzz"] {
        collect(&root.join(package), &mut paths);
    }
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).expect("within the workspace").to_str().expect("UTF-8");
            Source::new(name, &fs::read_to_string(path).expect("a readable source"))
        })
        .filter(|source| source.path != "engine/tests/style.rs")
        .collect();
    assert!(sources.len() > 20, "the walk found the workspace");
    sources
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// Fails with every line that breaks a rule.
#[track_caller]
fn check(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// The lines with a word that may not stand there.
fn words(rule: &Rule, source: &Source) -> Vec<String> {
    if !is_within(&source.path, rule.within) || is_within(&source.path, rule.except) {
        return Vec::new();
    }
    let text = if rule.everywhere { &source.text } else { &source.code };
    text.lines()
        .filter(|line| rule.words.iter().any(|word| line.contains(word)))
        .map(|line| format!("{}: {}", source.path, line.trim()))
        .collect()
}

/// The modules that the code names after `crate::`, in braces too.
fn edges(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let name = name.trim_start();
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                found.push(&name[..end]);
            }
        }
    }
    found
}

/// The edges that the table does not allow.
fn layering(source: &Source) -> Vec<String> {
    let Some(module) = source.module().filter(|module| *module != "lib") else { return Vec::new() };
    let table: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let Some(allowed) = table.get(module) else {
        return vec![format!("{}: module {module} is not in the table", source.path)];
    };
    edges(&source.code)
        .into_iter()
        .filter(|used| *used != module && !allowed.contains(used))
        .map(|used| format!("{}: {module} may not use {used}", source.path))
        .collect()
}

/// The functions over the limit: from the line of `fn` to the brace at the same indentation.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let before = line.split_whitespace().take_while(|word| *word != "fn").collect::<Vec<_>>();
        let is_function = line.contains("fn ") && before.iter().all(|word| MODIFIERS.contains(word));
        if !is_function {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == close).map_or(1, |n| n + 1);
        if length > FUNCTION_LINES {
            long.push(format!("{}:{}: {length} lines", source.path, start + 1));
        }
    }
    long
}

#[test]
fn modules_use_what_is_below_them() {
    let faults: Vec<String> = sources().iter().flat_map(layering).collect();
    check("the layering", &faults);
}

#[test]
fn words_stand_where_they_may() {
    let sources = sources();
    for rule in RULES {
        let faults: Vec<String> = sources.iter().flat_map(|source| words(rule, source)).collect();
        check(rule.name, &faults);
    }
}

#[test]
fn the_oracle_knows_plain_types_only() {
    let sources = sources();
    let oracle = sources.iter().find(|source| source.path == "crashcheck/src/engine/oracle.rs");
    let oracle = oracle.expect("the oracle has a file of its own");
    let uses: Vec<&str> = oracle.code.split("seawall::").skip(1).collect();
    assert!(!uses.is_empty(), "the oracle uses the engine's types");
    let faults: Vec<String> = uses
        .iter()
        .filter(|rest| !rest.starts_with("types"))
        .map(|rest| format!("seawall::{}", rest.lines().next().unwrap_or_default()))
        .collect();
    check("the oracle imports the engine's plain types and nothing else", &faults);
}

#[test]
fn every_file_says_what_it_owns() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path.clone())
        .collect();
    check("a file begins with a header", &faults);
}

#[test]
fn files_and_functions_are_short() {
    let sources = sources();
    let files: Vec<String> = sources
        .iter()
        .map(|source| (source, source.text.lines().count()))
        .filter(|(source, lines)| {
            *lines > if source.path.contains("/tests/") { TEST_FILE_LINES } else { FILE_LINES }
        })
        .map(|(source, lines)| format!("{}: {lines} lines", source.path))
        .collect();
    check("a file has at most 700 lines, one of tests 900", &files);
    let long: Vec<String> = sources.iter().flat_map(long_functions).collect();
    println!("functions over {FUNCTION_LINES} lines: {}, allowed: none", long.len());
    assert!(long.is_empty(), "split these:\n  {}", long.join("\n  "));
}

#[test]
fn the_checks_can_fail() {
    for rule in RULES {
        let place = rule.within[0];
        for word in rule.words {
            let source = Source::new(&format!("{place}/x.rs"), &format!("fn f() {{ {word} }}\n"));
            assert_eq!(words(rule, &source).len(), 1, "{}: {word}", rule.name);
        }
    }
    let source = Source::new("engine/src/state.rs", "use crate::vfs::Vfs;\nuse crate::{types::Term, log};\n");
    assert_eq!(layering(&source).len(), 2, "state may use neither vfs nor log");
    assert_eq!(layering(&Source::new("engine/src/new.rs", "")).len(), 1, "an unknown module");
    let body = "    step();\n".repeat(FUNCTION_LINES);
    let source = Source::new("engine/src/x.rs", &format!("pub(crate) fn f<T>(t: T) {{\n{body}}}\n"));
    assert_eq!(long_functions(&source).len(), 1, "a function of 82 lines");
    let source =
        Source::new("engine/src/x.rs", "// crate::vfs\n#[cfg(test)]\nmod tests { use crate::vfs; }\n");
    assert_eq!(edges(&source.code), Vec::<&str>::new(), "comments and tests are not edges");
}
