//! The rounds: in each of them everybody meets every load once, one after the other, so that what else the machine does hits all alike.

use crate::{
    Failure,
    load::{Load, Seen, drive},
    settings::Settings,
    soak::{self, Soak},
    statistics::percentile,
    subject::Subject,
};

/// The upstream without anybody in between.
pub const DIRECT: &str = "direct";
/// Connections of the requests.
pub const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Streams at once, and microseconds between their events, where CPU is measured: nobody is at its limit and each event comes alone.
const STREAMS: (usize, u64) = (64, 5_000);
/// The same where gaps are measured.
const PACED: (usize, u64) = (8, 20_000);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole answers with so many connections.
    Requests(usize),
    /// CPU of streams.
    Streams,
    /// Gaps between the events of a paced stream.
    Paced,
}

/// One subject under one load in one round.
#[derive(Debug)]
pub struct Figure {
    /// The round.
    pub round: usize,
    /// Who.
    pub name: &'static str,
    /// What.
    pub kind: Kind,
    /// Answers a second.
    pub rate: f64,
    /// CPU milliseconds an answer.
    pub cpu_ms: f64,
    /// Median latency, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the latency, milliseconds.
    pub p99_ms: f64,
    /// 99th percentile of the gaps between events, milliseconds.
    pub gap_p99_ms: f64,
}

/// Everything that was measured.
#[derive(Debug)]
pub struct Figures {
    /// All rounds.
    pub rows: Vec<Figure>,
    /// Peak memory of each subject, MiB, after the rounds.
    pub peaks: Vec<(&'static str, f64)>,
    /// The long load.
    pub soak: Option<Soak>,
}

/// Measures everything.
pub async fn all(settings: &Settings, upstream: u16, subjects: &mut [Subject]) -> Result<Figures, Failure> {
    let mut rows = Vec::new();
    for round in 0..settings.rounds {
        eprintln!("==> round {} of {}", round + 1, settings.rounds);
        for kind in kinds() {
            rows.push(figure(round, DIRECT, kind, settings, upstream, || Ok(0.0)).await?);
            for subject in subjects.iter() {
                rows.push(figure(round, subject.name, kind, settings, subject.port, || subject.cpu()).await?);
            }
        }
        // Nobody is always first.
        subjects.rotate_left(1);
    }
    let runtime = subjects.iter().find(|subject| subject.name == "runtime");
    let soak = match runtime {
        Some(runtime) => soak::watch(runtime, settings.soak).await?,
        None => None,
    };
    let peak = |subject: &Subject| Ok((subject.name, subject.memory("VmHWM")? / 1024.0));
    Ok(Figures {
        rows,
        peaks: subjects.iter().map(peak).collect::<Result<_, Failure>>()?,
        soak,
    })
}

/// Every kind of load.
pub fn kinds() -> impl Iterator<Item = Kind> {
    let requests = CONNECTIONS.into_iter().map(Kind::Requests);
    requests.chain([Kind::Streams, Kind::Paced])
}

async fn figure(
    round: usize,
    name: &'static str,
    kind: Kind,
    settings: &Settings,
    port: u16,
    cpu: impl Fn() -> Result<f64, Failure>,
) -> Result<Figure, Failure> {
    let (connections, pace) = match kind {
        Kind::Requests(connections) => (connections, None),
        Kind::Streams => (STREAMS.0, Some(STREAMS.1)),
        Kind::Paced => (PACED.0, Some(PACED.1)),
    };
    let load = Load {
        connections,
        pace,
        window: settings.window,
    };
    let Seen {
        mut latencies,
        mut gaps,
        cpu,
        seconds,
    } = drive(port, load, cpu)
        .await
        .map_err(|error| format!("{name}: {error}"))?;
    let count = latencies.len();
    Ok(Figure {
        round,
        name,
        kind,
        rate: count as f64 / seconds,
        cpu_ms: cpu * 1e3 / count.max(1) as f64,
        p50_ms: percentile(&mut latencies, 0.5) / 1e6,
        p99_ms: percentile(&mut latencies, 0.99) / 1e6,
        gap_p99_ms: percentile(&mut gaps, 0.99) / 1e6,
    })
}
