//! The C library's clocks and random numbers, as the threads of simulations see them.
//!
//! Everything Rust asks the system for time and entropy goes through these symbols; here they are defined in the program
//! itself, which comes before the C library. On a thread that runs a simulation they answer with virtual time and with
//! the seeded streams of [`crate::entropy`]. On all other threads they ask the kernel.

#![allow(unreachable_pub, reason = "the symbols are for the linker")]
#![allow(
    unsafe_code,
    reason = "symbols of the C library are defined, and the kernel is called, in no other way"
)]

use std::cell::Cell;

use tokio::time::Instant;

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
compile_error!(
    "kith-sim takes the place of symbols of glibc on x86-64 Linux; other systems have other ones (see sim/README.md)"
);

/// Wall clock at the start of each run, in Unix seconds: some instant in 2026.
pub(crate) const WALL_START: u64 = 1_790_000_000;
/// Monotonic clock at the start of each run, in seconds.
const MONO_START: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
enum Clock {
    /// The kernel's.
    Real,
    /// Stands still, while a runtime is built or torn down.
    Still,
    /// Virtual time, since this instant.
    Virtual(Instant),
}

thread_local! {
    static CLOCK: Cell<Clock> = const { Cell::new(Clock::Real) };
    static ASKING: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread's clocks stand still.
pub(crate) fn still() {
    CLOCK.set(Clock::Still);
}

/// From now on this thread's clocks go with the paused clock of the runtime it is on.
pub(crate) fn run() {
    CLOCK.set(Clock::Virtual(Instant::now()));
}

/// Virtual nanoseconds since the start of the run; `None` on a thread with real clocks.
fn elapsed() -> Option<u64> {
    match CLOCK.try_with(Cell::get).unwrap_or(Clock::Real) {
        Clock::Real => None,
        Clock::Still => Some(0),
        // without a runtime, tokio would ask the system, and come back here
        Clock::Virtual(start) => {
            if ASKING.replace(true) {
                return Some(0);
            }
            let elapsed = Instant::now().duration_since(start).as_nanos();
            ASKING.set(false);
            Some(u64::try_from(elapsed).unwrap_or(u64::MAX))
        }
    }
}

/// Nanoseconds of real time, from an arbitrary start.
#[must_use]
pub fn real_nanos() -> u64 {
    kernel_clock(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of processor time this thread has used.
#[must_use]
pub fn cpu_nanos() -> u64 {
    kernel_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn kernel_clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { kernel(libc::SYS_clock_gettime, [i64::from(id), &raw mut time as i64, 0, 0, 0, 0]) };
    u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// Calls the kernel. The result is negative in case of an error.
///
/// # Safety
/// As of the system call.
unsafe fn kernel(number: i64, [a, b, c, d, e, f]: [i64; 6]) -> i64 {
    let result;
    // SAFETY: the convention of the system: these registers in, rax out, rcx and r11 lost.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// What the C library makes of a result of the kernel.
fn answer(result: i64) -> i64 {
    if (-4095..0).contains(&result) {
        // SAFETY: the address of this thread's errno.
        unsafe { *libc::__errno_location() = (-result) as i32 };
        return -1;
    }
    result
}

/// Fills memory from the seeded stream; false on a thread that is not seeded.
///
/// # Safety
/// `length` bytes at `bytes` are the caller's to write.
unsafe fn seeded(bytes: *mut u8, length: usize) -> bool {
    if bytes.is_null() || length == 0 {
        return false;
    }
    // SAFETY: by the caller's word.
    crate::entropy::fill(unsafe { std::slice::from_raw_parts_mut(bytes, length) })
}

/// Takes the place of the C library's `clock_gettime`.
///
/// # Safety
/// As of the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(id: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let start = match id {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(WALL_START),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_BOOTTIME => Some(MONO_START),
        _ => None,
    };
    let (Some(start), Some(elapsed)) = (start, elapsed()) else {
        // SAFETY: as of the original.
        let result = unsafe { kernel(libc::SYS_clock_gettime, [i64::from(id), time as i64, 0, 0, 0, 0]) };
        return answer(result) as libc::c_int;
    };
    let seconds = start + elapsed / 1_000_000_000;
    let virtual_time = libc::timespec { tv_sec: seconds as i64, tv_nsec: (elapsed % 1_000_000_000) as i64 };
    // SAFETY: as of the original.
    unsafe { time.write(virtual_time) };
    0
}

/// Takes the place of the C library's `getrandom`.
///
/// # Safety
/// As of the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(bytes: *mut u8, length: usize, flags: libc::c_uint) -> isize {
    // SAFETY: as of the original.
    if unsafe { seeded(bytes, length) } {
        return length as isize;
    }
    let arguments = [bytes as i64, length as i64, i64::from(flags), 0, 0, 0];
    // SAFETY: as of the original.
    answer(unsafe { kernel(libc::SYS_getrandom, arguments) }) as isize
}

/// Takes the place of the C library's `getentropy`.
///
/// # Safety
/// As of the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(bytes: *mut u8, length: usize) -> libc::c_int {
    // SAFETY: as of the original.
    if unsafe { seeded(bytes, length) } {
        return 0;
    }
    // SAFETY: as of the original.
    let result = answer(unsafe { kernel(libc::SYS_getrandom, [bytes as i64, length as i64, 0, 0, 0, 0]) });
    if result == length as i64 { 0 } else { -1 }
}

/// Takes the place of the C library's `syscall`, by which some crates draw random numbers.
///
/// # Safety
/// As of the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(number: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64 {
    // SAFETY: as of the original.
    if number == libc::SYS_getrandom && unsafe { seeded(a as *mut u8, b as usize) } {
        return b;
    }
    // SAFETY: as of the original.
    answer(unsafe { kernel(number, [a, b, c, d, e, f]) })
}
