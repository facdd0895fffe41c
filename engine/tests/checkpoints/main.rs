//! Checkpoints from outside: what transformers computes with them, every form they come in, and
//! every way in which they can be broken.

mod checkpoint;
mod containers;
mod cuts;
mod families;
mod flips;
mod forms;
mod gguf;
mod goldens;
mod hostile;
mod loading;
mod made_gguf;
mod reference;
mod steps;
mod tokenizers;
mod variants;
