//! What breaks: bit flips of packed weights and of the KV cache, and their statistics.
