//! How much memory the machine, or this process's control group, still has to give.

use std::fs;

/// Bytes that can be allocated without anybody being killed for it, as far as the kernel says; everything if it
/// does not.
pub(crate) fn available() -> u64 {
    machine().unwrap_or(u64::MAX).min(control_group().unwrap_or(u64::MAX))
}

fn machine() -> Option<u64> {
    available_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the limit of our control group (version 2) leaves; `None` without a limit.
fn control_group() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let read = |file: &str| {
        fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}")).ok()?.trim().parse::<u64>().ok()
    };
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_understood() {
        let table = "MemTotal:       24683520 kB\nMemFree:        24567808 kB\nMemAvailable:   24358912 kB\n";
        assert_eq!(available_in(table), Some(24_358_912 * 1024));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn this_machine_has_some_memory() {
        assert!(available() > 1 << 20);
    }
}
