//! Campaigns behind memory codes: what reaches the model is what a decoder by hand lets through.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use engine::kernels;
use engine::model::{KvKind, Model, Slot, Weights};
use engine::packing::{BlockType, Layout};
use engine::walk::Read;
use faults::journal::{Entry, Shard};
use faults::{
    Address, Behind, Campaign, CampaignError, Decoded, Draw, Fault, Golden, Outcome, PlanFile,
    Protection, Rate, Sample, Space, Target, UnusedCode, complete, retold, run, run_trial,
    tensor_bytes,
};
use support::{Lcg, flip, mix, model, prompt, shape};

fn samples(model: &Model) -> Vec<Sample> {
    let random = &mut Lcg(5);
    (0..3).map(|i| Sample::of_ids(prompt(model.config.vocabulary, 2 + i, random))).collect()
}

fn campaign<'a>(model: &'a Model, faults: &str) -> Campaign<'a> {
    tried(model, faults).expect("a sound plan")
}

fn tried<'a>(model: &'a Model, faults: &str) -> Result<Campaign<'a>, CampaignError> {
    let mix = mix(faults);
    let identity = mix.identity("model", "inputs");
    Campaign::mixed(model, kernels::best(), mix, identity, &samples(model))
}

fn fault(code: &str, keys: &str) -> String {
    format!("[[fault]]\ntarget = \"weight_code\"\nprotection = {code:?}\n{keys}\n")
}

fn behind(draw: &Draw) -> &Behind {
    draw.behind.as_ref().expect("a memory code")
}

/// The struck stored bits of each tensor.
fn struck(model: &Model, behind: &Behind) -> BTreeMap<(usize, Slot), BTreeSet<u64>> {
    let mut all: BTreeMap<(usize, Slot), BTreeSet<u64>> = BTreeMap::new();
    for address in behind.raw.flips() {
        let place = address.physical(model).expect("a code").expect("bytes of its own");
        let number = 8 * place.place.byte as u64 + u64::from(place.place.bit);
        let faults::Matrix::Linear { layer, slot } = place.matrix else { panic!("a layer") };
        all.entry((layer, slot)).or_default().insert(number);
    }
    for &(layer, slot, number) in &behind.checks {
        assert!(number >= 8 * tensor_bytes(model, layer, slot).expect("a layout").len() as u64);
        all.entry((layer, slot)).or_default().insert(number);
    }
    all
}

#[test]
fn what_is_left_is_what_the_code_makes_of_the_bytes_of_each_tensor() {
    let model = model(&shape(0), 5);
    let codes = [
        "parity:24",
        "parity:5",
        "secded",
        "on-die",
        "chipkill",
        "checksum:9",
        "checksum:16",
        "crc:16",
    ];
    let models = [
        "flips = 3",
        "model = \"word\"\nbits = 64\nflips = 3",
        "model = \"row\"\nrow_bits = 100",
        "model = \"adjacent\"\nbits = 4",
        "model = \"stuck-at-1\"\nflips = 40",
        "model = \"poisson\"\nber = 2e-2",
        "model = \"row-hammer\"\npage_bytes = 64",
    ];
    let mut seen = [0; 4];
    for (code, keys) in codes.iter().flat_map(|code| models.map(|keys| (code, keys))) {
        let campaign = campaign(&model, &fault(code, keys));
        let code = Protection::named(code).expect("a word");
        for index in 0..40 {
            let draw = campaign.draw(index);
            assert_eq!(draw, campaign.draw(index));
            let behind = behind(&draw);
            let (mut left, mut flagged, mut worse) = (BTreeSet::new(), false, false);
            for ((layer, slot), numbers) in struck(&model, behind) {
                let bytes = tensor_bytes(&model, layer, slot).expect("a layout");
                let residual = code.filter(&numbers, &bytes);
                flagged |= residual.is_detected();
                worse |= residual.miscorrected > 0;
                let fault = faults::fault_of(&model, layer, slot, &residual.flips);
                left.extend(fault.expect("stored bits").flips().copied());
            }
            let expected = match (flagged, left.is_empty()) {
                (true, _) => Decoded::Flagged,
                (_, true) => Decoded::Right,
                _ => Decoded::Wrong { miscorrected: worse },
            };
            assert_eq!(behind.decoded, expected, "{code} {keys}");
            let reached: BTreeSet<Address> = draw.fault.flips().copied().collect();
            assert_eq!(reached, if flagged { BTreeSet::new() } else { left }, "{code} {keys}");
            seen[match expected {
                Decoded::Right => 0,
                Decoded::Flagged => 1,
                Decoded::Wrong { miscorrected } => 2 + usize::from(miscorrected),
            }] += 1;
        }
    }
    assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
}

