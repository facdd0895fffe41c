//! The attention half of a layer for the rows of many trials.
//!
//! A changed key or value of a token reaches the queries from that token on, a changed query only
//! its own row; each head is looked at alone. Whatever is not reached keeps its clean bits.

use engine::model::{KvKind, KvStore, Slot};
use engine::walk::score_scale;

use super::job::Job;
use super::prepared::Prepared;
use super::product::{Clean, Scratch};
use super::rows::{Rows, span};

/// Scores that softmax takes at a time.
const WHOLE: usize = 16;

/// No row.
const NONE: u32 = u32::MAX;

/// Outputs of one projection: carried rows first, then those that join here; each part sorted.
#[derive(Debug, Default)]
struct Projected {
    rows: Rows,
    carried: usize,
}

impl Projected {
    /// Writes down where the rows of a trial are, by token.
    fn find(&self, owner: usize, at: &mut [u32]) {
        at.fill(NONE);
        let (carried, joined) = self.rows.owners.split_at(self.carried);
        let joined = span(joined, owner);
        let joined = joined.start + self.carried..joined.end + self.carried;
        for index in span(carried, owner).chain(joined) {
            at[self.rows.tokens[index] as usize] = index as u32;
        }
    }
}

/// Buffers of the attention half.
#[derive(Debug)]
pub(super) struct Attention {
    codes: Prepared,
    q: Projected,
    k: Projected,
    v: Projected,
    mixed: Rows,
    update: Vec<f32>,
    at: [Vec<u32>; 3],
    /// Whether `[head][token]` must be computed.
    touched: Vec<bool>,
    /// The first token of each key-value head whose key or value changed.
    first: Vec<usize>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    row: Vec<f32>,
    store: Option<KvStore>,
}

impl Attention {
    pub(super) fn new(clean: &Clean) -> Self {
        let (config, kind) = (&clean.model.config, clean.golden.kv);
        let store = KvStore::new(kind, config.kv_heads, config.head_dim);
        Self {
            codes: Prepared::new(),
            q: Projected::default(),
            k: Projected::default(),
            v: Projected::default(),
            mixed: Rows::default(),
            update: Vec::new(),
            at: Default::default(),
            touched: Vec::new(),
            first: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            scores: Vec::new(),
            row: Vec::new(),
            store: (kind != KvKind::F32).then_some(store),
        }
    }

    /// The streams that enter a layer to those between its halves.
    pub(super) fn half(
        &mut self,
        clean: &Clean,
        (layer, jobs): (usize, &[&Job]),
        stream: &Rows,
        scratch: &mut Scratch,
        out: &mut Rows,
    ) {
        for slot in [Slot::K, Slot::V, Slot::Q] {
            self.project(clean, (layer, slot), jobs, stream, scratch);
        }
        self.mixed.reset(clean.model.config.query_width());
        for at in &mut self.at {
            at.resize(clean.tokens(), NONE);
        }
        for owner in 0..jobs.len() {
            if self.touch(clean, layer, owner) {
                self.attend(clean, layer, owner);
            }
        }
        if clean.shortcuts.checks() {
            let (golden, width) = (&clean.layer(layer).mixed, self.mixed.width);
            self.mixed.retain(|rows, index| {
                let token = rows.place(index).1;
                !clean.same(rows.row(index), &golden[token * width..(token + 1) * width])
            });
        }
        let place = (layer, Slot::O);
        let rows =
            (0..self.mixed.len()).map(|index| (self.mixed.place(index).1, self.mixed.row(index)));
        clean.prepare(place, rows, scratch, &mut self.codes);
        let adjusts = clean.adjusts(place, jobs, &self.mixed.owners, &self.codes.codes);
        clean.product(place, &self.codes, &adjusts, scratch, &mut self.update);
        self.add(clean, layer, jobs, stream, out);
    }

