//! The end of a schedule: nothing fails any more, all requests end, and what remains must be exact.

use jiff::SignedDuration;

use super::world::World;
use crate::{
    api::NanoUsd,
    policy::{
        budget::{
            ledger::{attainable, outstanding},
            purse::NoMoney,
        },
        model::Dice,
    },
};

/// Rounds after which everything must have come to rest.
const ROUNDS: usize = 30;

/// Lets everything come to rest and judges.
pub fn settle_down(world: &mut World, dice: &mut Dice) {
    while !world.under_way.is_empty() {
        world.network(dice);
        world.check();
    }
    world.gpus_are_let_go(dice);
    end_requests(world, dice);
    world.clocks_are_set();
    world.now += SignedDuration::from_secs(40);
    rest(world);
    judge(world);
    if dice.once_in(4) {
        last_penny(world);
    }
}

fn end_requests(world: &mut World, dice: &mut Dice) {
    for index in 0..world.processes.len() {
        let process = &mut world.processes[index];
        if process.pod_uid_is_gone(&world.pods) {
            process.kill(&mut world.billed);
        } else if !process.alive {
            world.restart(index);
        }
        while !world.processes[index].sent.is_empty() {
            world.answer(index, dice);
        }
        let process = &mut world.processes[index];
        for amount in process.waiting.drain(..) {
            process.purse.wait_ends(NanoUsd(amount));
        }
    }
}

/// Replicas hear and report, the controller decides and tells, until nothing changes.
fn rest(world: &mut World) {
    let mut still = 0;
    for _ in 0..ROUNDS {
        for index in 0..world.processes.len() {
            round(world, index);
        }
        world.sweep();
        world.runbook();
        still = if world.reconcile_at_once() { 0 } else { still + 1 };
        world.check();
        if still == 2 {
            return;
        }
    }
    panic!("no rest: {:#?}", world.deployment());
}

fn round(world: &mut World, index: usize) {
    if !world.processes[index].alive {
        return;
    }
    world.take(index);
    let now = world.moment();
    let process = &mut world.processes[index];
    process.purse.tick(now);
    if let Some(write) = process.status(now) {
        let _ = world.arrive(write);
    }
}

fn judge(world: &World) {
    let deployment = world.deployment();
    let ledger = deployment.ledger.as_ref().unwrap();
    assert_eq!(ledger.leased, NanoUsd(0), "{ledger:#?}");
    assert!(ledger.leases.iter().all(|row| outstanding(row) == 0), "{ledger:#?}");
    for (number, (settled, uncertain)) in &world.books {
        if world.play.wipes {
            continue;
        }
        let (least, most) = world.gpu_cost(*number);
        let billed = world.billed.get(number).copied().unwrap_or(0);
        assert!(
            *settled <= billed + most && billed + least <= settled + uncertain,
            "window {number}: {settled} {billed} {uncertain}, GPUs {least} to {most}"
        );
        assert!(
            world.play.doubt || *uncertain == 0,
            "uncertain without a doubt: {uncertain}"
        );
    }
    if world.play.wipes && ledger.lost.is_none() {
        let began = ledger.window.start.as_ref().map(|start| start.0);
        let billed = world.exposure(began);
        assert!(billed <= ledger.settled.0 + ledger.uncertain.0, "{billed} {ledger:#?}");
    }
}

/// All that is left can be had, from whoever has it, and not a nano-dollar more.
fn last_penny(world: &mut World) {
    let deployment = world.deployment();
    let ledger = deployment.ledger.as_ref().unwrap();
    if ledger.lost.is_some() {
        return;
    }
    let left = attainable(ledger);
    let alive: Vec<_> = (0..world.processes.len())
        .filter(|index| world.processes[*index].alive)
        .collect();
    let wishes = [(left / 2, Ok(())), (left, Ok(())), (left + 1, Err(NoMoney::Denied))];
    for ((amount, expected), index) in wishes
        .into_iter()
        .zip(alive.iter().cycle())
        .filter(|((amount, _), _)| *amount > 0)
    {
        let process = &mut world.processes[*index];
        process.purse.wait_begins(NanoUsd(amount));
        rest(world);
        let now = world.moment();
        let process = &mut world.processes[*index];
        process.purse.wait_ends(NanoUsd(amount));
        let got = process
            .purse
            .reserve(NanoUsd(amount), now)
            .map(|claim| process.purse.release(claim));
        assert_eq!(got, expected, "{amount} of {left}: {:#?}", world.deployment());
    }
}
