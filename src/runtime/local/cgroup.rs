//! What the kernel's cgroup says of the container: whether it killed for memory.

use std::path::{Path, PathBuf};

/// Files that count OOM kills: in the container's own cgroup namespace, else under the process's path; version 2, then 1.
fn files(root: &Path, own: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(root.join(path).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(root.join("memory").join(path).join("memory.oom_control"));
        }
    }
    files.push(root.join("memory.events"));
    files.push(root.join("memory/memory.oom_control"));
    files
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
}

fn read(root: &Path, own: &str) -> Option<u64> {
    let mut texts = files(root, own)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    texts.find_map(|text| count(&text))
}

/// Processes of this container that the kernel has killed for memory so far; `None` where it does not say.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    read(Path::new("/sys/fs/cgroup"), &own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(file: &str, content: &str, own: &str) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        read(root.path(), own)
    }

    const V2: &str = "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n";

    #[test]
    fn reads_version_2_in_a_container() {
        assert_eq!(with("memory.events", V2, "0::/\n"), Some(2));
    }

    #[test]
    fn reads_version_2_outside_of_one() {
        assert_eq!(with("kubepods/pod1/memory.events", V2, "0::/kubepods/pod1\n"), Some(2));
    }

    #[test]
    fn reads_version_1() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
        assert_eq!(
            with(
                "memory/pod1/memory.oom_control",
                text,
                "4:memory:/pod1\n3:cpuset:/\n0::/\n"
            ),
            Some(5)
        );
        assert_eq!(with("memory/memory.oom_control", text, "4:memory:/other\n"), Some(5));
    }

    #[test]
    fn a_kernel_that_does_not_say_is_not_0() {
        assert_eq!(
            with(
                "memory/pod1/memory.oom_control",
                "oom_kill_disable 0\n",
                "4:memory:/pod1\n"
            ),
            None
        );
    }
}