    /// One projection of the carried rows that count, and of those that join at it.
    fn project(
        &mut self,
        clean: &Clean,
        (layer, slot): (usize, Slot),
        jobs: &[&Job],
        stream: &Rows,
        scratch: &mut Scratch,
    ) {
        let (tokens, trace) = (clean.span(layer, slot), clean.layer(layer));
        let out = match slot {
            Slot::Q => &mut self.q,
            Slot::K => &mut self.k,
            _ => &mut self.v,
        };
        let rows = &mut out.rows;
        rows.reset(clean.ternary(layer, slot).0.rows());
        let counts = |&index: &usize| tokens.contains(&stream.place(index).1);
        for index in (0..stream.len()).filter(counts) {
            rows.owners.push(stream.owners[index]);
            rows.tokens.push(stream.tokens[index]);
        }
        out.carried = rows.len();
        // Keys come first, for all rows: the others may read the same codes.
        let ready = slot != Slot::K && trace.shares(Slot::K, slot) && rows.len() == stream.len();
        if !ready {
            let rows = (0..stream.len())
                .filter(counts)
                .map(|index| (stream.place(index).1, stream.row(index)));
            clean.prepare((layer, slot), rows, scratch, &mut self.codes);
        }
        let adjusts = clean.adjusts((layer, slot), jobs, &rows.owners, &self.codes.codes);
        clean.product((layer, slot), &self.codes, &adjusts, scratch, &mut rows.data);
        for (owner, job) in jobs.iter().enumerate() {
            let here = &stream.tokens[stream.of(owner)];
            let joins =
                clean.joins(layer, slot, job, |token| here.binary_search(&(token as u32)).is_ok());
            for &place in &joins.places {
                let token = joins.first + place;
                let row = rows.push(owner, token);
                clean.clean_row(layer, slot, token, row);
                for one in &joins.struck {
                    row[one.output] = clean.value(layer, slot, token, one.sums[place]);
                }
            }
        }
        for index in 0..rows.len() {
            let token = rows.place(index).1;
            let row = rows.row_mut(index);
            if slot != Slot::V {
                clean.model.rope.turn_row(row, token);
            }
            if let Some(store) = self.store.as_mut().filter(|_| slot != Slot::Q) {
                store.clear();
                store.push(row);
                for (head, out) in row.chunks_exact_mut(clean.model.config.head_dim).enumerate() {
                    out.copy_from_slice(store.read(head, 1, &mut self.row));
                }
            }
        }
    }

    /// Finds out which heads of which tokens of a trial are reached; whether any is.
    fn touch(&mut self, clean: &Clean, layer: usize, owner: usize) -> bool {
        let (config, trace, tokens) = (&clean.model.config, clean.layer(layer), clean.tokens());
        let (d, check) = (config.head_dim, clean.shortcuts.checks());
        let [at_q, at_k, at_v] = &mut self.at;
        self.q.find(owner, at_q);
        self.k.find(owner, at_k);
        self.v.find(owner, at_v);
        self.touched.clear();
        self.touched.resize(config.heads * tokens, false);
        self.first.clear();
        let mut any = false;
        for kv in 0..config.kv_heads {
            let moved = |at: u32, rows: &Rows, golden: &[f32], token: usize| {
                let from = (kv * tokens + token) * d;
                let row = |at: u32| &rows.row(at as usize)[kv * d..(kv + 1) * d];
                at != NONE && !(check && clean.same(row(at), &golden[from..from + d]))
            };
            let first = (0..tokens).find(|&token| {
                moved(at_k[token], &self.k.rows, &trace.keys, token)
                    || moved(at_v[token], &self.v.rows, &trace.values, token)
            });
            self.first.push(first.unwrap_or(tokens));
        }
        let width = config.query_width();
        for head in 0..config.heads {
            let first = self.first[head / (config.heads / config.kv_heads)];
            for token in clean.span(layer, Slot::O) {
                let clean_query = &trace.queries[token * width + head * d..][..d];
                let query = |at: u32| &self.q.rows.row(at as usize)[head * d..(head + 1) * d];
                let at = at_q[token];
                let reached = token >= first
                    || (at != NONE && !(check && clean.same(query(at), clean_query)));
                self.touched[head * tokens + token] = reached;
                any |= reached;
            }
        }
        any
    }

