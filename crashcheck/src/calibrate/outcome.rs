//! A tree in words: what is compared.
//!
//! I own the words: each directory, each file with its length and its bytes as runs, each link. Equal words
//! mean equal trees, of the core or of a mounted file system. I do not know what is allowed.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::core::image::{Content, Image};

/// The file that is written to make the file system commit; it is no part of an outcome.
pub const BYSTANDER: &str = ".bystander";

/// What mkfs.ext4 makes.
const LOST_AND_FOUND: &str = "lost+found";

/// A tree in words.
#[must_use]
pub fn words(image: &Image) -> String {
    let mut parts: Vec<String> = image.dirs.iter().map(|path| format!("{path}/")).collect();
    parts.extend(image.files.iter().map(|(path, content)| format!("{path}={}", runs(&content.bytes()))));
    parts.extend(image.links.iter().map(|(path, target)| format!("{path}->{target}")));
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(" ") }
}

fn runs(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let letter = run[0];
        let shown =
            if letter.is_ascii_alphabetic() { char::from(letter).to_string() } else { letter.to_string() };
        let plus = if text.is_empty() { "" } else { "+" };
        write!(text, "{plus}{}x{shown}", run.len()).expect("a string takes it");
    }
    if text.is_empty() { "empty".to_owned() } else { text }
}

/// What is mounted somewhere, as a tree.
///
/// # Errors
/// If it cannot be read.
pub fn read(root: &Path) -> anyhow::Result<Image> {
    let mut image = Image::default();
    read_dir(root, "", &mut image)?;
    Ok(image)
}

fn read_dir(root: &Path, dir: &str, image: &mut Image) -> anyhow::Result<()> {
    for entry in fs::read_dir(root.join(dir)).with_context(|| format!("reading {dir}/"))? {
        let entry = entry.with_context(|| format!("reading {dir}/"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if dir.is_empty() && (name == BYSTANDER || name == LOST_AND_FOUND) {
            continue;
        }
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            image.dirs.insert(path.clone());
            read_dir(root, &path, image)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
            image.links.insert(path, target);
        } else {
            let bytes = fs::read(entry.path()).with_context(|| format!("reading {path}"))?;
            image.files.insert(path, Content::of(&bytes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_tree_and_a_made_one_have_the_same_words() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::create_dir(root.path().join(LOST_AND_FOUND)).unwrap();
        let bytes = [vec![b'A'; 600], vec![0; 3], vec![b'B'; 2]].concat();
        fs::write(root.path().join("d/f"), &bytes).unwrap();
        fs::write(root.path().join("e"), b"").unwrap();
        fs::write(root.path().join(BYSTANDER), b"x").unwrap();
        let image = read(root.path()).unwrap();
        assert_eq!(words(&image), "d/ d/f=600xA+3x0+2xB e=empty");
        assert_eq!(words(&Image::default()), "nothing");
    }
}
