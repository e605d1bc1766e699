//! Eight replicas with real shares, lines, demand and write rates, and the real allocation, in paused time. What lies between them has
//! the delays of a cluster.

mod world;

use std::time::Duration;

use world::{Load, Running, World};

use super::*;

const LIMIT: u32 = 600;
const MINUTE: Duration = Duration::from_secs(60);
/// Until the load has settled.
const WARM_UP: Duration = Duration::from_secs(20);

fn figure(what: &str, value: impl std::fmt::Display) {
    println!("FIGURE 8 replicas, 600/min, {what}: {value}");
}

/// Requests a minute of every replica, and how they come.
async fn minute(what: &str, load: Load, demands: [u32; 8], band: std::ops::RangeInclusive<usize>) {
    let world = World::start(LIMIT, 8);
    world.load(load, &demands);
    tokio::time::sleep(WARM_UP).await;
    let from = world.elapsed();
    tokio::time::sleep(MINUTE).await;
    let (sent, told) = (world.sent(from), world.told());
    figure(&format!("{what}: sent in a minute"), sent);
    figure(&format!("{what}: refused"), world.refused(from));
    figure(
        &format!("{what}: refused while another had had room for 2 s"),
        world.refused_with_room(from),
    );
    figure(
        &format!("{what}: most in any minute since the start"),
        world.most_in_a_minute(),
    );
    figure(
        &format!("{what}: statuses and orders written since the start"),
        format!("{told:?}"),
    );
    assert!(band.contains(&sent), "{sent} sent");
    assert!(world.most_in_a_minute() <= 606);
    assert_eq!(world.refused_with_room(from), 0);
}

#[tokio::test(start_paused = true)]
async fn an_uneven_demand_uses_the_whole_limit() {
    minute("uneven", Load::Even, [600, 300, 150, 75, 75, 0, 0, 0], 594..=606).await;
}

#[tokio::test(start_paused = true)]
async fn one_busy_replica_uses_the_whole_limit() {
    minute("one busy", Load::Even, [1_200, 0, 0, 0, 0, 0, 0, 0], 594..=606).await;
}

/// Ten worlds, each with another chance: requests in ten minutes, the fewest first.
fn minutes(what: &str, load: impl Fn(&Arc<World>) -> Running) {
    let mut sent: Vec<usize> = (0..10).map(|seed| alone(busy_minute(seed, &load))).collect();
    sent.sort_unstable();
    figure(&format!("{what}: sent in a minute, ten times"), format!("{sent:?}"));
    // Once in two hundred minutes chance leaves a replica without requests for so long that its share is not used.
    let below = sent.iter().filter(|sent| **sent < 594).count();
    assert!(below <= 1 && sent[0] >= 590 && sent[9] <= 606, "{sent:?}");
}

async fn busy_minute(seed: u64, load: impl Fn(&Arc<World>) -> Running) -> usize {
    let world = World::start_with(LIMIT, 8, seed);
    tokio::time::sleep(WARM_UP).await;
    // A single request asks for little, and moves shares all the same.
    assert!(world.try_one(4));
    tokio::time::sleep(WARM_UP).await;
    load(&world);
    tokio::time::sleep(WARM_UP).await;
    let from = world.elapsed();
    tokio::time::sleep(MINUTE).await;
    assert!(world.most_in_a_minute() <= 606);
    assert_eq!(world.refused_with_room(from), 0);
    world.sent(from)
}

/// Runs in paused time of its own, and ends all that it started.
fn alone<T>(scenario: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(scenario)
}

#[test]
fn a_load_through_a_service_uses_the_whole_limit() {
    minutes("through a Service", |world| world.load_through_a_service(1_200));
}

#[test]
fn busy_replicas_whose_requests_come_by_chance_use_the_whole_limit() {
    minutes("all busy, by chance", |world| world.load(Load::ByChance, &[150; 8]));
}

#[tokio::test(start_paused = true)]
async fn what_a_demand_below_the_limit_asks_for_is_sent() {
    minute(
        "below the limit",
        Load::Even,
        [240, 120, 60, 30, 15, 15, 0, 0],
        470..=500,
    )
    .await;
}

