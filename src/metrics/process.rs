//! What every exporter tells of its process, under the usual names; on Linux only.

use std::fmt::Write;
use std::fs;

/// Ticks of `/proc` a second (`USER_HZ`): 100 on every platform that Rust builds servers for.
const TICKS: f64 = 100.0;

/// The lines about this process; `None` where the system does not tell.
pub(super) fn text() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name before them may hold blanks and brackets. They are numbered from 3 on in proc(5).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let after = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let started = after(&system, "btime ").zip(field(22)).map(|(booted, ticks)| booted + ticks / TICKS);
    let open = fs::read_dir("/proc/self/fd").ok().and_then(|all| u32::try_from(all.count()).ok());
    let mut text = String::new();
    for (name, kind, help, value) in [
        (
            "cpu_seconds_total",
            "counter",
            "CPU time, in seconds",
            field(14).zip(field(15)).map(|(a, b)| (a + b) / TICKS),
        ),
        ("resident_memory_bytes", "gauge", "Resident memory", after(&status, "VmRSS:").map(|kib| kib * 1024.0)),
        ("virtual_memory_bytes", "gauge", "Virtual memory", field(23)),
        ("threads", "gauge", "Threads", field(20)),
        ("open_fds", "gauge", "Open file descriptors", open.map(f64::from)),
        ("max_fds", "gauge", "How many file descriptors may be open", after(&limits, "Max open files")),
        ("start_time_seconds", "gauge", "When the process started, in Unix time", started),
    ] {
        if let Some(value) = value {
            writeln!(text, "# HELP process_{name} {help}\n# TYPE process_{name} {kind}\nprocess_{name} {value}")
                .ok()?;
        }
    }
    Some(text)
}
