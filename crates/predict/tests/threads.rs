//! One model, many who ask it: the same bits for every thread, in batches of any size, with the weights there once.

mod common;

use common::{LAYERS, opened, package, people};
use outgrow_predict::Model;
use outgrow_tensor::{DType, RngKey, Tensor};

const ROWS: usize = 200;

fn assert_shared<T: Send + Sync>(_: &T) {}

/// So many rows of two numbers, from row `first` on.
fn rows(first: usize, count: usize) -> Tensor {
    let mut stream = RngKey::new(3).stream();
    let all: Vec<f64> = (0..2 * ROWS).map(|_| stream.normal()).collect();
    Tensor::from_f64(DType::F32, [count, 2], |i| all[2 * first + i])
}

fn run(model: &Model, first: usize, count: usize) -> Vec<u32> {
    let out = model.run(&[rows(first, count)], &[0]).unwrap().remove(0);
    assert_eq!(out.shape().dims(), [count, 3]);
    out.as_slice::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

#[test]
fn batches_of_any_size_give_the_same_rows() {
    let model = opened(&package(LAYERS, people()), 1);
    let alone: Vec<u32> = (0..ROWS).flat_map(|i| run(&model, i, 1)).collect();
    assert!(alone.chunks(3).zip(alone[3..].chunks(3)).all(|(a, b)| a != b), "rows differ");
    let packed = model.weight_bytes();
    // Among them more than run at a time, and what is filled up.
    for count in [1, 3, 8, 31, 64, 65, ROWS] {
        for first in [0, ROWS - count] {
            assert_eq!(run(&model, first, count), alone[3 * first..3 * (first + count)], "{count} rows");
        }
    }
    assert_eq!(model.weight_bytes(), packed, "weights are packed once");
    assert!(model.program_count() <= 7, "{} programs", model.program_count());
}

#[test]
fn requests_that_run_together_get_what_each_gets_alone() {
    let model = opened(&package(LAYERS, people()), 1);
    let alone: Vec<u32> = (0..ROWS).flat_map(|i| run(&model, i, 1)).collect();
    for counts in [&[1][..], &[1, 1], &[3, 1, 4, 1, 5], &[64, 1], &[1, 100, 7]] {
        let starts = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count)));
        let requests: Vec<[Tensor; 1]> = starts.zip(counts).map(|(first, n)| [rows(first, *n)]).collect();
        for request in &requests {
            let known = model.rows(request).unwrap().unwrap();
            assert_eq!(known.rows, request[0].shape().dims()[0]);
            assert_eq!(known.group, model.rows(&[rows(0, 1)]).unwrap().unwrap().group);
        }
        let requests: Vec<&[Tensor]> = requests.iter().map(|request| &request[..]).collect();
        let answers = model.run_together(&requests, &[0]).unwrap();
        let mut expected = alone.iter();
        for (answer, count) in answers.iter().zip(counts) {
            assert_eq!(answer[0].shape().dims(), [*count, 3]);
            for x in answer[0].as_slice::<f32>().unwrap() {
                assert_eq!(x.to_bits(), *expected.next().unwrap(), "{counts:?}");
            }
        }
        assert_eq!(answers.len(), counts.len());
    }
    let wrong: [&[Tensor]; 2] = [&[rows(0, 1)], &[Tensor::zeros(DType::F32, [1, 3])]];
    assert_eq!(model.run_together(&wrong, &[0]).unwrap_err().0[0].code, "predict.input");
}

#[test]
fn threads_share_a_model() {
    let model = opened(&package(LAYERS, people()), 2);
    assert_shared(&model);
    let alone: Vec<u32> = (0..ROWS).flat_map(|i| run(&model, i, 1)).collect();
    let fresh = opened(&package(LAYERS, people()), 2);
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (fresh, alone) = (&fresh, &alone);
            scope.spawn(move || {
                for i in 0..40 {
                    let count = [1, 3, 8, 20][(i + thread) % 4];
                    let first = (17 * i + 31 * thread) % (ROWS - count);
                    assert_eq!(run(fresh, first, count), alone[3 * first..3 * (first + count)]);
                }
            });
        }
    });
}

/// What one thread asks wrongly harms nobody.
#[test]
fn wrong_arrays_are_refused_by_name() {
    let model = opened(&package(LAYERS, people()), 1);
    let wrong = [
        vec![Tensor::zeros(DType::F32, [1, 3])],
        vec![Tensor::zeros(DType::F32, [2])],
        vec![Tensor::zeros(DType::F32, [0, 2])],
        vec![Tensor::zeros(DType::I64, [1, 2])],
    ];
    for inputs in wrong {
        let found = model.run(&inputs, &[0]).unwrap_err();
        let first = &found.0[0];
        assert_eq!((first.code, first.place.item.as_deref()), ("predict.input", Some("input `features`")));
        assert!(first.expected.is_some());
    }
    assert_eq!(model.run(&[], &[0]).unwrap_err().0[0].code, "predict.input");
    assert_eq!(model.run(&[rows(0, 1)], &[1]).unwrap_err().0[0].code, "predict.output");
    assert_eq!(run(&model, 0, 3).len(), 9);
}
