//! The whole budget as a model: API server, replicas and controllers with caches that lag, writes that arrive late or never, ends of
//! containers, pods and controllers between any two steps, clocks that differ, and a provider whose bills are the judge.
//!
//! Checked after every step: what is spent, in flight or could be spent by anybody without hearing another word is never above the
//! limit; the ledger never grants beyond it; a denial is never untrue. When all is quiet: nothing is leased, and what was billed lies
//! between settled and settled + uncertain, in every window.

mod controllers;
mod gpus;
mod processes;
mod quiet;
mod world;

use controllers::Controller;
use gpus::Gpus;
use world::{Play, World};

use crate::policy::model::{Dice, schedules};

/// Steps of one schedule, before it is let go quiet.
const STEPS: usize = 32;

fn play(dice: &mut Dice, play: Play) {
    let mut world = World::new(play, dice);
    for _ in 0..STEPS {
        step(&mut world, dice);
        world.check();
    }
    quiet::settle_down(&mut world, dice);
}

fn step(world: &mut World, dice: &mut Dice) {
    let process = dice.throw(world.processes.len());
    let controller = dice.throw(world.controllers.len());
    match dice.throw(32) {
        0..=8 => world.request(process, dice),
        9..=12 => world.answer(process, dice),
        13..=15 => world.report(process, dice),
        19..=25 => world.controller_steps(controller, dice),
        26 => world.network(dice),
        27 => world.time_passes(dice),
        28 => world.sweep(),
        29 if world.play.crashes => world.crash(process, dice),
        30 if world.play.crashes => world.pod_ends(process, dice),
        30 => world.pod_leaves(process, dice),
        31 => world.somebody_intervenes(dice),
        16 if world.play.gpus.is_some() => world.time_passes(dice),
        17 => world.follow(),
        _ => world.hear(process, dice),
    }
}

const CALM: Play = Play {
    crashes: false,
    doubt: false,
    terms_change: false,
    wipes: false,
    gpus: None,
};

#[test]
fn nothing_is_uncertain_where_nothing_fails() {
    schedules("budget, calm", 20_000, |dice| play(dice, CALM));
}

#[test]
fn crashes_between_any_two_steps() {
    let rough = Play {
        crashes: true,
        doubt: true,
        ..CALM
    };
    schedules("budget, crashes", 35_000, |dice| play(dice, rough));
}

#[test]
fn limits_and_calendars_change_under_way() {
    let changing = Play {
        crashes: true,
        doubt: true,
        terms_change: true,
        ..CALM
    };
    schedules("budget, changes of the spec", 20_000, |dice| play(dice, changing));
}

#[test]
fn the_status_is_wiped_or_restored() {
    let wiped = Play {
        crashes: true,
        doubt: true,
        wipes: true,
        ..CALM
    };
    schedules("budget, wiped status", 20_000, |dice| play(dice, wiped));
}

#[test]
fn priced_gpus_are_let_go_in_time_beside_requests() {
    let releasing = Play {
        crashes: true,
        doubt: true,
        terms_change: true,
        gpus: Some(Gpus::Released),
        ..CALM
    };
    schedules("budget, GPUs that are let go", 6_000, |dice| play(dice, releasing));
}

#[test]
fn priced_gpus_that_stay_take_nothing_that_requests_were_granted() {
    let staying = Play {
        gpus: Some(Gpus::Stay),
        ..CALM
    };
    schedules("budget, GPUs that stay", 4_000, |dice| play(dice, staying));
}
