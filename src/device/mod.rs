//! Devices by name: `flex`, `ndarray`, `cuda:0`, `vulkan`, … or `auto`.
//!
//! ```text
//! "vulkan:1" ─ parse ─► DeviceSpec ─ open ─► compiled in? ─► on this machine? ─► computes? ─► Device
//! ```
//! Burn panics if a driver is missing; [`DeviceSpec::open`] returns an error that says what to install.

mod probe;

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, DeviceType, FloatDType};

use crate::{Error, Result};

/// Defines [`Backend`] by the names of the backends, which are also those of the Cargo features.
macro_rules! backends {
    ($($(#[$doc:meta])* $backend:ident = $name:literal,)*) => {
        /// The backends a device's name may start with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Backend {
            $($(#[$doc])* $backend,)*
        }

        impl Backend {
            /// Every backend, in the order in which `auto` prefers them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$backend),*];

            /// The name, which is also the Cargo feature's.
            pub fn name(self) -> &'static str {
                match self { $(Self::$backend => $name),* }
            }

            fn device_type(self) -> Option<DeviceType> {
                match self {
                    $(#[cfg(feature = $name)] Self::$backend => Some(DeviceType::$backend),)*
                    #[allow(unreachable_patterns)] // Not with every feature on.
                    _ => None,
                }
            }
        }
    };
}

backends! {
    /// CPU, pure Rust: `flex`.
    Flex = "flex",
    /// NVIDIA GPUs: `cuda`.
    Cuda = "cuda",
    /// AMD GPUs: `rocm`.
    Rocm = "rocm",
    /// GPUs through Metal: `metal`.
    Metal = "metal",
    /// GPUs through SPIR-V on Vulkan: `vulkan`.
    Vulkan = "vulkan",
    /// GPUs through WebGPU: `webgpu`.
    WebGpu = "webgpu",
    /// GPUs through WGSL on any graphics API: `wgpu`.
    Wgpu = "wgpu",
    /// CPU, kept for cross-checks: `ndarray`.
    NdArray = "ndarray",
}

impl Backend {
    /// Whether this build has the backend.
    pub fn is_compiled(self) -> bool {
        self.device_type().is_some()
    }

    /// The backends of this build, in the order in which `auto` prefers them.
    pub fn compiled() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|backend| backend.is_compiled())
    }

    /// Whether there may be several devices, told apart by an index.
    fn is_indexed(self) -> bool {
        !matches!(self, Self::Flex | Self::NdArray)
    }

    /// Requirements of this backend, for messages.
    fn needs(self) -> &'static str {
        match self {
            Self::Flex | Self::NdArray => "nothing but a CPU",
            Self::Cuda => {
                "NVIDIA's driver (libcuda.so.1; Debian: nvidia-driver) and the CUDA toolkit's NVRTC \
                 (libnvrtc.so; Debian: nvidia-cuda-toolkit)"
            }
            Self::Rocm => "AMD's ROCm with HIP (libamdhip64.so; package rocm-hip-runtime)",
            Self::Metal => "a Mac with Metal",
            Self::WebGpu => "a browser with WebGPU; on a desktop use `wgpu`",
            Self::Vulkan | Self::Wgpu if cfg!(target_os = "macos") => {
                "a Mac with Metal (for `vulkan`, MoltenVK)"
            }
            Self::Vulkan | Self::Wgpu if cfg!(target_os = "windows") => "the GPU maker's driver",
            Self::Vulkan | Self::Wgpu => {
                "the Vulkan loader and a driver (Debian: libvulkan1 with mesa-vulkan-drivers for \
                 AMD, Intel or no GPU, or nvidia-driver)"
            }
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A device as a user names it: `auto` (or `default`), a backend, or a backend and an index.
///
/// ```
/// use losparse::device::DeviceSpec;
///
/// let spec: DeviceSpec = "cuda:1".parse()?;
/// assert_eq!(spec.to_string(), "cuda:1");
/// # Ok::<(), losparse::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DeviceSpec {
    /// The backend; `None`: the first of [`Backend::ALL`] that this build has and that works.
    pub backend: Option<Backend>,
    /// Which of the backend's devices, from 0; `None`: the one the backend prefers.
    pub index: Option<usize>,
}

impl DeviceSpec {
    /// The first device of [`Backend::ALL`] that this build has and that works: the CPU where `flex` is in
    /// the build, so a GPU is asked for by name.
    pub const AUTO: Self = Self { backend: None, index: None };

    /// The device, after a first computation on it.
    ///
    /// # Errors
    /// [`Error::Device`], if the backend is not in this build (naming the Cargo feature), the
    /// machine lacks it (naming the driver), or the index is out of range.
    pub fn open(self) -> Result<Device> {
        self.resolve().map(|(_, device)| device)
    }

    /// The device and its name, which for `auto` is that of the chosen device.
    ///
    /// # Errors
    /// As [`DeviceSpec::open`].
    pub fn resolve(self) -> Result<(Self, Device)> {
        let Some(backend) = self.backend else {
            let mut failures = Vec::new();
            for backend in Backend::compiled() {
                match Self::from(backend).resolve() {
                    Ok(found) => return Ok(found),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            return Err(Error::device(
                "auto",
                match failures.is_empty() {
                    true => "this build has no backend; build with `--features flex`".to_string(),
                    false => {
                        format!("no backend of this build works here: {}", failures.join("; "))
                    }
                },
            ));
        };
        let Some(device_type) = backend.device_type() else {
            return Err(Error::device(
                self.to_string(),
                format!(
                    "not in this build ({}); build with `--features {backend}`",
                    in_this_build()
                ),
            ));
        };
        let device = self.find(backend, device_type)?;
        probe::compute(&device).map_err(|reason| {
            let needs = backend.needs();
            Error::device(self.to_string(), format!("does not work here: {reason}; needs {needs}"))
        })?;
        Ok((self, device))
    }

    fn find(self, backend: Backend, device_type: DeviceType) -> Result<Device> {
        let absent = |message: String| Error::device(self.to_string(), message);
        let devices = probe::quietly(|| Device::enumerate(device_type).into_vec())
            .map_err(|reason| absent(format!("{reason}; needs {}", backend.needs())))?;
        if devices.is_empty() {
            return Err(absent(format!("none on this machine; needs {}", backend.needs())));
        }
        match self.index {
            None if backend == Backend::Vulkan => match probe::all_in_software(&devices) {
                // The SPIR-V that this backend compiles to brings software drivers down.
                true => Err(absent(
                    "no GPU, only a software driver, which this backend can crash; use `wgpu`, or \
                     `vulkan:0` to try all the same"
                        .to_string(),
                )),
                false => Ok(probe::preferred(backend, devices)),
            },
            None => Ok(probe::preferred(backend, devices)),
            Some(index) => {
                let count = devices.len();
                devices.into_iter().nth(index).ok_or_else(|| {
                    absent(format!(
                        "no such device: this machine has {count}, numbered from 0 ({backend}:0 to \
                         {backend}:{})",
                        count - 1
                    ))
                })
            }
        }
    }
}

impl From<Backend> for DeviceSpec {
    fn from(backend: Backend) -> Self {
        Self { backend: Some(backend), index: None }
    }
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim().to_ascii_lowercase();
        if matches!(name.as_str(), "auto" | "default") {
            return Ok(Self::AUTO);
        }
        let (head, index) = match name.split_once(':') {
            Some((head, index)) => (head, Some(index)),
            None => (name.as_str(), None),
        };
        let backend = Backend::ALL.into_iter().find(|b| b.name() == head).ok_or_else(|| {
            Error::device(
                text,
                format!("no such device; give auto or a backend ({})", in_this_build()),
            )
        })?;
        let index = match index {
            Some(_) if !backend.is_indexed() => {
                return Err(Error::device(text, format!("{backend} takes no index")));
            }
            Some(index) => Some(index.parse().map_err(|_| {
                Error::device(text, format!("`{index}` is not an index; give {backend}:0"))
            })?),
            None => None,
        };
        Ok(Self { backend: Some(backend), index })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.backend, self.index) {
            (None, _) => f.write_str("auto"),
            (Some(backend), None) => write!(f, "{backend}"),
            (Some(backend), Some(index)) => write!(f, "{backend}:{index}"),
        }
    }
}

/// The device of a name: [`DeviceSpec::from_str`], then [`DeviceSpec::open`].
///
/// # Errors
/// As [`DeviceSpec::from_str`] and [`DeviceSpec::open`].
pub fn open(name: &str) -> Result<Device> {
    name.parse::<DeviceSpec>()?.open()
}

/// Whether `device` is the `flex` backend's, tracked by autodiff or not.
pub(crate) fn is_flex(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)] // On `flex` alone.
        _ => false,
    }
}

