//! What the kernel's cgroup says of the container's memory: the limit, and whether it killed for it.

use std::path::{Path, PathBuf};

/// Names of a file in version 2 and in version 1.
type Names = [&'static str; 2];

const KILLS: Names = ["memory.events", "memory.oom_control"];
const LIMIT: Names = ["memory.max", "memory.limit_in_bytes"];
/// Version 1 writes no limit as a number that no machine has.
const NO_LIMIT: u64 = 1 << 62;

/// Where a file may be: in the container's own cgroup namespace, else under the process's path; version 2, then 1.
fn files(root: &Path, own: &str, [second, first]: Names) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.push(root.join(path).join(second));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(root.join("memory").join(path).join(first));
        }
    }
    files.push(root.join(second));
    files.push(root.join("memory").join(first));
    files
}

fn count(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
}

fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

fn read(root: &Path, own: &str, names: Names, number: fn(&str) -> Option<u64>) -> Option<u64> {
    let mut texts = files(root, own, names)
        .into_iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    texts.find_map(|text| number(&text))
}

fn ask(names: Names, number: fn(&str) -> Option<u64>) -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    read(Path::new("/sys/fs/cgroup"), &own, names, number)
}

/// Processes of this container that the kernel has killed for memory so far; `None` where it does not say.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    ask(KILLS, count)
}

/// Bytes of memory that this container may have; `None` where there is no limit.
#[must_use]
pub fn memory_limit() -> Option<u64> {
    ask(LIMIT, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(file: &str, content: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
        root
    }

    fn with(file: &str, content: &str, own: &str) -> Option<u64> {
        read(tree(file, content).path(), own, KILLS, count)
    }

    #[test]
    fn reads_the_limit_of_both_versions() {
        let limited = |file, content, own| read(tree(file, content).path(), own, LIMIT, limit);
        assert_eq!(limited("memory.max", "2147483648\n", "0::/\n"), Some(2 << 30));
        assert_eq!(limited("memory.max", "max\n", "0::/\n"), None);
        let first = "memory/pod1/memory.limit_in_bytes";
        assert_eq!(limited(first, "1073741824\n", "4:memory:/pod1\n0::/\n"), Some(1 << 30));
        assert_eq!(limited(first, "9223372036854771712\n", "4:memory:/pod1\n0::/\n"), None);
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
