//! `bench run FOLDER RUNTIME`: the runtime against nginx and a minimal proxy, in interleaved rounds of one run.
//! `bench proxy PORT UPSTREAM-PORT`: the minimal proxy by itself.
//! `bench hold FOLDER RUNTIME CONNECTIONS SECONDS [PACE]`: one load on the runtime alone, for a profiler; PACE in microseconds means streams.

mod exchange;
mod load;
mod measure;
mod proxy;
mod report;
mod settings;
mod soak;
mod statistics;
mod subject;
mod traffic;
mod upstream;

use std::{error::Error, path::Path, process::ExitCode, time::Duration};

use load::Load;
use settings::Settings;

/// Whatever ends the bench early, for people.
pub type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["run", folder, runtime] => run(Path::new(folder), Path::new(runtime)),
        ["proxy", port, upstream] => proxy::run(port, upstream).map(|()| true),
        ["hold", folder, runtime, load @ ..] => hold(Path::new(folder), Path::new(runtime), load).map(|()| true),
        _ => Err("usage: bench run FOLDER RUNTIME | bench proxy PORT UPSTREAM-PORT | bench hold FOLDER RUNTIME CONNECTIONS SECONDS [PACE]".into()),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints everything; false when a bar is missed.
fn run(folder: &Path, runtime: &Path) -> Result<bool, Failure> {
    let settings = Settings::from_environment()?;
    let figures = drive(&settings, async {
        let upstream = upstream::start().await?;
        let mut subjects = subject::start(folder, runtime, upstream, &settings)?;
        measure::all(&settings, upstream, &mut subjects).await
    })?;
    Ok(report::print(&settings, &figures) || settings.report_only)
}

/// Runs load and upstream in one thread. With a processor of its own it never sleeps: waking it would be the subject's work, and
/// more of it the slower the subject is.
fn drive<T>(settings: &Settings, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut driver = tokio::runtime::Builder::new_current_thread();
    let driver = driver.enable_all().event_interval(16).build()?;
    if settings.subject_cpu.is_some() {
        driver.spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    driver.block_on(work)
}

/// Loads the runtime and prints its CPU an answer.
fn hold(folder: &Path, runtime: &Path, load: &[&str]) -> Result<(), Failure> {
    let [connections, seconds, pace @ ..] = load else {
        return Err("hold needs CONNECTIONS and SECONDS".into());
    };
    let settings = Settings::from_environment()?;
    let load = Load {
        connections: connections.parse()?,
        pace: pace.first().map(|pace| pace.parse()).transpose()?,
        window: Duration::from_secs(seconds.parse()?),
    };
    let (seen, subjects) = drive(&settings, async {
        let upstream = upstream::start().await?;
        let subjects = subject::start(folder, runtime, upstream, &settings)?;
        let subject = subjects.last().ok_or("no runtime")?;
        println!("process {}", subject.pid());
        let seen = load::drive(subject.port, load, || subject.cpu()).await?;
        Ok((seen, subjects))
    })?;
    let (count, subject) = (seen.latencies.len(), subjects.last().ok_or("no runtime")?);
    println!(
        "{count} answers, {:.1} us CPU each, peak {:.1} MiB, now {:.1} MiB",
        seen.cpu * 1e6 / count.max(1) as f64,
        subject.memory("VmHWM")? / 1024.0,
        subject.memory("VmRSS")? / 1024.0
    );
    Ok(())
}
