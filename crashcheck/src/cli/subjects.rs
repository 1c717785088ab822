//! The command `subjects`: the table of known libraries.
//!
//! I own its arguments, what is printed, and the exit code. All packages are provided before the first
//! subject is recorded, so that a missing one is seen at once and no time of a row is an installation's.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{Exit, bar, complain, print, print_json};
use crate::escape;
use crate::program::report::Verdict;
use crate::program::rights::Rights;
use crate::subjects::provide::Places;
use crate::subjects::reach;
use crate::subjects::run::{self, How};
use crate::subjects::table::{self, Row, Subject};

/// What stands under `subjects --help`.
pub(super) const HELP: &str = "\
Each subject is a workload on a storage library and a checker that asks for what the library's documentation \
promises. Packages are installed in fixed versions from npm, PyPI and crates.io into the cache.

Exit codes: 0 every verdict is the expected one; 1 one is the other; 2 usage; 3 the harness is broken; 4 \
something was not measured: an interpreter or a package is missing, or the time was too short.";

/// Where the subjects are in this project.
const SUBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects");
/// Where what they need goes.
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/subjects");

/// Whose rights subjects have that root starts.
const NOBODY: &str = "nobody";

#[derive(Args, Debug)]
pub(super) struct SubjectsArgs {
    /// Only this subject; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many seconds the states of one subject are tried, at most
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Run them as this user; nobody, unless this is not root
    #[arg(long, value_name = "NAME", value_parser = Rights::of)]
    user: Option<Rights>,
    /// Run them with the rights of who starts this, as root too
    #[arg(long, conflicts_with = "user")]
    own_rights: bool,
    /// The directory with subjects.json, the workloads and the checkers
    #[arg(long, value_name = "DIR", default_value = SUBJECTS)]
    from: PathBuf,
    /// Where packages, programs and recordings are kept
    #[arg(long, value_name = "DIR", default_value = CACHE)]
    cache: PathBuf,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
}

/// Prints the table.
pub(super) fn subjects(args: &SubjectsArgs) -> anyhow::Result<Exit> {
    let file = args.from.join("subjects.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut subjects = table::manifest(&text).with_context(|| file.display().to_string())?;
    if let Some(unknown) = args.only.iter().find(|name| subjects.iter().all(|s| s.name != **name)) {
        let names: Vec<&str> = subjects.iter().map(|subject| subject.name.as_str()).collect();
        let known = names.join(", ");
        complain(&escape::word(&format!("there is no subject {unknown}; there are {known}")))?;
        return Ok(Exit::Usage);
    }
    subjects.retain(|subject| args.only.is_empty() || args.only.contains(&subject.name));
    let rows = measure(&subjects, args)?;
    print(&table::text(&rows))?;
    print_json(args.json, &table::machine(&rows))?;
    Ok(match table::verdict(&rows) {
        Verdict::Pass => Exit::Pass,
        Verdict::Fail => Exit::Finding,
        Verdict::HarnessBroken => Exit::HarnessBroken,
        Verdict::NotMeasured => Exit::NotMeasured,
    })
}

fn measure(subjects: &[Subject], args: &SubjectsArgs) -> anyhow::Result<Vec<Row>> {
    std::fs::create_dir_all(&args.cache).with_context(|| args.cache.display().to_string())?;
    let places = Places { subjects: args.from.canonicalize()?, cache: args.cache.canonicalize()? };
    let bar = bar(2 * subjects.len() as u64);
    let mut provided = Vec::new();
    for subject in subjects {
        bar.set_message(format!("providing {}", escape::word(&subject.name)));
        provided.push(run::ready(subject, &places));
        bar.inc(1);
    }
    let user = if args.own_rights || args.user.is_some() || !nix::unistd::geteuid().is_root() {
        args.user
    } else {
        Some(Rights::of(NOBODY).context("--user names another")?)
    };
    if let Some(user) = user {
        let program = std::env::current_exe()?;
        let mut needed: Vec<PathBuf> = program.parent().map(Path::to_owned).into_iter().collect();
        needed.extend(provided.iter().flatten().flat_map(|ready| ready.needed().to_vec()));
        let reached = reach::open_way(user, &needed).map_err(|e| format!("{e:#}"));
        provided.iter_mut().filter(|ready| ready.is_ok()).for_each(|ready| {
            *ready = reached.clone().and_then(|()| ready.clone());
        });
    }
    let how = How { seconds: args.seconds, user };
    let mut rows = Vec::new();
    for (subject, ready) in subjects.iter().zip(provided) {
        bar.set_message(escape::word(&subject.name).into_owned());
        rows.push(match ready {
            Ok(ready) => run::run(subject, &ready, how),
            Err(missing) => Row::without(subject, Verdict::NotMeasured, missing),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}
