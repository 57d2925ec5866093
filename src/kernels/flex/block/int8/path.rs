//! With which instructions sums are made.

use std::sync::LazyLock;

/// Names the path to take, to test one that is not the fastest.
const VARIABLE: &str = "LOSPARSE_INT8_PATH";

/// Instructions for sums of `u8 · i8`, the fastest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// 512-bit `vpdpbusd`.
    Avx512Vnni,
    /// 256-bit `vpdpbusd`.
    AvxVnni,
    /// Products of values widened to 16 bits.
    Avx2,
    /// Plain loops.
    Portable,
}

impl Path {
    /// All, with their names.
    pub(super) const ALL: [(&str, Self); 4] = [
        ("avx512-vnni", Self::Avx512Vnni),
        ("avx-vnni", Self::AvxVnni),
        ("avx2", Self::Avx2),
        ("portable", Self::Portable),
    ];

    /// Whether this processor has the instructions.
    pub(super) fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512Vnni => {
                is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw")
            }
            Self::AvxVnni => {
                is_x86_feature_detected!("avxvnni") && is_x86_feature_detected!("avx2")
            }
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Portable => true,
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }

    /// The path that `name` asks for, or the fastest.
    ///
    /// # Errors
    /// If there is no such path, or this processor cannot run it.
    pub(super) fn choose(name: Option<&str>) -> Result<Self, String> {
        let available = || Self::ALL.into_iter().filter(|(_, path)| path.is_available());
        let found = available().find(|(known, _)| name.is_none_or(|name| name == *known));
        found.map(|(_, path)| path).ok_or_else(|| {
            let names: Vec<&str> = available().map(|(name, _)| name).collect();
            let name = name.unwrap_or_default();
            format!("no int8 path {name:?}: this processor can run {}", names.join(", "))
        })
    }
}

static CHOSEN: LazyLock<Result<Path, String>> =
    LazyLock::new(|| Path::choose(std::env::var(VARIABLE).ok().as_deref()));

/// The path of this process: that of `LOSPARSE_INT8_PATH`, or the fastest.
pub(crate) fn path() -> Path {
    CHOSEN.clone().unwrap_or(Path::Portable)
}

/// Checks `LOSPARSE_INT8_PATH`.
///
/// # Errors
/// If it names a path that does not exist or that this processor cannot run.
pub(crate) fn check_path() -> Result<(), String> {
    CHOSEN.as_ref().map(|_| ()).map_err(String::clone)
}

/// Whether heads attend in 16-bit integers: with the instructions of the fastest path.
#[cfg(target_arch = "x86_64")]
pub(crate) fn attends_in_int16() -> bool {
    path() == Path::Avx512Vnni && crate::precision::has_int16()
}
