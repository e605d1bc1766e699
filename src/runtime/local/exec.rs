//! The hidden subcommand `exec-engine`: the last steps of a process on its way to become the engine.
//!
//! It runs after the fork in a process of its own, so that nothing here has to be async-signal-safe: parent-death signal, no inherited
//! descriptors, no new privileges, the Landlock domain, then `execve`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd,
};

use super::sandbox::Domain;

/// Name of the subcommand.
pub const SUBCOMMAND: &str = "exec-engine";
/// Exit code when the engine could not be made of this process.
pub const CANNOT_EXEC: u8 = 126;

/// Why the engine could not be made of this process.
#[derive(Debug, thiserror::Error)]
enum ExecError {
    #[error(
        "usage: {SUBCOMMAND} --parent PID [--deny PATH]... [--write PATH]... -- COMMAND [ARGUMENT]...; {0:?} is wrong"
    )]
    Usage(OsString),
    #[error("no command after --")]
    NoCommand,
    #[error("the runtime ended before the engine began")]
    Orphaned,
    #[error("{0}")]
    System(#[from] nix::Error),
    #[error("{0}")]
    Sandbox(#[from] super::sandbox::SandboxError),
    #[error("cannot run {0:?}: {1}")]
    Exec(OsString, std::io::Error),
}

#[derive(Debug, Default)]
struct Plan {
    parent: Option<i32>,
    domain: Domain,
    command: Vec<OsString>,
}

/// The arguments that make `exec-engine` run `program`.
#[must_use]
pub fn arguments(domain: &Domain, program: &Path, args: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![
        SUBCOMMAND.into(),
        "--parent".into(),
        std::process::id().to_string().into(),
    ];
    for path in &domain.denied {
        all.extend(["--deny".into(), path.into()]);
    }
    for path in &domain.writable {
        all.extend(["--write".into(), path.into()]);
    }
    all.extend(["--".into(), program.into()]);
    all.extend(args.iter().cloned());
    all
}

/// Become the engine. `args` are those after the subcommand's name. Returns only when that fails, having said why on stderr.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Err(error) = parse(args.into_iter()).and_then(become_engine);
    eprintln!("{SUBCOMMAND}: {error}");
    ExitCode::from(CANNOT_EXEC)
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Plan, ExecError> {
    let mut plan = Plan::default();
    while let Some(flag) = args.next() {
        if flag == "--" {
            plan.command = args.collect();
            return Ok(plan);
        }
        let value = args.next().ok_or_else(|| ExecError::Usage(flag.clone()))?;
        match flag.to_str() {
            Some("--parent") => plan.parent = Some(number(&value)?),
            Some("--deny") => plan.domain.denied.push(PathBuf::from(value)),
            Some("--write") => plan.domain.writable.push(PathBuf::from(value)),
            _ => return Err(ExecError::Usage(flag)),
        }
    }
    Err(ExecError::NoCommand)
}

fn number(value: &OsStr) -> Result<i32, ExecError> {
    let parsed = value.to_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| ExecError::Usage(value.to_owned()))
}

fn become_engine(plan: Plan) -> Result<std::convert::Infallible, ExecError> {
    let Plan {
        parent,
        domain,
        command,
    } = plan;
    let (program, args) = command.split_first().ok_or(ExecError::NoCommand)?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died before the line above: then nobody would ever send that signal.
    if parent.is_some_and(|parent| unistd::getppid().as_raw() != parent) {
        return Err(ExecError::Orphaned);
    }
    close_inherited();
    prctl::set_no_new_privs()?;
    domain.enter()?;
    let error = Command::new(program).args(args).exec();
    Err(ExecError::Exec(program.clone(), error))
}

/// Close everything but the three standard streams. This process has opened nothing that it keeps.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > 2) {
        // The listing's own descriptor is among them and closed already.
        let _ = unistd::close(descriptor);
    }
}

/// Make this process, the runtime, unreadable for processes of the same user: no ptrace, no `/proc/PID/environ`, no core dump.
pub fn harden() -> nix::Result<()> {
    prctl::set_dumpable(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, ExecError> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn reads_what_arguments_writes() {
        let domain = Domain {
            denied: vec!["/keys".into()],
            writable: vec!["/tmp".into(), "/dev".into()],
        };
        let args = arguments(&domain, Path::new("/bin/engine"), &["--deny".into(), "x".into()]);
        let plan = parse(args.into_iter().skip(1)).unwrap();
        assert_eq!(plan.parent, i32::try_from(std::process::id()).ok());
        assert_eq!(
            (plan.domain.denied, plan.domain.writable),
            (domain.denied, domain.writable)
        );
        assert_eq!(plan.command, ["/bin/engine", "--deny", "x"]);
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (args, said) in [
            (vec!["--parent", "x", "--", "a"], "\"x\" is wrong"),
            (vec!["--what", "1"], "\"--what\" is wrong"),
            (vec!["--deny"], "\"--deny\" is wrong"),
            (vec!["--parent", "1"], "no command after --"),
        ] {
            let error = plan(&args).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
