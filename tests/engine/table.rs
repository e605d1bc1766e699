//! Every fault of an engine in one table: what it is called, what is said of it, how soon it is noticed and how soon an engine serves again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use inference_operator::{
    api::{GpuFaultReason, conditions::reason},
    error::ErrorKind,
    runtime::local::{EngineView, Timing},
};
use tokio::time::timeout;

use crate::{
    bench::{Bench, DEADLINE, fake, is_rerun, provoke, rerun, serves},
    drivers::Drivers,
    gpu::with,
};

/// What an engine that loads in no time may take to be replaced (issue 7).
const RESTART: Duration = Duration::from_secs(3);

struct Row {
    name: &'static str,
    /// Loads of the engines, one after the other.
    plan: &'static str,
    /// What happens to the first while it serves; absent when it never does.
    fault: Option<&'static str>,
    kind: ErrorKind,
    event: &'static str,
}

const fn row(name: &'static str, plan: &'static str, fault: Option<&'static str>, kind: ErrorKind) -> Row {
    let event = match kind {
        ErrorKind::CudaContextPoisoned => reason::CONTEXT_POISONED,
        ErrorKind::Backpressure => reason::OOM_KILLED,
        _ => reason::ENGINE_RESTARTING,
    };
    Row {
        name,
        plan,
        fault,
        kind,
        event,
    }
}

const FAULTS: [Row; 11] = [
    row("crash_at_load", "crash,well", None, ErrorKind::ServerError),
    row("load_without_end", "never,well", None, ErrorKind::Timeout),
    row("health_lies", "cannot-compute,well", None, ErrorKind::ServerError),
    row("answers_500", "well", Some("errors"), ErrorKind::ServerError),
    row("stall", "well", Some("stall"), ErrorKind::Timeout),
    row("hang", "well", Some("freeze"), ErrorKind::Timeout),
    row("exit_0", "well", Some("exit-0"), ErrorKind::ServerError),
    row(
        "grandchild_keeps_port",
        "well",
        Some("grandchild"),
        ErrorKind::ServerError,
    ),
    row("cuda_abort", "well", Some("cuda-abort"), ErrorKind::CudaContextPoisoned),
    row(
        "cuda_and_stays",
        "well",
        Some("cuda-and-stay"),
        ErrorKind::CudaContextPoisoned,
    ),
    row(
        "gpu_out_of_memory",
        "well",
        Some("gpu-out-of-memory"),
        ErrorKind::Backpressure,
    ),
];

/// Plays a row in `bench`, prints its times and gives the one from the fault's discovery to the next engine's answer.
async fn play(row: &Row, bench: Bench) -> Duration {
    let Row {
        name,
        fault,
        kind,
        event,
        ..
    } = *row;
    let mut engine = bench.start();
    let mut began = Instant::now();
    if let Some(fault) = fault {
        let target = engine.ready().await;
        assert!(serves(&target).await, "{name}");
        began = Instant::now();
        // A frozen engine never answers.
        tokio::spawn(async move { provoke(&target, fault).await });
    }
    let view = EngineView::Restarting(engine.restarting().await);
    let detected = began.elapsed();
    let EngineView::Restarting(error) = &view else {
        unreachable!()
    };
    assert_eq!((error.kind(), view.event_reason()), (kind, event), "{name}: {error}");
    assert_eq!(view.reason(), reason::ENGINE_RESTARTING, "{name}");
    let told = engine.local.gpu.borrow().as_ref().and_then(|gpu| gpu.fault.clone());
    let poisoned = (kind == ErrorKind::CudaContextPoisoned).then_some(GpuFaultReason::ContextPoisoned);
    assert_eq!(told.map(|fault| fault.reason), poisoned, "{name}");

    let target = engine.ready().await;
    assert!(serves(&target).await, "{name}");
    let serving = began.elapsed();
    let (termination, _) = engine.stop().await;
    assert_eq!(termination, None, "{name}");
    let healthy = if poisoned.is_some() {
        ", GPUHealthy=False/ContextPoisoned"
    } else {
        ""
    };
    println!(
        "{name}: {}, ModelLoaded=False/{}{healthy}, Event {event}",
        kind.as_str(),
        view.reason()
    );
    println!("FIGURE ms_to_detection_of_{name}: {}", detected.as_millis());
    println!("FIGURE ms_to_serving_after_{name}: {}", serving.as_millis());
    serving.saturating_sub(detected)
}

#[tokio::test]
async fn every_fault_has_a_kind_and_an_event_is_noticed_and_gone_within_3_s() {
    for row in &FAULTS {
        let mut bench = fake(row.plan);
        bench.options.timing.load = Duration::from_secs(1);
        let took = play(row, bench).await;
        assert!(took <= RESTART, "{}: {took:?}", row.name);
    }
}

/// With the probe, and with the times that a pod has.
#[tokio::test]
async fn after_poison_an_engine_serves_within_3_s_of_the_times_of_a_pod() {
    let drivers = Drivers::new();
    let mut bench = with(&drivers, "well");
    bench.options.timing = Timing::default();
    let row = row(
        "poison_in_a_pod",
        "well",
        Some("cuda-and-stay"),
        ErrorKind::CudaContextPoisoned,
    );
    let took = play(&row, bench).await;
    assert!(took <= RESTART, "{took:?}");
    assert!(drivers.calls().iter().any(|call| call == "cuInit"), "it was probed");
}

#[tokio::test]
async fn sigterm_ignored_costs_the_grace_and_no_more() {
    let mut engine = fake("ignoring-term").start();
    let target = engine.ready().await;
    let began = Instant::now();
    let (termination, bench) = engine.stop().await;
    let took = began.elapsed();
    println!("FIGURE ms_to_the_end_with_sigterm_ignored: {}", took.as_millis());
    assert_eq!(termination, None);
    assert!(
        took >= bench.options.timing.grace && took < bench.options.timing.grace + RESTART,
        "{took:?}"
    );
    timeout(DEADLINE, target.gone.cancelled())
        .await
        .expect("gone is not cancelled");
}

/// A cgroup of its own with so little memory, below ours; `None` where nobody may make one.
fn little_memory(bytes: u64) -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let root = Path::new("/sys/fs/cgroup");
    let places = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = path.trim_start_matches('/');
        match controllers {
            "memory" => Some((root.join("memory").join(path), "memory.limit_in_bytes")),
            "" => Some((root.join(path), "memory.max")),
            _ => None,
        }
    });
    places.into_iter().find_map(|(place, limit)| {
        let folder = place.join(format!("inference-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let made = folder.join(limit).exists() && fs::write(folder.join(limit), bytes.to_string()).is_ok();
        if !made {
            fs::remove_dir(&folder).unwrap();
        }
        made.then_some(folder)
    })
}

#[tokio::test]
async fn an_engine_that_the_kernel_kills_for_its_memory_is_backpressure() {
    if is_rerun() {
        let row = row("oom_kill", "well", Some("eat-memory"), ErrorKind::Backpressure);
        let took = play(&row, fake(row.plan)).await;
        assert!(took <= RESTART, "{took:?}");
        return;
    }
    let Some(group) = little_memory(512 << 20) else {
        println!("skipped: there is no cgroup here in which memory could be limited");
        return;
    };
    let folder = group.display().to_string();
    let enter = ["sh", "-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\"", &folder];
    rerun(
        "table::an_engine_that_the_kernel_kills_for_its_memory_is_backpressure",
        &enter,
    );
    fs::remove_dir(&group).unwrap();
}
