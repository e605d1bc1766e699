use proptest::prelude::*;

use super::*;
use crate::{
    api::{LeaseGrant, ReplicaBudget, WindowEnd},
    policy::budget::purse::{Moment, Purse},
};

const NOW: Moment = Moment {
    wall: jiff::Timestamp::UNIX_EPOCH,
    since_start: std::time::Duration::ZERO,
};

const fn process(boot: u64) -> Process {
    Process { kernel: 1, boot }
}

/// A process with a lease of 100 nano-USD and its journal.
struct Running {
    file: Vec<u8>,
    slots: Slots,
    purse: Purse,
    process: Process,
}

impl Running {
    fn start(file: Vec<u8>, process: Process) -> Self {
        let Recovered { ended, slots } = recover(&file, process.kernel);
        let mut running = Self {
            file,
            slots,
            purse: Purse::new(boot_id(process.boot), ended.clone()),
            process,
        };
        let file = &mut running.file;
        running
            .slots
            .begin::<Full>(process, &ended, |at, bytes| put(file, at, bytes))
            .unwrap();
        running.file.resize(SIZE, 0);
        running
    }

    fn with_lease(mut self) -> Self {
        self.purse.take(&ReplicaBudget {
            sequence: 1,
            window: WindowEnd { number: 1, end: None },
            leases: vec![LeaseGrant {
                id: self.process.boot,
                boot_id: boot_id(self.process.boot),
                window: 1,
                granted: NanoUsd(100),
                recall_to: None,
            }],
            denied: None,
        });
        self.note();
        self
    }

    fn note(&mut self) {
        let (file, purse) = (&mut self.file, &self.purse);
        self.slots
            .note::<Full>(self.process, purse.held(), |at, bytes| put(file, at, bytes))
            .unwrap();
    }

    fn tidy(&mut self) {
        let (file, purse) = (&mut self.file, &self.purse);
        self.slots
            .tidy::<Full>(self.process, purse.held(), purse.ended(), |at, bytes| {
                put(file, at, bytes)
            })
            .unwrap();
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the journal's writer may fail")]
fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) -> Result<(), Full> {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// Settled and uncertain of the one lease, as the next process reads it.
fn left(file: &[u8], kernel: u64) -> Option<(u64, u64)> {
    let ended = recover(file, kernel).ended;
    let lease = ended.first()?.leases.first()?;
    Some((lease.settled.0, lease.uncertain.0))
}

#[test]
fn the_next_process_reads_what_was_settled_and_what_was_in_flight() {
    let mut running = Running::start(Vec::new(), process(7)).with_lease();
    let one = running.purse.reserve(NanoUsd(30), NOW).unwrap();
    let _two = running.purse.reserve(NanoUsd(40), NOW).unwrap();
    running.note();
    let _ = running.purse.settle(one, NanoUsd(12), NOW);
    running.note();
    assert_eq!(left(&running.file, 1), Some((12, 40)));
    assert_eq!(
        left(&running.file, 2),
        None,
        "after another start of the kernel it is worth nothing"
    );
}

#[test]
fn a_torn_write_leaves_the_state_before_it() {
    let mut running = Running::start(Vec::new(), process(7)).with_lease();
    let claim = running.purse.reserve(NanoUsd(30), NOW).unwrap();
    running.note();
    let before = running.file.clone();
    let _ = running.purse.settle(claim, NanoUsd(12), NOW);
    running.note();
    for torn in 1..RECORD {
        let changed = running.file.iter().zip(&before).position(|(a, b)| a != b).unwrap() / RECORD * RECORD;
        let mut file = before.clone();
        file[changed..changed + torn].copy_from_slice(&running.file[changed..changed + torn]);
        let found = left(&file, 1).unwrap();
        assert!(found == (0, 30) || found == (12, 0), "{torn}: {found:?}");
    }
}

#[test]
fn damage_is_said_and_stays_said() {
    let running = Running::start(Vec::new(), process(7)).with_lease();
    let cut = running.file[..2 * RECORD].to_vec();
    assert!(recover(&cut, 1).ended[0].damaged, "its lease's record is missing");
    let next = Running::start(cut, process(8));
    let again = recover(&next.file, 1).ended;
    assert_eq!(
        again
            .iter()
            .filter(|ended| !ended.damaged)
            .map(|ended| ended.boot_id.clone())
            .collect::<Vec<_>>(),
        [boot_id(8)]
    );
    let mut both = running.file.clone();
    let slot = 2 * RECORD;
    both[slot..slot + 2 * RECORD].fill(0xff);
    assert!(recover(&both, 1).ended[0].damaged, "no copy of a record can be read");
}

#[test]
fn the_last_eight_processes_are_spoken_of_and_their_slots_freed() {
    let mut file = Vec::new();
    for boot in 1..=40 {
        let mut running = Running::start(file, process(boot)).with_lease();
        running.tidy();
        file = running.file;
    }
    let ended = recover(&file, 1).ended;
    let boots: Vec<String> = ended.iter().map(|ended| ended.boot_id.clone()).collect();
    assert_eq!(
        boots,
        [40].map(boot_id),
        "each was told of its own lease only: its predecessors are folded"
    );
    let mut file = Vec::new();
    for boot in 1..=12 {
        file = Running::start(file, process(boot)).file;
    }
    let ended = recover(&file, 1).ended;
    assert_eq!(
        (ended.len(), ended[0].boot_id.clone(), ended[7].boot_id.clone()),
        (8, boot_id(5), boot_id(12))
    );
}

#[test]
fn a_journal_that_is_full_is_no_journal() {
    let mut slots = Slots::default();
    let held: Vec<Held> = (1..=SLOTS as u64 + 1)
        .map(|id| {
            let mut held = Held::default();
            held.id = id;
            held
        })
        .collect();
    assert!(slots.note::<Full>(process(1), &held, |_, _| Ok(())).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail(bytes in proptest::collection::vec(any::<u8>(), 0..SIZE + 10), kernel in any::<u64>()) {
        let _ = recover(&bytes, kernel);
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_not_after_a_flipped_bit(
        words in any::<[u64; 7]>(), bit in 0..RECORD * 8,
    ) {
        let [serial, kernel, boot, lease, settled, uncertain, reserved] = words;
        let record = Record { serial, kernel, boot, lease, settled, uncertain, reserved };
        let mut bytes = record.bytes();
        prop_assert!(matches!(Record::read(&bytes), Copy::Whole(read) if read == record));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(matches!(Record::read(&bytes), Copy::Torn | Copy::Empty));
    }
}
