//! The container: magic, metadata, the list of tensors, and where their bytes lie.
//!
//! Everything is checked before it is used: a count against the bytes that are left, a product
//! against overflow, an extent against the file. Invariants: nothing is allocated beyond a small
//! multiple of the bytes that were read; the tensors fill the rest of the file without holes or
//! overlaps, so that no size can be misread; no key and no tensor is there twice.

use std::collections::BTreeMap;

use super::super::error::{FormatError, quoted};
use super::types::GgmlType;
use super::value::{Metadata, Value};
use crate::packing::BlockType;

const MAGIC: &[u8; 4] = b"GGUF";
/// The longest name of a key or a tensor.
const LONGEST_NAME: usize = 1 << 10;
/// The most tensors of a file.
const MOST_TENSORS: u64 = 1 << 20;
/// The least that a tensor takes in the list: name, rank, one dimension, type and offset.
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;
/// The least that a key takes: its text, its type and one byte.
const LEAST_KEY: u64 = 8 + 4 + 1;

/// A tensor of the file.
#[derive(Clone, Debug)]
pub(super) struct Extent<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its type.
    pub(super) kind: GgmlType,
    /// Its shape, outputs first (the file has inputs first).
    pub(super) shape: Vec<usize>,
    /// Its first byte, counted from the start of the file.
    pub(super) offset: usize,
    /// Its bytes.
    pub(super) data: &'a [u8],
}

/// What a file holds.
pub(super) struct Container<'a> {
    /// Its metadata.
    pub(super) metadata: Metadata<'a>,
    /// Its tensors, by name.
    pub(super) tensors: BTreeMap<&'a str, Extent<'a>>,
}

/// A tensor as the list names it.
struct Info<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: GgmlType,
    offset: u64,
    at: usize,
}

/// Reads the frame of a file; `file` is its name in messages.
pub(super) fn read<'a>(file: &str, bytes: &'a [u8]) -> Result<Container<'a>, FormatError> {
    let mut cursor = Cursor { file, bytes, at: 0 };
    let (tensors, keys) = preamble(&mut cursor)?;
    let mut values = BTreeMap::new();
    for _ in 0..keys {
        let at = cursor.at;
        let key = cursor.name("a key")?;
        let value = cursor.value()?;
        if values.insert(key, value).is_some() {
            return Err(cursor.wrong(at, "each key once", format!("{} again", quoted(key))));
        }
    }
    let metadata = Metadata { file: file.into(), values };
    let mut infos = Vec::with_capacity(tensors);
    for _ in 0..tensors {
        infos.push(cursor.info()?);
    }
    let alignment = alignment(&metadata)?;
    let data = cursor.at.next_multiple_of(alignment);
    if data > bytes.len() && !infos.is_empty() {
        let got = format!("the end of the file, at {}", bytes.len());
        return Err(cursor.wrong(bytes.len(), "padding and tensors", got));
    }
    let tensors = extents(&cursor, infos, data, alignment)?;
    Ok(Container { metadata, tensors })
}

/// Magic, version and the two counts.
fn preamble(cursor: &mut Cursor) -> Result<(usize, u64), FormatError> {
    let magic = cursor.take(4, "the magic GGUF")?;
    if magic != MAGIC {
        return Err(cursor.wrong(0, "the magic GGUF", quoted(&String::from_utf8_lossy(magic))));
    }
    match cursor.u32("a version")? {
        2 | 3 => {}
        got @ (0x0200_0000 | 0x0300_0000) => {
            let got = format!("{got:#x}, a big-endian file");
            return Err(cursor.wrong(4, "a little-endian file of version 2 or 3", got));
        }
        got => return Err(cursor.wrong(4, "version 2 or 3", got.to_string())),
    }
    let tensors = cursor.u64("the number of tensors")?;
    let keys = cursor.u64("the number of keys")?;
    let left = (cursor.bytes.len() - cursor.at) as u64;
    if tensors > MOST_TENSORS.min(left / LEAST_TENSOR) {
        let expected = format!("at most {} tensors in this file", left / LEAST_TENSOR);
        return Err(cursor.wrong(8, &expected, tensors.to_string()));
    }
    if keys > left / LEAST_KEY {
        let expected = format!("at most {} keys in this file", left / LEAST_KEY);
        return Err(cursor.wrong(16, &expected, keys.to_string()));
    }
    Ok((tensors as usize, keys))
}

