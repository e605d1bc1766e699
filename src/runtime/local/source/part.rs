//! A file that is being written: under a name of its own until it is whole and verified.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWriteExt},
    task::spawn_blocking,
};

use super::{digest::Hasher, error::SourceError, plan::Wanted};

/// Bytes that are read at once when a begun file is taken up.
const BLOCK: usize = 1024 * 1024;

/// What is there of a file.
pub struct Part {
    wanted: Wanted,
    place: PathBuf,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

impl Part {
    /// Takes up what was begun, or begins.
    pub async fn open(folder: &Path, wanted: Wanted) -> Result<Self, SourceError> {
        let (place, path) = (wanted.place(folder), wanted.partial(folder));
        let (opened, of) = (path.clone(), wanted.clone());
        let taken = spawn_blocking(move || take_up(&opened, &of)).await;
        let (file, hasher, length) = taken
            .unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
            .map_err(|error| SourceError::disk(&path, &error))?;
        Ok(Self {
            wanted,
            place,
            path,
            file: File::from_std(file),
            hasher,
            length,
        })
    }

    /// Bytes that are there.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// From the first byte on again.
    pub async fn restart(&mut self) -> Result<(), SourceError> {
        let emptied = async {
            self.file.flush().await?;
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        emptied.await.map_err(|error| SourceError::disk(&self.path, &error))?;
        self.hasher = Hasher::new(&self.wanted.digest, self.wanted.size);
        self.length = 0;
        Ok(())
    }

    /// The next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        let written = self.file.write_all(bytes).await;
        written.map_err(|error| SourceError::disk(&self.path, &error))?;
        self.hasher.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// What was written is in the file.
    pub async fn flush(&mut self) -> Result<(), SourceError> {
        let flushed = self.file.flush().await;
        flushed.map_err(|error| SourceError::disk(&self.path, &error))
    }

    /// Gives it its name when it is what was wanted; deletes it when it is not.
    pub async fn finish(mut self) -> Result<(), SourceError> {
        self.flush().await?;
        let found = self.hasher.clone().hex();
        if !found.eq_ignore_ascii_case(self.wanted.digest.hex()) {
            let deleted = fs::remove_file(&self.path);
            deleted.map_err(|error| SourceError::disk(&self.path, &error))?;
            return Err(SourceError::Checksum {
                file: self.wanted.path,
                wanted: self.wanted.digest.hex().to_owned(),
                found,
            });
        }
        let named = async {
            self.file.sync_all().await?;
            fs::rename(&self.path, &self.place)?;
            sync_folder(&self.place)
        };
        named.await.map_err(|error| SourceError::disk(&self.place, &error))
    }
}

/// A name outlives a crash of the node only when its folder is written too.
fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent()
        .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

/// Opened at its end, with what its bytes came to so far; begun anew when there are more of them than can be.
fn take_up(path: &Path, wanted: &Wanted) -> io::Result<(fs::File, Hasher, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)?;
    if wanted
        .size
        .is_some_and(|size| file.metadata().is_ok_and(|found| found.len() > size))
    {
        file.set_len(0)?;
    }
    let mut hasher = Hasher::new(&wanted.digest, wanted.size);
    let (mut block, mut length) = (vec![0; BLOCK], 0_u64);
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok((file, hasher, length));
        }
        hasher.update(block.get(..count).unwrap_or_default());
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::digest::Digest, *};

    fn wanted(size: Option<u64>) -> Wanted {
        Wanted {
            path: "sub/m.gguf".to_owned(),
            size,
            digest: Digest::Sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".to_owned()),
            url: http::Uri::from_static("https://h/m.gguf"),
        }
    }

    #[tokio::test]
    async fn a_begun_file_is_taken_up_and_named_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut part = Part::open(folder, wanted(Some(6))).await.unwrap();
        part.write(b"hel").await.unwrap();
        part.flush().await.unwrap();
        drop(part);
        let mut part = Part::open(folder, wanted(None)).await.unwrap();
        assert_eq!(part.length(), 3);
        part.write(b"lo\n").await.unwrap();
        assert!(!folder.join("sub/m.gguf").exists());
        part.finish().await.unwrap();
        assert_eq!(fs::read(folder.join("sub/m.gguf")).unwrap(), b"hello\n");
        assert_eq!(fs::read_dir(folder.join("sub")).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_wrong_or_too_long_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut part = Part::open(folder, wanted(None)).await.unwrap();
        part.write(b"hullo\n").await.unwrap();
        let error = part.finish().await.unwrap_err();
        assert!(
            matches!(&error, SourceError::Checksum { file, .. } if file == "sub/m.gguf"),
            "{error}"
        );
        assert_eq!(fs::read_dir(folder.join("sub")).unwrap().count(), 0);

        fs::write(wanted(None).partial(folder), "more than six bytes").unwrap();
        let mut part = Part::open(folder, wanted(Some(6))).await.unwrap();
        assert_eq!(part.length(), 0);
        part.write(b"xx").await.unwrap();
        part.restart().await.unwrap();
        part.write(b"hello\n").await.unwrap();
        part.finish().await.unwrap();
    }
}
