//! Reading addresses: the inverse of their printing.
//!
//! One left-to-right pass; an error names the first byte that does not fit and all that would.

use std::str::FromStr;

use engine::model::{KvPlace, NormSlot, Side, Slot};
use engine::packing::BitPlace;

use crate::address::{Address, AddressError, AnyAddress, PhysicalAddress};
use crate::matrix::Matrix;

/// The widest stored value has this many bits.
const WIDEST: usize = 32;
/// The scale of a block has this many, with its factors.
const WIDEST_SCALE: usize = 144;

/// A place in a text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn eat(&mut self, word: &str) -> bool {
        let fits = self.rest().starts_with(word);
        if fits {
            self.at += word.len();
        }
        fits
    }

    fn expect(&mut self, word: &str) -> Result<(), AddressError> {
        if self.eat(word) { Ok(()) } else { Err(self.error(format!("'{word}'"))) }
    }

    fn error(&self, expected: impl Into<String>) -> AddressError {
        let found: String = self.rest().chars().take(24).collect();
        let found = if found.is_empty() { "the end".into() } else { found };
        AddressError::Syntax {
            text: self.text.into(),
            at: self.at,
            found,
            expected: expected.into(),
        }
    }

    fn digits(&mut self, radix: u32, expected: &str) -> Result<usize, AddressError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_digit(radix)).unwrap_or(rest.len());
        let number = usize::from_str_radix(&rest[..length], radix);
        let number = number.map_err(|_| self.error(expected))?;
        self.at += length;
        Ok(number)
    }

    fn number(&mut self, expected: &str) -> Result<usize, AddressError> {
        self.digits(10, expected)
    }

    /// `.bit` with the bit below a limit.
    fn bit(&mut self, limit: usize) -> Result<u8, AddressError> {
        self.expect(".")?;
        let start = self.at;
        let expected = format!("a bit from 0 to {}", limit - 1);
        match self.number(&expected)? {
            bit if bit < limit => Ok(bit as u8),
            _ => {
                self.at = start;
                Err(self.error(expected))
            }
        }
    }

    /// `row,column]` behind an opened bracket.
    fn pair(&mut self) -> Result<(usize, usize), AddressError> {
        let row = self.number("a row")?;
        self.expect(",")?;
        let column = self.number("a column")?;
        self.expect("]")?;
        Ok((row, column))
    }

    /// `.weight[index].bit`
    fn gain(&mut self) -> Result<(usize, u8), AddressError> {
        self.expect(".weight[")?;
        let index = self.number("an index")?;
        self.expect("]")?;
        Ok((index, self.bit(WIDEST)?))
    }

    fn end(&self) -> Result<(), AddressError> {
        if self.rest().is_empty() { Ok(()) } else { Err(self.error("nothing more")) }
    }
}

const NORMS: [(&str, NormSlot); 6] = [
    ("input_layernorm", NormSlot::Input),
    ("self_attn.attn_sub_norm", NormSlot::AttentionSub),
    ("self_attn.q_norm", NormSlot::Query),
    ("self_attn.k_norm", NormSlot::Key),
    ("post_attention_layernorm", NormSlot::Post),
    ("mlp.ffn_sub_norm", NormSlot::FfnSub),
];

fn address(c: &mut Cursor) -> Result<AnyAddress, AddressError> {
    if c.eat("model.layers.") {
        let layer = c.number("the number of a layer")?;
        c.expect(".")?;
        return in_layer(c, layer);
    }
    let logical = if c.eat("model.norm") {
        let (index, bit) = c.gain()?;
        Address::FinalNorm { index, bit }
    } else if c.eat("model.embed_tokens.weight") {
        return in_matrix(c, Matrix::Embedding);
    } else if c.eat("lm_head.weight") {
        return in_matrix(c, Matrix::Head);
    } else if c.eat("kv.layers.") {
        stored(c)?
    } else {
        return Err(c.error(
            "'model.layers.', 'model.norm.', 'model.embed_tokens.weight', 'lm_head.weight' or \
             'kv.layers.'",
        ));
    };
    Ok(AnyAddress::Logical(logical))
}

fn in_layer(c: &mut Cursor, layer: usize) -> Result<AnyAddress, AddressError> {
    for (name, slot) in NORMS {
        if c.eat(name) {
            let (index, bit) = c.gain()?;
            return Ok(AnyAddress::Logical(Address::Norm { layer, slot, index, bit }));
        }
    }
    let Some(slot) = Slot::ALL.into_iter().find(|slot| c.eat(slot.name())) else {
        let norms = NORMS.iter().map(|(name, _)| *name);
        let names: Vec<_> = Slot::ALL.iter().map(|slot| slot.name()).chain(norms).collect();
        return Err(c.error(format!("one of {}", names.join(", "))));
    };
    let logical = if c.eat(".weight_scale.") {
        c.at -= 1;
        Address::Scale { layer, slot, bit: c.bit(WIDEST)? }
    } else if c.eat(".weight_element[") {
        let (row, column) = c.pair()?;
        Address::Element { layer, slot, row, column, bit: c.bit(WIDEST)? }
    } else if c.eat(".rms_norm") {
        let (index, bit) = c.gain()?;
        Address::Norm { layer, slot: NormSlot::Inside(slot), index, bit }
    } else if c.eat(".weight") {
        return in_matrix(c, Matrix::Linear { layer, slot });
    } else {
        let expected = "'.weight[row,column].bit', '.weight_scale.bit', \
                        '.weight_scale[row,group].bit', '.weight_element[row,column].bit', \
                        '.rms_norm.weight[index].bit' or '.weight@0xBYTE.bit'";
        return Err(c.error(expected));
    };
    Ok(AnyAddress::Logical(logical))
}