    /// Attention of the reached heads; the rest of each row is clean.
    fn attend(&mut self, clean: &Clean, layer: usize, owner: usize) {
        let (config, trace, tokens) = (&clean.model.config, clean.layer(layer), clean.tokens());
        let (d, group, width) =
            (config.head_dim, config.heads / config.kv_heads, config.query_width());
        let base = self.mixed.len();
        let mut places = vec![NONE; tokens];
        for token in clean.span(layer, Slot::O) {
            if (0..config.heads).any(|head| self.touched[head * tokens + token]) {
                places[token] = self.mixed.len() as u32;
                let row = self.mixed.push(owner, token);
                row.copy_from_slice(&trace.mixed[token * width..(token + 1) * width]);
            }
        }
        debug_assert!(base < self.mixed.len(), "a trial that reaches something");
        let scale = score_scale(d);
        self.scores.resize(tokens.next_multiple_of(WHOLE), 0.0);
        let [at_q, at_k, at_v] = &self.at;
        for head in 0..config.heads {
            let (kv, touched) = (head / group, &self.touched[head * tokens..(head + 1) * tokens]);
            if head % group == 0 {
                let patch = |golden: &[f32], rows: &Rows, at: &[u32], out: &mut Vec<f32>| {
                    out.clear();
                    let golden = golden[kv * tokens * d..(kv + 1) * tokens * d].chunks_exact(d);
                    for (golden, &at) in golden.zip(at) {
                        let row = |at: u32| &rows.row(at as usize)[kv * d..(kv + 1) * d];
                        out.extend_from_slice(if at == NONE { golden } else { row(at) });
                    }
                };
                patch(&trace.keys, &self.k.rows, at_k, &mut self.keys);
                patch(&trace.values, &self.v.rows, at_v, &mut self.values);
            }
            for token in (0..tokens).filter(|&token| touched[token]) {
                let query = match at_q[token] {
                    NONE => &trace.queries[token * width..(token + 1) * width],
                    at => self.q.rows.row(at as usize),
                };
                let (query, seen) = (&query[head * d..(head + 1) * d], (token + 1) * d);
                // Whole vectors: a score of minus infinity adds +0 to the sum of the shares.
                let padded = &mut self.scores[..(token + 1).next_multiple_of(WHOLE)];
                let (scores, rest) = padded.split_at_mut(token + 1);
                (clean.kernels.dot_rows)(query, &self.keys[..seen], scores);
                (clean.kernels.rows.scale)(scores, scale);
                rest.fill(f32::NEG_INFINITY);
                (clean.kernels.softmax)(padded);
                let scores = &padded[..=token];
                let row = self.mixed.row_mut(places[token] as usize);
                let out = &mut row[head * d..(head + 1) * d];
                out.fill(0.0);
                (clean.kernels.weighted_sum)(scores, &self.values[..seen], out);
            }
        }
    }

    /// The residual addition, for rows whose stream or whose update differs from the clean ones.
    fn add(&mut self, clean: &Clean, layer: usize, jobs: &[&Job], stream: &Rows, out: &mut Rows) {
        let width = clean.model.config.hidden;
        out.reset(width);
        self.row.resize(width, 0.0);
        let [at_x, at_u, at_join] = &mut self.at;
        for (owner, job) in jobs.iter().enumerate() {
            at_x.fill(NONE);
            stream.of(owner).for_each(|i| at_x[stream.tokens[i] as usize] = i as u32);
            at_u.fill(NONE);
            self.mixed.of(owner).for_each(|i| at_u[self.mixed.tokens[i] as usize] = i as u32);
            at_join.fill(NONE);
            let joins = clean.joins(layer, Slot::O, job, |token| at_u[token] != NONE);
            joins.places.iter().for_each(|&i| at_join[joins.first + i] = i as u32);
            for token in clean.span(layer, Slot::O) {
                let (x, u, join) = (at_x[token], at_u[token], at_join[token]);
                if x == NONE && u == NONE && join == NONE {
                    continue;
                }
                let update = if u == NONE {
                    clean.clean_row(layer, Slot::O, token, &mut self.row);
                    for one in joins.struck.iter().filter(|_| join != NONE) {
                        let sum = one.sums[join as usize];
                        self.row[one.output] = clean.value(layer, Slot::O, token, sum);
                    }
                    &self.row[..]
                } else {
                    &self.update[u as usize * width..(u as usize + 1) * width]
                };
                let x = if x == NONE { clean.stream(layer, token) } else { stream.row(x as usize) };
                let row = out.push(owner, token);
                (clean.kernels.rows.add)(x, update, row);
                let golden = &clean.layer(layer).middle[token * width..(token + 1) * width];
                if clean.may_drop(job, layer, false) && clean.same(out.row(out.len() - 1), golden) {
                    out.pop();
                }
            }
        }
    }
}
