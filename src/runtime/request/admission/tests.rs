//! The queue in paused time.

use futures::FutureExt;

use super::*;

const LIMITS: Limits = Limits {
    concurrent: 1,
    capacity: 8,
    timeout: Duration::from_secs(30),
};

fn admission() -> Arc<Admission> {
    Arc::new(Admission::new(Arc::default()))
}

#[tokio::test(start_paused = true)]
async fn a_turn_passes_to_the_next_one() {
    let admission = admission();
    let first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
    let mut second = Box::pin(admission.enter(Priority::Normal, LIMITS));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    let _second = second.await.unwrap();
    assert_eq!(admission.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_timeout() {
    let admission = admission();
    let _first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
    let before = Instant::now();
    let refused = admission.enter(Priority::Critical, LIMITS).await.unwrap_err();
    assert_eq!(before.elapsed(), LIMITS.timeout);
    assert_eq!((refused.reason, refused.retry_after), (Shed::Timeout, 31));
    assert_eq!(InferenceError::from(refused).kind().as_str(), "backpressure");
    assert_eq!(admission.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_costs_nobody_a_turn() {
    let admission = admission();
    let first = admission.enter(Priority::Normal, LIMITS).await.unwrap();
    let mut leaver = Box::pin(admission.enter(Priority::Normal, LIMITS));
    let mut stays = Box::pin(admission.enter(Priority::Normal, LIMITS));
    assert!((&mut leaver).now_or_never().is_none());
    assert!((&mut stays).now_or_never().is_none());
    drop(first);
    drop(leaver);
    let stays = stays.await.unwrap();
    drop(stays);
    assert_eq!(admission.in_flight(), 0);
}

/// Takes turns of `service` each, `count` one after another.
async fn serve(admission: &Arc<Admission>, service: Duration, count: usize) {
    for _ in 0..count {
        let slot = admission.enter(Priority::Normal, LIMITS).await.unwrap();
        tokio::time::sleep(service).await;
        drop(slot);
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_told_at_once_and_when_to_come_again() {
    let mut told = Vec::new();
    for service in [1, 4, 9, 60, 4_000].map(Duration::from_secs) {
        let admission = admission();
        serve(&admission, service, 1).await;
        let _works = admission.enter(Priority::Normal, LIMITS).await.unwrap();
        let mut waiting: Vec<_> = (0..8)
            .map(|_| Box::pin(admission.enter(Priority::Normal, LIMITS)))
            .collect();
        let taken_in = waiting
            .iter_mut()
            .filter_map(FutureExt::now_or_never)
            .filter(Result::is_err)
            .count();
        let before = Instant::now();
        let away = admission.enter(Priority::Normal, LIMITS).await.unwrap_err();
        assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits to be refused");
        told.push((service.as_secs(), 8 - taken_in, away.reason, away.retry_after));
    }
    println!("service s, taken in of 8, why the 9th is not, Retry-After s: {told:?}");
    assert_eq!(
        told,
        [
            (1, 8, Shed::Full, 10),
            (4, 7, Shed::PredictedWait, 33),
            (9, 3, Shed::PredictedWait, 37),
            (60, 0, Shed::PredictedWait, 61),
            (4_000, 0, Shed::PredictedWait, LONGEST_WAIT),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn under_a_flood_the_critical_wait_least_and_the_background_is_served() {
    const WIDE: Limits = Limits {
        concurrent: 4,
        capacity: 256,
        timeout: Duration::from_secs(600),
    };
    const ALL: [Priority; 4] = [
        Priority::Critical,
        Priority::High,
        Priority::Normal,
        Priority::Background,
    ];
    let admission = admission();
    let until = Instant::now() + Duration::from_secs(1_000);
    // Each priority is asked for by 60 clients who come again at once: more than there is room for.
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..240 {
        let (admission, lane) = (Arc::clone(&admission), client % 4);
        clients.spawn(async move {
            let (mut served, mut waited) = (0_u32, Duration::ZERO);
            while Instant::now() < until {
                let came = Instant::now();
                let Ok(_slot) = admission.enter(ALL[lane], WIDE).await else {
                    break;
                };
                (served, waited) = (served + 1, waited + came.elapsed());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            (lane, served, waited)
        });
    }
    let mut sums = [(0_u32, Duration::ZERO); 4];
    while let Some(Ok((lane, served, waited))) = clients.join_next().await {
        sums[lane] = (sums[lane].0 + served, sums[lane].1 + waited);
    }
    let means = sums.map(|(served, waited)| waited.as_secs_f64() / f64::from(served));
    println!(
        "served in 1000 s, critical to background: {:?}; mean wait s: {means:.1?}",
        sums.map(|s| s.0)
    );
    assert!(means.is_sorted(), "the critical wait least: {means:?}");
    assert!(sums[3].0 >= 90, "the background is served: {sums:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_under_a_flood_leaves_the_background_its_share() {
    const SLOW: Duration = Duration::from_secs(30);
    const WIDE: Limits = Limits {
        concurrent: 4,
        capacity: 256,
        timeout: Duration::from_secs(30),
    };
    let admission = admission();
    let until = Instant::now() + Duration::from_secs(7_200);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..51 {
        let admission = Arc::clone(&admission);
        let priority = if client == 0 {
            Priority::Background
        } else {
            Priority::Critical
        };
        clients.spawn(async move {
            let mut served = 0_u32;
            while Instant::now() < until {
                if let Ok(_slot) = admission.enter(priority, WIDE).await {
                    served += 1;
                    tokio::time::sleep(SLOW).await;
                } else {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            (client == 0, served)
        });
    }
    let (mut critical, mut background) = (0, 0);
    while let Some(Ok((is_background, served))) = clients.join_next().await {
        *(if is_background { &mut background } else { &mut critical }) += served;
    }
    println!("two hours, 4 places, 30 s each, 30 s of patience: {critical} critical, {background} background");
    assert!(background >= 20, "{background} of {critical}");
}
