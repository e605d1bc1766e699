//! Engines under supervision: `fake-engine`, which plays every fault, and the real llama.cpp server.

mod bench;

mod faults;
mod isolation;
mod llama;
