//! The Landlock domain of an engine: everything may be read and run except what is denied, little may be written (design section 10).
//!
//! Landlock only allows: so the tree is split along the denied paths, and every folder beside them is allowed by itself.

use crate::api::EngineIsolation;
use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest access rights this crate knows; on an older kernel those it does not have are left out.
const RIGHTS: ABI = ABI::V6;
/// The oldest domain that engines can live in (kernel 5.19): in one of the first version no file can be renamed into another folder, which
/// Triton's cache does.
const NEEDED: ABI = ABI::V2;

/// Where the kernel shows processes.
const PROCESSES: &str = "/proc";

/// What an engine may not reach and where it may write.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    /// Files and folders it may neither read nor write, with all below them.
    pub denied: Vec<PathBuf>,
    /// Folders it may write to.
    pub writable: Vec<PathBuf>,
}

/// Why a domain cannot be entered although the kernel has Landlock.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refuses a rule.
    #[error("Landlock: {0}")]
    Ruleset(#[from] RulesetError),
    /// A folder cannot be opened.
    #[error("Landlock: {0}")]
    Path(#[from] PathFdError),
}

/// What this kernel offers.
#[must_use]
pub fn supported() -> EngineIsolation {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(NEEDED))
        .and_then(Ruleset::create);
    match ruleset {
        Ok(_) => EngineIsolation::Landlock,
        Err(_) => EngineIsolation::None,
    }
}

impl Domain {
    /// Confine this process and all it will start. `EngineIsolation::None` where the kernel has no Landlock that engines can live in.
    pub fn enter(&self) -> Result<EngineIsolation, SandboxError> {
        let denied: Vec<PathBuf> = self
            .denied
            .iter()
            .filter_map(|path| fs::canonicalize(path).ok())
            .collect();
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::SoftRequirement)
            .handle_access(AccessFs::from_all(NEEDED))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(RIGHTS))?
            .scope(Scope::from_all(RIGHTS))?
            .create()?;
        for path in split(Path::new("/"), &denied) {
            ruleset = allow(ruleset, &path, AccessFs::from_read(RIGHTS))?;
        }
        let writable = self.writable.iter().filter_map(|path| fs::canonicalize(path).ok());
        let writable = writable.map(|folder| (folder, AccessFs::from_all(RIGHTS)));
        for (folder, rights) in writable.chain([(PROCESSES.into(), own_processes())]) {
            for path in split(&folder, &denied) {
                ruleset = allow(ruleset, &path, rights)?;
            }
        }
        match ruleset.restrict_self()?.ruleset {
            RulesetStatus::NotEnforced => Ok(EngineIsolation::None),
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(EngineIsolation::Landlock),
        }
    }
}

/// Since NVIDIA's driver 570 `cuInit` names threads through `/proc/PID/task/TID/comm` and fails with 304 when it must not. A rule is of a
/// folder that is there already, so this is about all processes. Memory and descriptors of those outside of the domain stay closed, for it
/// may not trace them, and the runtime's other files too, for they are root's: it is not dumpable.
fn own_processes() -> BitFlags<AccessFs> {
    AccessFs::from_read(RIGHTS) | AccessFs::WriteFile | AccessFs::Truncate
}

fn allow(ruleset: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, SandboxError> {
    // What vanished or cannot be opened is simply not allowed.
    let Ok(file) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    let rights = if path.is_dir() {
        rights
    } else {
        rights & AccessFs::from_file(RIGHTS)
    };
    Ok(ruleset.add_rule(PathBeneath::new(file, rights))?)
}

/// The fewest paths below `folder` that together hold everything but `denied`, which are canonical. Links are left out: what they
/// point to is listed at its own place.
fn split(folder: &Path, denied: &[PathBuf]) -> Vec<PathBuf> {
    if denied.iter().any(|path| folder.starts_with(path)) {
        return Vec::new();
    }
    if !denied.iter().any(|path| path.starts_with(folder)) {
        return vec![folder.to_path_buf()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let real = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    real.flat_map(|entry| split(&entry.path(), denied)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_denied_is_listed() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        for folder in ["usr/bin", "run/keys/openai", "run/lock", "run/peer", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("run/file"), "").unwrap();
        std::os::unix::fs::symlink(root.join("run/keys"), root.join("link")).unwrap();
        let mut found = split(&root, &[root.join("run/keys"), root.join("run/peer")]);
        found.sort();
        assert_eq!(
            found,
            ["etc", "run/file", "run/lock", "usr"].map(|path| root.join(path))
        );
    }

    #[test]
    fn a_denied_folder_has_nothing_to_list() {
        assert!(split(Path::new("/a/b/c"), &["/a/b".into()]).is_empty());
        assert_eq!(split(Path::new("/a/bc"), &["/a/b".into()]), [PathBuf::from("/a/bc")]);
    }
}