/// The column of a data bit of Hsiao's code, from its definition.
fn column(bit: u64) -> u8 {
    let threes: Vec<u8> = (0..=255u8).filter(|value| value.count_ones() == 3).collect();
    match threes.get(bit as usize) {
        Some(&column) => column,
        None => 0b0001_1111u8.rotate_left(bit as u32),
    }
}

#[test]
fn single_double_and_triple_flips_in_words_of_secded_decode_as_by_hand() {
    let model = model(&shape(0), 5);
    let word = |flips| fault("secded", &format!("model = \"word\"\nbits = 64\nflips = {flips}"));
    let single = run(&campaign(&model, &word(1)), &|_| (), &|| false);
    assert_eq!((single.strata[&0].identical, single.behind[&0].shield.harmless), (400, 400));
    let double = run(&campaign(&model, &word(2)), &|_| (), &|| false);
    assert_eq!((double.strata[&0].due, double.behind[&0].shield.detected), (400, 400));
    assert_eq!(double.strata[&0].flips, 800, "what was struck, not what is left");
    assert!(double.worst.is_empty() && double.behind[&0].raw_sdc > 0);
    assert_eq!(double.behind[&0].raw_masked + double.behind[&0].raw_sdc, 400);
    let campaign = campaign(&model, &word(3));
    let mut outcomes = [0; 3];
    for index in 0..400 {
        let draw = campaign.draw(index);
        let behind = behind(&draw);
        assert!(behind.checks.is_empty(), "words of 64 data bits");
        let (tensor, numbers) = struck(&model, behind).into_iter().next().expect("one tensor");
        let bits = 8 * tensor_bytes(&model, tensor.0, tensor.1).expect("a layout").len() as u64;
        let first = numbers.first().expect("three") / 64 * 64;
        let syndrome = numbers.iter().fold(0, |sum, number| sum ^ column(number - first));
        let pointed = (0..64.min(bits - first)).find(|&bit| column(bit) == syndrome);
        let check = syndrome.count_ones() == 1;
        let reached = struck(&model, &Behind { raw: draw.fault.clone(), ..behind.clone() });
        let mut expected = numbers.clone();
        if let Some(bit) = pointed {
            // Three columns never add up to one of them, so a fourth bit flips.
            assert!(expected.insert(first + bit));
        }
        let decoded = match pointed.is_some() || check {
            true => Decoded::Wrong { miscorrected: true },
            false => Decoded::Flagged,
        };
        assert_eq!(behind.decoded, decoded, "syndrome {syndrome:08b}");
        if decoded != Decoded::Flagged {
            assert_eq!(reached, BTreeMap::from([(tensor, expected)]));
        }
        outcomes[usize::from(pointed.is_some()) + 2 * usize::from(check)] += 1;
    }
    assert!(outcomes[0] > 100 && outcomes[1] > 100 && outcomes[2] > 10, "{outcomes:?}");
    let told = run(&campaign, &|_| (), &|| false).behind[&0];
    assert_eq!(told.miscorrected, 400 - outcomes[0]);
    assert_eq!((told.miscorrected, outcomes[0]), (told.shield.residual, told.shield.detected));
}

