//! Which instruction sets the kernels are written for, and which of them runs here. Found out once a process.

use std::sync::OnceLock;

/// One way to compute the score. All agree within the documented bounds; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain Rust that the compiler vectorises for the target's base instruction set.
    Portable,
    /// AArch64's NEON.
    Neon,
    /// AVX2, FMA and F16C: Haswell, Zen and newer.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: Skylake-SP and newer.
    Avx512,
    /// AVX-512 as above and VNNI: Cascade Lake, Zen 4 and newer.
    Avx512Vnni,
}

impl Kernel {
    /// Every kernel there is, the slower before the faster.
    pub const ALL: [Kernel; 5] = [
        Kernel::Portable,
        Kernel::Neon,
        Kernel::Avx2,
        Kernel::Avx512,
        Kernel::Avx512Vnni,
    ];

    /// Every kernel this machine can run, the slower before the faster.
    #[must_use]
    pub fn available() -> Vec<Kernel> {
        Kernel::ALL
            .into_iter()
            .filter(|kernel| kernel.is_available())
            .collect()
    }

    /// The fastest kernel this machine can run.
    #[must_use]
    pub fn best() -> Kernel {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Kernel::available().pop().unwrap_or(Kernel::Portable))
    }

    /// Whether this machine can run it. Miri runs the portable one only.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Kernel::Portable => true,
            _ if cfg!(miri) => false,
            #[cfg(target_arch = "aarch64")]
            Kernel::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => {
                Kernel::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512Vnni => {
                Kernel::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// Its name, as shown to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            Kernel::Neon => "neon",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512 => "avx512",
            Kernel::Avx512Vnni => "avx512-vnni",
        }
    }
}

/// The name of the kernel that scores on this machine.
#[must_use]
pub fn kernel_name() -> &'static str {
    Kernel::best().name()
}
