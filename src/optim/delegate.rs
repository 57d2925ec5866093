//! Modules that wrap another one.

/// The methods of [`Module`](burn::module::Module) that a wrapper hands on, all but `map`. Its method
/// `$inner` gives the module or a reference to it, and `with` wraps what a function makes of the module.
macro_rules! delegate_to_inner_module {
    ($inner:ident) => {
        fn collect_devices(&self, devices: burn::module::Devices) -> burn::module::Devices {
            self.$inner().collect_devices(devices)
        }

        fn fork(self, device: &burn::tensor::Device) -> Self {
            self.with(|module| module.fork(device))
        }

        fn to_device(self, device: &burn::tensor::Device) -> Self {
            self.with(|module| module.to_device(device))
        }

        fn train(self) -> Self {
            self.with(|module| module.train())
        }

        fn valid(&self) -> Self {
            self.clone().with(|module| module.valid())
        }

        fn materialize(self) -> Self {
            self.with(|module| module.materialize())
        }

        fn visit<Visitor: burn::module::ModuleVisitor>(&self, visitor: &mut Visitor) {
            self.$inner().visit(visitor);
        }
    };
}

pub(crate) use delegate_to_inner_module;
