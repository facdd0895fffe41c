//! A model as one GGUF file.

use half::f16;

use super::super::Tokenizer;
use super::super::gguf::{stored_linear, stored_norm};
use super::tokens::{Tokens, tokens};
use super::{File, Form, NoForm, check, float_bytes, groups, ternary};
use crate::model::{Float, FloatType, Model, Norm, NormSlot, Scale, Slot, Weights, Yarn};
use crate::packing::{BlockType, I2S_TAIL, I2sRuns, Layout, TernaryRows, turned_row};

/// The step in which tensors begin.
const ALIGNMENT: usize = 32;

/// A tensor of the file.
pub(super) struct Tensor {
    pub(super) name: String,
    /// Inputs first.
    pub(super) shape: Vec<u64>,
    pub(super) kind: u32,
    pub(super) data: Vec<u8>,
}

/// The file of a model.
pub(super) fn file(
    model: &Model,
    tokenizer: Option<&Tokenizer>,
    form: Form,
) -> Result<(Vec<File>, Vec<String>), NoForm> {
    check(model, form)?;
    check_metadata(model)?;
    let mut warnings = Vec::new();
    if model.config.end_tokens.len() > 2 {
        warnings.push("of the tokens that end a text only two have keys here".to_owned());
    }
    let found = tokenizer.and_then(|tokenizer| tokens(tokenizer, model.config.vocabulary));
    if tokenizer.is_some() && found.is_none() {
        warnings.push("the tokenizer has no GGUF form here and is left out".to_owned());
    }
    let tensors = tensors(model, form, &mut warnings)?;
    let mut file = Vec::new();
    header(&mut file, model, form, found.as_ref(), tensors.len());
    let mut offset = 0;
    for tensor in &tensors {
        text(&mut file, &tensor.name);
        file.extend((tensor.shape.len() as u32).to_le_bytes());
        file.extend(tensor.shape.iter().flat_map(|size| size.to_le_bytes()));
        file.extend(tensor.kind.to_le_bytes());
        file.extend((offset as u64).to_le_bytes());
        offset += tensor.data.len().next_multiple_of(ALIGNMENT);
    }
    for tensor in tensors {
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(tensor.data);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    Ok((vec![File { name: "model.gguf", bytes: file }], warnings))
}

/// Refuses numbers that the keys of the format, of 32 bits, do not hold as they are.
fn check_metadata(model: &Model) -> Result<(), NoForm> {
    let wrong = |part: &str, expected: &str, got: String| {
        Err(NoForm { part: part.into(), expected: expected.into(), got })
    };
    let config = &model.config;
    for (index, layer) in model.layers.iter().enumerate() {
        if let Some(slot) = Slot::ALL.into_iter().find(|&slot| layer.linear(slot).norm.is_some()) {
            return wrong(&stored_linear(index, slot), "no norm inside the layer", "one".into());
        }
    }
    let narrow = |value: f64| f64::from(value as f32) == value;
    if !narrow(config.theta) {
        return wrong("rope theta", "an f32", config.theta.to_string());
    }
    let Some(yarn) = &config.yarn else { return Ok(()) };
    if ![yarn.factor, yarn.beta_fast, yarn.beta_slow].into_iter().all(narrow) {
        return wrong("yarn", "factors that are f32", format!("{yarn:?}"));
    }
    if yarn.stretch != Yarn::usual_stretch(yarn.factor) {
        return wrong("yarn", "the attention factor of its factor", yarn.stretch.to_string());
    }
    Ok(())
}

/// The architecture whose arithmetic the model has.
fn architecture(model: &Model) -> &'static str {
    let layer = &model.layers[0];
    match (layer.attention_sub_norm.is_some(), layer.query_norm.is_some(), model.config.gate.name())
    {
        (true, _, "silu") => "bitnet",
        (true, ..) => "bitnet-b1.58",
        (false, true, _) => "qwen3",
        (false, false, _) => "llama",
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The metadata as it is written: a key, the number of its type, its bytes.
struct Keys(Vec<u8>, u64);

impl Keys {
    fn put(&mut self, key: &str, kind: u32, value: &[u8]) {
        text(&mut self.0, key);
        self.0.extend(kind.to_le_bytes());
        self.0.extend(value);
        self.1 += 1;
    }

    fn count(&mut self, key: &str, value: usize) {
        self.put(key, 4, &(value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.put(key, 6, &value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        text(&mut bytes, value);
        self.put(key, 8, &bytes);
    }

    fn array(&mut self, key: &str, kind: u32, count: usize, items: &[u8]) {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((count as u64).to_le_bytes());
        bytes.extend(items);
        self.put(key, 9, &bytes);
    }

    fn texts(&mut self, key: &str, items: &[String]) {
        let mut bytes = Vec::new();
        items.iter().for_each(|item| text(&mut bytes, item));
        self.array(key, 8, items.len(), &bytes);
    }
}

fn header(out: &mut Vec<u8>, model: &Model, form: Form, tokens: Option<&Tokens>, tensors: usize) {
    let config = &model.config;
    let name = architecture(model);
    let mut keys = Keys(Vec::new(), 0);
    keys.text("general.architecture", name);
    let file_type = match form {
        Form::GgufTq1 => 36,
        Form::GgufTq2 => 37,
        Form::GgufQ2 => 41,
        // Of both I2_S and Q1_0.
        _ => 40,
    };
    keys.count("general.file_type", file_type);
    keys.count("general.quantization_version", 2);
    let key = |word: &str| format!("{name}.{word}");
    keys.count(&key("vocab_size"), config.vocabulary);
    keys.count(&key("context_length"), config.max_positions);
    keys.count(&key("embedding_length"), config.hidden);
    keys.count(&key("block_count"), config.layers);
    keys.count(&key("feed_forward_length"), config.ffn);
    keys.count(&key("rope.dimension_count"), config.head_dim);
    keys.count(&key("attention.head_count"), config.heads);
    keys.count(&key("attention.head_count_kv"), config.kv_heads);
    keys.count(&key("attention.key_length"), config.head_dim);
    keys.count(&key("attention.value_length"), config.head_dim);
    keys.float(&key("attention.layer_norm_rms_epsilon"), config.eps);
    keys.float(&key("rope.freq_base"), config.theta as f32);
    keys.text(&key("hidden_activation"), model.config.gate.name());
    if let Some(yarn) = &config.yarn {
        keys.text(&key("rope.scaling.type"), "yarn");
        keys.float(&key("rope.scaling.factor"), yarn.factor as f32);
        keys.count(&key("rope.scaling.original_context_length"), yarn.original);
        keys.float(&key("rope.scaling.yarn_beta_fast"), yarn.beta_fast as f32);
        keys.float(&key("rope.scaling.yarn_beta_slow"), yarn.beta_slow as f32);
    }
    for (word, &end) in ["eos", "eot"].into_iter().zip(&config.end_tokens) {
        keys.count(&format!("tokenizer.ggml.{word}_token_id"), end as usize);
    }
    if let Some(tokens) = tokens {
        keys.text("tokenizer.ggml.model", "gpt2");
        keys.text("tokenizer.ggml.pre", tokens.pre);
        keys.texts("tokenizer.ggml.tokens", &tokens.tokens);
        let kinds: Vec<u8> = tokens.kinds.iter().flat_map(|kind| kind.to_le_bytes()).collect();
        keys.array("tokenizer.ggml.token_type", 5, tokens.kinds.len(), &kinds);
        keys.texts("tokenizer.ggml.merges", &tokens.merges);
        if let Some(begin) = tokens.begin {
            keys.count("tokenizer.ggml.bos_token_id", begin as usize);
        }
        keys.put("tokenizer.ggml.add_bos_token", 7, &[u8::from(tokens.begin.is_some())]);
    }
    out.extend(b"GGUF");
    out.extend(3u32.to_le_bytes());
    out.extend((tensors as u64).to_le_bytes());
    out.extend(keys.1.to_le_bytes());
    out.extend(keys.0);
}

fn tensors(model: &Model, form: Form, warnings: &mut Vec<String>) -> Result<Vec<Tensor>, NoForm> {
    let mut all = vec![matrix("token_embd.weight", &model.embedding, form)?];
    if !model.config.tied {
        all.push(matrix("output.weight", &model.head, form)?);
    }
    all.push(gains(stored_norm(0, NormSlot::Final), &model.final_norm));
    let turned = (architecture(model) == "llama").then_some(model.config.head_dim);
    let mut divided = false;
    for (index, layer) in model.layers.iter().enumerate() {
        for slot in NormSlot::OF_BLOCK {
            all.extend(layer.norm(slot).map(|norm| gains(stored_norm(index, slot), norm)));
        }
        for slot in Slot::ALL {
            let name = stored_linear(index, slot);
            let turned = turned.filter(|_| matches!(slot, Slot::Q | Slot::K));
            let one_scale = matches!(layer.linear(slot).weights, Weights::Ternary { .. });
            if let Some(block) = grouped(form).filter(|_| !one_scale) {
                all.push(groups::tensor(layer.linear(slot), &name, turned, block)?);
                continue;
            }
            let (rows, scale) = ternary(layer.linear(slot), &name)?;
            divided |= matches!(scale, Scale::Divide(_));
            let factor = match scale {
                Scale::Multiply(factor) => factor,
                Scale::Divide(scale) => 1.0 / scale,
            };
            linear(&mut all, (name, rows, factor), turned, form)?;
        }
    }
    if divided {
        warnings.push("scales that divide are stored as their reciprocals, rounded once".into());
    }
    Ok(all)
}

/// The blocks of a form for groups with scales of their own.
fn grouped(form: Form) -> Option<BlockType> {
    match form {
        Form::GgufQ1 => Some(BlockType::Q1),
        Form::GgufQ2 => Some(BlockType::Q2),
        _ => None,
    }
}

/// A matrix of floats; blocks stay what they are in the forms of groups.
fn matrix(name: &str, float: &Float, form: Form) -> Result<Tensor, NoForm> {
    let shape = vec![float.columns() as u64, float.rows() as u64];
    if let (Float::Blocks { kind, data, .. }, Some(_)) = (float, grouped(form)) {
        groups::tells(name, *kind, float.rows() * float.columns())?;
        let (kind, data) = (groups::number(*kind), data.clone());
        return Ok(Tensor { name: name.into(), shape, kind, data });
    }
    let (data, kind) = float_bytes(float);
    let kind = match kind {
        FloatType::F32 => 0,
        FloatType::F16 => 1,
        FloatType::Bf16 => 30,
    };
    Ok(Tensor { name: name.into(), shape, kind, data })
}

fn gains(name: String, norm: &Norm) -> Tensor {
    let data = norm.gains.iter().flat_map(|gain| gain.to_le_bytes()).collect();
    Tensor { name, shape: vec![norm.gains.len() as u64], kind: 0, data }
}

/// The codes of a linear layer, and its scale where the format has no room for its bits.
fn linear(
    all: &mut Vec<Tensor>,
    (name, rows, factor): (String, &TernaryRows, f32),
    turned: Option<usize>,
    form: Form,
) -> Result<(), NoForm> {
    let (count, columns) = (rows.rows(), rows.columns());
    let shape = vec![columns as u64, count as u64];
    let wrong =
        |expected: &str, got: String| NoForm { part: name.clone(), expected: expected.into(), got };
    if form == Form::GgufI2s {
        let layout = Layout::i2s(count, columns, I2sRuns::Wide)
            .ok_or_else(|| wrong("weights in whole runs of 128", format!("{count} x {columns}")))?;
        let layout = turned.map_or(layout, |head_dim| layout.turned(head_dim));
        let mut data = layout.write(|row, codes| rows.read_row(row, codes)).expect("a flat layout");
        data.extend(factor.to_le_bytes());
        data.extend([0; I2S_TAIL - 4]);
        all.push(Tensor { name: name + ".weight", shape, kind: 36, data });
        return Ok(());
    }
    let block = match form {
        Form::GgufTq1 => BlockType::Tq1,
        _ => grouped(form).unwrap_or(BlockType::Tq2),
    };
    let kind = groups::number(block);
    if !columns.is_multiple_of(block.weights()) {
        let expected = format!("rows in whole blocks of {}", block.weights());
        return Err(wrong(&expected, format!("rows of {columns}")));
    }
    groups::tells(&name, block, count * columns)?;
    let census = rows.census();
    if block == BlockType::Q1 && census[1] + census[3] > 0 {
        return Err(wrong("signs", "weights that are 0 or twice the scale".into()));
    }
    if block == BlockType::Tq1 && census[3] > 0 {
        return Err(wrong("trits", "the unused code 3".into()));
    }
    let narrow = f16::from_f32(factor);
    let exact = narrow.to_f32() == factor;
    let scale = if exact { narrow } else { f16::ONE };
    let mut codes = vec![0u8; columns];
    let mut data = Vec::with_capacity(count * columns / block.weights() * block.bytes());
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&row| turned_row(row, turned));
    for row in order {
        rows.read_row(row, &mut codes);
        for codes in codes.chunks_exact(block.weights()) {
            data.extend(block.encode(codes, scale));
        }
    }
    all.push(Tensor { name: format!("{name}.weight"), shape, kind, data });
    if !exact {
        let data = factor.to_le_bytes().to_vec();
        all.push(Tensor { name: name + ".scale", shape: vec![1], kind: 0, data });
    }
    Ok(())
}
