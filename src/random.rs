//! Random numbers as pure functions, the same on every platform.

/// Number `number` of the stream of `seed` (SplitMix64, Steele et al. 2014).
pub(crate) fn split_mix_64(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::split_mix_64;

    /// The first numbers of the reference implementation with seed 1234567.
    #[test]
    fn equals_the_reference() {
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!([0, 1, 2].map(|number| split_mix_64(1_234_567, number)), expected);
    }
}
