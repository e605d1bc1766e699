//! What a process leaves behind for the next one of its pod: a small file in the pod's emptyDir, written at every reservation and every
//! settlement (design section 8). It survives the process, not the node: a record of an earlier start of the kernel is worth nothing,
//! because the last writes before a crash of the node never reached the disk.
//!
//! The file has a fixed number of slots. A slot is two copies of one record, written in turn, so that a copy torn by the end of the
//! process leaves the one before: a torn reservation was never sent, and a torn settlement is uncertain.

use std::collections::BTreeMap;

use super::purse::Held;
use crate::api::{EndedProcess, LeaseReport, NanoUsd};

/// Bytes of a record.
pub const RECORD: usize = 64;
/// Slots of a journal.
pub const SLOTS: usize = 32;
/// Bytes of a journal.
pub const SIZE: usize = SLOTS * 2 * RECORD;
/// Processes that a journal speaks of.
const PROCESSES: usize = 8;

/// Fills a checksum that zeros do not have.
const SALT: u64 = 0x6a6f_7572_6e61_6c31;

/// What is known of one lease, or, with lease 0, that a process existed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Raised with every write of the slot.
    pub serial: u64,
    /// The start of the kernel.
    pub kernel: u64,
    /// The process; 0 for a slot that is free.
    pub boot: u64,
    /// The lease.
    pub lease: u64,
    /// Nano-USD that providers reported; of a process: its ordinal among those of its pod.
    pub settled: u64,
    /// Nano-USD of requests that ended without a report.
    pub uncertain: u64,
    /// Nano-USD of requests in flight.
    pub reserved: u64,
}

impl Record {
    /// The record as it is written.
    #[must_use]
    pub fn bytes(&self) -> [u8; RECORD] {
        let words = self.words();
        let mut bytes = [0; RECORD];
        for (word, part) in words.iter().chain([&checksum(&words)]).zip(bytes.chunks_exact_mut(8)) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Where it is written: the two copies of a slot take turns.
    #[must_use]
    pub const fn offset(&self, slot: usize) -> usize {
        (slot * 2 + (self.serial & 1) as usize) * RECORD
    }

    const fn words(&self) -> [u64; 7] {
        [
            self.serial,
            self.kernel,
            self.boot,
            self.lease,
            self.settled,
            self.uncertain,
            self.reserved,
        ]
    }

    fn read(bytes: &[u8]) -> Copy {
        if bytes == [0; RECORD] {
            return Copy::Empty;
        }
        let mut words = [0; 8];
        for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = part.try_into().map_or(0, u64::from_le_bytes);
        }
        let [serial, kernel, boot, lease, settled, uncertain, reserved, sum] = words;
        let record = Self {
            serial,
            kernel,
            boot,
            lease,
            settled,
            uncertain,
            reserved,
        };
        if sum == checksum(&record.words()) {
            Copy::Whole(record)
        } else {
            Copy::Torn
        }
    }
}

fn checksum(words: &[u64; 7]) -> u64 {
    let mix = |sum: u64, word: &u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    words.iter().fold(SALT, mix)
}

enum Copy {
    Empty,
    Whole(Record),
    Torn,
}

enum Slot {
    Free,
    Used(Record),
    Damaged,
}

/// The newer whole copy of a slot.
fn slot(copies: &[u8]) -> Slot {
    let (first, second) = copies.split_at(copies.len().min(RECORD));
    match (Record::read(first), Record::read(second)) {
        (Copy::Whole(a), Copy::Whole(b)) => Slot::Used(if a.serial > b.serial { a } else { b }),
        (Copy::Whole(one), _) | (_, Copy::Whole(one)) => Slot::Used(one),
        // The first write of a slot was torn: nothing was sent on it. With two torn copies nobody knows.
        (Copy::Empty, _) | (_, Copy::Empty) => Slot::Free,
        (Copy::Torn, Copy::Torn) => Slot::Damaged,
    }
}

/// What a new process finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last word of every process before it, the newest last.
    pub ended: Vec<EndedProcess>,
    /// Slots in use: they stay until the ledger has folded their leases.
    pub slots: Slots,
}

/// Reads the journal that another process of this pod left, at the start `kernel` of the kernel.
#[must_use]
pub fn recover(bytes: &[u8], kernel: u64) -> Recovered {
    let mut slots = Slots::default();
    let mut damaged = bytes.len() != SIZE;
    for (place, copies) in slots.0.iter_mut().zip(bytes.chunks_exact(2 * RECORD)) {
        match slot(copies) {
            Slot::Used(record) => *place = record,
            Slot::Free => {}
            Slot::Damaged => damaged = true,
        }
    }
    let of_kernel = slots
        .0
        .iter()
        .filter(|record| record.boot != 0 && record.kernel == kernel);
    let mut processes = BTreeMap::<u64, Vec<Record>>::new();
    for record in of_kernel {
        processes.entry(record.boot).or_default().push(*record);
    }
    let mut processes: Vec<_> = processes.into_iter().collect();
    processes.sort_by_key(|(_, records)| started(records));
    let surplus = processes.len().saturating_sub(PROCESSES);
    let ended = processes.into_iter().skip(surplus);
    let ended = ended
        .map(|(boot, records)| last_word(boot, &records, damaged))
        .collect();
    Recovered { ended, slots }
}

