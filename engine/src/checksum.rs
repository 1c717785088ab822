//! Checksums, salts and the chain: how bytes prove that they belong where they stand.
//!
//! I own three functions of bytes and numbers. A CRC detects damage; the seed ties it to an
//! identity; the chain ties a frame to all frames before it. I know no format.

/// CRC-32 (IEEE) of `bytes`, begun at `seed`.
#[must_use]
#[inline]
pub fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Mixes a number into a running value. The finalizer of SplitMix64 (Steele, Lea and Flood,
/// OOPSLA 2014): every input bit reaches every output bit, and no input is lost.
#[must_use]
#[inline]
pub fn mix(value: u64, number: u64) -> u64 {
    let mut z = value.rotate_left(29) ^ number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The salt of a segment: other stores, segments and epochs have others, so that bytes which an
/// earlier life of the file left behind never pass. A segment's number is never used twice.
#[must_use]
pub fn salt(store: [u8; 16], segment: u64, epoch: u64) -> u64 {
    let store = u128::from_le_bytes(store);
    let (low, high) = ((store & u128::from(u64::MAX)) as u64, (store >> 64) as u64);
    mix(mix(mix(low, high), segment), epoch)
}

/// The low half of a number, as a CRC's seed.
#[must_use]
#[inline]
pub fn seed(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_ieee() {
        assert_eq!(crc(0, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn salts_differ() {
        let base = salt([1; 16], 1, 1);
        assert_ne!(base, salt([2; 16], 1, 1));
        assert_ne!(base, salt([1; 16], 2, 1));
        assert_ne!(base, salt([1; 16], 1, 2));
        assert_ne!(salt([1; 16], 1, 2), salt([1; 16], 2, 1));
    }
}
