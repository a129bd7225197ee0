//! Where batches come from. The trainer knows nothing of data sets; whoever brings both together implements this.

use outgrow_ir::Diagnostic;
use outgrow_transform::Batch;

/// Batches in order.
pub trait BatchStream: Send {
    /// The next batch; nothing at the end.
    fn next(&mut self) -> Option<Result<Batch, Diagnostic>>;

    /// Takes back a batch that is no longer needed, for its memory.
    fn recycle(&mut self, _batch: Batch) {}
}

/// Batches in order.
pub type Batches = Box<dyn BatchStream>;

/// Training and validation data.
pub trait TrainingData {
    /// Samples of the training data.
    fn samples(&self) -> u64;

    /// Batches of training data from batch `index` of `epoch` on, epoch after epoch, in an order that depends on the
    /// seed and the epoch alone.
    fn train(&self, epoch: u64, index: u64) -> Result<Batches, Diagnostic>;

    /// One pass over the validation data in a fixed order, padded to full batches; nothing if there is none.
    fn validation(&self) -> Result<Option<Batches>, Diagnostic>;
}
