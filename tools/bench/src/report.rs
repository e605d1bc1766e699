//! The table, the ratios and the bars.

use crate::{
    measure::{DIRECT, Figure, Figures, Kind, kinds},
    settings::Settings,
    soak::Soak,
    statistics::median,
};

/// CPU of the runtime with everything on, as a multiple of the minimal proxy's.
const CPU_RATIO: f64 = 1.5;
/// Requests a second at 256 connections, as a multiple of nginx's.
const RATE_RATIO: f64 = 0.6;
/// Peak memory, MiB.
const PEAK_MIB: f64 = 40.0;
/// What the runtime adds to the 99th percentile of the gaps of a paced stream, milliseconds.
const GAP_MS: f64 = 1.0;
/// Growth that counts as none, KiB a minute: less than one per cent of the peak's bar in half an hour.
const FLAT: f64 = 12.0;

const NAMES: [&str; 4] = [DIRECT, "minimal", "nginx", "runtime"];

/// Prints everything; false when a bar is missed.
pub fn print(settings: &Settings, figures: &Figures) -> bool {
    println!("{}", conditions(settings));
    println!(
        "{:<14} {:<8} {:>9} {:>12} {:>10} {:>10} {:>11} {:>11}",
        "load", "who", "answers/s", "CPU ms each", "p50 ms", "p99 ms", "added p50", "added p99"
    );
    for kind in kinds() {
        for name in NAMES {
            println!("{}", line(figures, kind, name));
        }
    }
    for (name, peak) in &figures.peaks {
        println!("peak memory    {name:<8} {peak:>9.1} MiB");
    }
    let bars = bars(figures);
    println!("\n{:<60} {:>10} {:>10}  ", "bar", "figure", "limit");
    for bar in &bars {
        println!("{bar}");
    }
    bars.iter().all(|bar| bar.met)
}

fn conditions(settings: &Settings) -> String {
    let placed = settings.subject_cpu.as_ref().map_or_else(
        || "processes are not pinned".to_owned(),
        |cpu| {
            format!("what is measured is pinned to processor {cpu}, load and upstream to another, which never sleeps")
        },
    );
    format!(
        "{} rounds of {} s a figure, everybody in turn in each round; medians over the rounds; {placed}.\n\
         Requests of 1.1 kB, answers of 1.1 kB; streams of 33 events, 64 at once 5 ms apart; paced: 8 at once 20 ms apart, \
         latency is the gap between two events.\n\
         The runtime has budget, prices, circuit, retry, timers, queue, metrics and its log on; nginx has its access log on.\n",
        settings.rounds,
        settings.window.as_secs()
    )
}

fn label(kind: Kind) -> String {
    match kind {
        Kind::Requests(connections) => format!("requests c={connections}"),
        Kind::Streams => "streams c=64".into(),
        Kind::Paced => "paced c=8".into(),
    }
}

/// The median over the rounds of a value that is made of one subject's and another's figure in the same round.
fn paired(figures: &Figures, kind: Kind, names: (&str, &str), value: impl Fn(&Figure, &Figure) -> f64) -> f64 {
    let of = |name: &str| {
        let name = name.to_owned();
        let rows = figures.rows.iter();
        rows.filter(move |row| row.kind == kind && row.name == name)
    };
    let values: Vec<f64> = of(names.0)
        .filter_map(|one| Some(value(one, of(names.1).find(|other| other.round == one.round)?)))
        .collect();
    median(&values)
}

fn line(figures: &Figures, kind: Kind, name: &str) -> String {
    let own = |value: fn(&Figure) -> f64| paired(figures, kind, (name, name), |one, _| value(one));
    let added =
        |value: fn(&Figure) -> f64| paired(figures, kind, (name, DIRECT), |one, direct| value(one) - value(direct));
    let (p50, p99, added_p50, added_p99) = if kind == Kind::Paced {
        let gap = |row: &Figure| row.gap_p99_ms;
        (f64::NAN, own(gap), f64::NAN, added(gap))
    } else {
        let (p50, p99) = (|row: &Figure| row.p50_ms, |row: &Figure| row.p99_ms);
        (own(p50), own(p99), added(p50), added(p99))
    };
    let cells = [p50, p99, added_p50, added_p99].map(|value| {
        if value.is_nan() {
            "-".into()
        } else {
            format!("{value:.3}")
        }
    });
    let [p50, p99, added_p50, added_p99] = cells;
    format!(
        "{:<14} {name:<8} {:>9.0} {:>12.4} {p50:>10} {p99:>10} {added_p50:>11} {added_p99:>11}",
        label(kind),
        own(|row| row.rate),
        own(|row| row.cpu_ms),
    )
}

/// A figure and its limit.
struct Bar {
    name: String,
    figure: String,
    limit: String,
    met: bool,
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.met { "met" } else { "MISSED" };
        write!(f, "{:<60} {:>10} {:>10}  {verdict}", self.name, self.figure, self.limit)
    }
}

impl Bar {
    fn at_most(name: String, figure: f64, limit: f64) -> Self {
        Self {
            name,
            figure: format!("{figure:.2}"),
            limit: format!("<= {limit}"),
            met: figure <= limit,
        }
    }
}

fn bars(figures: &Figures) -> Vec<Bar> {
    let cpu = |kind| {
        let ratio = paired(figures, kind, ("runtime", "minimal"), |one, other| {
            one.cpu_ms / other.cpu_ms
        });
        Bar::at_most(
            format!("CPU of the runtime / minimal proxy, {}", label(kind)),
            ratio,
            CPU_RATIO,
        )
    };
    let mut bars: Vec<Bar> = kinds().filter(|kind| *kind != Kind::Paced).map(cpu).collect();
    let rate = paired(figures, Kind::Requests(256), ("runtime", "nginx"), |one, other| {
        one.rate / other.rate
    });
    bars.push(Bar {
        name: "requests a second of the runtime / nginx, c=256".into(),
        figure: format!("{rate:.2}"),
        limit: format!(">= {RATE_RATIO}"),
        met: rate >= RATE_RATIO,
    });
    let gap = paired(figures, Kind::Paced, ("runtime", DIRECT), |one, direct| {
        one.gap_p99_ms - direct.gap_p99_ms
    });
    bars.push(Bar::at_most("paced stream: added p99 gap, ms".into(), gap, GAP_MS));
    let peak = figures.peaks.iter().find(|(name, _)| *name == "runtime");
    bars.extend(peak.map(|(_, peak)| Bar::at_most("peak memory of the runtime, MiB".into(), *peak, PEAK_MIB)));
    bars.extend(figures.soak.as_ref().map(growth));
    bars
}

/// Memory grows when the line rises by more than its error can explain, and by more than pages that come and go.
fn growth(soak: &Soak) -> Bar {
    Bar {
        name: format!(
            "growth of memory over {:.0} s, {} answers, KiB a minute",
            soak.seconds, soak.answers
        ),
        figure: format!("{:.1}±{:.1}", soak.kib_a_minute, soak.error),
        limit: format!("<= {FLAT}"),
        met: soak.kib_a_minute - 2.0 * soak.error <= 0.0 || soak.kib_a_minute <= FLAT,
    }
}
