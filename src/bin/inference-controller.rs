//! inference-controller.
fn main() {}
