//! A strict reading of a safetensors header, before the `safetensors` crate sees the file.
//!
//! | bytes | hold |
//! |---|---|
//! | 0..8 | `n`, the length of the header, little-endian |
//! | 8..8+n | a JSON object: names to `{dtype, shape, data_offsets: [begin, end)}`, then spaces |
//! | 8+n.. | the data; offsets count from here |
//!
//! The crate takes the last of two equal names, unknown fields and shapes of any rank. Another
//! reader may take the first; then the model that is certified is not the model that is deployed.
//! So a file passes only if it can be read in one way: no name twice, no hole, no overlap, no byte
//! left over.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::error::{FormatError, quoted};
use super::json::syntax;

/// The longest header that is read.
const LONGEST_HEADER: u64 = 100_000_000;
/// The longest name.
const LONGEST_NAME: usize = 1024;
/// The largest rank.
const LARGEST_RANK: usize = 8;
/// The most tensors of a file.
const MOST_TENSORS: usize = 1_000_000;

/// What a header says of one tensor; checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Extent {
    /// The type of the elements.
    pub(super) dtype: Dtype,
    /// The shape.
    pub(super) shape: Vec<usize>,
    /// The first byte, counted from the start of the file.
    pub(super) begin: usize,
    /// The byte behind the last.
    pub(super) end: usize,
}

/// The tensors of a safetensors file by name.
pub(super) fn scan(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, Extent>, FormatError> {
    let header = frame(file, bytes)?;
    let data = 8 + header.len();
    let text = trimmed(file, header)?;
    let Header(entries) =
        serde_json::from_slice(text).map_err(|parse| syntax(file, text, 8, &parse))?;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let extent = check(file, &name, &entry, data, bytes.len())?;
        tensors.insert(name, extent);
    }
    cover(file, &tensors, data, bytes.len())?;
    Ok(tensors)
}

/// The bytes of the header.
fn frame<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let container = |offset, expected: String, got: String| FormatError::Container {
        file: file.into(),
        offset,
        expected,
        got,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        let got = format!("a file of {} bytes", bytes.len());
        return Err(container(0, "8 bytes of header length".into(), got));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        let (file, what) = (file.into(), "the header");
        return Err(FormatError::TooLarge { file, what, limit: LONGEST_HEADER, got: length });
    }
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    header.ok_or_else(|| {
        let got = format!("{} bytes in the file", rest.len());
        container(8, format!("a header of {length} bytes"), got)
    })
}

/// The header without the spaces behind it.
fn trimmed<'a>(file: &str, header: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let end = header.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
    let text = &header[..end];
    if text.first() == Some(&b'{') && text.last() == Some(&b'}') {
        return Ok(text);
    }
    let file = file.into();
    let expected = "a JSON object from the first byte of the header on".into();
    let got = quoted(&String::from_utf8_lossy(&text[..text.len().min(16)]));
    Err(FormatError::Container { file, offset: 8, expected, got })
}

/// What an entry says, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// All entries but `__metadata__`, each name once.
struct Header(BTreeMap<String, Entry>);

/// The names of `__metadata__`, each once; its values are texts and mean nothing here.
struct Metadata;

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Header, A::Error> {
        let mut entries = BTreeMap::new();
        let mut metadata = false;
        while let Some(name) = items.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut metadata, true) {
                    return Err(A::Error::custom("duplicate __metadata__"));
                }
                items.next_value::<Metadata>()?;
                continue;
            }
            check_name(&name).map_err(A::Error::custom)?;
            if entries.len() == MOST_TENSORS {
                return Err(A::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            match entries.entry(name) {
                Slot::Vacant(slot) => slot.insert(items.next_value()?),
                Slot::Occupied(slot) => {
                    let message = format!("duplicate tensor {}", quoted(slot.key()));
                    return Err(A::Error::custom(message));
                }
            };
        }
        Ok(Header(entries))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(format!("tensor name {}: expected 1 to {LONGEST_NAME} bytes", quoted(name)));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("tensor name {}: expected no control characters", quoted(name)));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor)
    }
}

struct MetadataVisitor;

impl<'de> Visitor<'de> for MetadataVisitor {
    type Value = Metadata;

    fn expecting(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Metadata, A::Error> {
        let mut seen = std::collections::BTreeSet::new();
        while let Some((key, _)) = items.next_entry::<String, String>()? {
            let message = format!("duplicate key {} in __metadata__", quoted(&key));
            if !seen.insert(key) {
                return Err(A::Error::custom(message));
            }
        }
        Ok(Metadata)
    }
}

fn check(
    file: &str,
    name: &str,
    entry: &Entry,
    data: usize,
    size: usize,
) -> Result<Extent, FormatError> {
    let error = |expected: &str, got: String| FormatError::Entry {
        file: file.into(),
        tensor: name.into(),
        expected: expected.into(),
        got,
    };
    let dtype = dtype_named(&entry.dtype).ok_or_else(|| {
        let known = "dtype BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64 or F64";
        error(known, quoted(&entry.dtype))
    })?;
    if entry.shape.len() > LARGEST_RANK {
        return Err(error("a rank of at most 8", entry.shape.len().to_string()));
    }
    if entry.shape.contains(&0) {
        return Err(error("no dimension of 0", format!("{:?}", entry.shape)));
    }
    let bits = entry.shape.iter().try_fold(dtype.bitsize() as u64, |n, &d| n.checked_mul(d));
    let (begin, end) = entry.data_offsets;
    let got = format!("bytes {begin}..{end} for {} {:?}", entry.dtype, entry.shape);
    let length = end.checked_sub(begin);
    let Some(length) = length.filter(|n| bits.is_some() && n.checked_mul(8) == bits) else {
        return Err(error("as many bytes as the shape and type have", got));
    };
    let room = (size - data) as u64;
    if end > room || length > room {
        return Err(error(&format!("an end within the {room} bytes of data"), got));
    }
    // Both ends lie within the file now, and so within usize.
    let shape = entry.shape.iter().map(|&d| d as usize).collect();
    Ok(Extent { dtype, shape, begin: data + begin as usize, end: data + end as usize })
}

/// The extents follow one another without hole or overlap and end with the file.
fn cover(
    file: &str,
    tensors: &BTreeMap<String, Extent>,
    data: usize,
    size: usize,
) -> Result<(), FormatError> {
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, extent)| extent.begin);
    let mut at = data;
    for (name, extent) in order {
        if extent.begin != at {
            return Err(FormatError::Entry {
                file: file.into(),
                tensor: name.clone(),
                expected: format!("data from byte {} on, behind the tensor before", at - data),
                got: format!("byte {}", extent.begin - data),
            });
        }
        at = extent.end;
    }
    if at == size {
        return Ok(());
    }
    Err(FormatError::Container {
        file: file.into(),
        offset: at as u64,
        expected: "the end of the file behind the last tensor".into(),
        got: format!("{} more bytes", size - at),
    })
}

fn dtype_named(name: &str) -> Option<Dtype> {
    Some(match name {
        "BOOL" => Dtype::BOOL,
        "U8" => Dtype::U8,
        "I8" => Dtype::I8,
        "U16" => Dtype::U16,
        "I16" => Dtype::I16,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "U32" => Dtype::U32,
        "I32" => Dtype::I32,
        "F32" => Dtype::F32,
        "U64" => Dtype::U64,
        "I64" => Dtype::I64,
        "F64" => Dtype::F64,
        _ => return None,
    })
}