/// What stands behind `.weight` in the name of a bit of a matrix.
fn in_matrix(c: &mut Cursor, matrix: Matrix) -> Result<AnyAddress, AddressError> {
    if c.eat("@0x") {
        let byte = c.digits(16, "the hexadecimal number of a byte")?;
        let place = BitPlace { byte, bit: c.bit(8)? };
        return Ok(AnyAddress::Physical(PhysicalAddress { matrix, place }));
    }
    let logical = if c.eat("_scale[") {
        let (row, group) = c.pair()?;
        Address::GroupScale { matrix, row, group, bit: c.bit(WIDEST_SCALE)? }
    } else if c.eat("[") {
        let (row, column) = c.pair()?;
        Address::of_value(matrix, row, column, c.bit(WIDEST)?)
    } else {
        return Err(c.error("'[row,column].bit', '_scale[row,group].bit' or '@0xBYTE.bit'"));
    };
    Ok(AnyAddress::Logical(logical))
}

fn stored(c: &mut Cursor) -> Result<Address, AddressError> {
    let layer = c.number("the number of a layer")?;
    let side = if c.eat(".key") {
        Side::Key
    } else if c.eat(".value") {
        Side::Value
    } else {
        return Err(c.error("'.key' or '.value'"));
    };
    let scale = c.eat("_scale");
    c.expect("[token=")?;
    let token = c.number("a token")?;
    c.expect(",head=")?;
    let head = c.number("a head")?;
    let mut dim = 0;
    if !scale {
        c.expect(",dim=")?;
        dim = c.number("a dimension")?;
    }
    c.expect("]")?;
    let bit = c.bit(WIDEST)?;
    let mut step = token;
    if c.eat("@") {
        let start = c.at;
        let expected = format!("a step, {token} or later");
        step = c.number(&expected)?;
        if step < token {
            c.at = start;
            return Err(c.error(expected));
        }
    }
    if scale {
        return Ok(Address::KvScale { layer, side, token, head, bit, step });
    }
    Ok(Address::Kv { layer, side, place: KvPlace { token, head, dim }, bit, step })
}

