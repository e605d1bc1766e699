//! The first process of every pod: it holds the pod's namespaces and sleeps.

fn main() {
    loop {
        std::thread::park();
    }
}
