//! The one memory map: a file as bytes without reading it first.
//!
//! Invariant: only [`super::source`] makes one, read-only, of a regular file, and only when asked.

#![allow(unsafe_code, reason = "a memory map is a promise about other processes")]

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A read-only map of a whole file.
#[derive(Debug)]
pub(super) struct Map(memmap2::Mmap);

impl Map {
    /// Maps a file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only, so nothing here writes through it. That no
        // other process cuts or rewrites the file meanwhile is what the caller asserts by asking
        // for a map; that is why reading into memory is the default.
        unsafe { memmap2::Mmap::map(file) }.map(Self)
    }
}

impl Map {
    /// Lets go of the pages under a part of the map; whoever reads it again reads the file again.
    pub(super) fn release(&self, part: &[u8]) {
        let begin = (part.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
        if begin > self.0.len() || part.len() > self.0.len() - begin {
            return;
        }
        #[cfg(unix)]
        {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the pages of a read-only map of a file hold nothing but the file, so a page
            // that was let go has the same bytes when it is read again.
            let released = unsafe { self.0.unchecked_advise_range(advice, begin, part.len()) };
            // A system that does not listen keeps the pages, as it would have without a word.
            drop(released);
        }
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