/// Chance takes its part where shares are small: what one replica leaves unused in a quiet second no other can use.
#[tokio::test(start_paused = true)]
async fn an_uneven_demand_by_chance_uses_nearly_the_whole_limit() {
    let world = World::start(LIMIT, 8);
    world.load(Load::ByChance, &[600, 300, 150, 75, 75, 0, 0, 0]);
    tokio::time::sleep(WARM_UP).await;
    let from = world.elapsed();
    tokio::time::sleep(MINUTE).await;
    figure("uneven, by chance: sent in a minute", world.sent(from));
    figure("uneven, by chance: refused", world.refused(from));
    figure(
        "uneven, by chance: refused while another had had room for 2 s",
        world.refused_with_room(from),
    );
    assert!((570..=606).contains(&world.sent(from)));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_moves_to_another_replica_finds_its_share_there() {
    let world = World::start(LIMIT, 8);
    let first = world.load(Load::Even, &[1_200, 0, 0, 0, 0, 0, 0, 0]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    first.abort_all();
    let from = world.elapsed();
    world.load(Load::Even, &[0, 0, 0, 1_200, 0, 0, 0, 0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let now = world.elapsed();
    figure("moved load: refused in the first 2 s", world.refused(from));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let then = world.sent(now);
    figure("moved load: sent in the 10 s after the first 2", then);
    figure(
        "moved load: refused while another had had room for 2 s",
        world.refused_with_room(from),
    );
    assert_eq!(world.refused_with_room(from), 0);
    assert!(then >= 98, "{then}");
}

/// The load has moved before: what is urgent is not used up by what could have waited.
#[tokio::test(start_paused = true)]
async fn a_load_that_moves_again_finds_its_share_there_too() {
    let world = World::start(LIMIT, 8);
    let mut load = world.load(Load::Even, &[600, 300, 150, 75, 75, 0, 0, 0]);
    tokio::time::sleep(Duration::from_secs(75)).await;
    // Those with few requests are without one for seconds by chance alone: only then their room is somebody else's.
    for (what, demands, least) in [
        ("moved to one", [1_200, 0, 0, 0, 0, 0, 0, 0], 108),
        ("moved again", [0, 0, 0, 0, 0, 0, 0, 1_200], 127),
    ] {
        load.abort_all();
        load = world.load(Load::Even, &demands);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = world.elapsed();
        tokio::time::sleep(Duration::from_secs(13)).await;
        let then = world.sent(now);
        figure(&format!("{what}: sent in the 13 s after the first 2"), then);
        assert!(then >= least, "{what}: {then}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_begins_at_once_though_all_is_in_use_elsewhere() {
    let world = World::start(LIMIT, 8);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.load(Load::Even, &[1_200, 0, 0, 0, 0, 0, 0, 0]);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.try_one(7), "its bucket holds one");
    assert!(!world.try_one(7), "and no more");
}

#[tokio::test(start_paused = true)]
async fn more_urgent_requests_wait_less() {
    let world = World::start(60, 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut waiting = Vec::new();
    for priority in [
        Priority::Background,
        Priority::Background,
        Priority::Background,
        Priority::Critical,
    ] {
        waiting.push(tokio::spawn(world.request(0, priority)));
        tokio::task::yield_now().await;
    }
    let mut ended = Vec::new();
    for request in waiting {
        ended.push(request.await.unwrap());
    }
    let order: Vec<Option<u64>> = ended.into_iter().map(|at| at.map(|at| at.as_secs())).collect();
    assert!(order[3] < order[2] && order[0] < order[3], "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_in_vain() {
    let world = World::start(60, 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let waiting: Vec<_> = (0..30)
        .map(|_| tokio::spawn(world.request(0, Priority::Normal)))
        .collect();
    let mut sent = 0;
    for request in waiting {
        sent += usize::from(request.await.unwrap().is_some());
    }
    assert_eq!(sent, 5, "one at once, and one a second while patience lasts");
}
