//! `seawall-conformance`: the kit over seawall and over other stores.
//!
//! `cargo run --release -p seawall-conformance -- [--json] [--store NAME]`
//!
//! Exit codes: 0 as expected (seawall passed everything, the stores that ignore crashes were found out), 1
//! not so, 2 usage.

use std::process::ExitCode;

use clap::Parser;
use seawall_conformance::cases::{self, Subject};
use seawall_conformance::for_openraft::{plain, reopened};
use seawall_conformance::outcome::{Missed, Tally};
use seawall_conformance::place::Place;
use seawall_conformance::recorded;
use seawall_conformance::subjects::memory::Memory;
use seawall_conformance::subjects::of_openraft::{Nine, Ten};
use seawall_conformance::subjects::of_raft::OfRaft;
use seawall_conformance::subjects::raft_log::OfRaftLog;
use seawall_conformance::subjects::redb::Redb;
use seawall_conformance::subjects::suites;
use serde::Serialize;

/// Runs the conformance kit.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// Runs one store only.
    #[arg(long)]
    store: Option<String>,
}

/// What one store came to.
#[derive(Serialize)]
struct Line {
    store: &'static str,
    version: String,
    /// How many of the cases of openraft's suites ran, by suite.
    suites: Vec<(&'static str, usize)>,
    #[serde(flatten)]
    tally: Tally,
}

/// Runs a suite of openraft over a store.
type Suite = fn() -> Tally;

/// A store of the table.
struct Row {
    store: &'static str,
    /// The package whose version is shown.
    package: &'static str,
    subject: &'static dyn Subject,
    /// openraft's suites over it.
    suites: &'static [(&'static str, Suite)],
    /// Whether it lives on real files too, and is judged by what a power loss leaves of them.
    recorded: bool,
    expected: Expected,
}

enum Expected {
    /// It passes everything.
    Pass,
    /// It fails these cases, or the kit is blind.
    Fails(&'static [&'static str]),
    /// What is found is told.
    Nothing,
}

/// What a store fails that acknowledges what no disk holds.
const IGNORES_CRASHES: &[&str] = &[
    "simulated disk: acknowledged_from_cache",
    "simulated disk: vote_lost",
    "simulated disk: truncation_resurrected",
    "simulated disk: history_reordered",
    "simulated disk: purge_forgotten",
    "simulated disk: callback_dropped_with_the_store",
    "simulated disk: error_swallowed",
    "simulated disk: callback_dropped_after_an_error",
];

const ROWS: &[Row] = &[
    Row {
        store: "seawall, openraft 0.9",
        package: "seawall-openraft",
        subject: &Nine,
        suites: &[("openraft 0.9", suites::nine), ("openraft 0.9, reopened", suites::nine_reopened)],
        recorded: true,
        expected: Expected::Pass,
    },
    Row {
        store: "seawall, openraft 0.10",
        package: "seawall-openraft",
        subject: &Ten,
        suites: &[("openraft 0.10", suites::ten), ("openraft 0.10, reopened", suites::ten_reopened)],
        recorded: true,
        expected: Expected::Pass,
    },
    Row {
        store: "seawall, raft-rs",
        package: "seawall-raft",
        subject: &OfRaft,
        suites: &[],
        recorded: true,
        expected: Expected::Pass,
    },
    Row {
        store: "memory",
        package: "seawall-conformance",
        subject: &Memory,
        suites: &[("openraft 0.10", || plain(&Memory)), ("openraft 0.10, reopened", || reopened(&Memory))],
        recorded: false,
        expected: Expected::Fails(IGNORES_CRASHES),
    },
    Row {
        store: "redb, syncs left out",
        package: "redb",
        subject: &Redb { syncs: false },
        suites: &[],
        recorded: false,
        expected: Expected::Fails(IGNORES_CRASHES),
    },
    Row {
        store: "redb",
        package: "redb",
        subject: &Redb { syncs: true },
        suites: &[
            ("openraft 0.10", || plain(&Redb { syncs: true })),
            ("openraft 0.10, reopened", || reopened(&Redb { syncs: true })),
        ],
        recorded: true,
        expected: Expected::Nothing,
    },
    Row {
        store: "raft-log",
        package: "raft-log",
        subject: &OfRaftLog,
        suites: &[
            ("openraft 0.10", || plain(&OfRaftLog)),
            ("openraft 0.10, reopened", || reopened(&OfRaftLog)),
        ],
        recorded: true,
        expected: Expected::Nothing,
    },
];

impl Row {
    fn run(&self) -> Line {
        let mut line = Line {
            store: self.store,
            version: version(self.package),
            suites: Vec::new(),
            tally: Tally::default(),
        };
        for (name, suite) in self.suites {
            let tally = suite();
            line.suites.push((name, tally.cases));
            line.tally.add(name, tally);
        }
        let place = if matches!(self.subject.place(), Ok(Place::Simulated(_))) {
            "simulated disk"
        } else {
            "death of the process"
        };
        line.tally.add(place, cases::run(self.subject));
        if self.recorded {
            line.tally.add("recorded power loss", recorded::run(self.store, self.subject));
        }
        line
    }

    fn is_as_expected(&self, tally: &Tally) -> bool {
        match self.expected {
            Expected::Pass => tally.failed.is_empty(),
            Expected::Fails(cases) => {
                let failed = |case: &&str| tally.failed.iter().any(|missed| missed.case == *case);
                cases.iter().all(failed)
            }
            Expected::Nothing => true,
        }
    }
}

/// The version of a package in the lock file that this was built with.
fn version(package: &str) -> String {
    let lock = include_str!("../../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"\n")));
    let version = entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

fn print(line: &Line) {
    let Line { store, version, suites, tally } = line;
    println!("{store:<24} {version:<16} {:>3} of {:>3} passed", tally.passed, tally.cases);
    for (suite, cases) in suites {
        println!("    {suite}: {cases} cases");
    }
    let told = |what: &str, missed: &[Missed]| {
        for Missed { case, reason } in missed {
            println!("    {what}: {case}: {}", reason.replace('\n', " "));
        }
    };
    told("failed", &tally.failed);
    told("not measured", &tally.not_measured);
}

fn row(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.store == name)
}

fn main() -> ExitCode {
    if let Some(exit) = recorded::role(&|store| row(store).map(|row| row.subject)) {
        return exit;
    }
    let arguments = Arguments::parse();
    // A case that panics is told in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let rows: Vec<&Row> = match arguments.store.as_deref() {
        Some(name) => row(name).into_iter().collect(),
        None => ROWS.iter().collect(),
    };
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.store).collect();
        eprintln!("no such store; there are {}", names.join("; "));
        return ExitCode::from(2);
    }
    let mut lines = Vec::new();
    let mut expected = true;
    for row in rows {
        let line = row.run();
        expected &= row.is_as_expected(&line.tally);
        if !arguments.json {
            print(&line);
        }
        lines.push(line);
    }
    if arguments.json {
        println!("{}", serde_json::json!({ "stores": lines, "as_expected": expected }));
    }
    if expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
