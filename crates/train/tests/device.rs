//! Training on a device with memory of its own gives the bits of training in the host's: state, steps, statistics,
//! clipping, evaluation and checkpoints ask the backend for nothing else than its trait.

mod common;

use common::device::Device;
use outgrow_env::{SimClock, SimStorage};
use outgrow_ir::Diagnostic;
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, InputSpec, TargetSpec, build};
use outgrow_runtime::{Backend, CpuBackend, ThreadPool};
use outgrow_store::{CheckpointStore, sha256};
use outgrow_tensor::{DType, RngKey, Tensor};
use outgrow_train::spec::TrainSpec;
use outgrow_train::{Silent, Trainer, TrainerOptions};
use outgrow_transform::{Batch, BatchStream, Batches, Portion, TrainingData};
use std::sync::Arc;

const SAMPLES: usize = 40;
const BATCH: usize = 8;
const WIDTH: usize = 5;

/// Batches that are made of random numbers.
struct Random;

struct Stream {
    epoch: u64,
    index: u64,
    last: Option<u64>,
}

impl BatchStream for Stream {}

impl Iterator for Stream {
    type Item = Result<Batch, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        let (epoch, index) = (self.epoch, self.index);
        if self.last == Some(epoch) {
            return None;
        }
        let mut random = RngKey::new(9).fold_in(epoch).fold_in(index).stream();
        let numbers: Vec<f32> = (0..BATCH * WIDTH).map(|_| random.normal() as f32).collect();
        let classes: Vec<i32> =
            numbers.chunks(WIDTH).map(|row| i32::from(row[0] > 0.0) + i32::from(row[1] > 0.5)).collect();
        let inputs = vec![Tensor::new([BATCH, WIDTH], numbers).unwrap()];
        let batch = Batch::of_samples(inputs, Some(Tensor::vector(classes)), BATCH);
        self.index += 1;
        if self.index == (SAMPLES / BATCH) as u64 {
            (self.epoch, self.index) = (epoch + 1, 0);
        }
        Some(Ok(Batch { epoch, index, ..batch }))
    }
}

impl TrainingData for Random {
    fn samples(&self) -> u64 {
        SAMPLES as u64
    }
    fn train(&self, epoch: u64, index: u64, _: std::ops::Range<usize>) -> Result<Batches, Diagnostic> {
        Ok(Box::new(Stream { epoch, index, last: None }))
    }
    fn validation(&self, _: Portion) -> Result<Option<Batches>, Diagnostic> {
        Ok(Some(Box::new(Stream { epoch: 1000, index: 0, last: Some(1001) })))
    }
}

/// The weights after training, and the checksum of the last evaluation; half-way, training goes on from a checkpoint.
fn trained(backend: &Arc<dyn Backend>, train: &str) -> (String, String) {
    let layers = r#"{"layers": [{"dense": 6}, {"batch_norm": true}, {"activation": "relu"}, {"dropout": 0.2}, {"dense": 3}]}"#;
    let model: ModelSpec = serde_json::from_str(layers).unwrap();
    let input =
        InputSpec { name: "features".into(), dtype: DType::F32, dims: vec![WIDTH], cardinalities: vec![] };
    let target = TargetSpec::Class { classes: 3 };
    let model = build(&model.validate().unwrap(), &[input], &target, BuildOptions::default()).unwrap();
    let storage = Arc::new(SimStorage::new(1));
    let trainer = |epochs: u64| {
        let spec: TrainSpec = serde_json::from_str(&train.replace("EPOCHS", &epochs.to_string())).unwrap();
        let options = TrainerOptions {
            memory_max: None,
            backend: backend.clone(),
            memory: None,
            clock: Arc::new(SimClock::new(0)),
            checkpoints: Some(CheckpointStore::new(storage.clone(), "/run", "model", 2)),
            fingerprint: "model".into(),
            seed: 3,
            profile_every: 4,
        };
        Trainer::new(model.clone(), spec.validate().unwrap(), options).unwrap()
    };
    trainer(3).run(&Random, &mut Silent).unwrap();
    let mut rest = trainer(6);
    assert!(rest.resume(&mut Silent).unwrap());
    rest.run(&Random, &mut Silent).unwrap();
    let metrics = rest.evaluate(Random.validation(Portion::WHOLE).unwrap().unwrap()).unwrap();
    (sha256::weights_sha256(&rest.state.weights().unwrap()), format!("{metrics:?}"))
}

#[test]
fn a_device_with_memory_of_its_own_gives_the_same_bits() {
    for train in [
        r#"{"epochs": EPOCHS, "batch": 8, "micro_shards": 4, "optimizer": "adam", "clip_norm": 0.5,
            "early_stopping": {"metric": "loss", "patience": 50}}"#,
        r#"{"epochs": EPOCHS, "batch": 8, "micro_shards": 2, "optimizer": "lamb", "clip_value": 0.01}"#,
        r#"{"epochs": EPOCHS, "batch": 8, "optimizer": {"name": "momentum", "momentum": 0.9}}"#,
    ] {
        let host: Arc<dyn Backend> = Arc::new(CpuBackend::new(Arc::new(ThreadPool::new(2))));
        let device = Arc::new(Device::new());
        let on_device: Arc<dyn Backend> = device.clone();
        assert_eq!(trained(&on_device, train), trained(&host, train), "{train}");
        assert_eq!(device.in_use(), (0, 0), "all of it is given back");
    }
}
