use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

#[derive(Clone, Copy, Debug)]
enum Kind { Service, ServiceSmall, Uneven, UnevenChance, Busy, One, MoveOne, Wander }

async fn one(kind: Kind, seed: u64) -> (usize, usize, usize, usize, String) {
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::start(LIMIT, 8);
    world.seed(seed);
    tokio::time::sleep(Duration::from_secs(20)).await;
    if dice.random::<bool>() { assert!(world.try_one(4)); }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let begun = world.elapsed();
    let told0 = world.told();
    let uneven = [600, 300, 150, 75, 75, 0, 0, 0];
    let warm = 15.0 + dice.random::<f64>() * 3.0;
    let mut load = match kind {
        Kind::Service => world.load_through_a_service(1_200, seed),
        Kind::ServiceSmall => world.load_through_a_service(700, seed),
        Kind::Uneven => world.load(Load::Even, &uneven),
        Kind::UnevenChance => world.load(Load::ByChance, &uneven),
        Kind::Busy => world.load(Load::ByChance, &[150; 8]),
        Kind::One => world.load(Load::Even, &[1200, 0, 0, 0, 0, 0, 0, 0]),
        Kind::MoveOne => world.load(Load::Even, &[1200, 0, 0, 0, 0, 0, 0, 0]),
        Kind::Wander => world.load(Load::ByChance, &[150; 8]),
    };
    tokio::time::sleep(Duration::from_secs_f64(warm)).await;
    let from = world.elapsed();
    let told1 = world.told();
    if matches!(kind, Kind::MoveOne) {
        load.abort_all();
        let mut to = [0; 8];
        to[1 + (seed as usize) % 7] = 1_200;
        load = world.load(Load::Even, &to);
    }
    if matches!(kind, Kind::Wander) {
        for _ in 0..6 {
            load.abort_all();
            let mut to = [0_u32; 8];
            for to in &mut to { *to = (dice.random::<f64>() * dice.random::<f64>() * 600.0) as u32 * dice.random_range(0..2); }
            load = world.load(Load::ByChance, &to);
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    } else {
        tokio::time::sleep(MINUTE).await;
    }
    let told2 = world.told();
    load.abort_all();
    let at = |s: f64| begun + Duration::from_secs_f64(s);
    let extra = format!("first 15 s {} then by 15 s {} {} {} {}; writes a replica {:?} {:?}", world.sent(begun) - world.sent(at(15.0)),
        world.sent(at(15.0)) - world.sent(at(30.0)), world.sent(at(30.0)) - world.sent(at(45.0)), world.sent(at(45.0)) - world.sent(at(60.0)),world.sent(at(60.0)) - world.sent(at(75.0)),
        (told1.0 - told0.0, told1.1 - told0.1), (told2.0 - told1.0, told2.1 - told1.1));
    (world.sent(from), world.refused(from), world.refused_with_room(Duration::ZERO), world.most_in_a_minute(), extra)
}

#[test]
fn explore() {
    let seeds = std::env::var("SEEDS").map_or(20, |s| s.parse().unwrap());
    let only = std::env::var("ONLY").ok();
    for kind in [Kind::Service, Kind::ServiceSmall, Kind::Uneven, Kind::UnevenChance, Kind::Busy, Kind::One, Kind::MoveOne, Kind::Wander] {
        if only.as_ref().is_some_and(|only| *only != format!("{kind:?}")) { continue; }
        let (mut sent, mut most, mut room) = (Vec::new(), 0, 0);
        let first = std::env::var("FIRST").map_or(0, |s| s.parse().unwrap());
        for seed in first..first + seeds {
            let (s, refused, with_room, m, extra) = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(one(kind, seed));
            if only.is_some() { println!("{kind:?} {seed}: sent {s} refused {refused} with room {with_room} {extra}"); }
            sent.push(s);
            most = most.max(m);
            room += with_room;
        }
        sent.sort_unstable();
        let mean = sent.iter().sum::<usize>() as f64 / sent.len() as f64;
        println!("FIGURE {kind:?} mean {mean} below 594: {} most {most} refused with room {room} {sent:?}", sent.iter().filter(|s| **s < 594).count());
    }
}
