//! Checkpoints from outside: what transformers computes with them, every form they come in, and
//! every way in which they can be broken.

#[allow(unreachable_pub, reason = "a crate of its own to the fuzz targets")]
#[path = "../../../fuzz/src/lib.rs"]
mod bodies;
mod checkpoint;
mod containers;
mod cuts;
mod families;
mod flips;
mod forms;
mod gguf;
mod goldens;
mod groups;
mod hostile;
mod integers;
mod loading;
#[allow(dead_code, reason = "some helpers are for the zoo alone")]
mod made_gguf;
mod reference;
mod replay;
mod steps;
mod tokenizers;
mod variants;
