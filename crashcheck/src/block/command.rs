//! `crashcheck block`: arguments, report, exit codes.
//!
//! I own what a user types and reads. I check nothing myself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::block::campaign::{self, Settings, Stopped, Summary};
use crate::block::check::{Checker, Verdict};
use crate::block::fs::FileSystem;
use crate::cli::{Exit, bar, print, print_json};
use crate::core::choices::Bounds;
use crate::escape;

/// Where writes are torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TearArg {
    /// Each write of the device is whole or absent
    None,
    /// One write of a state is cut at a multiple of 512 bytes
    #[value(name = "512")]
    Sector,
    /// One write of a state is cut at a multiple of 4096 bytes
    #[value(name = "4096")]
    Block,
}

/// Runs a program on a real file system over a device that records, and checks what crashes leave.
#[derive(Args, Debug)]
pub struct BlockArgs {
    /// The file system
    #[arg(long, value_enum, default_value = "ext4")]
    fs: FileSystem,
    /// MiB of the device: 16 for ext4, 32 for xfs, 128 for btrfs unless given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=16384))]
    size_mib: Option<u64>,
    /// More arguments of mkfs, separated by spaces
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    mkfs_args: String,
    /// More options of mount, separated by commas, such as data=writeback. All is mounted with nosuid and nodev, and
    /// what is loaded with noexec, unless exec is given
    #[arg(long, default_value = "", allow_hyphen_values = true, value_parser = mount_args)]
    mount_args: String,
    /// A command for sh that judges a state: it runs in the mounted state; exit 0 is a pass, anything else a
    /// failure whose reason is the last line of its standard error. CRASHCHECK_DIR names the directory,
    /// CRASHCHECK_ACKS a file with the acknowledgements seen before the crash, one a line. Without it, all
    /// files must be readable and a write must go through; no link is followed, and of many or large files a
    /// part is read, which is no pass
    #[arg(long)]
    check: Option<String>,
    /// How long each step of a state may take, in seconds: to mount it, to judge it, to unmount it
    #[arg(long, default_value_t = 20)]
    check_seconds: u64,
    /// How long the workload may take, in seconds
    #[arg(long, default_value_t = 300)]
    workload_seconds: u64,
    /// Where writes are torn
    #[arg(long, value_enum, default_value = "none")]
    tears: TearArg,
    /// Try every subset of up to this many writes in doubt
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=16))]
    max_units: u8,
    /// Above that, omit (and keep) at most this many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=4))]
    omissions: u8,
    /// Stop after this many states
    #[arg(long)]
    states: Option<u64>,
    /// Stop after this many seconds of checking
    #[arg(long)]
    seconds: Option<u64>,
    /// Devices at once: four unless given, one for btrfs
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// The most MiB that the log may hold
    #[arg(long, default_value_t = 1024)]
    max_log_mib: u64,
    /// Keep the log here, in the format of dm-log-writes, for a device of zeros
    #[arg(long, value_name = "LOG")]
    save: Option<PathBuf>,
    /// Read a log in the format of dm-log-writes instead of running a workload
    #[arg(long, value_name = "LOG", conflicts_with_all = ["save", "workload"], required_unless_present = "workload")]
    load: Option<PathBuf>,
    /// Judge one state of a log again, and show the checker's words: PLACE.CHOICE as a finding prints it
    #[arg(long, value_name = "ID", requires = "load")]
    replay: Option<String>,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// The program and its arguments; it runs in the mount point, and {} in an argument is its path
    #[arg(last = true)]
    workload: Vec<String>,
}

/// Options of mount that take nothing away from who looks at a stranger's file system.
fn mount_args(text: &str) -> Result<String, String> {
    match text.split(',').map(str::trim).find(|option| ["suid", "dev"].contains(option)) {
        Some(option) => Err(format!("{option}: everything is mounted with nosuid and nodev")),
        None => Ok(text.to_owned()),
    }
}

