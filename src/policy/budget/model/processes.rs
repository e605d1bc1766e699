//! Replicas: the real purse and the real journal, in a container that may end at any moment.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use super::world::{BEGIN, Pod, Replica, World, Write};
use crate::{
    api::NanoUsd,
    policy::{
        budget::{
            journal::{self, Full, RECORD, Recovered, SIZE, Slots},
            purse::{Claim, Moment, NoMoney, Purse},
        },
        model::{ApiServer, Dice, Versioned},
    },
};

/// A request that was sent.
#[derive(Debug)]
pub struct Sent {
    claim: Claim,
    window: u64,
    /// What the provider bills for it in the end.
    bill: u64,
}

/// A container of a pod.
#[derive(Debug)]
pub struct Process {
    pub pod: Rc<str>,
    pub pod_uid: Rc<str>,
    pub boot: u64,
    boot_id: Rc<str>,
    pub alive: bool,
    pub purse: Purse,
    slots: Slots,
    /// The emptyDir.
    file: Vec<u8>,
    /// As much of it as the node would find after it went down.
    on_disk: Vec<u8>,
    kernel: u64,
    pub sent: Vec<Sent>,
    pub waiting: Vec<u64>,
    /// The own object, as it was seen last.
    seen: Option<Versioned<Rc<Replica>>>,
}

impl Process {
    pub fn new(pod: &str, pod_uid: &Rc<str>, boot: u64) -> Self {
        let mut process = Self {
            pod: pod.into(),
            pod_uid: Rc::clone(pod_uid),
            boot,
            boot_id: "".into(),
            alive: true,
            purse: Purse::new(String::new(), Vec::new()),
            slots: Slots::default(),
            file: vec![0; SIZE],
            on_disk: vec![0; SIZE],
            kernel: 1,
            sent: Vec::new(),
            waiting: Vec::new(),
            seen: None,
        };
        process.begin();
        process
    }

    fn own(&self) -> journal::Process {
        journal::Process {
            kernel: self.kernel,
            boot: self.boot,
        }
    }

    /// Reads what the process before left, and begins.
    fn begin(&mut self) {
        let Recovered { ended, slots } = journal::recover(&self.file, self.kernel);
        self.slots = slots;
        let (own, file) = (self.own(), &mut self.file);
        file.resize(SIZE, 0);
        self.slots
            .begin::<Full>(own, &ended, |at, bytes| write(file, at, bytes))
            .unwrap();
        self.boot_id = journal::boot_id(self.boot).into();
        self.purse = Purse::new(self.boot_id.to_string(), ended);
    }

    /// Writes the journal; `torn` is the end of the process in the middle of it.
    fn journal(&mut self, torn: bool) {
        let (own, file) = (self.own(), &mut self.file);
        let put = |at: usize, bytes: &[u8]| write(file, at, if torn { &bytes[..20] } else { bytes });
        self.slots.note::<Full>(own, self.purse.held(), put).unwrap();
    }

    fn tidy(&mut self) {
        let (own, file, purse) = (self.own(), &mut self.file, &self.purse);
        self.slots
            .tidy::<Full>(own, purse.held(), purse.ended(), |at, bytes| write(file, at, bytes))
            .unwrap();
    }

    /// What the process holds and what is in flight, by window.
    pub fn held(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let free = self
            .purse
            .held()
            .iter()
            .map(|held| (held.window(), if self.alive { held.free() } else { 0 }));
        free.chain(self.sent.iter().map(|sent| (sent.window, sent.claim.amount().0)))
    }

    pub fn pod_uid_is_gone(&self, pods: &ApiServer<Rc<Pod>>) -> bool {
        pods.get(&self.pod).is_none_or(|pod| pod.object.uid != self.pod_uid)
    }

