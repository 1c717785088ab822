//! The requests that change the tree: done underneath and noted, under the tape's lock.
//!
//! I own one function for each kind of change. What fails is not noted, except that what a short write
//! did write is. A fault that is injected comes before the change, which is then not done.

use super::{
    AtFlags, Done, Errno, FallocateFlags, FileAttr, FileExt, FileHandle, FileType, Gid, Handle, INodeNo,
    Mode, Node, OFlags, OsStr, Path, Recorder, RenameFlags, Request, Uid, errno, io, io_errno, names,
};
use crate::program::tape::tree::At;
use std::ops::Range;
use std::os::fd::AsRawFd;

impl Recorder {
    pub(super) fn write_at(
        &self,
        req: &Request,
        node: &Node,
        fh: FileHandle,
        offset: u64,
        bytes: &[u8],
        store: bool,
    ) -> Done<u32> {
        let call = if store { "store" } else { "write" };
        let handle = self.file(fh)?;
        let Handle::File(file) = &*handle else { return Err(Errno::EISDIR) };
        let mut reel = self.tape.lock();
        let who = reel.who(call, req.pid());
        let bytes = match self.meet(call) {
            None => bytes,
            Some(0) => &bytes[..bytes.len().div_ceil(2)],
            Some(errno) => return Err(Errno::from_i32(errno)),
        };
        let (mut done, mut error) = (0, None);
        while done < bytes.len() && error.is_none() {
            match file.write_at(&bytes[done..], offset + done as u64) {
                Ok(0) => error = Some(Errno::EIO),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => error = Some(io_errno(&e)),
            }
        }
        if let Some(ino) = reel.ino(node.host).filter(|_| done > 0) {
            reel.note_write(who, ino, offset, &bytes[..done]);
        }
        match error {
            Some(error) if done == 0 => Err(error),
            _ => Ok(u32::try_from(done).expect("a request is short")),
        }
    }

    pub(super) fn set_len(&self, req: &Request, node: &Node, len: u64) -> Done<()> {
        let mut reel = self.tape.lock();
        let who = reel.who("truncate", req.pid());
        self.fail("truncate")?;
        node.open(1).and_then(|file| file.set_len(len)).map_err(|e| io_errno(&e))?;
        reel.cut(who, node.host, len);
        Ok(())
    }

