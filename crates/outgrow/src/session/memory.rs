//! Whether a run fits into the memory there is: said before it starts, since the system would end it without a word.
//! Programs are planned first, and refused before anything is asked for; here it is said what would fit.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::BuiltModel;
use outgrow_runtime::Backend;
use outgrow_train::memory_needed;
use outgrow_train::spec::Train;

use crate::manifest::LimitsSpec;
use crate::report::format::bytes;

/// What refuses a program or a trainer for the memory that it needs.
const REFUSALS: [&str; 2] = ["runtime.memory", "train.memory"];
/// Graphs with more nodes are not planned again and again in search of what would fit.
const SEARCHED_NODES: usize = 20_000;
/// Nor are graphs with more nodes than this where each plan is fitted into a limit, which takes several.
const SQUEEZED_NODES: usize = 4_000;
/// Limits are told in GiB to so many parts of one.
const GIB_PARTS: f64 = 1000.0;

/// The memory that training may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// What there is, where that is known.
    pub there: Option<u64>,
    /// What the manifest allows.
    pub limit: Option<u64>,
}

/// What is told of a trainer that could not be put together: if it was for want of memory, how much it needs and what
/// would do with less.
pub(super) fn explained(
    found: Diagnostics,
    model: &BuiltModel,
    train: &Train,
    backend: &dyn Backend,
    Memory { there, limit }: Memory,
    checkpoints: bool,
) -> Diagnostics {
    if !found.0.iter().any(|d| REFUSALS.contains(&d.code)) {
        return found;
    }
    let needs = |train: &Train, fit| memory_needed(model, train, backend, checkpoints, fit).ok();
    let most = [there, limit].into_iter().flatten().min();
    let (Some(most), Some(needed)) = (most, needs(train, limit)) else { return found };
    if needed <= most {
        return found;
    }
    let limited = limit == Some(most);
    let problem = match limited {
        true => format!(
            "the run needs at least {} of memory, and `limits.memory_gib_max` allows {}",
            bytes(needed),
            bytes(most)
        ),
        false => format!(
            "the run needs at least {} of memory, and this process can have {}",
            bytes(needed),
            bytes(most)
        ),
    };
    let fits = |train: &Train| needs(train, limit).is_some_and(|needed| needed <= most);
    let nodes = model.train.nodes.len();
    let searched = if limit.is_some() { SQUEEZED_NODES } else { SEARCHED_NODES };
    let hint = if nodes > searched {
        "take a smaller model or batch, or more `train.micro_shards`".into()
    } else if let Some(parts) = fewest_parts(train, fits) {
        format!("`train.micro_shards = {parts}` would fit; so would a smaller model or batch")
    } else if let Some(batch) = largest_batch(train, fits) {
        format!("`train.batch = {batch}` would fit; so would a smaller model")
    } else {
        "no batch is small enough for this model: take a smaller one".into()
    };
    // Values that are computed again take time, but change nothing.
    let gib = (most as f64 / (1u64 << 30) as f64 * GIB_PARTS).floor() / GIB_PARTS;
    let told = LimitsSpec { memory_gib_max: Some(gib) };
    let would_fit = |most: u64| needs(train, Some(most)).is_some_and(|needed| needed <= most);
    let tried = !limited && gib > 0.0 && nodes <= SQUEEZED_NODES;
    let hint = if tried && told.memory_bytes_max().is_some_and(would_fit) {
        format!(
            "`limits.memory_gib_max = {gib}` would fit, with values computed again instead of kept; or {hint}"
        )
    } else {
        hint
    };
    let expected = format!("at most {}", bytes(most));
    let item = if limited { "limits.memory_gib_max" } else { "model" };
    Diagnostic::new("run.memory", problem).item(item).expected(expected).hint(hint).into()
}

/// The fewest micro-shards of the same batch that fit.
fn fewest_parts(train: &Train, fits: impl Fn(&Train) -> bool) -> Option<usize> {
    let more = (1..).map_while(|doublings| train.micro_shards.checked_shl(doublings));
    let mut more = more.take_while(|parts| *parts <= train.batch && train.batch.is_multiple_of(*parts));
    more.find(|parts| fits(&Train { micro_shards: *parts, ..train.clone() }))
}

/// The largest smaller batch that as many micro-shards can share and that fits.
fn largest_batch(train: &Train, fits: impl Fn(&Train) -> bool) -> Option<usize> {
    let batch = |shard: usize| shard * train.micro_shards;
    // Fits: `low` (or nothing, at zero). Does not fit: `high`.
    let (mut low, mut high) = (0, train.batch / train.micro_shards);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(&Train { batch: batch(middle), ..train.clone() }) { low = middle } else { high = middle }
    }
    (low > 0).then(|| batch(low))
}
