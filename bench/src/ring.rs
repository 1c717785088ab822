//! A write and its sync through io_uring, one linked to the other.
//!
//! I own the one unsafe call that a ring needs. I do not know what is compared with it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

/// A ring over a file.
pub(crate) struct Ring {
    ring: IoUring,
    file: File,
}

impl Ring {
    /// A ring for one write at a time.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(4)?, file })
    }

    /// Writes, and syncs what was written.
    #[expect(unsafe_code, reason = "the kernel reads the bytes while the call goes on")]
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let fd = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let write = opcode::Write::new(fd, bytes.as_ptr(), len).offset(offset).build();
        let sync = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
        let mut queue = self.ring.submission();
        // SAFETY: `bytes` outlives the call, which returns when both are done.
        let pushed = unsafe { queue.push_multiple(&[write.flags(squeue::Flags::IO_LINK), sync]) };
        pushed.map_err(io::Error::other)?;
        drop(queue);
        self.ring.submit_and_wait(2)?;
        let results: Vec<i32> = self.ring.completion().map(|done| done.result()).collect();
        match results.iter().find(|result| **result < 0) {
            Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
            None if results.len() < 2 => Err(io::Error::other("a part of it was not done")),
            None => Ok(()),
        }
    }
}
