//! Searches for what is expected nearby.

/// [`slice::partition_point`] where the point is near the start: takes the logarithm of how far it is from there.
pub(crate) fn partition_near<T>(slice: &[T], mut before: impl FnMut(&T) -> bool) -> usize {
    let mut end = 1;
    while slice.get(end - 1).is_some_and(&mut before) {
        end *= 2;
    }
    let start = end / 2;
    start + slice[start..slice.len().min(end)].partition_point(before)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn it_finds_what_a_search_from_the_middle_finds() {
        for len in 0..70 {
            let slice: Vec<usize> = (0..len).collect();
            for point in 0..=len {
                let mut looks = 0;
                let found = partition_near(&slice, |&at| {
                    looks += 1;
                    at < point
                });
                assert_eq!(found, point, "of {len}");
                assert!(looks <= 2 * (point + 1).ilog2() + 3, "{looks} looks for {point}");
            }
        }
    }
}
