//! What the operating system says of this process and machine. Results never depend on it.

/// The most memory that this process has held, in bytes; 0 where the system does not say.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The memory that this process may still take, in bytes, as far as the system says: of what the machine has, the
/// control groups allow that the process is in, and its own limits on addresses and data, the least.
pub fn memory_bytes() -> Option<u64> {
    memory_by(&|path| std::fs::read_to_string(path).ok())
}

fn memory_by(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let kib = |file: &str, key: &str| {
        let text = read(file)?;
        let rest = text.lines().find_map(|line| line.strip_prefix(key))?.trim_end_matches("kB").trim();
        rest.parse::<u64>().ok()?.checked_mul(1024)
    };
    let status = |key: &str| kib("/proc/self/status", key).unwrap_or(0);
    let held = |most: Option<u64>| most.map(|most| most.saturating_sub(status("VmRSS:")));
    let limit = |name: &str, used: &str| {
        let text = read("/proc/self/limits")?;
        let soft = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?;
        let most = soft.parse::<u64>().ok()?;
        // Addresses also go to the stacks of threads that are yet to start, and to the allocator's own needs.
        Some((most - most / 8).saturating_sub(status(used)))
    };
    let machine = held(kib("/proc/meminfo", "MemTotal:"));
    let limits = [limit("Max address space", "VmSize:"), limit("Max data size", "VmData:")];
    limits.into_iter().chain([machine, held(group_limit(read))]).flatten().min()
}

/// The least memory that a control group allows which this process is in, of either version: of the group itself and of
/// those around it.
fn group_limit(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let mut files = vec![
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    for line in groups.lines() {
        // `number:controllers:path`, without controllers in the second version.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let folders = std::path::Path::new(path).ancestors();
        files.extend(
            folders.map(|f| format!("{root}{}/{file}", f.display().to_string().trim_end_matches('/'))),
        );
    }
    files.iter().filter_map(|file| read(file)?.trim().parse::<u64>().ok()).min()
}

/// The processor's time that this process has taken, in seconds, where the system says it.
pub fn cpu_seconds() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold blanks; `utime` is the 14th, `stime` the 15th.
    let mut fields = status.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    // Linux counts hundredths of a second here, whatever its own clock does.
    Some((ticks()? + ticks()?) / 100.0)
}

/// The processor's name, where the system says it.
pub fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.and_then(|rest| rest.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, n)| n.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// The memory left where these files are all that the system says.
    fn left(files: &[(&str, &str)]) -> Option<u64> {
        memory_by(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let machine = ("/proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n");
        let status =
            ("/proc/self/status", "VmSize:\t 2097152 kB\nVmData:\t 1048576 kB\nVmRSS:\t 1048576 kB\n");
        let limits = |addresses: &str, data: &str| {
            format!(
                "Max data size  {data}  unlimited  bytes\nMax address space  {addresses}  {addresses}  bytes\n"
            )
        };
        assert_eq!(left(&[]), None);
        assert_eq!(left(&[machine]), Some(8 * GIB));
        assert_eq!(left(&[machine, status]), Some(7 * GIB));
        let free = limits("unlimited", "unlimited");
        assert_eq!(left(&[machine, status, ("/proc/self/limits", &free)]), Some(7 * GIB));
        let addresses = limits("8589934592", "unlimited");
        assert_eq!(left(&[machine, status, ("/proc/self/limits", &addresses)]), Some(5 * GIB));
        let data = limits("unlimited", "4294967296");
        assert_eq!(left(&[machine, status, ("/proc/self/limits", &data)]), Some(5 * GIB / 2));
    }

    #[test]
    fn groups_around_the_own_one_count() {
        let machine = ("/proc/meminfo", "MemTotal: 8388608 kB\n");
        let second = ("/proc/self/cgroup", "0::/jobs/one\n");
        let own = ("/sys/fs/cgroup/jobs/one/memory.max", "max\n");
        let outer = ("/sys/fs/cgroup/jobs/memory.max", "1073741824\n");
        assert_eq!(left(&[machine, second, own]), Some(8 * GIB));
        assert_eq!(left(&[machine, second, own, outer]), Some(GIB));
        let first = ("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/jobs\n");
        let limit = ("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "2147483648\n");
        assert_eq!(left(&[machine, first, limit]), Some(2 * GIB));
        assert_eq!(left(&[machine, ("/sys/fs/cgroup/memory.max", "3221225472\n")]), Some(3 * GIB));
    }
}
