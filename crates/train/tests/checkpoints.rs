//! A state that is cut into ranges, whose holders write them and read them again by other numbers, is the same state to
//! the bit; so it is after a crash in between.

use outgrow_env::SimStorage;
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, BuiltModel, InputSpec, TargetSpec, build};
use outgrow_runtime::{Backend, CpuBackend, ThreadPool};
use outgrow_store::checkpoint::{PartFile, Stored};
use outgrow_store::{CheckpointStore, StoreError, sha256};
use outgrow_tensor::{DType, RngKey, RngStream, Tensor};
use outgrow_train::optim::from_spec;
use outgrow_train::spec::TrainSpec;
use outgrow_train::{DeviceVector, TrainState};
use std::collections::BTreeMap;
use std::sync::Arc;

const FINGERPRINT: &str = "sha256:model";

/// Tensors of many blocks of 4,096 elements, of few, and of parts of one, with running statistics of more than one.
fn model() -> BuiltModel {
    let layers =
        r#"{"layers": [{"dense": 5000}, {"batch_norm": true}, {"activation": "relu"}, {"dense": 3}]}"#;
    let spec: ModelSpec = serde_json::from_str(layers).unwrap();
    let input =
        InputSpec { name: "features".into(), dtype: DType::F32, dims: vec![7], cardinalities: vec![] };
    let target = TargetSpec::Class { classes: 3 };
    build(&spec.validate().unwrap(), &[input], &target, BuildOptions::default()).unwrap()
}

