//! `bench run FOLDER RUNTIME`: the runtime against nginx and a minimal proxy, in interleaved rounds of one run.
//! `bench proxy PORT UPSTREAM-PORT`: the minimal proxy by itself.

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

use std::{error::Error, path::Path, process::ExitCode};

/// Whatever ends the bench early, for people.
pub type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["run", folder, runtime] => run(Path::new(folder), Path::new(runtime)),
        ["proxy", port, upstream] => proxy::run(port, upstream).map(|()| true),
        _ => Err("usage: bench run FOLDER RUNTIME | bench proxy PORT UPSTREAM-PORT".into()),
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
    let settings = settings::Settings::from_environment()?;
    let upstream = upstream::start()?;
    let mut subjects = subject::start(folder, runtime, upstream, &settings)?;
    let driver = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = driver.block_on(measure::all(&settings, upstream, &mut subjects))?;
    Ok(report::print(&settings, &figures) || settings.report_only)
}
