//! What the core says a crash may leave of a litmus program.
//!
//! I own the translation into a trace and the complete enumeration: every set of what is in doubt after each
//! operation. I do not know what a file system did.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use crate::calibrate::litmus::{Act, Litmus};
use crate::calibrate::outcome::words;
use crate::core::body::Tree;
use crate::core::choices::{self, Bounds, Tears};
use crate::core::doubt::Doubt;
use crate::core::image::{Content, Image};
use crate::core::micro::split;
use crate::core::profile::{Profile, Unit};
use crate::core::state::View;
use crate::core::trace::{Ino, Op, Step, Trace};

/// The most micro-operations in doubt at once of which every set is tried.
const MOST: usize = 16;

/// What a crash may leave of a litmus program.
#[derive(Clone, Debug, Default)]
pub struct Predicted {
    /// The outcomes of a crash when so many operations have returned and the next may have begun.
    pub allowed: Vec<BTreeSet<String>>,
}

impl Predicted {
    /// All outcomes, whenever the crash is.
    #[must_use]
    pub fn all(&self) -> BTreeSet<&str> {
        self.allowed.iter().flatten().map(String::as_str).collect()
    }
}

/// What a crash may leave under a profile.
///
/// # Panics
/// If the litmus has too much in doubt for a complete enumeration, or makes no sense.
#[must_use]
pub fn predict(litmus: &Litmus, profile: Profile) -> Predicted {
    let (trace, ends) = trace(litmus);
    let tree = Tree::initial(&trace);
    let micro = split(&tree, &trace.steps, profile, Unit::Block);
    let mut doubt = Doubt::new(tree, &trace.steps, &micro);
    let mut allowed = vec![outcomes(&doubt, litmus)];
    let mut steps = 0;
    for end in ends {
        let begun = allowed.last_mut().expect("there is one for no operation");
        let mut returned = BTreeSet::new();
        while steps < end {
            doubt.advance();
            steps += 1;
            returned = outcomes(&doubt, litmus);
            begun.extend(returned.iter().cloned());
        }
        allowed.push(returned);
    }
    Predicted { allowed }
}

fn outcomes(doubt: &Doubt<'_>, litmus: &Litmus) -> BTreeSet<String> {
    let mut view = View::new(doubt);
    assert!(view.order.len() <= MOST, "{} has too much in doubt: {}", litmus.name, view.order.len());
    let order = view.order.clone();
    let bounds = Bounds { max_subset_units: MOST, tears: Tears::None, ..Bounds::default() };
    let mut found = BTreeSet::new();
    let _ = choices::each(&order, &bounds, None, &|_| Vec::new(), &mut |choice| {
        found.insert(words(&view.image(choice)));
        ControlFlow::Continue(())
    });
    found
}

/// The trace, and after how many of its steps each operation is done.
fn trace(litmus: &Litmus) -> (Trace, Vec<usize>) {
    let mut translator = Translator::default();
    let initial = translator.initial(litmus.setup);
    let inos = translator.inos.clone();
    let mut trace = Trace { initial, inos, steps: Vec::new() };
    let mut ends = Vec::new();
    for act in litmus.acts {
        trace.steps.extend(translator.ops(act).into_iter().map(Step::from));
        ends.push(trace.steps.len());
    }
    (trace, ends)
}

/// Knows which file a path names.
#[derive(Default)]
struct Translator {
    inos: BTreeMap<String, Ino>,
    lens: BTreeMap<Ino, u64>,
    next: u32,
}

impl Translator {
    fn new_file(&mut self, path: &str) -> Ino {
        self.next += 1;
        self.inos.insert(path.to_owned(), Ino(self.next));
        Ino(self.next)
    }

    fn initial(&mut self, setup: &[Act]) -> Image {
        let mut image = Image::default();
        let mut bytes: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for act in setup {
            match *act {
                Act::MakeDir(path) => drop(image.dirs.insert(path.to_owned())),
                Act::Create(path) => {
                    self.new_file(path);
                    bytes.insert(path, Vec::new());
                }
                Act::Write(path, offset, letter, len) => {
                    let file = bytes.get_mut(path).expect("it was created");
                    assert_eq!(file.len() as u64, offset, "a setup appends");
                    file.extend(vec![letter; len]);
                    self.lens.insert(self.inos[path], file.len() as u64);
                }
                _ => panic!("a setup creates and writes: {act:?}"),
            }
        }
        image.files = bytes.into_iter().map(|(path, bytes)| (path.to_owned(), Content::of(&bytes))).collect();
        image
    }

    fn write(&mut self, path: &str, offset: u64, letter: u8, len: usize) -> Op {
        let ino = self.inos[path];
        let end = offset + len as u64;
        let known = self.lens.entry(ino).or_default();
        *known = end.max(*known);
        Op::Write { ino, offset, data: vec![letter; len].into() }
    }

    fn set_len(&mut self, path: &str, len: u64) -> Op {
        let ino = self.inos[path];
        self.lens.insert(ino, len);
        Op::SetLen { ino, len }
    }

