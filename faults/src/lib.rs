//! What breaks: bit flips of packed weights and of the KV cache, and their statistics.

mod address;
mod draw;
mod fault;
mod inject;
mod interval;
mod overlay;
mod parse;
mod space;
mod special;

pub use address::{Address, AddressError, AnyAddress, PhysicalAddress};
pub use draw::{FORMAT_VERSION, Identity, TrialRng};
pub use fault::{Fault, UnusedCode};
pub use inject::{Faulty, Strike, embed_with};
pub use interval::{MOST_TRIALS, RateInterval, clopper_pearson};
pub use overlay::Overlay;
pub use space::{Space, Target};
