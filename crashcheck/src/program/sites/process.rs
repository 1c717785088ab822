//! A process's memory as a walk sees it: where its code is.
//!
//! I own the walk itself (framehop's) and the guess that it needs: of a thread that waits in a call the
//! frame pointer is not told. It is the first word on the stack that leads further up the stack with a
//! place in some code after it, which is what a function that keeps frame pointers has pushed; a function
//! that keeps none does not need it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(target_arch = "aarch64")]
use framehop::aarch64::{
    CacheAarch64 as Cache, UnwindRegsAarch64 as Start, UnwinderAarch64 as ModuleUnwinder,
};
#[cfg(not(target_arch = "aarch64"))]
use framehop::x86_64::{CacheX86_64 as Cache, UnwindRegsX86_64 as Start, UnwinderX86_64 as ModuleUnwinder};
use framehop::{ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Unwinder};

use super::modules::{Code, Modules};
use super::{MOST_FRAMES, Registers};
use crate::program::recording::{ANONYMOUS, Frame};

/// Where a process's code is.
#[derive(Default)]
pub(super) struct Process {
    /// Code, ascending.
    code: Vec<Mapped>,
    unwinder: ModuleUnwinder<Arc<[u8]>, MayAllocateDuringUnwind>,
    cache: Box<Cache<MayAllocateDuringUnwind>>,
}

/// A walk over a stack.
pub(super) struct Walk {
    /// The innermost first.
    pub(super) frames: Vec<Frame>,
    /// The return addresses that were read, and where they stand in the stack, ascending.
    pub(super) returns: Vec<(usize, u64)>,
    /// Whether these are all.
    pub(super) is_whole: bool,
}

/// A file's code in memory.
#[derive(Debug)]
struct Mapped {
    at: Range<u64>,
    /// What is added to the addresses that the file states.
    bias: u64,
    code: Option<Arc<Code>>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("code", &self.code.len()).finish_non_exhaustive()
    }
}

impl Process {
    /// What `/proc/TID/maps` says of a process.
    pub(super) fn new(tid: u32, maps: &str, modules: &mut Modules) -> Self {
        let mut process = Self::default();
        for line in maps.lines() {
            let Some((at, rights, offset, path)) = mapping(line) else { continue };
            if rights.as_bytes()[2] == b'x' {
                process.add_code(tid, at, offset, path, modules);
            }
        }
        process
    }

    fn add_code(&mut self, tid: u32, at: Range<u64>, offset: u64, path: &str, modules: &mut Modules) {
        let root = PathBuf::from(format!("/proc/{tid}/root{path}"));
        let code = path.starts_with('/').then(|| modules.get(path, &root)).flatten();
        let stated = code.as_ref().and_then(|code| code.address(offset)).unwrap_or(0);
        let bias = if code.is_some() { at.start.wrapping_sub(stated) } else { 0 };
        if let Some(code) = &code {
            let range = |section: &super::modules::Section| {
                section.address..section.address + section.bytes.len() as u64
            };
            let info = ExplicitModuleSectionInfo {
                eh_frame_svma: code.eh_frame.as_ref().map(range),
                eh_frame: code.eh_frame.as_ref().map(|section| Arc::clone(&section.bytes)),
                eh_frame_hdr_svma: code.eh_frame_hdr.as_ref().map(range),
                eh_frame_hdr: code.eh_frame_hdr.as_ref().map(|section| Arc::clone(&section.bytes)),
                ..ExplicitModuleSectionInfo::default()
            };
            self.unwinder.add_module(framehop::Module::new(path.to_owned(), at.clone(), bias, info));
        }
        self.code.push(Mapped { at, bias, code });
    }

    /// Whether there is code at an address.
    pub(super) fn knows(&self, pc: u64) -> bool {
        self.mapped(pc).is_some()
    }

    fn mapped(&self, address: u64) -> Option<&Mapped> {
        let after = self.code.partition_point(|mapped| mapped.at.end <= address);
        self.code.get(after).filter(|mapped| mapped.at.start <= address)
    }

    /// Walks a thread's stack, which is its memory from the stack pointer on.
    pub(super) fn walk(&mut self, registers: Registers, stack: &[u8]) -> Walk {
        let word = |address: u64| {
            let at = usize::try_from(address.checked_sub(registers.sp).ok_or(())?).map_err(drop)?;
            let bytes = stack.get(at..at.checked_add(8).ok_or(())?).ok_or(())?;
            Ok(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
        };
        let fp = registers.fp.or_else(|| self.frame_pointer(registers.sp, stack)).unwrap_or(0);
        let mut read = word;
        let start = start(registers, fp);
        let mut walk = self.unwinder.iter_frames(registers.pc, start, &mut self.cache, &mut read);
        let mut found = Vec::new();
        while found.len() < MOST_FRAMES
            && let Ok(Some(frame)) = walk.next()
        {
            found.push(frame);
        }
        let frames = found.iter().map_while(|frame| self.frame(frame.address_for_lookup())).collect();
        let mut words = stack.chunks_exact(8).enumerate();
        let mut place = |address: u64| {
            let at = words.find(|(_, word)| **word == address.to_ne_bytes()).map(|(at, _)| 8 * at);
            at.map(|at| (at, address))
        };
        let returns: Vec<_> = found.iter().skip(1).map_while(|frame| place(frame.address())).collect();
        Walk { frames, is_whole: returns.len() + 1 == found.len(), returns }
    }

    /// The frame of an address; `None` if there is no code.
    fn frame(&self, address: u64) -> Option<Frame> {
        let mapped = self.mapped(address)?;
        let module = mapped.code.as_ref().map_or(ANONYMOUS, |code| code.module);
        Some(Frame { module, at: address.wrapping_sub(mapped.bias) })
    }

    fn frame_pointer(&self, sp: u64, stack: &[u8]) -> Option<u64> {
        let words = stack.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight")));
        let words: Vec<u64> = words.collect();
        let top = sp + stack.len() as u64;
        let found = words.windows(2).enumerate().find(|(at, pair)| {
            let here = sp + 8 * *at as u64;
            pair[0] > here && pair[0] < top && self.mapped(pair[1]).is_some()
        });
        found.map(|(at, _)| sp + 8 * at as u64)
    }
}

/// Where a walk begins. The link register of a thread that waits in a call is not told.
fn start(registers: Registers, fp: u64) -> Start {
    let first = if cfg!(target_arch = "aarch64") { 0 } else { registers.pc };
    Start::new(first, registers.sp, fp)
}

/// A line of `/proc/TID/maps`: where, the rights, the file's offset and its name.
fn mapping(line: &str) -> Option<(Range<u64>, &str, u64, &str)> {
    let mut words = line.splitn(6, ' ');
    let (from, to) = words.next()?.split_once('-')?;
    let (rights, offset) = (words.next()?, words.next()?);
    let path = words.nth(2).unwrap_or_default().trim_start();
    let number = |hex: &str| u64::from_str_radix(hex, 16).ok();
    (rights.len() == 4).then_some((number(from)?..number(to)?, rights, number(offset)?, path))
}
