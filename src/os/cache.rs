//! How large the processor's caches are, as far as the kernel says.

use std::fs;
use std::sync::OnceLock;

/// Bytes of the last-level cache of the first processor; `None` if the kernel does not say.
pub(crate) fn last_level_bytes() -> Option<usize> {
    static BYTES: OnceLock<Option<usize>> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let directory = "/sys/devices/system/cpu/cpu0/cache";
        let caches = fs::read_dir(directory).ok()?.filter_map(Result::ok);
        let largest =
            caches.filter_map(|cache| size_in(&fs::read_to_string(cache.path().join("size")).ok()?)).max();
        largest.filter(|bytes| *bytes > 0)
    })
}

/// The bytes that a size file names, such as `32768K`.
fn size_in(text: &str) -> Option<usize> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    number.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_kernel_writes_them() {
        assert_eq!(size_in("32768K\n"), Some(32 << 20));
        assert_eq!(size_in("2M"), Some(2 << 20));
        assert_eq!((size_in(""), size_in("K"), size_in("many")), (None, None, None));
    }
}
