//! Where an image has the engine's program.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::SetupError;

/// The path of `program`: what the placement names, else the first in PATH, else where vendors put it.
pub fn find(chosen: Option<&Path>, program: &'static str, usual: &'static str) -> Result<PathBuf, SetupError> {
    let found = match chosen {
        Some(chosen) => Some(chosen.to_path_buf()),
        None => search(env::var_os("PATH").as_deref(), program, usual),
    };
    found.ok_or(SetupError::NoProgram { program, usual })
}

fn search(path: Option<&OsStr>, program: &str, usual: &str) -> Option<PathBuf> {
    let in_path = path
        .into_iter()
        .flat_map(env::split_paths)
        .map(|folder| folder.join(program));
    in_path.chain([usual.into()]).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_path_is_taken_and_the_usual_place_last() {
        assert_eq!(
            search(Some(OsStr::new("/nowhere:/usr/bin:/bin")), "env", "/nowhere/env"),
            Some("/usr/bin/env".into())
        );
        assert_eq!(search(None, "env", "/usr/bin/env"), Some("/usr/bin/env".into()));
        assert_eq!(search(Some(OsStr::new("/nowhere")), "env", "/etc/passwd"), None);
    }
}
