//! Cross-validation: the training split cut into parts of (almost) equal size, each of which is held out once while
//! the others train. The transform stays the one that was fitted on the whole training split.

use outgrow_data::Split;
use outgrow_ir::{Diagnostic, counted};
use outgrow_tensor::RngKey;

use crate::session::DatasetBatches;

/// Cuts the training split into `count` parts, in an order drawn from the seed so that none follows an order that the
/// records have; each fold trains on all parts but one and is validated on that.
///
/// # Errors
/// When there are too few samples for that, or to fill a batch.
pub fn folds(batches: &DatasetBatches, seed: u64, count: usize) -> Result<Vec<DatasetBatches>, Diagnostic> {
    let samples = batches.data().samples(Split::Train) as usize;
    if count > samples {
        let problem = format!("{} cannot be cut into {count} parts", counted(samples, "sample"));
        return Err(Diagnostic::new("tune.folds", problem)
            .item("--folds")
            .expected(format!("at most {samples}")));
    }
    let smallest = samples - samples.div_ceil(count);
    if smallest < batches.batch() {
        let problem = format!(
            "{} to train on would be left, too few for a batch of {}",
            counted(smallest, "sample"),
            batches.batch()
        );
        return Err(Diagnostic::new("tune.folds", problem).item("--folds").hint(format!(
            "take a smaller batch, as with --set train.batch={}, or more folds",
            smallest.max(1)
        )));
    }
    let mut order: Vec<u64> = (0..samples as u64).collect();
    RngKey::new(seed).fold_in_name("folds").stream().shuffle(&mut order);
    let fold = |i: usize| {
        let (before, rest) = order.split_at(i * samples / count);
        let (held_out, after) = rest.split_at((i + 1) * samples / count - before.len());
        let sorted = |mut part: Vec<u64>| {
            part.sort_unstable();
            part
        };
        batches.part(sorted([before, after].concat()), sorted(held_out.to_vec()))
    };
    Ok((0..count).map(fold).collect())
}
