//! The page sizes that the kernel really gave, read from it and never assumed.

use std::fs;

use super::MediumKind;
use crate::units::HUGE;

/// What the kernel says about the mapping of a pool at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PageSizes {
    /// Bytes of the mapping that have page-table entries now, as far as the kernel counts them: it
    /// leaves out 4 KiB entries of DAX.
    pub resident_bytes: u64,
    /// How many of them are mapped by 2 MiB entries; `None` where the kernel does not tell
    /// (files on DAX file systems, device-dax at 4 KiB).
    pub huge_bytes: Option<u64>,
    /// Page size of the mapping by the kernel's own word; 2 MiB for hugetlbfs and most device-dax.
    pub kernel_page_bytes: u64,
}

/// Reads `/proc/self/smaps` for the mapping that starts at `address`. All zero where there is no
/// such file.
pub(crate) fn of_address(address: usize, kind: MediumKind) -> PageSizes {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let start = format!("{address:x}-");
    let mut sizes = PageSizes::default();
    let mut huge_bytes = 0;
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    lines.next();
    for line in lines.take_while(|line| !is_header(line)) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let Some(kib) = value.trim().strip_suffix(" kB") else { continue };
        let bytes = kib.trim().parse::<u64>().unwrap_or(0) * 1024;
        match name {
            "Rss" => sizes.resident_bytes = bytes,
            "KernelPageSize" => sizes.kernel_page_bytes = bytes,
            "AnonHugePages" | "ShmemPmdMapped" | "FilePmdMapped" => huge_bytes += bytes,
            "Shared_Hugetlb" | "Private_Hugetlb" => {
                huge_bytes += bytes;
                sizes.resident_bytes += bytes;
            }
            _ => {}
        }
    }
    sizes.huge_bytes = match kind {
        MediumKind::DeviceDax if sizes.kernel_page_bytes >= HUGE => Some(sizes.resident_bytes),
        MediumKind::DaxFile | MediumKind::DeviceDax => None,
        _ => Some(huge_bytes),
    };
    sizes
}

/// The first line of a mapping: `start-end perms ...`.
fn is_header(line: &str) -> bool {
    line.split_once('-').is_some_and(|(start, _)| {
        !start.is_empty() && start.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
