//! Both copies, of every length and from every place, beside what the standard library does.
#![cfg(target_arch = "x86_64")]

use murmur_memory::{memcpy, memmove};
use proptest::prelude::*;

/// What no copy may touch, on either side.
const MARGIN: usize = 80;
/// Beyond all limits between one way and the next.
const LONGEST: usize = 2200;

/// Bytes of which no two neighbours, and no two blocks, are the same.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 + place / 251) as u8).collect()
}

/// What is left of `whole` when `n` bytes of it are copied onto others of it.
fn moved(mut whole: Vec<u8>, to: usize, from: usize, n: usize) -> Vec<u8> {
    assert!(to + n <= whole.len() && from + n <= whole.len());
    let start = whole.as_mut_ptr();
    // SAFETY: both places are within the vector.
    let returned = unsafe { memmove(start.add(to), start.add(from), n) };
    assert_eq!(returned.addr(), start.addr() + to);
    whole
}

#[test]
fn every_length_is_copied_from_every_alignment_and_nothing_beside_it() {
    let source = bytes(LONGEST + 64);
    for n in 0..=LONGEST {
        for shift in 0..17 {
            let mut target = vec![0xAA; n + 2 * MARGIN];
            let to = MARGIN + (shift * 5) % 16;
            // SAFETY: the source is longer by more than the shift, and the target by its margins.
            let returned = unsafe { memcpy(target.as_mut_ptr().add(to), source.as_ptr().add(shift), n) };
            assert_eq!(returned.addr(), target.as_ptr().addr() + to);
            let mut expected = vec![0xAA; n + 2 * MARGIN];
            expected[to..to + n].copy_from_slice(&source[shift..shift + n]);
            assert!(target == expected, "{n} bytes from place {shift} to place {to}");
        }
    }
}

#[test]
fn what_overlaps_is_moved_whole_whichever_comes_first() {
    let source = bytes(2 * LONGEST);
    for n in 0..=LONGEST {
        for distance in [0, 1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, n.saturating_sub(1), n] {
            let whole = source[..n + distance].to_vec();
            for (to, from) in [(0, distance), (distance, 0)] {
                let mut expected = whole.clone();
                expected.copy_within(from..from + n, to);
                assert!(moved(whole.clone(), to, from, n) == expected, "{n} bytes from {from} to {to}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_move_within_a_vector_is_that_of_the_standard_library(
        n in 0..LONGEST, to in 0..LONGEST, from in 0..LONGEST
    ) {
        let whole = bytes(2 * LONGEST);
        let mut expected = whole.clone();
        expected.copy_within(from..from + n, to);
        prop_assert!(moved(whole, to, from, n) == expected);
    }
}
