//! `memcpy` and `memmove` for programs that are static with musl, on x86_64. Linking this crate is all that it takes.
//!
//! musl 1.2 copies with `rep movsq` there, which takes 10 to 20 ns however little it is; this takes 3 to 7 up to 300
//! bytes (on an EPYC). An event that is published is copied in a hundred pieces, nearly all of them smaller: headers, and
//! what the compiler moves.
//!
//! The first and the last of some length overlap in the middle, so that no byte is copied alone. Up to [`AT_ONCE`] bytes
//! are all loaded before any is stored, which is right for what overlaps too.

#![no_std]
// Or the compiler would see that these are copies, and have them call themselves.
#![no_builtins]
#![cfg(target_arch = "x86_64")]

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// In registers there is room for so many bytes.
const AT_ONCE: usize = 128;
/// From here on the processor's own way is as quick, and then quicker (measured on an EPYC). By eight bytes at a time, as
/// musl has it: by one, it is slow where the processor lacks ERMSB.
const MANY: usize = 2048;
const BLOCK: usize = size_of::<__m128i>();

/// Copies `n` bytes; returns `to`.
///
/// # Safety
/// As of C's `memcpy`: `n` bytes at `from` can be read, as many at `to` written, and the two do not overlap.
#[cfg_attr(all(target_env = "musl", not(debug_assertions)), unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    // SAFETY: what the caller promises.
    unsafe {
        if n <= AT_ONCE {
            at_once(to, from, n);
        } else if n < MANY {
            forwards(to, from, n);
        } else {
            let end = from.add(n - 8).cast::<u64>().read_unaligned();
            asm!(
                "rep movsq",
                inout("rcx") n / 8 => _, inout("rdi") to => _, inout("rsi") from => _,
                options(nostack, preserves_flags)
            );
            to.add(n - 8).cast::<u64>().write_unaligned(end);
        }
    }
    to
}

/// Copies `n` bytes that may overlap; returns `to`.
///
/// # Safety
/// As of C's `memmove`: `n` bytes at `from` can be read, and as many at `to` written.
#[cfg_attr(all(target_env = "musl", not(debug_assertions)), unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    let behind = to.addr().wrapping_sub(from.addr());
    // SAFETY: what the caller promises. Nothing is written over before it is read.
    unsafe {
        if n <= AT_ONCE {
            at_once(to, from, n);
        } else if behind < n {
            backwards(to, from, n);
        } else if behind.wrapping_neg() < n {
            forwards(to, from, n);
        } else {
            memcpy(to, from, n);
        }
    }
    to
}

/// All of `n` bytes are loaded, and stored then.
#[inline(always)]
unsafe fn at_once(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: each of the places is within the `n` bytes.
    unsafe {
        if n > 64 {
            let (first, last) = (load4(from), load4(from.add(n - 64)));
            store4(to, first);
            store4(to.add(n - 64), last);
        } else if n > 32 {
            let (first, last) = (load2(from), load2(from.add(n - 32)));
            store2(to, first);
            store2(to.add(n - 32), last);
        } else if n >= 16 {
            both_ends::<__m128i>(to, from, n);
        } else if n >= 8 {
            both_ends::<u64>(to, from, n);
        } else if n >= 4 {
            both_ends::<u32>(to, from, n);
        } else if n >= 2 {
            both_ends::<u16>(to, from, n);
        } else if n == 1 {
            *to = *from;
        }
    }
}

/// The first and the last of `n` bytes, as many as a `T` has: at most twice as many as that.
#[inline(always)]
unsafe fn both_ends<T: Copy>(to: *mut u8, from: *const u8, n: usize) {
    let last = n - size_of::<T>();
    // SAFETY: the caller's; nothing is asked of the places' alignment.
    unsafe {
        let (first, end) = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
        to.cast::<T>().write_unaligned(first);
        to.add(last).cast::<T>().write_unaligned(end);
    }
}

/// More than [`AT_ONCE`], from the first on.
#[inline(always)]
unsafe fn forwards(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: each of the places is within the `n` bytes. The end is loaded before anything is written over it.
    unsafe {
        let end = load4(from.add(n - 64));
        let mut done = 0;
        while done + 64 < n {
            store4(to.add(done), load4(from.add(done)));
            done += 64;
        }
        store4(to.add(n - 64), end);
    }
}

/// More than [`AT_ONCE`], from the last on.
#[inline(always)]
unsafe fn backwards(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: as forwards; here it is the beginning that would be written over.
    unsafe {
        let beginning = load4(from);
        let mut left = n;
        while left > 64 {
            left -= 64;
            store4(to.add(left), load4(from.add(left)));
        }
        store4(to, beginning);
    }
}

#[inline(always)]
unsafe fn load2(from: *const u8) -> [__m128i; 2] {
    // SAFETY: the caller's.
    unsafe { [_mm_loadu_si128(from.cast()), _mm_loadu_si128(from.add(BLOCK).cast())] }
}

#[inline(always)]
unsafe fn store2(to: *mut u8, [first, second]: [__m128i; 2]) {
    // SAFETY: the caller's.
    unsafe {
        _mm_storeu_si128(to.cast(), first);
        _mm_storeu_si128(to.add(BLOCK).cast(), second);
    }
}

#[inline(always)]
unsafe fn load4(from: *const u8) -> [[__m128i; 2]; 2] {
    // SAFETY: the caller's.
    unsafe { [load2(from), load2(from.add(2 * BLOCK))] }
}

#[inline(always)]
unsafe fn store4(to: *mut u8, [first, second]: [[__m128i; 2]; 2]) {
    // SAFETY: the caller's.
    unsafe {
        store2(to, first);
        store2(to.add(2 * BLOCK), second);
    }
}