fn alignment(metadata: &Metadata) -> Result<usize, FormatError> {
    let key = "general.alignment";
    let alignment = metadata.count(key)?.unwrap_or(32);
    if alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment) {
        return Ok(alignment);
    }
    Err(metadata.refused(key, "a power of two from 8 to 1048576", alignment.to_string()))
}

/// The tensors with their bytes; they are told apart and in the file.
fn extents<'a>(
    cursor: &Cursor<'_, 'a>,
    mut infos: Vec<Info<'a>>,
    data: usize,
    alignment: usize,
) -> Result<BTreeMap<&'a str, Extent<'a>>, FormatError> {
    infos.sort_by_key(|info| info.offset);
    let mut tensors = BTreeMap::new();
    let mut end = data;
    for index in 0..infos.len() {
        let info = &infos[index];
        let entry = |expected: String, got: String| FormatError::Entry {
            file: cursor.file.into(),
            tensor: info.name.into(),
            expected,
            got,
        };
        let limit = cursor.bytes.len() - data;
        let next = infos.get(index + 1).map_or(limit as u64, |next| next.offset);
        let room = next.saturating_sub(info.offset);
        let (kind, size) = sized(info, room, alignment as u64)
            .map_err(|expected| entry(expected.into(), format!("{:?}", info.shape)))?;
        if !info.offset.is_multiple_of(alignment as u64) {
            let expected = format!("an offset in whole steps of {alignment}");
            return Err(entry(expected, info.offset.to_string()));
        }
        let within = info.offset.checked_add(size).filter(|&end| end <= limit as u64);
        let Some(stop) = within else {
            let got = format!("bytes {} to {}", info.offset, info.offset.saturating_add(size));
            return Err(entry(format!("bytes inside the {limit} of tensors in the file"), got));
        };
        let (start, stop) = (data + info.offset as usize, data + stop as usize);
        if start < end {
            return Err(entry("bytes of its own".into(), "bytes of another tensor".into()));
        }
        if start > end.next_multiple_of(alignment) {
            let got = format!("a hole from byte {end} to {start}");
            return Err(entry("bytes right behind those of the tensor before".into(), got));
        }
        end = stop;
        let data = &cursor.bytes[start..stop];
        let shape = info.shape.clone();
        let extent = Extent { name: info.name, kind, shape, offset: start, data };
        if tensors.insert(info.name, extent).is_some() {
            return Err(cursor.wrong(info.at, "each tensor once", quoted(info.name)));
        }
    }
    if cursor.bytes.len() > end.next_multiple_of(alignment) {
        let more = format!("{} bytes behind the last tensor", cursor.bytes.len() - end);
        return Err(cursor.wrong(end, "the end of the file", more));
    }
    Ok(tensors)
}

/// The type and size of a tensor in the room up to the next, or what was expected of it. Two
/// formats share number 42: it is the one that fills the room up to its padding. Only tensors of
/// less than 2048 weights could be either; they are refused.
fn sized(info: &Info, room: u64, alignment: u64) -> Result<(GgmlType, u64), &'static str> {
    const WHOLE: &str = "a size in 64 bits";
    let weights = info.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).ok_or(WHOLE)?;
    let size = info.kind.bytes(weights).ok_or(WHOLE)?;
    if info.kind == GgmlType::Blocks(BlockType::Q2) && weights.is_multiple_of(128) {
        let wide = GgmlType::Blocks(BlockType::Q2Wide);
        let wide_size = wide.bytes(weights).ok_or(WHOLE)?;
        let fills = |size| room.checked_sub(size).is_some_and(|rest| rest < alignment);
        match (fills(size), fills(wide_size)) {
            (true, true) => return Err("a Q2_0 tensor whose size tells groups of 64 from 128"),
            (false, true) => return Ok((wide, wide_size)),
            _ => {}
        }
    }
    Ok((info.kind, size))
}

/// A place in the bytes of a file.
struct Cursor<'f, 'a> {
    file: &'f str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'_, 'a> {
    fn wrong(&self, at: usize, expected: &str, got: String) -> FormatError {
        let (file, expected) = (self.file.into(), expected.into());
        FormatError::Container { file, offset: at as u64, expected, got }
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], FormatError> {
        let left = self.bytes.len() - self.at;
        if count > left {
            let got = format!("{left} bytes to the end of the file");
            return Err(self.wrong(self.at, &format!("{what} of {count} bytes"), got));
        }
        let bytes = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], FormatError> {
        Ok(self.take(N, what)?.try_into().expect("as many bytes as asked"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn text(&mut self, what: &str) -> Result<&'a str, FormatError> {
        let at = self.at;
        let length = self.u64(what)?;
        let length = usize::try_from(length)
            .map_err(|_| self.wrong(at, what, format!("a text of {length} bytes")))?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes)
            .map_err(|_| self.wrong(at, what, "bytes that are no UTF-8".into()))
    }

    fn name(&mut self, what: &str) -> Result<&'a str, FormatError> {
        let at = self.at;
        let name = self.text(what)?;
        if name.is_empty() || name.len() > LONGEST_NAME {
            let expected = format!("{what} of 1 to {LONGEST_NAME} bytes");
            return Err(self.wrong(at, &expected, format!("{} bytes", name.len())));
        }
        Ok(name)
    }