/// Every process leaves a record of itself, with an ordinal above its predecessors'.
fn started(records: &[Record]) -> Option<u64> {
    records
        .iter()
        .find(|record| record.lease == 0)
        .map(|record| record.settled)
}

fn last_word(boot: u64, records: &[Record], damaged: bool) -> EndedProcess {
    let leases = records
        .iter()
        .filter(|record| record.lease != 0)
        .map(|record| LeaseReport {
            id: record.lease,
            settled: NanoUsd(record.settled),
            uncertain: NanoUsd(record.uncertain.saturating_add(record.reserved)),
            ..LeaseReport::default()
        });
    EndedProcess {
        boot_id: boot_id(boot),
        leases: leases.collect(),
        damaged: damaged || started(records).is_none(),
    }
}

/// How a process is called outside.
#[must_use]
pub fn boot_id(boot: u64) -> String {
    format!("{boot:016x}")
}

/// A process, at one start of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The start of the kernel.
    pub kernel: u64,
    /// The process; never 0.
    pub boot: u64,
}

/// No slot is free.
#[derive(Debug, thiserror::Error)]
#[error("the journal has no room for another lease")]
pub struct Full;

/// What every slot holds, as it was written last.
#[derive(Debug, PartialEq, Eq)]
pub struct Slots([Record; SLOTS]);

impl Default for Slots {
    fn default() -> Self {
        Self([Record::default(); SLOTS])
    }
}

impl Slots {
    /// The process begins: it writes a record of itself with `put`, which is given the place in the file. Before that the damage to
    /// its predecessors' records is made to last, by taking away their records of themselves. After it the file gets its whole length.
    pub fn begin<E: From<Full>>(
        &mut self,
        process: Process,
        ended: &[EndedProcess],
        mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let damaged = |record: &Record| ended.iter().any(|e| e.damaged && e.boot_id == boot_id(record.boot));
        for slot in 0..SLOTS {
            if self
                .0
                .get(slot)
                .is_some_and(|record| record.boot != 0 && record.lease == 0 && damaged(record))
            {
                self.write(slot, Record::default(), &mut put)?;
            }
        }
        let processes = self.0.iter().filter(|record| record.boot != 0 && record.lease == 0);
        let newest = processes.map(|record| record.settled).max().unwrap_or(0);
        let slot = self.vacant(process).ok_or(Full)?;
        let itself = Record {
            settled: newest.saturating_add(1),
            ..process.record()
        };
        self.write(slot, itself, &mut put)
    }

    /// Writes what has changed of the leases of `process`.
    pub fn note<E: From<Full>>(
        &mut self,
        process: Process,
        leases: &[Held],
        mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for held in leases {
            let known = self.slot_of(process, held.id);
            let slot = known.or_else(|| self.vacant(process)).ok_or(Full)?;
            let record = Record {
                lease: held.id,
                settled: held.settled,
                uncertain: held.uncertain,
                reserved: held.reserved,
                ..process.record()
            };
            self.write(slot, record, &mut put)?;
        }
        Ok(())
    }

    /// Frees the slots of leases that are no longer held and of processes that need no last word any more.
    pub fn tidy<E>(
        &mut self,
        process: Process,
        leases: &[Held],
        ended: &[EndedProcess],
        mut put: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let keep = |record: &Record| {
            let same_kernel = record.kernel == process.kernel;
            let own =
                record.boot == process.boot && (record.lease == 0 || leases.iter().any(|held| held.id == record.lease));
            same_kernel && (own || ended.iter().any(|ended| ended.boot_id == boot_id(record.boot)))
        };
        for slot in 0..SLOTS {
            if self.0.get(slot).is_some_and(|record| record.boot != 0 && !keep(record)) {
                self.write(slot, Record::default(), &mut put)?;
            }
        }
        Ok(())
    }

    fn slot_of(&self, process: Process, lease: u64) -> Option<usize> {
        let same = |record: &Record| record.boot == process.boot && record.lease == lease;
        self.0.iter().position(same)
    }

    /// A slot that is free, or holds what an earlier start of the kernel left.
    fn vacant(&self, process: Process) -> Option<usize> {
        let vacant = |record: &Record| record.boot == 0 || record.kernel != process.kernel;
        self.0.iter().position(vacant)
    }

    /// Writes a slot that differs, over the older of its copies.
    fn write<E>(
        &mut self,
        slot: usize,
        next: Record,
        put: &mut impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(record) = self.0.get_mut(slot) else {
            return Ok(());
        };
        let serial = record.serial;
        if (Record { serial, ..next }) == *record {
            return Ok(());
        }
        let next = Record {
            serial: serial.wrapping_add(1),
            ..next
        };
        put(next.offset(slot), &next.bytes())?;
        *record = next;
        Ok(())
    }
}

impl Process {
    fn record(self) -> Record {
        Record {
            kernel: self.kernel,
            boot: self.boot,
            ..Record::default()
        }
    }
}

#[cfg(test)]
mod tests;
