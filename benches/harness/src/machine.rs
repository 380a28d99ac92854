//! Describes the machine of the measurements.

use std::fs;
use std::thread;

/// Returns the vectors of the processor that a decoder may use, for the names of files: `avx512`, `avx2` or the
/// architecture. The AVX-512 decoder needs VBMI2, too.
pub fn vectors() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vbmi2") {
        return "avx512";
    } else if is_x86_feature_detected!("avx2") {
        return "avx2";
    }
    std::env::consts::ARCH
}

/// Returns the processor, its vectors, its cores and the system, in one line.
pub fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("an unknown processor", |(_, model)| model.trim());
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The part after the dash names the builder of the kernel.
    let release = release.trim().split('-').next().unwrap_or_default();
    format!("{model}, {}, {cores} cores, Linux {release}", vectors())
}
