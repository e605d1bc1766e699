//! What a budget costs a request: a lease's money is reserved and settled, and the journal is written at both, as a pod does it. Beside
//! it, measured in the same run, the two bare writes to the journal's file without which it could not survive a `kill -9`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench fails by panicking"
)]

use std::{
    fs::{self, File},
    hint::black_box,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use criterion::Criterion;
use inference_operator::{
    api::{LeaseGrant, NanoUsd, ReplicaBudget, WindowEnd},
    policy::budget::journal::{Process, RECORD, boot_id},
    runtime::{
        backends::{Journal, Leased, kernel},
        clock::Clock,
    },
};
use jiff::Timestamp;
use serde_json::Value;

/// A request may take so long for it.
const BAR: Duration = Duration::from_micros(2);

/// The pod's emptyDir is in memory, as this folder is.
const MEMORY: &str = "/dev/shm";

/// Where criterion keeps what it measured.
const ESTIMATES: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/criterion");

const BUDGET: &str = "budget";
const WRITES: &str = "two bare writes";

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

fn request(leased: &Leased) {
    let claim = leased.reserve(NanoUsd(1_000), Timestamp::now()).unwrap();
    black_box(leased.settle(claim, NanoUsd(700)));
}

fn two_writes(file: &File, record: &[u8]) {
    for at in [0, RECORD as u64] {
        file.write_all_at(black_box(record), at).unwrap();
    }
}

/// Criterion's own estimate of the median, as it has written it down: what else the machine does moves it least.
fn estimate(name: &str) -> Duration {
    let path: PathBuf = [ESTIMATES, name, "new", "estimates.json"].iter().collect();
    let all: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let nanos = all["median"]["point_estimate"].as_f64().unwrap();
    Duration::from_secs_f64(nanos / 1e9)
}

fn main() {
    let folder = tempfile::tempdir_in(MEMORY).unwrap();
    let leased = leased(folder.path());
    let (file, record) = (tempfile::tempfile_in(MEMORY).unwrap(), [1; RECORD]);
    let mut criterion = Criterion::default().output_directory(Path::new(ESTIMATES));
    criterion.bench_function(BUDGET, |bencher| bencher.iter(|| request(&leased)));
    criterion.bench_function(WRITES, |bencher| bencher.iter(|| two_writes(&file, &record)));
    let (budget, writes) = (estimate(BUDGET), estimate(WRITES));
    println!(
        "FIGURE budget, reserve + journal + settle, ns a request: {}",
        budget.as_nanos()
    );
    println!(
        "FIGURE budget, the same in two bare writes of a record: {:.2}",
        budget.as_secs_f64() / writes.as_secs_f64()
    );
    assert!(budget <= BAR, "{budget:?} is more than {BAR:?}");
}
