//! What breaks: bit flips of packed weights and of the KV cache, and their statistics.

mod address;
mod parse;
mod space;

pub use address::{Address, AddressError, AnyAddress, PhysicalAddress};
pub use space::{Space, Target};