/// Checks that `device` multiplies matrices of `dtype`; the error says why not.
pub(crate) fn computes_in(device: &Device, dtype: FloatDType) -> Result<(), String> {
    probe::compute_in(device, dtype)
}

/// Every backend of this build with its preferred device, or why there is none on this machine.
pub fn available() -> Vec<(Backend, Result<Device>)> {
    Backend::compiled().map(|backend| (backend, DeviceSpec::from(backend).open())).collect()
}

fn in_this_build() -> String {
    let names: Vec<String> = Backend::compiled()
        .map(|b| if b.is_indexed() { format!("{b}[:n]") } else { b.to_string() })
        .collect();
    match names.is_empty() {
        true => "this build has no backend".to_string(),
        false => format!("this build has {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> String {
        open(name).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn names_round_trip() {
        for name in ["auto", "flex", "ndarray", "wgpu", "vulkan:1", "metal", "cuda:12", "rocm:0"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        assert_eq!("default".parse::<DeviceSpec>().unwrap(), DeviceSpec::AUTO);
        let spec = DeviceSpec { backend: Some(Backend::Cuda), index: Some(3) };
        assert_eq!(" CUDA:3 ".parse::<DeviceSpec>().unwrap(), spec);
        assert_eq!(DeviceSpec::default(), DeviceSpec::AUTO);
    }

    #[test]
    fn unknown_names_list_what_this_build_has() {
        let text = message("tpu");
        assert!(text.starts_with("device tpu: no such device"), "{text}");
        for backend in Backend::compiled() {
            assert!(text.contains(backend.name()), "{text}");
        }
        assert!(message("cuda:one").contains("`one` is not an index; give cuda:0"));
        assert!(message("cuda:-1").contains("not an index"));
        assert!(message("flex:0").contains("flex takes no index"));
        assert!(message("").contains("no such device"));
    }

    #[test]
    fn a_backend_that_is_not_compiled_names_its_feature() {
        for backend in Backend::ALL.into_iter().filter(|b| !b.is_compiled()) {
            let text = message(backend.name());
            assert!(text.contains("not in this build"), "{text}");
            assert!(text.contains(&format!("`--features {backend}`")), "{text}");
        }
    }

    #[test]
    fn every_compiled_backend_opens_or_says_what_it_needs() {
        for (backend, device) in available() {
            match device {
                Ok(device) => {
                    let ones = burn::tensor::Tensor::<1>::ones([3], &device);
                    assert_eq!(ones.sum().into_scalar::<f32>(), 3.0, "{backend}");
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with(&format!("device {backend}: ")), "{text}");
                    assert!(text.contains("needs") || text.contains("use `wgpu`"), "{text}");
                    assert!(backend.is_indexed(), "{backend} is always there: {text}");
                }
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn auto_is_flex_where_flex_is() {
        assert_eq!(open("auto").unwrap(), Device::flex());
        assert_eq!(DeviceSpec::AUTO.resolve().unwrap().0.to_string(), "flex");
    }

    #[test]
    fn an_index_out_of_range_is_an_error() {
        for backend in Backend::compiled().filter(|b| b.is_indexed()) {
            let text = message(&format!("{backend}:4096"));
            assert!(text.contains("no such device") || text.contains("none on this"), "{text}");
        }
    }
}