#[test]
fn outcomes_are_those_of_the_flipped_model_with_and_without_the_code() {
    let model = model(&shape(0), 5);
    let plan = fault("on-die", "model = \"word\"\nbits = 128\nflips = 2")
        + &fault("none", "")
        + &fault("parity:64", "flips = 2");
    let campaign = campaign(&model, &plan);
    let mut sdc = [0, 0];
    for record in (0..400).map(|index| campaign.trial(index)) {
        let golden = campaign.golden(record.target, record.sample);
        let judged = |flips: &Fault| {
            let mut twin = model.clone();
            flips.flips().for_each(|address| flip(&mut twin, address));
            let (kv, sample) = (KvKind::F32, golden.sample.clone());
            let clean = Golden::new(&twin, kernels::best(), kv, Read::All, sample);
            clean.expect("a sound twin").decision()
        };
        let changed = |flips: &Fault| judged(flips) != golden.decision();
        match &record.behind {
            None => {
                assert_eq!((record.stratum, record.raw), (1, None), "no code, nothing behind it");
                assert_eq!(record.trial.outcome == Outcome::Sdc, changed(&record.fault));
            }
            Some(behind) => {
                assert_eq!(record.raw == Some(Outcome::Sdc), changed(&behind.raw));
                let wrong = matches!(behind.decoded, Decoded::Wrong { .. });
                let expected = wrong && changed(&record.fault);
                assert_eq!(record.trial.outcome == Outcome::Sdc, expected);
                let trial =
                    run_trial(&model, kernels::best(), golden, &record.fault, UnusedCode::Deployed);
                assert!(!wrong || trial == record.trial);
                sdc[0] += u64::from(record.raw == Some(Outcome::Sdc));
                sdc[1] += u64::from(expected);
            }
        }
    }
    assert!(sdc[0] > 3 && sdc[1] > 3, "{sdc:?}");
}

#[test]
fn check_bits_are_struck_as_often_as_they_are_many() {
    let model = model(&shape(0), 5);
    let data: u64 = Space::new(&model, KvKind::F32).count(Target::WeightCode, 0);
    let code = Protection::Secded;
    let mut stored = 0;
    for (layer, block) in model.layers.iter().enumerate() {
        let codes = |slot: &Slot| matches!(block.linear(*slot).weights, Weights::Ternary { .. });
        for slot in Slot::ALL.into_iter().filter(codes) {
            let bytes = tensor_bytes(&model, layer, slot).expect("a layout").len();
            stored += code.stored_bits(bytes);
        }
    }
    let share = (stored - data) as f64 / stored as f64;
    let holds = |keys: &str, trials: u64, mean: f64| {
        let campaign = campaign(&model, &fault("secded", keys));
        let (mut checks, mut all) = (0, 0);
        for draw in (0..trials).map(|index| campaign.draw(index)) {
            let behind = behind(&draw);
            checks += behind.checks.len() as u64;
            all += (behind.checks.len() + behind.raw.flips().len()) as u64;
        }
        let interval = Rate::of(checks, all, 1.0 - 1e-9).interval;
        assert!(interval.low < share && share < interval.high, "{checks} of {all}, {share}");
        let mean = mean * trials as f64;
        assert!((all as f64 - mean).abs() <= 6.0 * mean.sqrt(), "{all}, {mean}");
    };
    holds("flips = 9", 300, 9.0);
    holds("model = \"poisson\"\nber = 1e-3", 2000, 1e-3 * stored as f64);
    // Only of the tensors in reach.
    let campaign = campaign(&model, &fault("secded", "flips = 6\ntensors = [\"mlp.down_proj\"]"));
    let draws: Vec<Draw> = (0..100).map(|index| campaign.draw(index)).collect();
    let checks: Vec<_> = draws.iter().flat_map(|draw| &behind(draw).checks).collect();
    assert!(checks.len() > 20 && checks.iter().all(|check| check.1 == Slot::Down));
}

const MIXED: &str = "
[[fault]]
target = \"weight_code\"
model = \"word\"
bits = 64
flips = 3
protection = \"secded\"
weight = 2
[[fault]]
target = \"weight_code\"
[[fault]]
target = \"weight_code\"
flips = 12
protection = \"parity:64\"
";

