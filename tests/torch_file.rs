//! Writes `pytorch_model.bin` as `torch.save` does: an archive with a pickle and the bytes of the
//! storages.

/// A state dictionary of f32 tensors: name, shape, values.
pub(super) fn torch_file<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a [usize], Vec<f32>)>,
) -> Vec<u8> {
    let mut pickle = Pickle(b"\x80\x02}(".to_vec());
    let mut files = vec![];
    for (at, (name, shape, values)) in tensors.into_iter().enumerate() {
        pickle.text(name);
        pickle.global("torch._utils", "_rebuild_tensor_v2");
        pickle.0.extend(b"((");
        pickle.text("storage");
        pickle.global("torch", "FloatStorage");
        pickle.text(&at.to_string());
        pickle.text("cpu");
        pickle.number(values.len());
        pickle.0.extend(b"tQ");
        pickle.number(0);
        pickle.tuple(shape);
        let stride = |axis: usize| shape[axis + 1..].iter().product();
        pickle.tuple(&(0..shape.len()).map(stride).collect::<Vec<usize>>());
        pickle.0.push(0x89); // No gradient.
        pickle.global("collections", "OrderedDict");
        pickle.0.extend(b")RtR");
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        files.push((format!("archive/data/{at}"), bytes));
    }
    pickle.0.extend(b"u.");
    files.insert(0, ("archive/data.pkl".into(), pickle.0));
    files.push(("archive/version".into(), b"3\n".to_vec()));
    archive(&files)
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
    }

    fn number(&mut self, number: usize) {
        self.0.push(b'J');
        self.0.extend((number as i32).to_le_bytes());
    }

    fn tuple(&mut self, numbers: &[usize]) {
        self.0.push(b'(');
        numbers.iter().for_each(|number| self.number(*number));
        self.0.push(b't');
    }
}

/// A zip archive of uncompressed files.
fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut archive, mut directory) = (vec![], vec![]);
    for (name, bytes) in files {
        let start = archive.len() as u32;
        let mut about = vec![0_u8; 10];
        about.extend(crc32(bytes).to_le_bytes());
        about.extend([bytes.len() as u32; 2].map(u32::to_le_bytes).concat());
        about.extend((name.len() as u16).to_le_bytes());
        about.extend([0; 2]);
        archive.extend(b"PK\x03\x04");
        archive.extend(&about);
        archive.extend(name.as_bytes());
        archive.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&about);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length) = (archive.len() as u32, directory.len() as u32);
    archive.extend(directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend([files.len() as u16; 2].map(u16::to_le_bytes).concat());
    archive.extend([length, start].map(u32::to_le_bytes).concat());
    archive.extend([0; 2]);
    archive
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    };
    !bytes.iter().fold(!0, step)
}
