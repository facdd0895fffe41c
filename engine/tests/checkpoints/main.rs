//! Checkpoints from outside: what transformers computes with them, every form they come in, and
//! every way in which they can be broken.

mod checkpoint;
mod containers;
mod families;
mod forms;
mod gguf;
mod gguf_hostile;
mod goldens;
mod hostile;
mod integers;
mod reference;
mod steps;
mod tokenizers;
mod variants;
