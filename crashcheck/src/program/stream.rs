//! Streams between us and a program of a stranger, bounded in bytes and in time.
//!
//! I own our end of a pipe. (S1) It is read and written without waiting; [`ready`] waits, until a moment that is
//! told. (S2) An [`Inlet`] keeps a bounded part of what comes, and says when it was more. (S3) One look takes no more
//! than what was there when it began, so that a program that writes for ever holds nobody up. I do not know what is
//! said, nor what becomes of a program that says too much.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::ioctl_fionread;

/// How much of a line is kept.
pub const MOST_LINE: usize = 1 << 16;

/// Which part of what comes is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// So many bytes from the beginning.
    First(usize),
    /// So many bytes to the end.
    Last(usize),
}

/// A stream that is read.
#[derive(Debug)]
pub struct Inlet {
    from: File,
    keep: Keep,
    bytes: Vec<u8>,
    over: bool,
    closed: bool,
}

/// A stream that is written.
#[derive(Debug)]
pub struct Outlet {
    to: File,
    rest: Vec<u8>,
}

/// Our end of a pipe, which is never waited for.
///
/// # Errors
/// If the kernel says no.
pub fn unwaiting(end: impl Into<OwnedFd>) -> io::Result<File> {
    let end = File::from(end.into());
    let flags = OFlag::from_bits_retain(fcntl(end.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(end.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(end)
}

/// Reads what is in a pipe now and gives it on piece by piece; says whether the stream has ended.
///
/// # Errors
/// If it cannot be read.
pub fn read_present(from: &mut File, take: &mut dyn FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = [0; 1 << 14];
    // An empty pipe is asked once, whether its other end is closed.
    let mut left = usize::try_from(ioctl_fionread(&*from)?).unwrap_or(usize::MAX).max(1);
    while left > 0 {
        let most = left.min(buffer.len());
        match from.read(&mut buffer[..most]) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                take(&buffer[..n]);
                left -= n;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

impl Inlet {
    /// A stream of which a part is kept.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn new(from: impl Into<OwnedFd>, keep: Keep) -> io::Result<Self> {
        Ok(Self { from: unwaiting(from)?, keep, bytes: Vec::new(), over: false, closed: false })
    }

    /// Takes what is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn take(&mut self) -> io::Result<()> {
        let Self { from, keep, bytes, over, closed } = self;
        if !*closed {
            *closed = read_present(from, &mut |piece| match *keep {
                Keep::First(most) => {
                    let room = most - bytes.len();
                    bytes.extend_from_slice(&piece[..piece.len().min(room)]);
                    *over |= piece.len() > room;
                }
                Keep::Last(most) => {
                    bytes.extend_from_slice(piece);
                    let more = bytes.len().saturating_sub(most);
                    bytes.drain(..more);
                }
            })?;
        }
        Ok(())
    }

    /// What is kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the first line of what is kept that has something in it.
    pub fn line(&mut self) -> Option<String> {
        let blank = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.bytes.drain(..blank);
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.bytes.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Whether something but blanks is kept.
    #[must_use]
    pub fn has_words(&self) -> bool {
        !self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// Whether more came than is kept from the beginning.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// To wait for more; nothing once it has ended.
    #[must_use]
    pub fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        (!self.closed).then(|| (self.from.as_fd(), PollFlags::POLLIN))
    }
}

impl Outlet {
    /// A stream to write to.
    ///
    /// # Errors
    /// If the kernel says no.
    pub fn new(to: impl Into<OwnedFd>) -> io::Result<Self> {
        Ok(Self { to: unwaiting(to)?, rest: Vec::new() })
    }

    /// What is to be written next.
    pub fn give(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Writes what the other end has room for.
    ///
    /// # Errors
    /// If the other end is closed.
    pub fn push(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            match self.to.write(&self.rest) {
                Ok(n) => drop(self.rest.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Whether all was written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// To wait for room; nothing if all was written.
    #[must_use]
    pub fn wanted(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        (!self.is_done()).then(|| (self.to.as_fd(), PollFlags::POLLOUT))
    }
}

/// Makes lines of pieces; of each its first [`MOST_LINE`] bytes.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<u8>,
    over: bool,
}

impl Lines {
    /// Takes a piece, and gives on each line that ends in it, and whether it was longer than what is kept.
    pub fn take(&mut self, piece: &[u8], each: &mut dyn FnMut(&str, bool)) {
        let mut parts = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = MOST_LINE - self.begun.len();
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            self.over |= part.len() > room;
            // The last part has no end yet.
            if parts.peek().is_some() {
                each(String::from_utf8_lossy(&self.begun).trim_end_matches('\r'), self.over);
                *self = Self::default();
            }
        }
    }
}

/// Waits until one of the ends has something for us; `false` if none has until then.
///
/// # Errors
/// If the kernel says no.
pub fn ready(ends: &[Option<(BorrowedFd<'_>, PollFlags)>], until: Instant) -> io::Result<bool> {
    let mut polled: Vec<PollFd<'_>> =
        ends.iter().flatten().map(|(end, what)| PollFd::new(*end, *what)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let millis = i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
        match poll(&mut polled, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::time::{Duration, Instant};

    use super::{Inlet, Keep, Lines, MOST_LINE, Outlet, ready};

    /// What is kept of 64 KiB in a pipe, and of a mebibyte that comes after it.
    fn kept(keep: Keep) -> Inlet {
        let (from, mut to) = io::pipe().unwrap();
        let mut inlet = Inlet::new(from, keep).unwrap();
        to.write_all(&[b'a'; 1 << 16]).unwrap();
        inlet.take().unwrap();
        let writer = std::thread::spawn(move || to.write_all(&[b'b'; 1 << 20]));
        while !inlet.is_closed() {
            inlet.take().unwrap();
        }
        writer.join().unwrap().unwrap();
        inlet
    }

    #[test]
    fn a_bounded_part_is_kept_of_what_comes() {
        let first = kept(Keep::First(1000));
        assert!(first.is_over() && first.bytes() == [b'a'; 1000]);
        let last = kept(Keep::Last(1000));
        assert!(!last.is_over() && last.bytes() == [b'b'; 1000]);
        let all = (1 << 20) + (1 << 16);
        let whole = kept(Keep::First(all));
        assert!(!whole.is_over() && whole.bytes().len() == all);
    }

    #[test]
    fn one_look_ends_although_a_program_writes_for_ever() {
        let (from, mut to) = io::pipe().unwrap();
        let mut inlet = Inlet::new(from, Keep::Last(1)).unwrap();
        let writer = std::thread::spawn(move || while to.write_all(&[b'y'; 1 << 12]).is_ok() {});
        for _ in 0..100 {
            inlet.take().unwrap();
        }
        drop(inlet);
        writer.join().unwrap();
    }

    #[test]
    fn lines_come_one_by_one() {
        let (from, mut to) = io::pipe().unwrap();
        let mut inlet = Inlet::new(from, Keep::First(100)).unwrap();
        to.write_all(b"one\r\n\n two\nthr").unwrap();
        inlet.take().unwrap();
        assert_eq!(inlet.line().as_deref(), Some("one"));
        assert!(inlet.has_words());
        assert_eq!(inlet.line().as_deref(), Some("two"));
        assert_eq!((inlet.line(), inlet.has_words()), (None, true));
    }

    #[test]
    fn a_line_is_cut_and_says_so() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let long = vec![b'x'; MOST_LINE];
        for piece in [&b"one\ntw"[..], b"o\r\n", &long, b"\n", &long, b"y", b"\nthree\nfour"] {
            lines.take(piece, &mut |line, over| seen.push((line.len(), over)));
        }
        let all = [(3, false), (3, false), (MOST_LINE, false), (MOST_LINE, true), (5, false)];
        assert_eq!(seen, all);
    }

    #[test]
    fn nobody_waits_for_a_reader_that_does_not_read() {
        let (from, to) = io::pipe().unwrap();
        let mut outlet = Outlet::new(to).unwrap();
        outlet.give(&vec![0; 1 << 20]);
        outlet.push().unwrap();
        assert!(!outlet.is_done());
        assert!(!ready(&[outlet.wanted()], Instant::now() + Duration::from_millis(20)).unwrap());
        drop(from);
        assert!(outlet.push().is_err());
    }
}
