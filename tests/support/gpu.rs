//! Fake drivers for a process under test: libraries with the names of NVIDIA's, found by the real loader.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use tempfile::TempDir;

/// UUID of the device that there is when the script says nothing else.
pub const UUID: &str = "GPU-00112233-4455-6677-8899-aabbccddeeff";

/// Where cargo puts the libraries that it builds beside the programs.
static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
    // target/PROFILE/deps/TEST
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    // `cargo test` has built them, `cargo test --test NAME` has not. Nothing is done when they are fresh.
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--offline",
            "--example",
            "fake_cuda",
            "--example",
            "fake_nvml",
        ])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status();
    assert!(built.unwrap().success(), "the fake drivers cannot be built");
    profile.join("examples")
});

/// A folder with the drivers and their script.
pub struct Drivers(TempDir);

impl Drivers {
    /// Both libraries, one device that works.
    pub fn new() -> Self {
        let drivers = Self(tempfile::tempdir().unwrap());
        fs::create_dir(drivers.0.path().join("lib")).unwrap();
        fs::create_dir(drivers.script()).unwrap();
        fs::copy(BUILT.join("libfake_cuda.so"), drivers.library("libcuda.so.1")).unwrap();
        // Where there is a real driver with its development files, this name is looked for first.
        symlink("libcuda.so.1", drivers.library("libcuda.so")).unwrap();
        fs::copy(BUILT.join("libfake_nvml.so"), drivers.library("libnvidia-ml.so.1")).unwrap();
        drivers
    }

    /// A library's file.
    pub fn library(&self, name: &str) -> PathBuf {
        self.0.path().join("lib").join(name)
    }

    /// The folder of the script, which the libraries write their log to.
    pub fn script(&self) -> PathBuf {
        self.0.path().join("script")
    }

    /// Changes a part of the script, from one moment to the next.
    pub fn set(&self, file: &str, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.script().join(file)).unwrap();
    }

    /// What makes a process find them.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_LIBRARY_PATH", self.0.path().join("lib")),
            ("FAKE_GPU", self.script()),
        ]
    }

    /// Takes a function out of a library, by giving it another name.
    pub fn without(&self, library: &str, function: &str) {
        let file = self.library(library);
        let mut bytes = fs::read(&file).unwrap();
        let name = [function.as_bytes(), b"\0"].concat();
        let mut found = 0;
        for at in 0..bytes.len() - name.len() {
            if bytes[at..].starts_with(&name) {
                bytes[at] = b'_';
                found += 1;
            }
        }
        assert!(found > 0, "{library} has no {function}");
        fs::write(file, bytes).unwrap();
    }

    /// Functions that were called so far, in their order.
    pub fn calls(&self) -> Vec<String> {
        calls(&self.script().join("log"))
    }
}

fn calls(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let calls = text.lines().filter_map(|line| line.split_once(' '));
    calls.map(|(_, function)| function.to_owned()).collect()
}
