//! How much memory there is for this process: of the machine, or of its control group if that has less.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The memory of the machine, or of the tightest control group around this process, in bytes. None: the system does not say.
pub fn memory() -> Option<u64> {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| limits_of_group(root, line));
    limits.chain(machine(root)).min()
}

/// A line of `/proc/meminfo`: `MemTotal:       24567890 kB`.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of a control group and of those around it. `line` is `ID:CONTROLLERS:PATH`; the second version has ID 0.
fn limits_of_group(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':');
    let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (mount, file) = if id == "0" && controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let mount = root.join(mount);
    // A process in a container may see the path of the machine, of which only the end, or nothing, is mounted.
    let path: PathBuf =
        Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    // `max` is no number; the first version writes a number beyond all memory.
    path.ancestors()
        .filter_map(|group| fs::read_to_string(mount.join(group).join(file)).ok()?.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_below(root.path())
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:       8388608 kB\nMemFree: 1 kB\n");

    #[test]
    fn a04_the_least_of_machine_and_control_groups_counts() {
        let gib = 1 << 30;
        assert_eq!(system(&[]), None);
        assert_eq!(system(&[MACHINE]), Some(8 * gib));
        let v2 = ("proc/self/cgroup", "0::/a/b\n");
        let parent = ("sys/fs/cgroup/a/memory.max", "2147483648\n");
        assert_eq!(system(&[MACHINE, v2, parent]), Some(2 * gib));
        assert_eq!(system(&[MACHINE, v2, parent, ("sys/fs/cgroup/a/b/memory.max", "max\n")]), Some(2 * gib));
        assert_eq!(
            system(&[MACHINE, v2, parent, ("sys/fs/cgroup/a/b/memory.max", "1073741824\n")]),
            Some(gib)
        );
        // A container that sees its own group as the root, or the machine's path.
        let container = ("sys/fs/cgroup/memory.max", "536870912\n");
        for path in ["0::/\n", "0::/../../pod\n", "0::/kubepods/x\n"] {
            assert_eq!(system(&[MACHINE, ("proc/self/cgroup", path), container]), Some(gib / 2), "{path}");
        }
        let v1 = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n9:memory:/docker/abc\n");
        let limit = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824\n");
        let root = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(system(&[MACHINE, v1, limit, root]), Some(gib));
        assert_eq!(system(&[MACHINE, v1, root]), Some(8 * gib));
        for nonsense in ["", ":", "0:", "x:y", "0::", "1:memory"] {
            assert_eq!(system(&[MACHINE, ("proc/self/cgroup", nonsense)]), Some(8 * gib));
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(memory().is_some_and(|bytes| bytes > 64 << 20));
    }
}
