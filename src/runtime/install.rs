//! `install DIR`: the init container's copy of the runtime binary (design section 10).

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Why the binary could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The program does not find its own file.
    #[error("cannot find this program's own file: {0}")]
    OwnFile(io::Error),
    /// A file operation failed.
    #[error("cannot install into {}: {error}; the folder must exist and be writable", folder.display())]
    Copy {
        /// The folder asked for.
        folder: PathBuf,
        /// What failed.
        error: io::Error,
    },
}

/// Copies this program to `folder/inference-runtime`, mode 0755, by way of a rename: a reader sees the old file or the whole new one.
pub fn install(folder: &Path) -> Result<PathBuf, InstallError> {
    let own = env::current_exe().map_err(InstallError::OwnFile)?;
    copy(&own, folder).map_err(|error| InstallError::Copy {
        folder: folder.to_owned(),
        error,
    })
}

fn copy(from: &Path, folder: &Path) -> io::Result<PathBuf> {
    let target = folder.join("inference-runtime");
    let temporary = folder.join(format!(".inference-runtime.{}", std::process::id()));
    fs::copy(from, &temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
    fs::File::open(&temporary)?.sync_all()?;
    fs::rename(&temporary, &target)?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_whole_and_executable() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, b"program").unwrap();
        let target = copy(&source, folder.path()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"program");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing temporary stays"
        );
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = install(Path::new("/nonexistent/folder")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/folder"), "{error}");
    }
}
