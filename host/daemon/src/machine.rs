//! How much memory there is for this process: of the machine, or of its control group if that has less.

use std::fs;

/// In bytes. None: the system does not say.
pub(crate) fn memory() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    });
    let group = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    // What a container sees of its own group.
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    groups.into_iter().filter_map(group).chain(machine).min()
}
