//! Bytes that begin at a cache line, so that no read of a packed block touches two.

use std::ops::{Deref, DerefMut};

use super::BLOCK_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
struct Line([u8; BLOCK_BYTES]);

/// Whole packed blocks, each of them one cache line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines(Vec<Line>);

impl Lines {
    /// So many lines that hold one byte all over.
    #[must_use]
    pub fn filled(byte: u8, count: usize) -> Self {
        Self(vec![Line([byte; BLOCK_BYTES]); count])
    }
}

impl Deref for Lines {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: a line is its bytes and nothing else, as large as they are.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * BLOCK_BYTES) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [u8] {
        let bytes = self.0.len() * BLOCK_BYTES;
        // SAFETY: as above, and every pattern of bits is a line.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bytes_that_begin_where_a_cache_line_does() {
        for count in 0..9 {
            let mut lines = Lines::filled(7, count);
            assert!(lines.as_ptr().addr().is_multiple_of(64));
            assert_eq!(*lines, vec![7; 64 * count]);
            lines.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
            let copy = lines.clone();
            assert!(copy == lines && copy.iter().enumerate().all(|(at, &byte)| byte == at as u8));
        }
    }
}