    pub(super) fn allocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        range: Range<u64>,
        mode: FallocateFlags,
    ) -> Done<()> {
        let (node, handle) = (self.nodes.get(ino)?, self.file(fh)?);
        let Handle::File(file) = &*handle else { return Err(Errno::EISDIR) };
        let mut reel = self.tape.lock();
        let who = reel.who("fallocate", req.pid());
        self.fail("fallocate")?;
        let before = node.stat()?.st_size.cast_unsigned();
        rustix::fs::fallocate(file, mode, range.start, range.end - range.start).map_err(errno)?;
        let after = node.stat()?.st_size.cast_unsigned();
        reel.allocated(who, node.host, range, mode, [before, after]);
        Ok(())
    }

    pub(super) fn set_owner_and_mode(
        &self,
        node: &Node,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Done<()> {
        if uid.is_some() || gid.is_some() {
            let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            rustix::fs::chownat(&node.fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
        }
        if let Some(mode) = mode.filter(|_| node.kind != FileType::Symlink) {
            rustix::fs::chmod(node.proc_path(), Mode::from_raw_mode(mode)).map_err(errno)?;
            let mut reel = self.tape.lock();
            if let Some(ino) = reel.ino(node.host) {
                reel.set_mode(ino, mode);
            }
        }
        Ok(())
    }

    /// What was just made: given to the caller, with the permission bits that the caller's own mask left, and
    /// looked up. The mask of this process is its own.
    fn made(
        &self,
        req: &Request,
        parent: &Node,
        name: &OsStr,
        mode: Option<u32>,
    ) -> Done<(std::sync::Arc<Node>, FileAttr)> {
        let ours = rustix::process::geteuid().as_raw();
        if req.uid() != ours || req.gid() != rustix::process::getegid().as_raw() {
            let (uid, gid) = (Uid::from_raw(req.uid()), Gid::from_raw(req.gid()));
            rustix::fs::chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(errno)?;
        }
        if let Some(mode) = mode {
            let how = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent.fd, name, how, Mode::empty()).map_err(errno)?;
            let path = format!("/proc/self/fd/{}", made.as_raw_fd());
            rustix::fs::chmod(path, Mode::from_raw_mode(mode & 0o7777)).map_err(errno)?;
        }
        self.nodes.find(parent, name)
    }

    pub(super) fn make_file(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        flags: i32,
    ) -> Done<(FileAttr, FileHandle)> {
        let parent = self.nodes.get(parent).map_err(|_| Errno::EACCES)?;
        let mut reel = self.tape.lock();
        let who = reel.who("open", req.pid());
        self.fail("open")?;
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&parent.fd, name, how, Mode::from_raw_mode(mode & 0o7777)).map_err(errno)?);
        let (node, attr) = self.made(req, &parent, name, Some(mode))?;
        reel.made_file(who, At { dir: parent.host, name: &names::text(name) }, &node.stat()?);
        let file = node.open(flags).map_err(|e| io_errno(&e))?;
        Ok((attr, self.nodes.add_handle(Handle::File(file))))
    }

    pub(super) fn make_node(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        rdev: u32,
    ) -> Done<FileAttr> {
        let parent = self.nodes.get(parent).map_err(|_| Errno::EACCES)?;
        let mut reel = self.tape.lock();
        let who = reel.who("mknod", req.pid());
        self.fail("mknod")?;
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        let bits = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(&parent.fd, name, kind, bits, u64::from(rdev)).map_err(errno)?;
        let (node, attr) = self.made(req, &parent, name, Some(mode))?;
        if node.kind == FileType::RegularFile {
            reel.made_file(who, At { dir: parent.host, name: &names::text(name) }, &node.stat()?);
        }
        Ok(attr)
    }

    pub(super) fn make_dir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32) -> Done<FileAttr> {
        let parent = self.nodes.get(parent).map_err(|_| Errno::EACCES)?;
        let mut reel = self.tape.lock();
        let who = reel.who("mkdir", req.pid());
        self.fail("mkdir")?;
        rustix::fs::mkdirat(&parent.fd, name, Mode::from_raw_mode(mode & 0o7777)).map_err(errno)?;
        let (node, attr) = self.made(req, &parent, name, Some(mode))?;
        reel.made_dir(who, At { dir: parent.host, name: &names::text(name) }, &node.stat()?);
        Ok(attr)
    }

    pub(super) fn make_symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
    ) -> Done<FileAttr> {
        let parent = self.nodes.get(parent).map_err(|_| Errno::EACCES)?;
        let mut reel = self.tape.lock();
        let who = reel.who("symlink", req.pid());
        self.fail("symlink")?;
        rustix::fs::symlinkat(target, &parent.fd, name).map_err(errno)?;
        let (_, attr) = self.made(req, &parent, name, None)?;
        let at = At { dir: parent.host, name: &names::text(name) };
        reel.made_symlink(who, at, names::text(target.as_os_str()));
        Ok(attr)
    }

    pub(super) fn make_link(
        &self,
        req: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
    ) -> Done<FileAttr> {
        let (node, parent) = (self.nodes.get(ino)?, self.nodes.get(parent).map_err(|_| Errno::EACCES)?);
        let mut reel = self.tape.lock();
        let who = reel.who("link", req.pid());
        self.fail("link")?;
        rustix::fs::linkat(&node.fd, "", &parent.fd, name, AtFlags::EMPTY_PATH).map_err(errno)?;
        let (_, attr) = self.nodes.find(&parent, name)?;
        let at = At { dir: parent.host, name: &names::text(name) };
        if node.kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(&node.fd, "", Vec::new()).map_err(errno)?;
            let target = std::os::unix::ffi::OsStrExt::from_bytes(target.as_bytes());
            reel.made_symlink(who, at, names::text(target));
        } else {
            reel.linked(who, at, &node.stat()?);
        }
        Ok(attr)
    }

    pub(super) fn remove(&self, req: &Request, parent: INodeNo, name: &OsStr, dir: bool) -> Done<()> {
        let parent = self.nodes.get(parent).map_err(|_| Errno::EACCES)?;
        let mut reel = self.tape.lock();
        let call = if dir { "rmdir" } else { "unlink" };
        let who = reel.who(call, req.pid());
        self.fail(call)?;
        let stat = rustix::fs::statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)?;
        let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&parent.fd, name, flags).map_err(errno)?;
        reel.removed(who, At { dir: parent.host, name: &names::text(name) }, &stat);
        Ok(())
    }

    pub(super) fn move_name(
        &self,
        req: &Request,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Done<()> {
        let (old, new) = (self.nodes.get(from.0)?, self.nodes.get(to.0).map_err(|_| Errno::EACCES)?);
        let mut reel = self.tape.lock();
        let who = reel.who("rename", req.pid());
        self.fail("rename")?;
        let look = |node: &Node, name| rustix::fs::statat(&node.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let (source, target) = (look(&old, from.1), look(&new, to.1));
        if flags.contains(RenameFlags::RENAME_WHITEOUT) {
            return Err(Errno::EINVAL);
        }
        let how = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        rustix::fs::renameat_with(&old.fd, from.1, &new.fd, to.1, how).map_err(errno)?;
        let Some(source) = source else { return Ok(()) };
        let (from, to) = (names::text(from.1), names::text(to.1));
        let names = [At { dir: old.host, name: &from }, At { dir: new.host, name: &to }];
        let exchanged = flags.contains(RenameFlags::RENAME_EXCHANGE);
        reel.renamed(who, names, &source, target.as_ref(), exchanged);
        Ok(())
    }
}
