//! A copy of a checkpoint in which stored bits are flipped, written whole or not at all.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use engine::formats::{EMBEDDING, HEAD, Loaded, TensorEntry, TensorKind, linear_name, norm_name};
use engine::model::NormSlot;
use faults::{Address, Matrix, PhysicalAddress};

use crate::failure::Failure;
use crate::output;
use crate::source::Origin;

/// Copies a checkpoint to a new folder and flips the bits there.
///
/// # Errors
/// If a bit is in no file of the checkpoint, the folder exists, or it cannot be written.
pub(crate) fn write_patched(
    origin: &Origin,
    loaded: &Loaded,
    addresses: &[Address],
    folder: &Path,
) -> Result<(), Failure> {
    let places: Vec<_> =
        addresses.iter().map(|address| place(loaded, address)).collect::<Result<_, _>>()?;
    output::new_folder(folder, |aside| {
        match &origin.embedded {
            Some(checkpoint) => checkpoint.write_to(aside)?,
            None => copy(&origin.path, aside)?,
        }
        places.iter().try_for_each(|place| flip(&aside.join(&place.file), place.byte, place.bit))
    })
}

/// The files of a checkpoint: one, or those of a folder but not what lies deeper, which no loader
/// reads.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut files = vec![from.to_path_buf()];
    if from.is_dir() {
        files =
            fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    }
    for file in files {
        if let Some(name) = file.file_name().filter(|_| file.is_file()) {
            let target = to.join(name);
            fs::copy(&file, &target)?;
            let mut permissions = fs::metadata(&target)?.permissions();
            #[expect(clippy::permissions_set_readonly_false, reason = "a fresh private copy")]
            permissions.set_readonly(false);
            fs::set_permissions(&target, permissions)?;
        }
    }
    Ok(())
}

fn flip(file: &Path, byte: u64, bit: u8) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(file)?;
    let mut stored = [0u8];
    file.seek(SeekFrom::Start(byte))?;
    file.read_exact(&mut stored)?;
    stored[0] ^= 1 << bit;
    file.seek(SeekFrom::Start(byte))?;
    file.write_all(&stored)?;
    file.sync_all()
}

/// Where a bit lies in the files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: String,
    /// The stored tensor.
    pub(crate) tensor: String,
    /// How its values are stored, such as `gguf-q6_k` or `hf-packed`.
    pub(crate) format: String,
    /// Where the tensor begins in the file.
    pub(crate) start: u64,
    /// The byte in the file.
    pub(crate) byte: u64,
    /// The bit of that byte.
    pub(crate) bit: u8,
}

impl Place {
    /// The stored byte.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub(crate) fn stored(&self, origin: &Origin) -> Result<u8, Failure> {
        if let Some(checkpoint) = &origin.embedded {
            let file = checkpoint.file(&self.file);
            return file
                .and_then(|bytes| bytes.get(self.byte as usize).copied())
                .ok_or_else(|| Failure::bug("a byte of an embedded file"));
        }
        let path =
            if origin.path.is_file() { origin.path.clone() } else { origin.path.join(&self.file) };
        let mut byte = [0u8];
        fs::File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(self.byte))?;
                file.read_exact(&mut byte)
            })
            .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?;
        Ok(byte[0])
    }
}

/// Where a bit lies.
///
/// # Errors
/// If it is in no file of the checkpoint.
pub(crate) fn place(loaded: &Loaded, address: &Address) -> Result<Place, Failure> {
    let entry = |name: String| {
        loaded.manifest.entry(&name).ok_or_else(|| {
            Failure::refused(format!("the checkpoint stores no tensor {name} of its own"))
        })
    };
    let matrix = |matrix: Matrix| entry(format!("{}.weight", matrix.name()));
    // What stands in bytes of its own kind is found by its byte, in whichever format.
    if let Some(PhysicalAddress { matrix: of, place }) =
        address.physical(&loaded.model).map_err(Failure::usage)?
    {
        let entry = matrix(of)?;
        if !matches!(entry.kind, TensorKind::TernaryPacked | TensorKind::Blocks) {
            return Err(Failure::refused(format!(
                "{}: its codes are not stored as bits of this file, only packed ones are",
                entry.name
            ))
            .help("weight_element[row,column].bit, or a packed checkpoint"));
        }
        return Ok(of_entry(entry, place.byte as u64, place.bit));
    }
    match *address {
        Address::Code { layer, slot, row, column, bit }
        | Address::Element { layer, slot, row, column, bit } => {
            let entry = matrix(Matrix::Linear { layer, slot })?;
            let columns = loaded.model.layers[layer].linear(slot).inputs();
            Ok(value(entry, entry.stored_row(row) * columns + column, bit))
        }
        Address::GroupScale { matrix, row, bit, .. } => {
            // Beside the scale of the tensor the one behind its codes has a name of its own.
            let name = format!("{}.weight_scale", matrix.name());
            let behind = loaded.manifest.entry(&format!("{name}[0,0]"));
            Ok(value(behind.map_or_else(|| entry(name), Ok)?, row, bit))
        }
        Address::Byte { .. } => Err(Failure::bug("a byte of trits has a place")),
        Address::Scale { layer, slot, bit } => {
            Ok(value(entry(format!("{}.weight_scale", linear_name(layer, slot)))?, 0, bit))
        }
        Address::Norm { layer, slot, index, bit } => {
            Ok(value(entry(norm_name(layer, slot))?, index, bit))
        }
        Address::FinalNorm { index, bit } => {
            Ok(value(entry(norm_name(0, NormSlot::Final))?, index, bit))
        }
        Address::Embedding { row, column, bit } => {
            let columns = loaded.model.embedding.columns();
            Ok(value(entry(EMBEDDING.into())?, row * columns + column, bit))
        }
        Address::Head { row, column, bit } => {
            let columns = loaded.model.head.columns();
            Ok(value(entry(HEAD.into())?, row * columns + column, bit))
        }
        Address::Kv { .. } | Address::KvScale { .. } => {
            Err(Failure::usage("a bit of the key-value cache is in no file")
                .help("an address of a weight, or no --write"))
        }
    }
}

/// The place of a bit of a stored little-endian value.
fn value(entry: &TensorEntry, index: usize, bit: u8) -> Place {
    let values: usize = entry.shape.iter().product();
    let size = entry.bytes / values as u64;
    of_entry(entry, index as u64 * size + u64::from(bit / 8), bit % 8)
}

fn of_entry(entry: &TensorEntry, byte: u64, bit: u8) -> Place {
    let (file, tensor) = (entry.file.clone(), entry.name.clone());
    let kind = match entry.kind {
        TensorKind::TernaryPacked if !file.ends_with(".gguf") => "packed".into(),
        _ => entry.dtype.to_lowercase(),
    };
    let format = if file.ends_with(".gguf") { "gguf-" } else { "hf-" }.to_owned() + &kind;
    Place { file, tensor, format, start: entry.offset, byte: entry.offset + byte, bit }
}
