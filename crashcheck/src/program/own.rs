//! Places for temporary files that are a checker's own.
//!
//! I own `/tmp` and its like in the mount namespace of this process. (O1) What is there already can be read; what is
//! made or changed goes to a layer in memory above it, which nobody else sees and which is gone with the namespace,
//! or when it is [`renew`](Places::renew)ed. (O2) What is mounted below such a place is mounted there as before. (O3)
//! A place over which the kernel mounts no layer stays as it is, shared, and is told. System V's shared memory,
//! semaphores and queues are one's own too. I do not know what is put there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::OFlags;

/// Where programs put what is for the moment, wherever `TMPDIR` points.
const USUAL: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The places of this process.
#[derive(Debug)]
pub struct Places {
    layers: Vec<Layer>,
    /// Those that stay shared, and why.
    pub shared: Vec<(PathBuf, io::Error)>,
}

/// A place with a layer over it. Between the two is a file system in memory that holds what the layer holds.
#[derive(Debug)]
struct Layer {
    place: PathBuf,
    /// What was there before.
    below: File,
    /// What is mounted further below.
    inner: Vec<(PathBuf, File)>,
    /// Where what is shown waits while the layer is renewed.
    aside: File,
    /// What the layer holds; the number makes its name new.
    upper: File,
    number: u32,
}

impl Places {
    /// Makes the places this process's own: it must have a mount namespace of its own. What shows states, or is to,
    /// is left out.
    #[must_use]
    pub fn new(shown: &Path) -> Self {
        // A kernel without them shares what few programs use.
        let _ = unshare(CloneFlags::CLONE_NEWIPC);
        let named = std::env::var_os("TMPDIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
        let wanted = USUAL.iter().map(PathBuf::from).chain(named);
        let mut wanted: Vec<PathBuf> = wanted.filter_map(|place| fs::canonicalize(place).ok()).collect();
        wanted.sort();
        let mut places = Self { layers: Vec::new(), shared: Vec::new() };
        for place in wanted {
            let is_within = places.layers.iter().any(|layer| place.starts_with(&layer.place));
            if is_within || place.starts_with(shown) || place == Path::new("/") {
                continue;
            }
            match Layer::new(&place) {
                Ok(layer) => places.layers.push(layer),
                Err(e) => places.shared.push((place, e)),
            }
        }
        // The working directory is still what is below a layer.
        if let Ok(here) = std::env::current_dir().and_then(fs::canonicalize)
            && places.layers.iter().any(|layer| here.starts_with(&layer.place))
        {
            let _ = std::env::set_current_dir(here);
        }
        places
    }

    /// Forgets what was put there. No process may use the places, but `shown` may be a mount within.
    ///
    /// # Errors
    /// If the kernel refuses what it gave before.
    pub fn renew(&mut self, shown: &Path) -> io::Result<()> {
        self.layers.iter_mut().try_for_each(|layer| layer.renew(shown))
    }
}

impl Layer {
    fn new(place: &Path) -> io::Result<Self> {
        let below = at(place)?;
        let inner = mounts_below(place)?;
        memory(place)?;
        let made = fs::create_dir(place.join("aside")).and_then(|()| {
            let (aside, upper) = (at(&place.join("aside"))?, at(place)?);
            let mut layer = Self { place: place.to_owned(), below, inner, aside, upper, number: 0 };
            layer.lay().map(|()| layer)
        });
        if made.is_err() {
            // Whatever was mounted: the place itself is below.
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
        made
    }

    /// Mounts an empty layer; the file system in memory is what is seen at the place.
    fn lay(&mut self) -> io::Result<()> {
        self.number += 1;
        let [upper, work] = self.parts();
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let like = fs::metadata(named(&self.below))?;
        // One who has no number in this namespace owns nothing that is made in it.
        let _ = chown(&upper, Some(like.uid()), Some(like.gid()));
        fs::set_permissions(&upper, Permissions::from_mode(like.mode() & 0o7777))?;
        self.upper = at(&upper)?;
        let work = at(&work)?;
        let [lower, above, work] =
            [&self.below, &self.upper, &work].map(|file| named(file).display().to_string());
        // Whoever is not root of all may not use the attributes that root uses.
        let whose = if is_root_of_all() { "" } else { ",userxattr" };
        let options = format!("lowerdir={lower},upperdir={above},workdir={work}{whose}");
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
        mount(Some("crashcheck"), &self.place, Some("overlay"), flags, Some(&*options))?;
        for (path, file) in &self.inner {
            let none = None::<&str>;
            mount(Some(&named(file)), path, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
        }
        Ok(())
    }

    /// The directories of the layer that is or will be.
    fn parts(&self) -> [PathBuf; 2] {
        ["upper", "work"].map(|part| self.place.join(format!("{part}{}", self.number)))
    }

    fn renew(&mut self, shown: &Path) -> io::Result<()> {
        if fs::read_dir(named(&self.upper))?.next().is_none() {
            return Ok(());
        }
        let is_within = shown.starts_with(&self.place);
        if is_within {
            move_mount(shown, &named(&self.aside))?;
        }
        umount2(&self.place, MntFlags::MNT_DETACH)?;
        let waiting = at(&self.place.join("aside"))?;
        self.parts().iter().try_for_each(fs::remove_dir_all)?;
        self.lay()?;
        if is_within { move_mount(&named(&waiting), shown) } else { Ok(()) }
    }
}

fn move_mount(from: &Path, to: &Path) -> io::Result<()> {
    let none = None::<&str>;
    Ok(mount(Some(from), to, none, MsFlags::MS_MOVE, none)?)
}

/// A file system in memory, for this process's eyes.
fn memory(place: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
    Ok(mount(Some("crashcheck"), place, Some("tmpfs"), flags, Some("mode=700"))?)
}

/// A place in the tree, whatever is mounted over it later.
fn at(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::PATH.bits().cast_signed()).open(path)
}

/// Where such a place is named.
fn named(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn is_root_of_all() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// What is mounted below a place and not below one that is.
fn mounts_below(place: &Path) -> io::Result<Vec<(PathBuf, File)>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let field = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(plain);
    let points = table.split(|byte| *byte == b'\n').filter_map(field);
    let mut points: Vec<PathBuf> =
        points.filter(|point| point != place && point.starts_with(place)).collect();
    points.sort();
    points.dedup_by(|later, earlier| later.starts_with(earlier));
    points.into_iter().map(|point| Ok((point.clone(), at(&point)?))).collect()
}

/// A path of the kernel's table of mounts, in which a few bytes are written in octal digits.
fn plain(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, later)) = rest.split_first() {
        let octal =
            later.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let code = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &later[3..] } else { later };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_table_is_read_as_it_was_written() {
        assert_eq!(plain(b"/a\\040b/\\134x\\0"), PathBuf::from("/a b/\\x\\0"));
    }
}
