//! A process's memory as a walk sees it: where its code is.
//!
//! I own the walk itself (framehop's) and the guess that it needs: of a thread that waits in a call the
//! frame pointer is not told. Most functions do not need it, or have called one that saved it. For one that
//! does, it is where the stack holds a word with a return address after it, from a call of that very
//! function if the call says what it calls.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, MayAllocateDuringUnwind, Unwinder};

use super::modules::{Code, Modules};
use super::{MOST_FRAMES, Registers};
use crate::program::recording::{ANONYMOUS, Frame};

/// A frame pointer that is not known: nothing can be read there.
const UNKNOWN: u64 = u64::MAX - 0xffff;

/// Where a process's code is.
#[derive(Default)]
pub(super) struct Process {
    /// Code, ascending.
    code: Vec<Mapped>,
    unwinder: UnwinderX86_64<Arc<[u8]>, MayAllocateDuringUnwind>,
    cache: Box<CacheX86_64<MayAllocateDuringUnwind>>,
}

/// A walk over a stack.
pub(super) struct Walk {
    /// The innermost first.
    pub(super) frames: Vec<Frame>,
    /// Where the return addresses were read, and what they are.
    pub(super) returns: Vec<(u64, u64)>,
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

    /// Walks a thread's stack; `stack` is its memory from the stack pointer on, `memory` all of it.
    pub(super) fn walk(&mut self, registers: Registers, stack: &[u8], memory: &File) -> Walk {
        let mut returns = Vec::new();
        let mut frames: Vec<Frame> = self.frame(registers.pc).into_iter().collect();
        let mut at = FrameAddress::from_instruction_pointer(registers.pc);
        let mut regs = UnwindRegsX86_64::new(registers.pc, registers.sp, UNKNOWN);
        // What is walked is a machine's own.
        while cfg!(target_arch = "x86_64") && frames.len() < MOST_FRAMES {
            let mut read = |address| word(registers.sp, stack, address).ok_or(());
            let mut next = regs;
            let mut found = self.unwinder.unwind_frame(at, &mut next, &mut self.cache, &mut read);
            if found.is_err()
                && regs.bp() == UNKNOWN
                && let Some(fp) =
                    self.frame_pointer(at.address_for_lookup(), &regs, registers.sp, stack, memory)
            {
                regs.set_bp(fp);
                next = regs;
                found = self.unwinder.unwind_frame(at, &mut next, &mut self.cache, &mut read);
            }
            let Some(address) = found.ok().flatten().and_then(FrameAddress::from_return_address) else {
                break;
            };
            let Some(frame) = self.frame(address.address_for_lookup()) else { break };
            // The return address is the last word of the frame that was left.
            returns.push((next.sp().wrapping_sub(8), address.address()));
            frames.push(frame);
            (at, regs) = (address, next);
        }
        Walk { frames, returns }
    }

    /// The frame of an address; `None` if there is no code.
    fn frame(&self, address: u64) -> Option<Frame> {
        let mapped = self.mapped(address)?;
        let module = mapped.code.as_ref().map_or(ANONYMOUS, |code| code.module);
        Some(Frame { module, at: address.wrapping_sub(mapped.bias) })
    }

    /// The frame pointer in a function that needs it, where none of those that it has called has saved it.
    fn frame_pointer(
        &self,
        address: u64,
        regs: &UnwindRegsX86_64,
        sp: u64,
        stack: &[u8],
        memory: &File,
    ) -> Option<u64> {
        let here = self.mapped(address)?;
        let function = here.code.as_ref().and_then(|code| {
            let start = code.function(address.wrapping_sub(here.bias))?;
            Some(start.wrapping_add(here.bias))
        });
        let top = sp + stack.len() as u64;
        let mut best: Option<(Fit, u64)> = None;
        for at in (regs.sp()..top).step_by(8) {
            let (Some(saved), Some(back)) = (word(sp, stack, at), word(sp, stack, at + 8)) else { break };
            let Some(caller) = self.mapped(back.wrapping_sub(1)) else { continue };
            let is_far = !std::ptr::eq(caller, here);
            let fit = match called(memory, back) {
                Some(Called::At(target)) if Some(target) == function => Fit::Sure,
                Some(Called::At(_)) if function.is_some() => continue,
                Some(_) if saved > at && saved < top => Fit::Likely,
                Some(Called::Somewhere) if is_far => Fit::Possible,
                _ => continue,
            };
            if best.is_none_or(|(known, _)| fit < known) {
                best = Some((fit, at));
            }
            if fit == Fit::Sure {
                break;
            }
        }
        best.map(|(_, at)| at)
    }
}

/// How well a place on the stack fits what a function pushes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The call before the return address is one of this function.
    Sure,
    /// It may be, and the saved frame pointer leads further up the stack.
    Likely,
    /// It may be.
    Possible,
}

/// What the call instruction before a return address calls.
enum Called {
    At(u64),
    Somewhere,
}

fn called(memory: &File, back: u64) -> Option<Called> {
    const LONGEST: usize = 7;
    let mut code = [0; LONGEST];
    memory.read_exact_at(&mut code, back.checked_sub(LONGEST as u64)?).ok()?;
    let distance = i32::from_le_bytes(code[3..].try_into().expect("four bytes"));
    let target = back.wrapping_add_signed(distance.into());
    if code[2] == 0xe8 {
        return Some(Called::At(stub(memory, target).unwrap_or(target)));
    }
    // FF /2, with what its operand needs; that of a call through a table of addresses is one.
    if code[1..3] == [0xff, 0x15] {
        return Some(number(memory, target).map_or(Called::Somewhere, Called::At));
    }
    let is_call = |len: usize| code[LONGEST - len] == 0xff && (code[LONGEST - len + 1] >> 3) & 7 == 2;
    [2, 3, 4, 6, 7].into_iter().any(is_call).then_some(Called::Somewhere)
}

/// Where the jump of a linker's stub leads.
fn stub(memory: &File, at: u64) -> Option<u64> {
    let mut code = [0; 11];
    memory.read_exact_at(&mut code, at).ok()?;
    // ENDBR64, and BND before the jump.
    let marked = 4 * usize::from(code[..4] == [0xf3, 0x0f, 0x1e, 0xfa]);
    let from = marked + usize::from(code[marked] == 0xf2);
    let distance = code[from..].strip_prefix(&[0xff, 0x25])?.get(..4)?;
    let distance = i32::from_le_bytes(distance.try_into().expect("four bytes"));
    number(memory, at.wrapping_add(from as u64 + 6).wrapping_add_signed(distance.into()))
}

fn number(memory: &File, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// A word of a stack that begins at `sp`.
fn word(sp: u64, stack: &[u8], address: u64) -> Option<u64> {
    let at = usize::try_from(address.checked_sub(sp)?).ok()?;
    let bytes = stack.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
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