    /// Paths that begin with `from` begin with `to`.
    fn moved(&mut self, from: &str, to: &str) {
        self.forget(to);
        let within = format!("{from}/");
        let all = std::mem::take(&mut self.inos);
        self.inos = all
            .into_iter()
            .map(|(path, ino)| {
                let renamed = match path.strip_prefix(&within) {
                    Some(rest) => format!("{to}/{rest}"),
                    None if path == from => to.to_owned(),
                    None => path,
                };
                (renamed, ino)
            })
            .collect();
    }

    fn forget(&mut self, path: &str) {
        self.inos.remove(path);
    }

    fn ops(&mut self, act: &Act) -> Vec<Op> {
        let own = str::to_owned;
        vec![match *act {
            Act::Create(path) => Op::Create { path: own(path), ino: self.new_file(path) },
            Act::Write(path, offset, letter, len) | Act::MapWrite(path, offset, letter, len) => {
                self.write(path, offset, letter, len)
            }
            Act::WriteDsync(path, offset, letter, len) => {
                let write = self.write(path, offset, letter, len);
                return vec![write, Op::SyncData { ino: self.inos[path] }];
            }
            Act::SetLen(path, len) => self.set_len(path, len),
            Act::Allocate(path, len) => {
                let there = self.lens.get(&self.inos[path]).copied().unwrap_or(0);
                self.set_len(path, len.max(there))
            }
            Act::Punch(path, offset, len) => Op::Zero { ino: self.inos[path], offset, len },
            Act::Rename(from, to) => {
                self.moved(from, to);
                Op::Rename { from: own(from), to: own(to) }
            }
            Act::Exchange(one, other) => {
                let (first, second) = (self.inos[one], self.inos[other]);
                self.inos.extend([(own(one), second), (own(other), first)]);
                Op::Exchange { one: own(one), other: own(other) }
            }
            Act::Link(from, to) => {
                let ino = self.inos[from];
                self.inos.insert(own(to), ino);
                Op::Link { path: own(to), ino }
            }
            Act::Remove(path) => {
                self.forget(path);
                Op::Remove { path: own(path) }
            }
            Act::MakeDir(path) => Op::CreateDir { path: own(path) },
            Act::RemoveDir(path) => Op::RemoveDir { path: own(path) },
            Act::Sync(path) => Op::SyncAll { ino: self.inos[path] },
            Act::SyncData(path) | Act::MapSync(path) => Op::SyncData { ino: self.inos[path] },
            Act::SyncDir(path) => Op::SyncDir { path: own(path) },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::litmus::LITMUS;

    fn named(name: &str) -> &'static Litmus {
        LITMUS.iter().find(|litmus| litmus.name == name).expect("it is in the list")
    }

    #[test]
    fn each_profile_only_adds_order() {
        for litmus in LITMUS {
            let strict = predict(litmus, Profile::PosixStrict);
            assert_eq!(strict.allowed.len(), litmus.acts.len() + 1);
            for profile in Profile::ALL {
                let ordered = predict(litmus, profile);
                for (at, (more, fewer)) in strict.allowed.iter().zip(&ordered.allowed).enumerate() {
                    let beyond: Vec<_> = fewer.difference(more).collect();
                    assert!(beyond.is_empty(), "{} {} at {at}: {beyond:?}", profile.name(), litmus.name);
                }
            }
        }
    }

    #[test]
    fn a_sync_that_returned_is_a_promise() {
        let names = ["rename over, file and directory synced", "create, directory synced"];
        for (name, at, kept) in [(names[0], 5, "a=4096xB"), (names[1], 4, "a=4096xA")] {
            for profile in Profile::ALL {
                let allowed = &predict(named(name), profile).allowed[at];
                assert!(
                    allowed.iter().all(|outcome| outcome.contains(kept)),
                    "{}: {allowed:?}",
                    profile.name()
                );
            }
        }
    }

    #[test]
    fn the_profiles_differ_where_their_file_systems_do() {
        let after = |name, profile| {
            predict(named(name), profile).all().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
        };
        let emptied = |profile| after("rename over, no sync", profile).contains(&"a=empty".to_owned());
        assert!(!emptied(Profile::Ext4), "auto_da_alloc");
        assert!(
            emptied(Profile::Ext4NoAutoDaAlloc) && emptied(Profile::Xfs) && emptied(Profile::PosixStrict)
        );
        let zeros = |profile| after("two appends, each synced", profile).contains(&"a=100x0".to_owned());
        assert!(!zeros(Profile::Xfs), "a growth comes with its data");
        assert!(zeros(Profile::Ext4) && zeros(Profile::Btrfs));
        let overtaken = |profile| {
            after("rename to another directory", profile).contains(&"d/ e/ d/a=4096xA d/b=empty".to_owned())
        };
        assert!(overtaken(Profile::PosixStrict) && !overtaken(Profile::Ext4), "names keep their order");
    }
}
