//! What is to be downloaded to where, and what of it is there already.

use std::{
    fs,
    path::{Path, PathBuf},
};

use http::Uri;

use super::{digest::Digest, error::SourceError};

/// Names of our own files beside a model's begin with this.
pub const OWN: &str = ".inference-";
/// What is appended to the name of a file that is not whole.
const PARTIAL: &str = "partial";

/// A file of a model.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its path inside the model's folder, one that [`safe`] lets pass.
    pub path: String,
    /// Bytes; unknown until the server says for a file at a URL.
    pub size: Option<u64>,
    /// What they come to.
    pub digest: Digest,
    /// Where it is.
    pub url: Uri,
}

impl Wanted {
    /// Where it lies once it is whole and verified.
    pub fn place(&self, folder: &Path) -> PathBuf {
        folder.join(&self.path)
    }

    /// Where it lies until then. The checksum is part of the name: what was begun of another file is not gone on with.
    pub fn partial(&self, folder: &Path) -> PathBuf {
        let place = self.place(folder);
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let begun: String = self.digest.hex().chars().take(16).collect();
        place.with_file_name(format!("{OWN}{PARTIAL}-{begun}-{name}"))
    }

    /// Whether it is there, verified: only then it has its name.
    pub fn is_there(&self, folder: &Path) -> bool {
        let found = fs::metadata(self.place(folder));
        found.is_ok_and(|found| found.is_file() && self.size.is_none_or(|size| size == found.len()))
    }

    /// Bytes that are there of it.
    pub fn present(&self, folder: &Path) -> u64 {
        if self.is_there(folder) {
            return fs::metadata(self.place(folder)).map_or(0, |found| found.len());
        }
        let begun = fs::metadata(self.partial(folder)).map_or(0, |found| found.len());
        self.size.map_or(begun, |size| size.min(begun))
    }
}

/// A model that is to be downloaded.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its files lie. Of its own for every revision, so that a volume may hold many.
    pub folder: PathBuf,
    /// They.
    pub files: Vec<Wanted>,
}

impl Plan {
    /// Bytes of all files, when all are known.
    pub fn total(&self) -> Option<u64> {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes that are there.
    pub fn present(&self) -> u64 {
        self.files.iter().map(|file| file.present(&self.folder)).sum()
    }

    /// Bytes that are still to come; 0 where they are not known.
    pub fn missing(&self) -> u64 {
        self.total().map_or(0, |total| total.saturating_sub(self.present()))
    }
}

/// A relative path that stays in its folder and is none of our own files.
pub fn safe(path: &str) -> Result<&str, SourceError> {
    let fine = |part: &str| {
        !part.is_empty() && part != "." && part != ".." && !part.starts_with(OWN) && !part.contains(['\0', '\\'])
    };
    if path.split('/').all(fine) {
        Ok(path)
    } else {
        Err(SourceError::Path(path.to_owned()))
    }
}

/// The name that a file at a URL gets: the address's own as far as it is an ordinary one.
pub fn name_of(url: &Uri) -> String {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = last.chars().filter(plain).take(200).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "model" } else { name }.to_owned()
}

/// Whether `needed` bytes fit into `folder`.
pub fn check_space(folder: &Path, needed: u64) -> Result<(), SourceError> {
    let found =
        nix::sys::statvfs::statvfs(folder).map_err(|error| SourceError::disk(folder, &std::io::Error::from(error)))?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if needed <= free {
        return Ok(());
    }
    Err(SourceError::NoSpace {
        needed,
        free,
        folder: folder.display().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(size: Option<u64>) -> Wanted {
        Wanted {
            path: "a/m.gguf".to_owned(),
            size,
            digest: Digest::Sha256("0123456789abcdef0123".to_owned()),
            url: Uri::from_static("https://h/m.gguf"),
        }
    }

    #[test]
    fn only_a_file_with_its_own_name_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let file = wanted(Some(10));
        fs::create_dir(folder.join("a")).unwrap();
        assert!(!file.is_there(folder));
        fs::write(folder.join("a/.inference-partial-0123456789abcdef-m.gguf"), "1234").unwrap();
        let plan = Plan {
            folder: folder.to_owned(),
            files: vec![file.clone(), wanted(Some(10))],
        };
        assert_eq!((plan.total(), plan.present(), plan.missing()), (Some(20), 8, 12));
        fs::write(folder.join("a/m.gguf"), "123456789").unwrap();
        assert!(!file.is_there(folder), "a byte is missing");
        fs::write(folder.join("a/m.gguf"), "1234567890").unwrap();
        assert!(file.is_there(folder) && wanted(None).is_there(folder));
        assert_eq!(file.present(folder), 10);
    }

    #[test]
    fn what_cannot_be_known_is_not_missing() {
        let plan = Plan {
            folder: "/nowhere".into(),
            files: vec![wanted(None)],
        };
        assert_eq!((plan.total(), plan.missing()), (None, 0));
    }

    #[test]
    fn a_file_is_named_as_its_address_names_it() {
        for (url, name) in [
            ("https://h/a/m-Q4_K.gguf?sig=x", "m-Q4_K.gguf"),
            ("https://h/a/", "model"),
            ("https://h/..%2f..", "2f.."),
            ("https://h/.hidden", "hidden"),
        ] {
            assert_eq!(name_of(&Uri::from_static(url)), name);
        }
    }

    #[test]
    fn more_than_any_disk_has_is_no_space() {
        let folder = tempfile::tempdir().unwrap();
        check_space(folder.path(), 1).unwrap();
        let error = check_space(folder.path(), u64::MAX).unwrap_err();
        assert!(
            matches!(error, SourceError::NoSpace { free, .. } if free > 0),
            "{error}"
        );
    }
}
