//! How much memory of a GPU an engine lacks, from the line that says that there is none left: pure.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::gpu::report::Device;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What a line says of a failed allocation, in bytes as precise as its text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shortage {
    /// Asked for.
    pub wanted: Option<f64>,
    /// Free at that time.
    pub free: Option<f64>,
    /// In all.
    pub total: Option<f64>,
}

/// `None` where the pattern is no regular expression, which a test excludes.
type Pattern = LazyLock<Option<Regex>>;

/// llama.cpp: `allocating 8192.00 MiB on device 0`; PyTorch: `Tried to allocate 2.00 GiB`.
static WANTED: Pattern = LazyLock::new(|| Regex::new(r"(?i)(?:tried to allocate|allocating) ([0-9.]+) ([KMG])iB").ok());
/// llama.cpp: `failed to allocate CUDA0 buffer of size 8589934592`.
static WANTED_BYTES: Pattern = LazyLock::new(|| Regex::new(r"(?i)buffer of size ([0-9]+)()").ok());
/// PyTorch: `of which 1.20 GiB is free`.
static FREE: Pattern = LazyLock::new(|| Regex::new(r"(?i)of which ([0-9.]+) ([KMG])iB is free").ok());
/// PyTorch: `has a total capacity of 23.68 GiB`.
static TOTAL: Pattern = LazyLock::new(|| Regex::new(r"(?i)total capacity of ([0-9.]+) ([KMG])iB").ok());

/// Reads the line of a failed allocation; `None` when that was not of a GPU's memory.
#[must_use]
pub fn read(line: &str) -> Option<Shortage> {
    let lower = line.to_ascii_lowercase();
    if !["cuda", "gpu"].iter().any(|word| lower.contains(word)) {
        return None;
    }
    Some(Shortage {
        wanted: find(&WANTED, line).or_else(|| find(&WANTED_BYTES, line)),
        free: find(&FREE, line),
        total: find(&TOTAL, line),
    })
}

fn find(pattern: &Pattern, line: &str) -> Option<f64> {
    pattern.as_ref()?.captures(line).as_ref().and_then(bytes)
}

fn bytes(captures: &Captures<'_>) -> Option<f64> {
    let number: f64 = captures.get(1)?.as_str().parse().ok()?;
    let unit = match captures.get(2)?.as_str() {
        "K" | "k" => 1024.0,
        "M" | "m" => 1024.0 * 1024.0,
        "G" | "g" => GIB,
        _ => 1.0,
    };
    Some(number * unit)
}

impl Shortage {
    /// Why the model does not fit and what to do; `before` are the devices as they were before the engine started.
    #[must_use]
    pub fn words(self, line: &str, before: &[Device]) -> String {
        let (free, total, when) = self.room(before);
        let mut words = vec!["CUDA out of memory: the model does not fit".to_owned()];
        words.extend(
            self.wanted
                .map(|wanted| format!("{} could not be allocated", gib(wanted))),
        );
        words.extend(
            free.zip(total)
                .map(|(free, total)| format!("{} of {} were free{when}", gib(free), gib(total))),
        );
        let missing = self.wanted.zip(free).map(|(wanted, free)| wanted - free);
        words.extend(
            missing
                .filter(|missing| *missing > 0.0)
                .map(|missing| format!("{} are missing", gib(missing))),
        );
        format!(
            "{}. Use a GPU with more memory, or lower contextLength or parallel. ({line})",
            words.join("; ")
        )
    }

    /// Free and total memory, as the engine says, else as it was before; with several devices nobody knows of which.
    fn room(self, before: &[Device]) -> (Option<f64>, Option<f64>, &'static str) {
        if self.free.is_some() {
            return (self.free, self.total, "");
        }
        let [device] = before else { return (None, None, "") };
        #[allow(clippy::cast_precision_loss, reason = "for people, in GiB")]
        let of = |bytes: u64| bytes as f64;
        let free = device
            .total
            .zip(device.used)
            .map(|(total, used)| of(total.saturating_sub(used)));
        (free, device.total.map(of), " before the engine started")
    }
}

fn gib(bytes: f64) -> String {
    format!("{:.1} GiB", bytes / GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORCH: &str = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB of which 1.20 GiB is free.";
    const LLAMA: &str = "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 8192.00 MiB on device 0: cudaMalloc failed: out of memory";

    fn device(used: u64, total: u64) -> Device {
        Device {
            uuid: "GPU-a".to_owned(),
            name: "H100".to_owned(),
            used: Some(used << 30),
            total: Some(total << 30),
            recovery: None,
        }
    }

    #[test]
    fn what_the_engine_says_is_read() {
        let shortage = read(TORCH).unwrap();
        assert_eq!(shortage.wanted, Some(2.0 * GIB));
        assert_eq!((shortage.free, shortage.total), (Some(1.20 * GIB), Some(23.68 * GIB)));
        assert_eq!(read(LLAMA).unwrap().wanted, Some(8.0 * GIB));
        let bytes = "alloc_tensor_range: failed to allocate CUDA0 buffer of size 8589934592: cudaMalloc failed";
        assert_eq!(read(bytes).unwrap().wanted, Some(8.0 * GIB));
        assert_eq!(read("CUDA error: out of memory"), Some(Shortage::default()));
        let host = "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 70368744177696";
        assert_eq!(read(host), None);
    }

    #[test]
    fn the_words_say_how_much_is_missing() {
        let words = read(TORCH).unwrap().words(TORCH, &[]);
        assert!(
            words.contains("2.0 GiB could not be allocated; 1.2 GiB of 23.7 GiB were free; 0.8 GiB are missing"),
            "{words}"
        );
        let words = read(LLAMA).unwrap().words(LLAMA, &[device(19, 24)]);
        assert!(
            words.contains("8.0 GiB could not be allocated; 5.0 GiB of 24.0 GiB were free before the engine started; 3.0 GiB are missing"),
            "{words}"
        );
        let words = read(LLAMA).unwrap().words(LLAMA, &[device(1, 24), device(1, 24)]);
        assert!(
            !words.contains("missing") && words.contains("8.0 GiB"),
            "nobody knows of which device: {words}"
        );
    }
}
