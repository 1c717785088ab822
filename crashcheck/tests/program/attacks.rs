//! Recordings that were made to attack who explores them, and files that others may not read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crashcheck::core::trace::{Ino, Op, Step};
use crashcheck::program::file;
use crashcheck::program::recording::Recording;

use super::tool::{Bench, me};

/// A recording as its maker may have changed it.
fn changed(bench: &Bench, change: impl FnOnce(&mut Recording)) {
    let mut recording = file::read(&bench.trace()).unwrap();
    change(&mut recording);
    // As another program writes it: without the seal of this user.
    fs::write(bench.trace(), file::encode(&recording)).unwrap();
}

/// Of another origin, it is shown nowhere but where the user says, and nowhere that programs of the system are.
pub(crate) fn strangers_recordings() {
    let bench = Bench::new();
    bench.record("publish");
    assert_eq!(bench.explore("check-publish", &["--states", "40"]).code, 1);
    changed(&bench, |recording| "/etc".clone_into(&mut recording.origin.dir));
    let ran = bench.explore("check-publish", &[]);
    assert_eq!(ran.code, 3, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("--at DIR"), "{}", ran.err);
    for systems in ["/etc", "/", "/usr/lib", "/proc/self/cwd/../../etc"] {
        let ran = bench.explore("check-publish", &["--at", systems]);
        assert_eq!(ran.code, 3, "{systems}: {}{}", ran.out, ran.err);
    }
    fs::create_dir(bench.home.path().join("other")).unwrap();
    let ran = bench.explore("check-publish", &["--at", "other", "--states", "40"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert_eq!(fs::read_dir(bench.home.path().join("other")).unwrap().count(), 0);
}

/// The directory's name is a word, whatever is in it.
pub(crate) fn words_of_a_shell() {
    let bench = Bench::new();
    let dir = "d; touch 'stranger's file'; $(touch two)";
    fs::create_dir(bench.home.path().join(dir)).unwrap();
    let head = ["record", "--json", "--dir", dir, "-o", "run.trace", "--"];
    let ran = bench.run(&[&head[..], &[&me(), "publish", dir]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    changed(&bench, |recording| "data".clone_into(&mut recording.origin.given));
    let check = format!("{} check-publish data && true", me());
    let at = ["explore", "run.trace", "--at", dir, "--states", "40", "--check", &check];
    let ran = bench.run(&at);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let mut names: Vec<_> =
        fs::read_dir(bench.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [dir, "data", "run.trace"]);
}

/// What no recorder saw is refused before anything is made of it.
pub(crate) fn impossible_recordings() {
    let bench = Bench::new();
    bench.record("publish");
    let whole = fs::read(bench.trace()).unwrap();
    let refuse = |what: &str, change: &dyn Fn(&mut Recording)| {
        fs::write(bench.trace(), &whole).unwrap();
        changed(&bench, change);
        for command in [&["show", "run.trace"][..], &["explore", "run.trace", "--check", "/bin/true"]] {
            let ran = bench.run(command);
            assert_eq!(ran.code, 3, "{what}: {}{}", ran.out, ran.err);
            assert!(ran.err.contains("damaged"), "{what}: {}", ran.err);
        }
    };
    let add = |recording: &mut Recording, op: Op| {
        recording.trace.steps.push(Step { op, ..recording.trace.steps[0].clone() });
        recording.metas.push(recording.metas[0]);
    };
    for path in ["../outside", "/outside", "a/../../outside", "", ".", "a//b", "nul\0"] {
        refuse(path, &|recording| add(recording, Op::Create { path: path.into(), ino: Ino(900) }));
        refuse(path, &|recording| add(recording, Op::Rename { from: "conf".into(), to: path.into() }));
        refuse(path, &|recording| recording.trace.initial.links.extend([(path.into(), "t".into())]));
        refuse(path, &|recording| recording.trace.initial.dirs.extend([path.into()]));
    }
    let data: Arc<[u8]> = b"far away"[..].into();
    let far = 1 << 37;
    refuse("a write", &|recording| {
        add(recording, Op::Write { ino: Ino(1), offset: far, data: data.clone() })
    });
    refuse("the end", &|recording| {
        add(recording, Op::Write { ino: Ino(1), offset: u64::MAX - 3, data: data.clone() })
    });
    refuse("a length", &|recording| add(recording, Op::SetLen { ino: Ino(1), len: far }));
    refuse("a mark", &|recording| add(recording, Op::Mark(1 << 20)));
    refuse("no meta", &|recording| recording.metas.truncate(1));
}

/// Nobody gets another's rights by a state, and nobody else reads what a recording holds.
pub(crate) fn modes() {
    let bench = Bench::new();
    bench.record("publish");
    assert_eq!(fs::metadata(bench.trace()).unwrap().mode() & 0o777, 0o600);
    changed(&bench, |recording| recording.modes.values_mut().for_each(|mode| *mode = 0o6755));
    let recording = file::read(&bench.trace()).unwrap();
    assert!(recording.modes.values().all(|mode| *mode == 0o755) && !recording.modes.is_empty());
    let head = ["record", "--dir", "data", "-o", "second.trace", "--", "/bin/sh", "-c"];
    let ran = bench.run(&[&head[..], &["umask 027; echo x > data/f; mkdir data/d; umask"]].concat());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let mode = |name: &str| fs::metadata(bench.data().join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("f"), mode("d")), (0o640, 0o750));
}
