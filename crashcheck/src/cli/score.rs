//! The scoreboard of the command line: its rows piece by piece, within a time, noted in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{EngineArgs, Exit, bar, complain, print, print_json};
use crate::engine::scoreboard::{self, Size};
use crate::escape;

/// How often the scoreboard notes how far it came.
const PIECE: Duration = Duration::from_secs(60);

/// What `--progress` keeps.
#[derive(Serialize, Deserialize)]
struct Scored {
    size: Size,
    rows: Vec<scoreboard::Row>,
}

impl Scored {
    /// Replaces the file in one step: this may be killed at any time.
    fn save(&self, file: &Path) -> anyhow::Result<()> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".new");
        std::fs::write(&beside, serde_json::to_vec(self)?)?;
        Ok(std::fs::rename(beside, file)?)
    }
}

/// What an earlier call came to.
fn earlier(args: &EngineArgs, size: Size) -> anyhow::Result<Scored> {
    let Some(file) = args.progress.as_ref().filter(|file| file.exists()) else {
        return Ok(Scored { size, rows: Vec::new() });
    };
    let scored =
        std::fs::read(file).map_err(anyhow::Error::from).and_then(|b| Ok(serde_json::from_slice(&b)?));
    let scored: Scored = scored.with_context(|| format!("cannot go on with {}", file.display()))?;
    ensure!(scored.size == size, "{} is of a scoreboard of another size", file.display());
    Ok(scored)
}

pub(super) fn score(args: &EngineArgs, size: Size) -> anyhow::Result<Exit> {
    let mut scored = match earlier(args, size) {
        Ok(scored) => scored,
        Err(e) => {
            complain(&escape::word(&format!("{e:#}; name another file for --progress")))?;
            return Ok(Exit::Usage);
        }
    };
    let wanted: Vec<_> = scoreboard::ROWS.iter().filter(|(name, _)| name.contains(&args.row)).collect();
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let bar = bar(wanted.len() as u64);
    print(&format!(
        "{:34} {:>9} {:>7} {:>12} {:>7} {:>8}\n",
        "fault", "cases", "silent", "false alarms", "panics", "seconds"
    ))?;
    let mut rows = Vec::new();
    for (number, (name, make)) in wanted.iter().enumerate() {
        bar.set_message(*name);
        let rows_left = u32::try_from(wanted.len() - number)?;
        let share = end.map(|end| Instant::now() + (end - Instant::now()) / rows_left);
        let at = scored.rows.iter().position(|row| row.name == *name).unwrap_or_else(|| {
            scored.rows.push(scoreboard::Row { name: (*name).into(), ..Default::default() });
            scored.rows.len() - 1
        });
        let mut length = PIECE;
        while !scored.rows[at].finished && scored.rows[at].findings.is_empty() {
            let left = share.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            let (first, cases) = (scored.rows[at].next, scored.rows[at].cases);
            let limit =
                if args.progress.is_some() { Some(left.map_or(length, |l| l.min(length))) } else { left };
            let piece = scoreboard::Piece { size, jobs: args.jobs(), first, cases, limit };
            let tried = scoreboard::row(*make, &piece);
            // One case alone may take longer.
            length *= if tried.next == first { 2 } else { 1 };
            scored.rows[at].go_on(tried);
            if let Some(file) = &args.progress {
                scored.save(file)?;
            }
        }
        bar.inc(1);
        let row = &scored.rows[at];
        let rest = if row.finished { String::new() } else { format!("; goes on at {}", row.next) };
        print(&format!(
            "{:34} {:9} {:7} {:12} {:7} {:8.1}  {}{rest}\n",
            row.name, row.cases, row.silent, row.false_alarms, row.panics, row.seconds, row.what
        ))?;
        row.findings.iter().try_for_each(|finding| print(&format!("    {finding}\n")))?;
        rows.push(row.clone());
    }
    bar.finish_and_clear();
    let (verdict, text) = if rows.iter().any(scoreboard::Row::is_wrong) {
        (Exit::Finding, "FAIL")
    } else if rows.is_empty() || rows.iter().any(|row| row.cases == 0) {
        (Exit::NotMeasured, "NOT-MEASURED")
    } else {
        (Exit::Pass, "PASS")
    };
    print(&format!("{text}\n"))?;
    print_json(args.json, &json!({ "verdict": text, "rows": rows }))?;
    Ok(verdict)
}
