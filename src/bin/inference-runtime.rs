//! inference-runtime.
fn main() {}
