//! What a budget costs a request: a lease's money is reserved and settled, and the journal is written at both, as a pod does it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use inference_operator::{
    api::{LeaseGrant, NanoUsd, ReplicaBudget, WindowEnd},
    policy::budget::journal::{Process, boot_id},
    runtime::{
        backends::{Journal, Leased, kernel},
        clock::Clock,
    },
};
use jiff::Timestamp;

/// A request may take so long for it.
const BAR: Duration = Duration::from_micros(2);
const ROUNDS: usize = 50;
const REQUESTS: u32 = 20_000;

/// The pod's emptyDir is in memory, as this folder is.
const MEMORY: &str = "/dev/shm";

fn leased(folder: &Path) -> Leased {
    let process = Process {
        kernel: kernel().unwrap(),
        boot: 1,
    };
    let journal = Journal::open(folder, process).unwrap();
    let leased = Leased::new(boot_id(1), Some(journal), Clock::start(), Arc::default());
    leased.told(&ReplicaBudget {
        sequence: 1,
        window: WindowEnd { number: 1, end: None },
        leases: vec![LeaseGrant {
            id: 1,
            boot_id: boot_id(1),
            window: 1,
            granted: NanoUsd(u64::MAX / 2),
            recall_to: None,
        }],
        denied: None,
    });
    leased
}

/// Time of one request, with others in flight.
fn round(leased: &Leased) -> Duration {
    let started = Instant::now();
    for _ in 0..REQUESTS {
        let claim = leased.reserve(NanoUsd(1_000), Timestamp::now()).unwrap();
        let _ = leased.settle(claim, NanoUsd(700));
    }
    started.elapsed() / REQUESTS
}

fn main() {
    let folder = tempfile::tempdir_in(MEMORY).unwrap();
    let leased = leased(folder.path());
    let mut rounds: Vec<Duration> = (0..ROUNDS).map(|_| round(&leased)).collect();
    rounds.sort();
    let (best, median) = (rounds[0], rounds[ROUNDS / 2]);
    println!(
        "FIGURE budget, reserve + journal + settle, ns a request: median {}, best {}",
        median.as_nanos(),
        best.as_nanos()
    );
    assert!(median <= BAR, "{median:?} is more than {BAR:?}");
}