impl BlockArgs {
    fn settings(&self) -> Settings {
        let jobs = if self.fs.mounts_copies() { self.jobs.unwrap_or(4) } else { 1 };
        Settings {
            fs: self.fs,
            size: self.size_mib.map_or(self.fs.default_size(), |mib| mib << 20),
            mkfs_args: self.mkfs_args.split_whitespace().map(str::to_owned).collect(),
            mount_options: self.mount_args.clone(),
            workload: self.workload.clone(),
            load: self.load.clone(),
            save: self.save.clone(),
            workload_limit: Duration::from_secs(self.workload_seconds),
            max_log: self.max_log_mib << 20,
            checker: Checker { command: self.check.clone(), limit: Duration::from_secs(self.check_seconds) },
            tear: match self.tears {
                TearArg::None => None,
                TearArg::Sector => Some(512),
                TearArg::Block => Some(4096),
            },
            bounds: Bounds {
                max_subset_units: usize::from(self.max_units),
                omissions: usize::from(self.omissions),
                ..Bounds::default()
            },
            states: self.states,
            limit: self.seconds.map(Duration::from_secs),
            jobs: usize::from(jobs),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If something that is needed is missing, or fails.
pub fn run(args: &BlockArgs) -> anyhow::Result<Exit> {
    let settings = args.settings();
    match checked(args, &settings) {
        Err(e) => match e.downcast::<Stopped>()? {
            stopped @ Stopped::Broken(_) => ended(args, &stopped, "HARNESS-BROKEN", Exit::HarnessBroken),
            stopped @ Stopped::NotMeasured(_) => ended(args, &stopped, "NOT-MEASURED", Exit::NotMeasured),
        },
        done => done,
    }
}

fn ended(args: &BlockArgs, stopped: &Stopped, verdict: &str, exit: Exit) -> anyhow::Result<Exit> {
    print(&format!("{}\n", escape::word(&stopped.to_string())))?;
    print_json(args.json, &json!({ "verdict": verdict, "reason": stopped.to_string() }))?;
    Ok(exit)
}

fn checked(args: &BlockArgs, settings: &Settings) -> anyhow::Result<Exit> {
    let recorded = campaign::record(settings)?;
    if let Some(id) = &args.replay {
        let (text, exit) = match campaign::replay(recorded, settings, id)? {
            Verdict::Holds => ("PASS\n".to_owned(), Exit::Pass),
            Verdict::Fails(reason) => (format!("FAIL: {}\n", escape::word(&reason)), Exit::Finding),
            Verdict::Unfinished(reason) => {
                (format!("NOT-MEASURED: {}\n", escape::word(&reason)), Exit::NotMeasured)
            }
        };
        print(&text)?;
        return Ok(exit);
    }
    let bar = bar(settings.states.unwrap_or(0));
    let summary = campaign::explore(recorded, settings, &|summary| show(&bar, summary))?;
    bar.finish_and_clear();
    let verdict = match (summary.classes.is_empty(), summary.states) {
        (false, _) => "FAIL",
        (true, 0) => "NOT-MEASURED",
        (true, _) if summary.unfinished > 0 => "NOT-MEASURED",
        (true, _) => "PASS",
    };
    print(&text(&summary, settings, verdict))?;
    print_json(args.json, &machine(&summary, settings, verdict))?;
    Ok(match verdict {
        "PASS" => Exit::Pass,
        "FAIL" => Exit::Finding,
        _ => Exit::NotMeasured,
    })
}

fn show(bar: &ProgressBar, summary: &Summary) {
    bar.set_position(summary.states);
    bar.set_message(format!("states, {} classes of failures", summary.classes.len()));
}

/// A rate, zero when nothing was measured.
fn per_second(summary: &Summary) -> f64 {
    if summary.seconds > 0.0 { summary.states as f64 / summary.seconds } else { 0.0 }
}

fn certificate(summary: &Summary, settings: &Settings) -> String {
    let tears =
        settings.tear.map_or("none".to_owned(), |unit| format!("one write at a multiple of {unit} bytes"));
    format!(
        "{} writes and {} flushes on {}, at most {} in doubt at once; every subset of up to {}, above that {} \
         omitted or kept ({} places); tears: {tears}; {}",
        summary.writes,
        summary.flushes,
        settings.fs.name(),
        summary.most_in_doubt,
        settings.bounds.max_subset_units,
        settings.bounds.omissions,
        summary.wide_places,
        if summary.complete { "complete within these bounds" } else { "ended early by its budget" }
    )
}

fn text(summary: &Summary, settings: &Settings, verdict: &str) -> String {
    let mut text = String::new();
    for class in &summary.classes {
        text.push_str(&format!(
            "{}: {}\n    {} states; the least loss: {} of {} writes in doubt, after {} acknowledgements, state {}\n",
            class.id, escape::word(&class.symptom), class.states, class.lost, class.in_doubt, class.acks, class.state
        ));
    }
    if let Some(reason) = &summary.reason {
        let (unfinished, states) = (summary.unfinished, summary.states);
        text.push_str(&format!(
            "{unfinished} of {states} states were not looked at whole: {}\n",
            escape::word(reason)
        ));
    }
    text.push_str(&format!(
        "{verdict}\n{} states mounted and checked in {:.1} s, {:.0} a second\n{}\n",
        summary.states,
        summary.seconds,
        per_second(summary),
        certificate(summary, settings)
    ));
    text
}

fn machine(summary: &Summary, settings: &Settings, verdict: &str) -> Value {
    let mut value = serde_json::to_value(summary).expect("a summary is plain data");
    let fields = value.as_object_mut().expect("a summary is an object");
    fields.insert("verdict".to_owned(), json!(verdict));
    fields.insert("fs".to_owned(), json!(settings.fs));
    fields.insert("distinct_states".to_owned(), json!(summary.states));
    fields.insert("states_per_second".to_owned(), json!(per_second(summary)));
    fields.insert("certificate".to_owned(), json!(certificate(summary, settings)));
    value
}
