//! The zoo of broken and hostile checkpoints: each is refused with a message that says where and why.
