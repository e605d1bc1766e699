//! One process at a time downloads into a folder: the volume may be shared by pods.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use super::{error::SourceError, plan::OWN};

/// How often it is looked whether another process is done.
const LOOK: Duration = Duration::from_secs(1);

/// Held until it is dropped, and never longer than the process lives.
pub struct Locked {
    _file: File,
}

/// Waits for its turn in `folder`; `waiting` is called again and again meanwhile.
pub async fn lock(folder: &Path, mut waiting: impl FnMut()) -> Result<Locked, SourceError> {
    let path = folder.join(format!("{OWN}lock"));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| SourceError::disk(&path, &error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Locked { _file: file }),
            Err(TryLockError::WouldBlock) => waiting(),
            Err(TryLockError::Error(error)) => return Err(SourceError::disk(&path, &error)),
        }
        tokio::time::sleep(LOOK).await;
    }
}
