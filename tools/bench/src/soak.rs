//! The long load: memory that grows without end shows in nothing else.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    Failure,
    load::{Load, drive},
    statistics::slope,
    subject::Subject,
};

/// The first part of the time, in which pools and buffers find their size, counts for nothing.
const WARM_UP_SHARE: f64 = 0.25;

/// How the memory behaved.
#[derive(Clone, Copy, Debug)]
pub struct Soak {
    /// KiB a minute by least squares, after the warm-up.
    pub kib_a_minute: f64,
    /// Its standard error, KiB a minute.
    pub error: f64,
    /// Answers and streams.
    pub answers: usize,
    /// Seconds that the line was drawn through.
    pub seconds: f64,
}

/// Loads the subject with requests and streams at once; `None` when the time is too short for a line.
pub async fn watch(subject: &Subject, time: Duration) -> Result<Option<Soak>, Failure> {
    if time.is_zero() {
        return Ok(None);
    }
    eprintln!("==> soak: {} s", time.as_secs());
    let load = |connections, pace| {
        let load = Load {
            connections,
            pace,
            window: time,
        };
        drive(subject.port, load, || Ok(0.0))
    };
    let loads = async { tokio::try_join!(load(32, None), load(32, Some(5_000))) };
    tokio::pin!(loads);
    let mut points = Vec::new();
    let began = Instant::now();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (requests, streams) = loop {
        tokio::select! {
            ended = &mut loads => break ended?,
            _ = ticks.tick() => points.push((began.elapsed().as_secs_f64() / 60.0, subject.memory("VmRSS")?)),
        }
    };
    let from = time.as_secs_f64() / 60.0 * WARM_UP_SHARE;
    points.retain(|(minute, _)| *minute >= from);
    Ok(slope(&points).map(|(kib_a_minute, error)| Soak {
        kib_a_minute,
        error,
        answers: requests.latencies.len() + streams.latencies.len(),
        seconds: time.as_secs_f64() * (1.0 - WARM_UP_SHARE),
    }))
}
