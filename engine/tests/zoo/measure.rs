//! What a load costs, in bytes that were asked of the allocator: a measure of memory and of work
//! that no clock and no other process disturbs.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard};

use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// One measurement at a time: the allocator counts for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits until nobody else measures.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The result of some work, and all bytes that it asked for, those given back included: never less
/// than what it held at any one time.
pub(crate) fn cost<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.total_allocated();
    let result = work();
    (result, MEMORY.total_allocated() - before)
}
