//! The numbers of a run's result.

use serde::{Deserialize, Serialize};

use crate::checkpoint::StorageDtype;

/// The numbers that the result is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// 8-bit integers if the metric holds in them and the device computes in them, otherwise 32-bit floats.
    Auto,
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats.
    F16,
    /// The upper 16 bits of 32-bit floats.
    Bf16,
    /// 8-bit integers, which layers also compute in on devices that can.
    Int8,
}

impl Storage {
    /// The number format; `None` if it is for the run to find out.
    pub fn dtype(self) -> Option<StorageDtype> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(StorageDtype::F32),
            Self::F16 => Some(StorageDtype::F16),
            Self::Bf16 => Some(StorageDtype::Bf16),
            Self::Int8 => Some(StorageDtype::Int8),
        }
    }
}
