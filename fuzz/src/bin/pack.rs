//! `pack DIR`: writes the files of a store to standard output as one input of `recover_directory`.

use std::io::{self, Write};
use std::path::Path;
use std::{env, fs};

fn collect(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.push((name.to_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: pack DIR"))?;
    let mut files = Vec::new();
    collect(Path::new(&dir), Path::new(&dir), &mut files)?;
    io::stdout().write_all(&seawall_fuzz::pack::pack(&files))
}
