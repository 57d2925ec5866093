//! Probing the machine for devices whose absence makes Burn panic.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;

use burn::tensor::{Device, FloatDType, Tensor};

use super::Backend;

/// The panic hook belongs to the whole process: one probe at a time.
static HOOK: Mutex<()> = Mutex::new(());

/// Runs `f` and returns its panic's first line as the error, printing nothing.
pub(super) fn quietly<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    let _one_at_a_time = HOOK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    panic::set_hook(hook);
    result.map_err(|payload| first_line(payload.as_ref()))
}

fn first_line(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("its driver failed");
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// Checks the result of a tiny product.
pub(super) fn compute(device: &Device) -> Result<(), String> {
    compute_in(device, FloatDType::F32)
}

/// Checks the result of a tiny product in `dtype`.
pub(super) fn compute_in(device: &Device, dtype: FloatDType) -> Result<(), String> {
    if !device.supports_dtype(dtype) {
        return Err("it has no such arithmetic".to_string());
    }
    let product = quietly(|| {
        let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], device).cast(dtype);
        let product = x.clone().matmul(x).cast(FloatDType::F32);
        product.try_into_vec_as::<f32>().map_err(|error| error.to_string())
    })??;
    match product == [7.0, 10.0, 15.0, 22.0] {
        true => Ok(()),
        false => Err(format!("it computes a 2×2 product wrongly, as {product:?}")),
    }
}

/// The device for the name of a backend without an index: for graphics APIs the one that wgpu selects
/// (`CUBECL_WGPU_DEFAULT_DEVICE` overrides it), else the first.
pub(super) fn preferred(backend: Backend, mut devices: Vec<Device>) -> Device {
    match backend {
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "metal")]
        Backend::Metal => Device::metal(burn::tensor::DeviceKind::DefaultDevice),
        #[cfg(feature = "webgpu")]
        Backend::WebGpu => Device::webgpu(burn::tensor::DeviceKind::DefaultDevice),
        _ => devices.swap_remove(0),
    }
}

/// Whether every one of `devices` is a graphics driver that computes on the CPU.
pub(super) fn all_in_software(devices: &[Device]) -> bool {
    // The device shows the kind of adapter without being opened, which may already crash the driver.
    devices.iter().all(|device| format!("{device:?}").contains("Cpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_first_line() {
        assert_eq!(quietly(|| 3), Ok(3));
        assert_eq!(quietly(|| -> u8 { panic!("no driver\nbacktrace") }), Err("no driver".into()));
        let number = 7;
        assert_eq!(quietly(|| -> u8 { panic!("{number} gone") }), Err("7 gone".into()));
        let other = quietly(|| -> u8 { panic::panic_any(3u8) });
        assert_eq!(other, Err("its driver failed".into()));
    }
}
