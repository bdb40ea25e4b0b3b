//! What the machine can do at most: loops of nothing but multiply-adds on 24 independent sums, and its clock.

use std::hint::black_box;
use std::time::Instant;

use maxsim::Kernel;

/// One instruction's highest rate.
pub(crate) struct Peak {
    pub name: &'static str,
    /// Operations (a multiply-add is two) per clock cycle, by the width of the registers and two units.
    pub per_cycle: f64,
    /// Operations per iteration of `run`.
    per_iteration: f64,
    run: fn(usize),
}

const ITERATIONS: usize = 5000;
/// Iterations not counted: wide units that were idle take some ten microseconds to reach their full rate.
const WARM_UP: usize = 5000;

impl Peak {
    /// Operations per second, now.
    pub(crate) fn rate(&self) -> f64 {
        (self.run)(WARM_UP);
        let start = Instant::now();
        (self.run)(ITERATIONS);
        (ITERATIONS as f64) * self.per_iteration / start.elapsed().as_secs_f64()
    }

    /// Whether this is the rate that a kernel's routine for an element type is measured by.
    pub(crate) fn bounds(&self, kernel: Kernel, element: &str) -> bool {
        self.name
            == match kernel {
                Kernel::Avx512Vnni if matches!(element, "int8" | "bit") => "vnni-512",
                // Their routine for signs multiplies bytes: f32 does not bound it.
                Kernel::Avx2 | Kernel::Avx512 if element == "bit" => return false,
                Kernel::Avx2 => "fma-256",
                Kernel::Avx512 | Kernel::Avx512Vnni => "fma-512",
                _ => return false,
            }
    }
}

/// Cycles per second: a chain of dependent additions takes one cycle each.
pub(crate) fn clock() -> f64 {
    const LINKS: usize = 64;
    let mut value = black_box(1u64);
    let step = black_box(3u64);
    let start = Instant::now();
    for _ in 0..ITERATIONS {
        for _ in 0..LINKS {
            // Opaque to the compiler, which would multiply instead.
            #[cfg(target_arch = "x86_64")]
            // SAFETY: adds two registers.
            unsafe {
                std::arch::asm!("add {0}, {1}", inout(reg) value, in(reg) step, options(pure, nomem, nostack));
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: adds two registers.
            unsafe {
                std::arch::asm!("add {0}, {0}, {1}", inout(reg) value, in(reg) step, options(pure, nomem, nostack));
            }
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            {
                value = black_box(value + step);
            }
        }
    }
    black_box(value);
    (ITERATIONS * LINKS) as f64 / start.elapsed().as_secs_f64()
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn available() -> Vec<Peak> {
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> Vec<Peak> {
    use x86_64::{fma_256, fma_512, vnni_512};
    let peak = |name, lanes: f64, sums: f64, run| Peak {
        name,
        per_cycle: 2.0 * 2.0 * lanes,
        per_iteration: 2.0 * lanes * sums,
        run,
    };
    let mut peaks = Vec::new();
    if Kernel::Avx2.is_available() {
        peaks.push(peak("fma-256", 8.0, 12.0, fma_256));
    }
    if Kernel::Avx512.is_available() {
        peaks.push(peak("fma-512", 16.0, 24.0, fma_512));
    }
    if Kernel::Avx512Vnni.is_available() {
        peaks.push(peak("vnni-512", 64.0, 24.0, vnni_512));
    }
    peaks
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// AVX2 has 16 registers: 12 sums, which is more than the 8 that two units of 4 cycles' latency need.
    pub(crate) fn fma_256(iterations: usize) {
        #[target_feature(enable = "avx2,fma")]
        fn run(iterations: usize) {
            let (a, b) = (
                black_box(_mm256_set1_ps(0.5)),
                black_box(_mm256_set1_ps(0.25)),
            );
            let mut sums = black_box([a; 12]);
            for _ in 0..iterations {
                sums.iter_mut()
                    .for_each(|sum| *sum = _mm256_fmadd_ps(*sum, a, b));
            }
            black_box(sums);
        }
        // SAFETY: listed as available only when AVX2 and FMA are.
        unsafe { run(iterations) }
    }

    pub(crate) fn fma_512(iterations: usize) {
        #[target_feature(enable = "avx512f")]
        fn run(iterations: usize) {
            let (a, b) = (
                black_box(_mm512_set1_ps(0.5)),
                black_box(_mm512_set1_ps(0.25)),
            );
            let mut sums = black_box([a; 24]);
            for _ in 0..iterations {
                sums.iter_mut()
                    .for_each(|sum| *sum = _mm512_fmadd_ps(*sum, a, b));
            }
            black_box(sums);
        }
        // SAFETY: listed as available only when AVX-512 F is.
        unsafe { run(iterations) }
    }

    pub(crate) fn vnni_512(iterations: usize) {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn run(iterations: usize) {
            let (a, b) = (
                black_box(_mm512_set1_epi8(3)),
                black_box(_mm512_set1_epi8(-2)),
            );
            let mut sums = black_box([a; 24]);
            for _ in 0..iterations {
                sums.iter_mut()
                    .for_each(|sum| *sum = _mm512_dpbusd_epi32(*sum, a, b));
            }
            black_box(sums);
        }
        // SAFETY: listed as available only when VNNI is.
        unsafe { run(iterations) }
    }
}
