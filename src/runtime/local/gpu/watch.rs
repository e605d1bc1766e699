//! `gpu-watch`: what there is, then every critical Xid, a line each, for as long as somebody reads. A child of its own: a driver that
//! hangs takes nothing with it.

use std::{io::Write, process::ExitCode};

use super::{
    cuda::{Current, Driver},
    nvml::Management,
    probe::UNAVAILABLE,
    report::Sighting,
};

/// Name of the subcommand.
pub const SUBCOMMAND: &str = "gpu-watch";

/// Watches until nobody reads.
#[must_use]
pub fn run() -> ExitCode {
    let management = Management::load();
    let devices = management
        .as_ref()
        .ok()
        .and_then(|management| management.devices().ok());
    let found = Sighting::Found {
        devices: devices.unwrap_or_default(),
        missing: Driver::load(&Current::default()).err(),
    };
    if tell(&found).is_err() {
        return ExitCode::SUCCESS;
    }
    match management.map(|management| management.watch(|xid| tell(&Sighting::Xid(xid)))) {
        Ok(Err(super::nvml::WatchError::Taker(_)) | Ok(())) => ExitCode::SUCCESS,
        Ok(Err(super::nvml::WatchError::Nvml(error))) | Err(error) => {
            eprintln!("{SUBCOMMAND}: {error}");
            ExitCode::from(UNAVAILABLE)
        }
    }
}

fn tell(sighting: &Sighting) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(sighting)?)?;
    out.flush()
}
