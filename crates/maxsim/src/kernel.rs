//! Which instruction sets the kernels are written for, and which of them runs here. Found out once a process.

use std::sync::OnceLock;

/// One way to compute the score. All agree within the documented bounds; they differ in speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain Rust that the compiler vectorises for the target's base instruction set.
    Portable,
}

impl Kernel {
    /// Every kernel this machine can run, the slowest first.
    #[must_use]
    pub fn available() -> Vec<Kernel> {
        [Kernel::Portable]
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

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Kernel::Portable => true,
        }
    }

    /// Its name, as shown to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
        }
    }
}

/// The name of the kernel that scores on this machine.
#[must_use]
pub fn kernel_name() -> &'static str {
    Kernel::best().name()
}