    /// The process ends at once: whatever was sent may be billed.
    pub fn kill(&mut self, billed: &mut BTreeMap<u64, u64>) {
        self.alive = false;
        for sent in self.sent.drain(..) {
            *billed.entry(sent.window).or_default() += sent.bill;
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the journal's writer may fail")]
fn write(file: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), Full> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

impl World {
    pub fn moment(&self) -> Moment {
        let since = self.now.as_second() - BEGIN + 100;
        Moment {
            wall: self.now,
            since_start: Duration::from_secs(since.unsigned_abs()),
        }
    }

    /// A request arrives, or one that waits tries again.
    pub fn request(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        let process = &mut self.processes[index];
        if !process.alive {
            return;
        }
        let again = !process.waiting.is_empty() && dice.once_in(2);
        let amount = if again {
            process.waiting.swap_remove(0)
        } else {
            1 + dice.throw(120) as u64
        };
        if again {
            process.purse.wait_ends(NanoUsd(amount));
        }
        match process.purse.reserve(NanoUsd(amount), now) {
            Ok(claim) => {
                let window = process.purse.window();
                process.journal(false);
                let bill = dice.throw(usize::try_from(amount).unwrap() + 1) as u64;
                process.sent.push(Sent { claim, window, bill });
            }
            Err(NoMoney::NotYet) if process.waiting.len() < 4 => {
                process.waiting.push(amount);
                process.purse.wait_begins(NanoUsd(amount));
                if !dice.once_in(3) {
                    self.report(index, dice);
                }
            }
            Err(NoMoney::Denied) => {
                let window = process.purse.window();
                self.denied(amount, window);
            }
            Err(NoMoney::NotYet | NoMoney::Closed) => {}
        }
    }

    /// A request ends.
    pub fn answer(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        let doubt = self.play.doubt;
        let process = &mut self.processes[index];
        if !process.alive || process.sent.is_empty() {
            return;
        }
        let Sent { claim, window, bill } = process.sent.swap_remove(dice.throw(process.sent.len()));
        let billed = self.billed.entry(window).or_default();
        match dice.throw(4) {
            0 => process.purse.release(claim),
            1 if doubt => {
                *billed += bill;
                process.purse.uncertain(claim, now);
            }
            _ => {
                *billed += bill;
                let _ = process.purse.settle(claim, NanoUsd(bill), now);
            }
        }
        process.journal(false);
    }

    /// The replica writes its status, over the state that it has seen.
    pub fn report(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        let process = &mut self.processes[index];
        if !process.alive {
            return;
        }
        process.purse.tick(now);
        process.journal(false);
        process.on_disk.clone_from(&process.file);
        let Some(write) = process.status(now) else { return };
        match self.send(write, dice) {
            Ok(_) | Err(false) => {}
            Err(true) => self.see(index),
        }
    }

    /// A live read of the own object.
    pub fn see(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let live = self.replicas.get(&process.pod);
        process.seen = live.filter(|live| live.object.pod_uid == process.pod_uid);
    }

    /// The watch delivers the newest state of the own object.
    pub fn hear(&mut self, index: usize, dice: &mut Dice) {
        if !self.processes[index].alive {
            return;
        }
        self.take(index);
        if dice.once_in(2) {
            self.request(index, dice);
        }
    }

    pub fn take(&mut self, index: usize) {
        self.see(index);
        let process = &mut self.processes[index];
        let Some(seen) = &process.seen else { return };
        let Some(spec) = &seen.object.spec else { return };
        process.purse.take(spec);
        process.journal(false);
        process.tidy();
    }

    /// The container ends, now or in the middle of a write to the journal, and is started anew.
    pub fn crash(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        if !self.processes[index].alive {
            return self.restart(index);
        }
        if dice.once_in(3) {
            self.last_operation(index, dice);
        }
        let process = &mut self.processes[index];
        if dice.once_in(4) {
            // In good order: a last word, which may not arrive.
            process.purse.close();
            process.journal(false);
            for sent in process.sent.drain(..) {
                *self.billed.entry(sent.window).or_default() += sent.bill;
            }
            process.alive = false;
            if let Some(write) = process.status(now) {
                let _ = self.send(write, dice);
            }
        } else {
            process.kill(&mut self.billed);
        }
        let process = &mut self.processes[index];
        match dice.throw(8) {
            0 => process.file.fill(0),
            1 => {
                process.kernel += 1;
                process.file.clone_from(&process.on_disk);
            }
            2 => process.file.truncate(2 * RECORD * dice.throw(4)),
            _ => {}
        }
        if dice.once_in(2) {
            self.restart(index);
        }
    }

    /// Half of a reservation that is never sent, or half of a settlement.
    fn last_operation(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        let process = &mut self.processes[index];
        if let Some(Sent { claim, window, bill }) = process.sent.pop() {
            *self.billed.entry(window).or_default() += bill;
            let _ = process.purse.settle(claim, NanoUsd(bill), now);
        } else {
            let _ = process.purse.reserve(NanoUsd(1 + dice.throw(50) as u64), now);
        }
        process.journal(true);
    }

    /// A new process in the same pod.
    pub fn restart(&mut self, index: usize) {
        if self.processes[index].pod_uid_is_gone(&self.pods) {
            return;
        }
        self.uids += 1;
        let boot = self.uids;
        let process = &mut self.processes[index];
        process.boot = boot;
        process.alive = true;
        process.waiting.clear();
        process.begin();
        self.see(index);
    }

    /// The pod is deleted: in good order, with its node, or by force while the process goes on.
    pub fn pod_ends(&mut self, index: usize, dice: &mut Dice) {
        let now = self.moment();
        let process = &mut self.processes[index];
        if process.pod_uid_is_gone(&self.pods) {
            return process.kill(&mut self.billed);
        }
        let (pod, alive) = (process.pod.clone(), process.alive);
        match dice.throw(3) {
            0 if alive => {
                process.purse.close();
                for sent in process.sent.drain(..) {
                    *self.billed.entry(sent.window).or_default() += sent.bill;
                }
                process.alive = false;
                if let Some(write) = process.status(now) {
                    let _ = self.send(write, dice);
                }
            }
            1 => process.kill(&mut self.billed),
            _ => {}
        }
        self.pod_is_gone(&pod, dice.once_in(2));
    }

    /// The pod is deleted, and its process has all the time that it needs: the requests end and the last word arrives. Writes that are
    /// under way have arrived before: a first grant that is later than the whole end of the pod is written off with it.
    pub fn pod_leaves(&mut self, index: usize, dice: &mut Dice) {
        while !self.under_way.is_empty() {
            self.network(dice);
        }
        while self.processes[index].alive && !self.processes[index].sent.is_empty() {
            self.answer(index, dice);
        }
        let now = self.moment();
        let process = &mut self.processes[index];
        if process.pod_uid_is_gone(&self.pods) {
            return;
        }
        process.purse.close();
        process.alive = false;
        self.see(index);
        if let Some(write) = self.processes[index].status(now) {
            self.arrive(write).unwrap();
        }
        let pod = self.processes[index].pod.clone();
        self.pod_is_gone(&pod, true);
    }

    /// Another of the same name may take its place.
    fn pod_is_gone(&mut self, name: &str, again: bool) {
        let gpus = self.pods.get(name).and_then(|pod| pod.object.gpus);
        self.pods.delete(name);
        if let Some(gpus) = gpus {
            self.gpu_past.push((gpus.since, self.now));
        } else if again {
            self.new_pod(name);
        }
    }
}

impl Process {
    /// The status, written over the state of the object that was seen.
    pub fn status(&mut self, now: Moment) -> Option<Write> {
        let seen = self.seen.as_ref()?;
        let object = Replica {
            boot: Some(Rc::clone(&self.boot_id)),
            report: Some(self.purse.report(now)),
            ..(*seen.object).clone()
        };
        Some(Write::Replica(Rc::clone(&self.pod), seen.version, Rc::new(object)))
    }
}
