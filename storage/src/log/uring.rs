//! Writes past the page cache by io_uring: registered buffers, several writes under way, each
//! durable when it completes.

#![allow(unsafe_code, reason = "the kernel reads memory that this module owns")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use super::disk::{Completion, Direct, Disk, DiskFile, Files};
use super::segment::BLOCK;

/// Bytes of one write at most.
const SLOT_BYTES: usize = 256 << 10;
/// Writes under way at most. All slots together are the 4 MiB that a process without privileges
/// may have locked besides what the edge takes.
const SLOTS: usize = 16;

/// Zeroed memory at block boundaries.
struct Pages {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory that only its owner has the address of.
unsafe impl Send for Pages {}

impl Pages {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, BLOCK).expect("a valid layout");
        // SAFETY: the layout has a size above zero, by the constants of this module.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        Self { start: start.unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// Files as they are, and past the page cache where durability is waited for.
#[derive(Debug)]
pub(super) struct UringFiles;

impl Disk for UringFiles {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        Files.open(path, create)
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Files.open_to_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Files.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        Files.list(folder)
    }

    fn is_folder(&self, path: &Path) -> bool {
        Files.is_folder(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        Files.create_folder(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        Files.sync_folder(folder)
    }

    fn direct(&self) -> io::Result<Option<Box<dyn Direct>>> {
        Ok(Some(Box::new(Ring::new()?)))
    }
}

/// One ring, one file at a time.
pub(super) struct Ring {
    /// Dropped before the memory it works on; nothing is under way by then (see `drop`).
    ring: IoUring,
    file: Option<File>,
    slots: Option<Pages>,
    free: Vec<usize>,
    /// Bytes and tag of the write under way in each slot.
    under_way: [(usize, u64); SLOTS],
}

impl Ring {
    pub(super) fn new() -> io::Result<Self> {
        let ring: IoUring = IoUring::builder().build(SLOTS as u32)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::other("this kernel's io_uring cannot wait with a timeout"));
        }
        let slots = Pages::new(SLOTS * SLOT_BYTES);
        let part = |slot: usize| libc::iovec {
            // SAFETY: `slot` is below `SLOTS`, so the result is inside the allocation.
            iov_base: unsafe { slots.start.as_ptr().add(slot * SLOT_BYTES) }.cast(),
            iov_len: SLOT_BYTES,
        };
        let parts: Vec<_> = (0..SLOTS).map(part).collect();
        // SAFETY: the parts lie in `slots`, which outlives the ring.
        unsafe { ring.submitter().register_buffers(&parts)? };
        // A system that lets rings be made and not be used says so now, not at the first commit.
        ring.submitter().submit_with_args(0, &SubmitArgs::new())?;
        Ok(Self {
            ring,
            file: None,
            slots: Some(slots),
            free: (0..SLOTS).collect(),
            under_way: [(0, 0); SLOTS],
        })
    }

    /// The memory of a free slot.
    fn memory(&mut self, slot: usize) -> &mut [u8] {
        let pages = self.slots.as_ref().expect("taken away by `drop` only");
        // SAFETY: inside the allocation as `slot` is below `SLOTS`; slots do not overlap, the
        // kernel has none that is free, and the borrow of `self` keeps anyone else away.
        unsafe {
            std::slice::from_raw_parts_mut(pages.start.as_ptr().add(slot * SLOT_BYTES), SLOT_BYTES)
        }
    }

    fn count_under_way(&self) -> usize {
        SLOTS - self.free.len()
    }
}

impl Direct for Ring {
    fn attach(&mut self, path: &Path) -> io::Result<()> {
        if self.count_under_way() > 0 {
            return Err(io::Error::other("writes to another file are still under way"));
        }
        self.file = None;
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path)?;
        self.file = Some(file);
        Ok(())
    }

    fn write_bytes_max(&self) -> usize {
        SLOT_BYTES
    }

    fn room(&self) -> usize {
        self.free.len()
    }

    fn submit(&mut self, tag: u64, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let slot = self.free.pop().expect("the caller asked for room");
        let memory = self.memory(slot);
        let mut len = 0;
        for part in parts {
            memory[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        let padded = len.next_multiple_of(BLOCK);
        memory[len..padded].fill(0);
        let start = memory.as_ptr();
        let file = self.file.as_ref().expect("a file is attached");
        let write =
            opcode::WriteFixed::new(Fd(file.as_raw_fd()), start, padded as u32, slot as u16)
                .offset(offset)
                .rw_flags(libc::RWF_DSYNC)
                .build()
                .user_data(slot as u64);
        self.under_way[slot] = (padded, tag);
        // SAFETY: the slot's memory and the file stay until the completion: the slot is not free
        // before it, `attach` takes no other file before it, and `drop` waits for it.
        let pushed = unsafe { self.ring.submission().push(&write) };
        if pushed.is_err() {
            self.free.push(slot);
            return Err(io::Error::other("the ring takes no more"));
        }
        Ok(())
    }

    fn complete(&mut self, wait: Duration, done: &mut Vec<Completion>) -> io::Result<()> {
        let wanted = usize::from(!wait.is_zero() && self.count_under_way() > 0);
        let time = Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos());
        let args = SubmitArgs::new().timespec(&time);
        match self.ring.submitter().submit_with_args(wanted, &args) {
            Ok(_) => {}
            // The time is over, or a signal came: what is complete is taken all the same.
            Err(error)
                if [Some(libc::ETIME), Some(libc::EINTR), Some(libc::EBUSY)]
                    .contains(&error.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        for entry in self.ring.completion() {
            let slot = entry.user_data() as usize;
            let (len, tag) = self.under_way[slot];
            let result = match entry.result() {
                written if written == len as i32 => Ok(()),
                error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                _ => Err(io::ErrorKind::WriteZero.into()),
            };
            self.free.push(slot);
            done.push(Completion { tag, result });
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.count_under_way() > 0 {
            if self.complete(Duration::from_secs(1), &mut done).is_err() {
                // The kernel may still read it.
                std::mem::forget(self.slots.take());
                return;
            }
        }
    }
}
