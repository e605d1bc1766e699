//! Who votes, and what a majority does. Voters are the replicas that stay and either judged a call within the window or hold the circuit
//! open, each in the epoch of the row. More than half of them open it for all; a lone voter among several replicas opens only itself.
//! Votes on a credential are counted a key.

use std::{collections::BTreeMap, time::Duration};

use super::Machine;
use crate::api::{CircuitScope, ReplicaCircuit};

/// Votes on one key, or on the endpoint.
#[derive(Default)]
struct Ballot<'a> {
    voters: usize,
    open: Vec<&'a ReplicaCircuit>,
}

impl Ballot<'_> {
    fn opens_for_all(&self, staying: usize) -> bool {
        let lone = self.voters == 1 && staying > 1;
        !lone && self.open.len() * 2 > self.voters
    }
}

/// Open beneath what is forced.
const fn is_open(report: &ReplicaCircuit) -> bool {
    report.opened_at.is_some()
}

impl<'a> Machine<'a> {
    pub(super) fn count_votes(&mut self) {
        let ballots = self.ballots();
        let staying = self.staying().count();
        let may_open = |key: &Option<String>| !self.row.is_open() || *key != self.row.key_hash;
        let elected = ballots
            .iter()
            .filter(|(key, ballot)| may_open(key) && ballot.opens_for_all(staying))
            .max_by_key(|(_, ballot)| ballot.open.len());
        if let Some((key, ballot)) = elected {
            self.elect(key.clone(), &ballot.open);
        } else if !self.row.is_open() {
            let open: Vec<_> = ballots.values().flat_map(|ballot| &ballot.open).collect();
            self.row.open_replicas = count(open.len());
            self.row.last_error = open.first().and_then(|vote| vote.last_error.clone());
        }
    }

    fn staying(&self) -> impl Iterator<Item = &'a super::Replica<'a>> + use<'a> {
        self.replicas.iter().filter(|r| r.stays)
    }

    fn ballots(&self) -> BTreeMap<Option<String>, Ballot<'a>> {
        let mut ballots = BTreeMap::<_, Ballot<'a>>::new();
        for report in self.staying().filter_map(|r| r.report) {
            let votes = report.judged || is_open(report);
            if !votes || report.epoch != self.row.epoch {
                continue;
            }
            let ballot = ballots.entry(self.key(report)).or_default();
            ballot.voters += 1;
            if is_open(report) {
                ballot.open.push(report);
            }
        }
        ballots
    }

    /// The key that a report speaks of.
    pub(super) fn key(&self, report: &ReplicaCircuit) -> Option<String> {
        match self.subject.scope {
            CircuitScope::Endpoint => None,
            CircuitScope::Credential => report.key_hash.clone(),
        }
    }

    /// Opens for all with `key`. The circuit of another key that was open till now ends here.
    fn elect(&mut self, key: Option<String>, votes: &[&ReplicaCircuit]) {
        if self.row.is_open() {
            self.row.epoch += 1;
        }
        self.row.key_hash = key;
        self.row.open_replicas = count(votes.len());
        let trips = votes.iter().map(|vote| vote.trips).max().unwrap_or(0).max(1);
        let latest = votes.iter().filter_map(|vote| Some(vote.retry_at.as_ref()?.0)).max();
        let asked = latest.and_then(|at| Duration::try_from(at.duration_since(self.now)).ok());
        let error = votes.iter().find_map(|vote| vote.last_error.clone());
        self.open(trips, asked, error);
    }

    /// A circuit whose key nobody has any more closes: once every replica that reports has followed it, and has another key.
    pub(super) fn forget_replaced_key(&mut self) {
        if self.subject.scope == CircuitScope::Endpoint {
            return;
        }
        let mut reporting = self.staying().filter(|r| r.speaks).peekable();
        let has_another =
            |report: &ReplicaCircuit| report.sequence >= self.row.changed && report.key_hash != self.row.key_hash;
        if reporting.peek().is_some() && reporting.all(|r| r.report.is_some_and(has_another)) {
            self.close();
        }
    }
}

fn count(replicas: usize) -> Option<u32> {
    u32::try_from(replicas).ok().filter(|n| *n > 0)
}
