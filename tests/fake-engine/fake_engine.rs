//! An engine that plays every fault there is. It speaks as llama.cpp's server does, or as its command line asks it to.
//!
//! The environment says how each start goes: `FAKE_ENGINE_PLAN` is a list `LOAD,LOAD,…`, one a start and the last for all further
//! ones, counted in the file `FAKE_ENGINE_STARTS`. While it serves, `POST /fault/NAME` makes a fault happen, and `POST /report` tells what
//! the process can see of the machine.

mod faults;
mod protocol;
mod report;
mod server;

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

/// What its name says; `Slow` answers 503 for a while as llama.cpp's server does.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    Well,
    Slow,
    Never,
    Crash,
    CannotCompute,
    TooBig,
    IgnoringTerm,
}

fn parse(name: &str) -> Result<Load, String> {
    Ok(match name {
        "well" => Load::Well,
        "slow" => Load::Slow,
        "never" => Load::Never,
        "crash" => Load::Crash,
        "cannot-compute" => Load::CannotCompute,
        "too-big" => Load::TooBig,
        "ignoring-term" => Load::IgnoringTerm,
        other => return Err(format!("no such load: {other}")),
    })
}

/// This start's part of the plan.
fn load() -> Result<Load, String> {
    let plan = env::var("FAKE_ENGINE_PLAN").unwrap_or_else(|_| "well".to_owned());
    let file = env::var("FAKE_ENGINE_STARTS").map_err(|error| format!("FAKE_ENGINE_STARTS: {error}"))?;
    let starts = fs::read_to_string(&file).map_or(0, |text| text.len());
    let mut log = fs::OpenOptions::new().create(true).append(true).open(&file);
    let written = log.as_mut().map_err(|error| error.to_string())?.write_all(b"x");
    written.map_err(|error| error.to_string())?;
    let parts: Vec<&str> = plan.split(',').collect();
    parse(parts.get(starts).or(parts.last()).unwrap_or(&"well"))
}

/// The value of `NAME VALUE` or `NAME=VALUE`.
fn flag(name: &str) -> Option<String> {
    let joined = env::args().find_map(|arg| Some(arg.strip_prefix(name)?.strip_prefix('=')?.to_owned()));
    joined.or_else(|| env::args().skip_while(|arg| arg != name).nth(1))
}

fn run() -> Result<(), String> {
    if let Some(port) = flag("--hold-port") {
        return faults::hold_port(&port);
    }
    let load = load()?;
    if load == Load::Crash {
        eprintln!("0.00.008.032 E gguf_init_from_reader: invalid magic characters: '????', expected 'GGUF'");
        eprintln!("0.00.009.031 E srv  llama_server: exiting due to model loading error");
        return Err(String::new());
    }
    if load == Load::TooBig {
        faults::does_not_fit();
    }
    let port = flag("--port").ok_or("no --port")?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let served = runtime.block_on(server::serve(&port, load));
    runtime.shutdown_timeout(Duration::ZERO);
    served.map_err(|error: io::Error| error.to_string())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