/// The state of this model after `step` steps: random numbers everywhere, so that none can stand for another. The first
/// step has no best weights yet.
fn state(step: u64) -> TrainState {
    let backend: Arc<dyn Backend> = Arc::new(CpuBackend::new(Arc::new(ThreadPool::new(1))));
    let spec: TrainSpec = serde_json::from_str(r#"{ "steps": 9, "optimizer": "adam" }"#).unwrap();
    let slots = from_spec(&spec.validate().unwrap().optimizer, 0.0).slots();
    let mut state = TrainState::initial(&model(), &slots, RngKey::new(1), &backend).unwrap();
    (state.step, state.samples, state.train_ns) = (step, 32 * step, u64::MAX - step);
    let mut random = RngKey::new(step).stream();
    let mut fill = |vector: &mut DeviceVector| {
        let layout = vector.layout().clone();
        for (i, entry) in layout.entries().iter().enumerate() {
            let numbers: Vec<f32> = (0..entry.elements).map(|_| random.normal() as f32).collect();
            vector.set(i, &numbers).unwrap();
        }
    };
    if step > 1 {
        let (mut params, mut buffers) =
            (state.params.duplicate().unwrap(), state.buffers.duplicate().unwrap());
        fill(&mut params);
        fill(&mut buffers);
        state.best = Some((params, buffers));
    }
    fill(&mut state.params);
    fill(&mut state.buffers);
    state.slots.iter_mut().for_each(|(_, slot)| fill(slot));
    state
}

/// All that a state holds: each of its vectors as named tensors, and its numbers.
fn content(state: &TrainState) -> (Vec<BTreeMap<String, Tensor>>, [u64; 3]) {
    let best = state.best.iter().flat_map(|(params, buffers)| [params, buffers]);
    let slots = state.slots.iter().map(|(_, slot)| slot);
    let vectors = [&state.params, &state.buffers].into_iter().chain(slots).chain(best);
    let tensors = vectors.map(|vector| vector.tensors().unwrap()).collect();
    (tensors, [state.step, state.samples, state.train_ns])
}

fn check_same(found: &TrainState, expect: &TrainState, what: &str) {
    let ((found, numbers), (expect, expected)) = (content(found), content(expect));
    assert_eq!((numbers, found.len()), (expected, expect.len()), "{what}");
    for (found, expect) in found.iter().zip(&expect) {
        assert!(found.keys().eq(expect.keys()));
        assert_eq!(sha256::weights_sha256(found), sha256::weights_sha256(expect), "{what}");
    }
}

fn store(seed: u64) -> (Arc<SimStorage>, CheckpointStore) {
    let storage = Arc::new(SimStorage::new(seed));
    (storage.clone(), CheckpointStore::new(storage, "/run", FINGERPRINT, 1))
}

/// Saves a state by `workers` workers, in an order that is drawn.
fn save(
    store: &CheckpointStore,
    state: &TrainState,
    workers: usize,
    random: &mut RngStream,
) -> Result<(), StoreError> {
    store.sweep()?;
    let mut ranges = state.ranges(workers);
    (1..workers).for_each(|i| ranges.swap(i, random.below(i as u64 + 1) as usize));
    let write = |range| store.write_part(&state.to_part(FINGERPRINT, range).unwrap());
    let parts = ranges.iter().map(write).collect::<Result<Vec<PartFile>, _>>()?;
    store.commit(state.step, &state.progress(), parts).map(drop)
}

/// What `workers` workers load, each its own range, put together.
fn load(stored: &Stored, workers: usize) -> TrainState {
    let (mut whole, ranges) = (state(9), state(9).ranges(workers));
    for range in &ranges {
        whole.restore(stored, range).unwrap_or_else(|d| panic!("{d}"));
    }
    whole
}

#[test]
fn any_number_writes_and_any_number_reads() {
    let expect = state(2);
    let mut random = RngKey::new(3).stream();
    for writers in [1, 2, 3, 5] {
        let (_storage, store) = store(0);
        save(&store, &expect, writers, &mut random).unwrap();
        let stored = store.load_latest().unwrap().unwrap().stored;
        assert_eq!(stored.record().parts.len(), writers);
        for readers in [1, 2, 4] {
            check_same(&load(&stored, readers), &expect, &format!("{writers} to {readers}"));
            // Each on its own: its range is that of the state, and the rest is untouched.
            for (worker, range) in expect.ranges(readers).iter().enumerate() {
                let mut own = state(9);
                own.restore(&stored, range).unwrap();
                for (i, (found, expect)) in content(&own).0.iter().zip(&content(&expect).0).enumerate() {
                    let (layout, range) = match i {
                        1 | 5 => (own.buffers.layout(), range.buffers.clone()),
                        _ => (own.params.layout(), range.params.clone()),
                    };
                    let mine: Vec<_> = layout.within(range).collect();
                    for (at, entry) in layout.entries().iter().enumerate() {
                        let elements = |tensors: &BTreeMap<String, Tensor>| {
                            tensors[&entry.name].as_slice::<f32>().unwrap().to_vec()
                        };
                        let (found, expect) = (elements(found), elements(expect));
                        let within = mine.iter().find(|(tensor, _)| *tensor == at);
                        let within = within.map_or(0..0, |(_, elements)| elements.clone());
                        assert_eq!(found[within.clone()], expect[within.clone()], "{}", entry.name);
                        // The rest was not looked at.
                        let others = (0..found.len()).filter(|i| !within.contains(i));
                        assert!(others.into_iter().all(|i| found[i] != expect[i]), "worker {worker}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_crash_between_parts_leaves_the_state_before_or_after() {
    let states = [state(1), state(2)];
    let (mut points, mut old) = (0, 0);
    for (seed, writers) in [1, 2, 3, 5].into_iter().enumerate() {
        for operation in 1.. {
            let (storage, store) = store(seed as u64);
            let mut random = RngKey::new(operation).stream();
            save(&store, &states[0], 2, &mut random).unwrap();
            storage.disk().crash_at_operation(Some(operation));
            let saved = save(&store, &states[1], writers, &mut random).is_ok();
            let finished = !storage.disk().has_crashed();
            storage.disk().restart();
            let stored = store.load_latest().unwrap().unwrap().stored;
            let expect = &states[stored.step() as usize - 1];
            assert!(!saved || stored.step() == 2);
            (points, old) = (points + 1, old + usize::from(stored.step() == 1));
            let mut found = state(9);
            found.restore(&stored, &found.whole()).unwrap();
            check_same(&found, expect, &format!("{writers} writers, operation {operation}"));
            if finished {
                break;
            }
        }
    }
    assert!(old > 10 && old < points, "{old} of {points}");
}

#[test]
fn the_state_of_another_optimiser_is_refused() {
    let (_storage, store) = store(0);
    save(&store, &state(2), 2, &mut RngKey::new(1).stream()).unwrap();
    let stored = store.load_latest().unwrap().unwrap().stored;
    let mut other = state(2);
    other.slots[0].0 = "momentum";
    let text = other.restore(&stored, &other.whole()).unwrap_err().to_string();
    assert!(text.contains("weights.missing"), "{text}");
}
