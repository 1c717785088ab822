//! Where in a program a call is made: the stack of the thread that makes it.
//!
//! I own the walk and the names of its ends. (A1) The thread waits in its call: the kernel tells its stack
//! pointer and program counter (`/proc/TID/syscall`), its stack is read as it is, and walked by the call
//! frame information of the files that are mapped, or by frame pointers where a file has none (on x86_64;
//! elsewhere a site is the place of the call alone). (A2) A frame is a place in a file, so that equal calls
//! of two runs have equal sites. (A3) A walk that cannot go on ends there; who may not be looked at has no
//! site. Nothing fails for want of one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::program::recording::{Frame, Module};

mod modules;
mod process;

use modules::Modules;
use process::Process;

/// How much of a stack is read.
const STACK: usize = 16 << 10;
/// The most frames of a site.
const MOST_FRAMES: usize = 48;
/// How many threads are kept known.
const MOST_THREADS: usize = 256;

/// The sites that were met.
#[derive(Debug)]
pub struct Sites {
    looked_for: bool,
    met: HashMap<Vec<Frame>, u32>,
    modules: Modules,
    threads: HashMap<u32, Thread>,
    stack: Vec<u8>,
}

/// A thread that was looked at before.
#[derive(Debug)]
struct Thread {
    /// Its `/proc/TID/syscall`; once open, it is never another thread's.
    syscall: File,
    /// Its `/proc/TID/mem`: that of the program which it ran when this was opened.
    memory: File,
    process: Process,
    last: Option<Walked>,
}

/// A walk that was done: done again from the same registers over the same return addresses, it leads to the
/// same site.
#[derive(Debug)]
struct Walked {
    registers: Registers,
    /// How much of the stack it needed.
    len: usize,
    /// The return addresses, and where they stand in it.
    returns: Vec<(usize, u64)>,
    site: u32,
}

impl Thread {
    /// Reads its memory, as far as it goes.
    fn read(&self, from: u64, into: &mut [u8]) -> usize {
        self.memory.read_at(into, from).unwrap_or(0)
    }
}

impl Walked {
    fn is_again(&self, registers: Registers, stack: &[u8]) -> bool {
        let holds = |(at, address): &(usize, u64)| stack.get(*at..at + 8) == Some(&address.to_ne_bytes());
        self.registers == registers && self.returns.iter().all(holds)
    }
}

/// The registers that a walk begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The program counter.
    pub pc: u64,
    /// The stack pointer.
    pub sp: u64,
}

impl Sites {
    /// With the site that is not known, which is the first, and the only one unless they are looked for.
    #[must_use]
    pub fn new(looked_for: bool) -> Self {
        let is_known_machine = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
        Self {
            looked_for: looked_for && is_known_machine,
            met: HashMap::from([(Vec::new(), 0)]),
            modules: Modules::default(),
            threads: HashMap::new(),
            stack: vec![0; STACK],
        }
    }

    /// The site of the call that a thread waits in; 0 if it is not known.
    pub fn of(&mut self, tid: u32) -> u32 {
        if tid == 0 || !self.looked_for {
            return 0;
        }
        self.registers(tid).map_or(0, |registers| self.walk(tid, registers))
    }

    /// All sites, in the order of their numbers, and the files that they are in.
    #[must_use]
    pub fn list(&self) -> (Vec<Vec<Frame>>, Vec<Module>) {
        let mut sites = vec![Vec::new(); self.met.len()];
        self.met.iter().for_each(|(site, number)| sites[*number as usize].clone_from(site));
        (sites, self.modules.list())
    }

    fn registers(&mut self, tid: u32) -> Option<Registers> {
        if self.threads.len() > MOST_THREADS {
            self.threads.clear();
        }
        let known = self.threads.get(&tid).and_then(|thread| registers(&thread.syscall));
        known.or_else(|| {
            let syscall = File::open(format!("/proc/{tid}/syscall")).ok()?;
            let registers = registers(&syscall)?;
            let memory = File::open(format!("/proc/{tid}/mem")).ok()?;
            self.threads.insert(tid, Thread { syscall, memory, process: Process::default(), last: None });
            Some(registers)
        })
    }

    fn walk(&mut self, tid: u32, registers: Registers) -> u32 {
        let Some(thread) = self.threads.get_mut(&tid) else { return 0 };
        if let Some(last) = thread.last.as_ref().filter(|last| last.registers == registers) {
            let read = thread.read(registers.sp, &mut self.stack[..last.len]);
            if last.is_again(registers, &self.stack[..read]) {
                return last.site;
            }
        }
        let mut read = thread.read(registers.sp, &mut self.stack);
        if read == 0 || !thread.process.knows(registers.pc) {
            // It is new, or runs another program by now, or has loaded a library.
            let Ok(memory) = File::open(format!("/proc/{tid}/mem")) else { return 0 };
            let maps = fs::read_to_string(format!("/proc/{tid}/maps")).unwrap_or_default();
            (thread.memory, thread.process) = (memory, Process::new(tid, &maps, &mut self.modules));
            read = thread.read(registers.sp, &mut self.stack);
        }
        let walked = thread.process.walk(registers, &self.stack[..read], &thread.memory);
        let next = u32::try_from(self.met.len()).expect("fewer sites than 2^32");
        let site = *self.met.entry(walked.frames).or_insert(next);
        let place = |(at, address): (u64, u64)| {
            let at = usize::try_from(at.checked_sub(registers.sp)?).ok()?;
            (self.stack[..read].get(at..at.checked_add(8)?)? == address.to_ne_bytes())
                .then_some((at, address))
        };
        // What was not read where it is looked for again says nothing the next time.
        let returns: Option<Vec<(usize, u64)>> = walked.returns.into_iter().map(place).collect();
        thread.last = returns.filter(|returns| !returns.is_empty()).map(|returns| {
            let len = returns.iter().map(|(at, _)| at + 8).max().unwrap_or(0);
            Walked { registers, len, returns, site }
        });
        site
    }
}

/// What `/proc/TID/syscall` says: the call, six arguments, the stack pointer and the program counter.
fn registers(syscall: &File) -> Option<Registers> {
    let mut text = [0; 256];
    let read = syscall.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..read]).ok()?;
    let mut words = text.trim_end().rsplit(' ').map(|word| {
        let digits = word.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok()
    });
    let (pc, sp) = (words.next()??, words.next()??);
    Some(Registers { pc, sp })
}
