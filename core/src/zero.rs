//! The shared zero extent: every hole of every volume reads from these 2 MiB.
//!
//! One anonymous, read-only mapping of this process, made once and never given back. No pool page
//! and no mapping call is spent on a hole; the kernel backs it by its own zero page.

use std::sync::OnceLock;

use memmap2::{Advice, Mmap, MmapOptions};

use crate::units::HUGE;

static ZEROS: OnceLock<Option<Mmap>> = OnceLock::new();
/// Answers where the kernel has no 2 MiB of address space left: holes then come by the page.
static ONE_PAGE: [u8; 4096] = [0; 4096];

/// The longest prefix of `len_bytes` zeros that one slice can give.
pub(crate) fn zeros(len_bytes: u64) -> &'static [u8] {
    prefix(ZEROS.get_or_init(map).as_deref(), len_bytes)
}

fn prefix(extent: Option<&'static [u8]>, len_bytes: u64) -> &'static [u8] {
    let extent = extent.unwrap_or(&ONE_PAGE);
    &extent[..extent.len().min(len_bytes as usize)]
}

fn map() -> Option<Mmap> {
    let extent = MmapOptions::new().len(HUGE as usize).no_reserve_swap().map_anon().ok()?;
    let _ = extent.advise(Advice::HugePage);
    extent.make_read_only().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_holes_share_one_extent() {
        let (huge, page) = (zeros(HUGE), zeros(4096));
        assert_eq!(huge.as_ptr(), page.as_ptr());
        assert_eq!(huge.len() as u64, HUGE);
        assert!(huge.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn without_the_extent_holes_come_by_the_page() {
        assert_eq!(prefix(None, HUGE), [0; 4096]);
        assert_eq!(prefix(None, 9), [0; 9]);
    }
}
