//! The journal's file.
//!
//! Written with `pwrite`, which costs half a microsecond and needs no unsafe code: what the kernel has taken outlives the process as a
//! mapping would.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{
    api::EndedProcess,
    policy::budget::{
        journal::{Full, Process, Recovered, SIZE, Slots, recover},
        purse::Purse,
    },
};

/// Name of the file.
const FILE: &str = "budget";
/// A number of its own for every start of the kernel.
const KERNEL: &str = "/proc/sys/kernel/random/boot_id";

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("the journal of the budget: {0}")]
    Io(#[from] io::Error),
    /// No slot.
    #[error(transparent)]
    Full(#[from] Full),
}

/// The journal of this process.
#[derive(Debug)]
pub struct Journal {
    file: File,
    slots: Slots,
    process: Process,
}

impl Journal {
    /// Opens the journal in `folder`, gives the last words of the processes before, and begins.
    pub fn open(folder: &Path, process: Process) -> Result<(Self, Vec<EndedProcess>), JournalError> {
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(FILE))?;
        file.try_lock().map_err(io::Error::from)?;
        let Recovered { ended, mut slots } = recover(&fs::read(folder.join(FILE))?, process.kernel);
        slots.begin(process, &ended, |at, bytes| put(&file, at, bytes))?;
        file.set_len(SIZE as u64)?;
        let journal = Self { file, slots, process };
        Ok((journal, ended))
    }

    /// Writes what has changed of the leases.
    pub fn note(&mut self, purse: &Purse) -> Result<(), JournalError> {
        let Self { file, slots, process } = self;
        slots.note(*process, purse.held(), |at, bytes| put(file, at, bytes))
    }

    /// Forgets what the ledger has folded.
    pub fn tidy(&mut self, purse: &Purse) -> Result<(), JournalError> {
        let Self { file, slots, process } = self;
        slots.tidy(*process, purse.held(), purse.ended(), |at, bytes| put(file, at, bytes))
    }

    /// A journal that does not say everything must say nothing: then all that was granted is uncertain when the process dies.
    pub fn abandon(self) -> Result<(), JournalError> {
        Ok(self.file.set_len(0)?)
    }
}

fn put(file: &File, at: usize, bytes: &[u8]) -> Result<(), JournalError> {
    Ok(file.write_all_at(bytes, at as u64)?)
}

/// The start of the kernel that this process runs on.
pub fn kernel() -> io::Result<u64> {
    let text = fs::read_to_string(KERNEL)?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{LeaseGrant, NanoUsd, ReplicaBudget, WindowEnd},
        policy::budget::{journal::boot_id, purse::Moment},
    };

    fn process(boot: u64) -> Process {
        Process {
            kernel: kernel().unwrap(),
            boot,
        }
    }

    #[test]
    fn the_next_process_reads_what_the_last_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, ended) = Journal::open(folder.path(), process(1)).unwrap();
        assert_eq!(ended, []);
        let mut purse = Purse::new(boot_id(1), ended);
        purse.take(&ReplicaBudget {
            sequence: 1,
            window: WindowEnd { number: 1, end: None },
            leases: vec![LeaseGrant {
                id: 7,
                boot_id: boot_id(1),
                window: 1,
                granted: NanoUsd(100),
                recall_to: None,
            }],
            denied: None,
        });
        let now = Moment {
            wall: jiff::Timestamp::UNIX_EPOCH,
            since_start: std::time::Duration::ZERO,
        };
        let (one, _two) = (
            purse.reserve(NanoUsd(30), now).unwrap(),
            purse.reserve(NanoUsd(20), now).unwrap(),
        );
        journal.note(&purse).unwrap();
        let _ = purse.settle(one, NanoUsd(12), now);
        journal.note(&purse).unwrap();
        assert!(
            Journal::open(folder.path(), process(2)).is_err(),
            "while the process lives"
        );
        drop(journal);
        let (_, ended) = Journal::open(folder.path(), process(2)).unwrap();
        assert_eq!((ended[0].boot_id.clone(), ended[0].damaged), (boot_id(1), false));
        let lease = &ended[0].leases[0];
        assert_eq!(
            (lease.id, lease.settled, lease.uncertain),
            (7, NanoUsd(12), NanoUsd(20))
        );
    }

    #[test]
    fn an_abandoned_journal_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path(), process(1)).unwrap().0.abandon().unwrap();
        assert_eq!(Journal::open(folder.path(), process(2)).unwrap().1, []);
    }
}