impl FromStr for AnyAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let mut cursor = Cursor { text, at: 0 };
        let address = address(&mut cursor)?;
        cursor.end()?;
        Ok(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads the logical form; a place of a byte is one of trits. [`AnyAddress`] knows others by
    /// their bytes too.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Ok(match text.parse()? {
            AnyAddress::Logical(address) => address,
            AnyAddress::Physical(PhysicalAddress { matrix, place: BitPlace { byte, bit } }) => {
                Self::Byte { matrix, byte, bit }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot() -> impl Strategy<Value = Slot> {
        (0usize..7).prop_map(|i| Slot::ALL[i])
    }

    fn norm() -> impl Strategy<Value = NormSlot> {
        prop_oneof![(0..NORMS.len()).prop_map(|i| NORMS[i].1), slot().prop_map(NormSlot::Inside),]
    }

    fn matrix() -> impl Strategy<Value = Matrix> {
        let n = prop_oneof![0usize..100, any::<usize>()];
        prop_oneof![
            (n, slot()).prop_map(|(layer, slot)| Matrix::Linear { layer, slot }),
            Just(Matrix::Embedding),
            Just(Matrix::Head),
        ]
    }

    fn logical() -> impl Strategy<Value = Address> {
        let n = || prop_oneof![0usize..100, any::<usize>()];
        let bit = || 0u8..32;
        prop_oneof![
            (matrix(), n(), n(), 0u8..144).prop_map(|(matrix, row, group, bit)| {
                Address::GroupScale { matrix, row, group, bit }
            }),
            (n(), any::<bool>(), n(), n(), bit(), 0usize..9).prop_map(
                |(layer, key, token, head, bit, wait)| Address::KvScale {
                    layer,
                    side: if key { Side::Key } else { Side::Value },
                    token,
                    head,
                    bit,
                    step: token.saturating_add(wait),
                }
            ),
            (n(), slot(), n(), n(), bit()).prop_map(|(layer, slot, row, column, bit)| {
                Address::Code { layer, slot, row, column, bit }
            }),
            (n(), slot(), bit()).prop_map(|(layer, slot, bit)| Address::Scale { layer, slot, bit }),
            (n(), slot(), n(), n(), bit()).prop_map(|(layer, slot, row, column, bit)| {
                Address::Element { layer, slot, row, column, bit }
            }),
            (n(), norm(), n(), bit()).prop_map(|(layer, slot, index, bit)| Address::Norm {
                layer,
                slot,
                index,
                bit
            }),
            (n(), bit()).prop_map(|(index, bit)| Address::FinalNorm { index, bit }),
            (n(), n(), bit()).prop_map(|(row, column, bit)| Address::Embedding {
                row,
                column,
                bit
            }),
            (n(), n(), bit()).prop_map(|(row, column, bit)| Address::Head { row, column, bit }),
            (n(), any::<bool>(), (n(), n(), n()), bit(), 0usize..9).prop_map(
                |(layer, key, (token, head, dim), bit, wait)| Address::Kv {
                    layer,
                    side: if key { Side::Key } else { Side::Value },
                    place: KvPlace { token, head, dim },
                    bit,
                    step: token.saturating_add(wait),
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(address in logical()) {
            let text = address.to_string();
            prop_assert_eq!(text.parse::<Address>(), Ok(address));
            prop_assert_eq!(text.parse::<AnyAddress>(), Ok(AnyAddress::Logical(address)));
        }

        #[test]
        fn physical_addresses_read_back(
            matrix in matrix(), byte in any::<usize>(), bit in 0u8..8,
        ) {
            let physical = PhysicalAddress { matrix, place: BitPlace { byte, bit } };
            let text = physical.to_string();
            prop_assert_eq!(text.parse(), Ok(AnyAddress::Physical(physical)));
            let trits = Address::Byte { matrix, byte, bit };
            prop_assert_eq!(trits.to_string(), text.as_str());
            prop_assert_eq!(text.parse(), Ok(trits));
        }

        #[test]
        fn no_text_makes_the_reader_panic(
            text in "\\PC{0,60}", address in logical(), cut in 0usize..40,
        ) {
            let _ = text.parse::<AnyAddress>();
            let printed = address.to_string();
            let head = &printed[..cut.min(printed.len())];
            prop_assert!((head.to_owned() + "x").parse::<AnyAddress>().is_err());
        }
    }

    #[test]
    fn the_documented_forms_are_printed_as_documented() {
        for text in [
            "model.layers.3.mlp.down_proj.weight[17,233].1",
            "model.layers.3.mlp.down_proj.weight_scale.14",
            "model.layers.3.mlp.down_proj.weight_element[17,233].30",
            "model.layers.3.input_layernorm.weight[5].30",
            "model.layers.3.self_attn.attn_sub_norm.weight[5].30",
            "model.layers.3.post_attention_layernorm.weight[5].30",
            "model.layers.3.mlp.ffn_sub_norm.weight[5].30",
            "model.layers.3.self_attn.q_proj.rms_norm.weight[5].30",
            "model.norm.weight[5].2",
            "model.embed_tokens.weight[17,5].7",
            "lm_head.weight[3,4].9",
            "kv.layers.3.key[token=17,head=2,dim=5].14",
            "kv.layers.3.value[token=17,head=2,dim=5].14@20",
            "kv.layers.3.key_scale[token=17,head=2].30@20",
            "model.layers.3.mlp.down_proj.weight_scale[17,2].14",
            "lm_head.weight_scale[17,2].143",
            "model.layers.3.mlp.down_proj.weight@0x1a2f.5",
            "model.embed_tokens.weight@0x1a2f.5",
        ] {
            let address: AnyAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn an_error_says_where_and_what_was_expected() {
        let cases = [
            ("", "expected 'model.layers.', 'model.norm.'", "'the end'"),
            ("model.layers.x", "expected the number of a layer", "'x'"),
            ("model.layers.1.mlp.side_proj.weight[0,0].0", "mlp.down_proj", "'mlp.side_proj"),
            ("model.layers.1.mlp.up_proj.weight[0;0].0", "expected ','", "';0].0'"),
            ("model.layers.1.mlp.up_proj.weight[0,0].32", "a bit from 0 to 31", "'32'"),
            ("lm_head.weight_scale[0,0].144", "a bit from 0 to 143", "'144'"),
            ("lm_head.weights", "'_scale[row,group].bit'", "'s'"),
            ("model.layers.1.mlp.up_proj.weight@0xzz.2", "hexadecimal", "'zz.2'"),
            ("model.norm.weight[1].32", "a bit from 0 to 31", "'32'"),
            ("kv.layers.0.key[token=5,head=0,dim=0].0@4", "a step, 5 or later", "'4'"),
            ("lm_head.weight[0,0].1 ", "expected nothing more", "' '"),
            ("model.norm.weight[99999999999999999999].1", "expected an index", "'9999"),
        ];
        for (text, expected, found) in cases {
            let message = text.parse::<AnyAddress>().expect_err(text).to_string();
            assert!(message.contains(expected) && message.contains(found), "{message}");
        }
    }
}