    fn value(&mut self) -> Result<Value<'a>, FormatError> {
        let at = self.at;
        match self.u32("the type of a value")? {
            8 => Ok(Value::Text(self.text("a text")?)),
            9 => self.items(),
            kind => match self.scalar(kind)? {
                Some(value) => Ok(value),
                None => Err(self.wrong(at, "a type of value from 0 to 12", kind.to_string())),
            },
        }
    }

    /// A value of one of the fixed sizes; `None` if there is no such type.
    fn scalar(&mut self, kind: u32) -> Result<Option<Value<'a>>, FormatError> {
        const WHAT: &str = "a value";
        Ok(Some(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.array(WHAT)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(WHAT)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(WHAT)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(WHAT)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.array(WHAT)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(WHAT)?).into()),
            6 => Value::F32(f32::from_le_bytes(self.array(WHAT)?)),
            7 => {
                let at = self.at;
                match self.array::<1>(WHAT)? {
                    [byte @ 0..=1] => Value::Bool(byte == 1),
                    [other] => return Err(self.wrong(at, "0 or 1", other.to_string())),
                }
            }
            10 => Value::Integer(u64::from_le_bytes(self.array(WHAT)?).into()),
            11 => Value::Integer(i64::from_le_bytes(self.array(WHAT)?).into()),
            12 => Value::F64(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return Ok(None),
        }))
    }

    /// An array; arrays of arrays are in no model.
    fn items(&mut self) -> Result<Value<'a>, FormatError> {
        let at = self.at;
        let kind = self.u32("the type of the items")?;
        let count = self.u64("the number of items")?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            _ => {
                let expected = "items of one of the types 0 to 8 or 10 to 12";
                return Err(self.wrong(at, expected, kind.to_string()));
            }
        };
        let left = (self.bytes.len() - self.at) as u64;
        if count > left / least {
            let expected = format!("at most {} items in this file", left / least);
            return Err(self.wrong(at + 4, &expected, count.to_string()));
        }
        let count = count as usize;
        if kind == 8 {
            let texts = (0..count).map(|_| self.text("a text")).collect::<Result<_, _>>()?;
            return Ok(Value::Texts(texts));
        }
        let bytes = self.take(count * least as usize, "items")?;
        Ok(Value::Numbers { kind, bytes })
    }

    /// One line of the list of tensors.
    fn info(&mut self) -> Result<Info<'a>, FormatError> {
        let at = self.at;
        let name = self.name("the name of a tensor")?;
        let entry = |expected: &str, got: String| FormatError::Entry {
            file: self.file.into(),
            tensor: name.into(),
            expected: expected.into(),
            got,
        };
        let (file, bytes) = (self.file, self.bytes);
        let mut rest = Cursor { file, bytes, at: self.at };
        let rank = rest.u32("the rank of a tensor")?;
        if !(1..=4).contains(&rank) {
            return Err(entry("1 to 4 dimensions", rank.to_string()));
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..rank {
            let size = rest.u64("a dimension")?;
            let size = usize::try_from(size).ok().filter(|&size| size > 0);
            shape.push(size.ok_or_else(|| entry("dimensions from 1", "another".into()))?);
        }
        let kind = rest.u32("the type of a tensor")?;
        let kind = GgmlType::of(kind).map_err(|got| entry(READ, got))?;
        if !shape[0].is_multiple_of(kind.block()) {
            let expected = format!("rows in whole blocks of {} {}", kind.block(), kind.name());
            return Err(entry(&expected, format!("rows of {}", shape[0])));
        }
        shape.reverse();
        let offset = rest.u64("the offset of a tensor")?;
        self.at = rest.at;
        Ok(Info { name, shape, kind, offset, at })
    }
}

/// The types that are read, for messages.
const READ: &str = "F32, F16, BF16, Q8_0, Q6_K, Q4_0, Q4_K, TQ1_0, TQ2_0, I2_S, Q1_0 or Q2_0";