#[test]
fn threads_shards_and_journals_change_nothing() {
    let model = model(&shape(0), 5);
    let campaign = campaign(&model, MIXED);
    let expected = run(&campaign, &|_| (), &|| false);
    let all = |shard: Shard, present: Vec<Entry>| {
        complete(&campaign, shard, present, None, &|_| (), &|| false).expect("no journal to fail")
    };
    let mut together = Vec::new();
    for index in 0..3 {
        let shard = Shard { index, of: 3 };
        let mut part = all(shard, Vec::new());
        part.truncate(50);
        together.extend(all(shard, part));
    }
    together.sort_by_key(|entry| entry.index);
    let told = retold(&campaign, &together).expect("what was drawn");
    assert_eq!(told, expected);
    assert_eq!(format!("{told:?}"), format!("{expected:?}"), "to the last bit");
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        assert_eq!(pool.install(|| all(Shard::WHOLE, Vec::new())), together);
    }
    assert_eq!(expected.behind.keys().copied().collect::<Vec<_>>(), [0, 2]);
    for (stratum, of) in &expected.behind {
        let (shield, row) = (of.shield, expected.strata[stratum]);
        assert_eq!(shield.trials, row.trials);
        assert_eq!(shield.trials, shield.harmless + shield.detected + shield.residual);
        assert_eq!(shield.trials, of.raw_masked + of.raw_sdc + of.raw_due);
        assert_eq!((shield.sdc, shield.detected + shield.due), (row.sdc, row.due));
        assert_eq!(shield.harmless + shield.masked, row.masked);
    }
    // An entry that says otherwise of the memory is no entry of this campaign.
    let mut entry = together[0];
    entry.raw = None;
    assert!(retold(&campaign, &[entry]).is_err());
    let flagged = |entry: &&Entry| matches!(entry.trial.outcome, Outcome::Due(_));
    let mut entry = *together.iter().find(flagged).expect("a flagged word");
    entry.trial.outcome = Outcome::Sdc;
    assert!(retold(&campaign, &[entry]).is_err());
}

#[test]
fn a_plan_keeps_its_codes_and_what_has_none_is_refused() {
    let text = mix(MIXED).to_toml();
    assert_eq!(text.matches("protection = \"secded\"").count(), 1);
    assert_eq!(PlanFile::parse(&text).expect("TOML").mix(4).expect("whole"), mix(MIXED));
    assert!(mix(MIXED).text().contains("flips=3 weight=2 protection=secded"));
    let one = |code: &str| mix(&fault(code, ""));
    assert_eq!(one("none").simple_flips(), Some(1));
    assert_eq!(one("secded").simple_flips(), None);
    assert!(!one("none").to_toml().contains("protection"));
    let refused = |text: &str| {
        let error = PlanFile::parse(text).expect("TOML").strata().expect_err("refused");
        error.to_string()
    };
    for word in ["SECDED", "parity", "parity:257", "parity:064", "crc:0", ""] {
        let error = refused(&fault(word, ""));
        assert!(error.starts_with("fault 0: protection = ") && error.contains("secded"), "{error}");
    }
    let norm = "[[fault]]\ntarget = \"norm\"\nprotection = ";
    assert!(refused(&format!("{norm}\"crc:16\"")).contains("weight_code"));
    assert!(PlanFile::parse(&format!("{norm}\"none\"")).expect("TOML").strata().is_ok());
    let model = model(&shape(0), 5);
    let mut unguarded = mix(&fault("secded", ""));
    unguarded.strata[0].target = Target::Norm;
    let error = unguarded.check(&model, &samples(&model));
    assert!(matches!(error, Err(CampaignError::Unguarded { number: 0, target: "norm" })));
    // Blocks with scales between their codes.
    let mut blocks = model.clone();
    let linear = blocks.layers[0].linear_mut(Slot::Up);
    let Weights::Ternary { layout, .. } = &mut linear.weights else { panic!("codes") };
    *layout = Layout::blocks(256, 256, BlockType::Tq2);
    assert!(layout.is_some());
    let error = tried(&blocks, &fault("secded", "")).expect_err("no words of codes alone");
    assert!(matches!(error, CampaignError::Layout { number: 0, .. }), "{error}");
    assert!(tried(&model, &fault("secded", "")).is_ok());
}
