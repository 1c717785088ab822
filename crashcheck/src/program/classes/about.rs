//! What a step is about, so that a timeline can be read file by file.
//!
//! I own the names: a file by its path at that time, the names in a directory, what the program says.

use crate::core::replay::Paths;
use crate::core::trace::Op;

/// The file, or the directory whose names change.
pub(super) fn about(op: &Op, paths: &Paths) -> String {
    let names_in = |path: &str| match path.rsplit_once('/') {
        Some((dir, _)) => format!("names in {dir}/"),
        None => "names in the directory".to_owned(),
    };
    match op {
        Op::Write { ino, .. }
        | Op::SetLen { ino, .. }
        | Op::Zero { ino, .. }
        | Op::SyncData { ino }
        | Op::SyncAll { ino } => paths.of(*ino).to_owned(),
        Op::CreateUnnamed { .. } => "files without a name".to_owned(),
        Op::Mark(_) => "said".to_owned(),
        Op::SyncDir { path } if path.is_empty() => "names in the directory".to_owned(),
        Op::SyncDir { path } => format!("names in {path}/"),
        Op::CreateDir { path }
        | Op::RemoveDir { path }
        | Op::Create { path, .. }
        | Op::Link { path, .. }
        | Op::Symlink { path, .. }
        | Op::Remove { path } => names_in(path),
        Op::Rename { to, .. } => names_in(to),
        Op::Exchange { one, .. } => names_in(one),
    }
}
