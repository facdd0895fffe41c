//! What a journal is written to: a file, or in tests something that fails like one.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};

/// Something that is appended to.
pub(super) trait Medium: Write + Send + Debug {
    /// Waits until what was written would survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts off what stands behind a length.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
