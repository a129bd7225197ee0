//! One program, many who run it: threads with an instance each, on one pool or on several, get the bits of a single run.

use outgrow_kernels::{
    BinaryOp, BufferRef, Instr, KernelPath, Map, MatMul, Program, ProgramBuilder, RunError, ThreadPool, View,
};
use outgrow_tensor::{DType, RngKey};

const SIDE: usize = 160;

/// `(a + b) b`, with the sum in the arena and the product in thread's scratch: long enough for a pool's threads.
fn program() -> Program {
    let mut builder = ProgramBuilder::new(KernelPath::detect());
    let [a, b] = [(); 2].map(|()| builder.input(4 * SIDE * SIDE));
    let c = builder.output(4 * SIDE * SIDE);
    let sum = builder.arena(4 * SIDE * SIDE);
    let dims = [SIDE, SIDE];
    let view = |buffer| View::whole(buffer, DType::F32, dims);
    let code = [Instr::Load(0), Instr::Load(1), Instr::Binary(BinaryOp::Add, 0, 1)];
    builder.push(Map::new(&dims, &code, vec![view(a), view(b)], vec![(2, view(sum))]).unwrap());
    builder.push(MatMul::new(view(sum), view(b), view(c)).unwrap());
    builder.build().unwrap()
}

fn numbers(seed: u64) -> Vec<f32> {
    let mut stream = RngKey::new(seed).stream();
    (0..SIDE * SIDE).map(|_| stream.uniform() as f32 - 0.5).collect()
}

fn run(program: &Program, pool: &ThreadPool, seed: u64, times: usize) -> Vec<u32> {
    let mut instance = program.instance(pool.threads()).unwrap();
    let (a, b, mut c) = (numbers(seed), numbers(seed + 1), vec![0.0f32; SIDE * SIDE]);
    let mut first = None;
    for _ in 0..times {
        c.fill(f32::NAN);
        let buffers = [BufferRef::read(&a), BufferRef::read(&b), BufferRef::write(&mut c)];
        program.run(&mut instance, pool, buffers).unwrap();
        let bits: Vec<u32> = c.iter().map(|x| x.to_bits()).collect();
        assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "runs of one instance differ");
    }
    first.unwrap()
}

#[test]
fn threads_that_share_a_program_get_the_bits_of_a_single_run() {
    let program = program();
    let single: Vec<_> = (0..8).map(|seed| run(&program, &ThreadPool::new(1), seed, 1)).collect();
    let shared = ThreadPool::new(2);
    let many = |own: bool| {
        std::thread::scope(|scope| {
            let (program, shared) = (&program, &shared);
            let started: Vec<_> = (0..8)
                .map(|seed| {
                    scope.spawn(move || {
                        let pool = own.then(|| ThreadPool::new(1 + seed as usize % 3));
                        run(program, pool.as_ref().unwrap_or(shared), seed, 20)
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        })
    };
    assert!(many(false) == single, "on one pool");
    assert!(many(true) == single, "on pools of their own");
}

#[test]
fn a_larger_pool_gets_more_scratch() {
    let program = program();
    let mut instance = program.instance(1).unwrap();
    let (a, b) = (numbers(1), numbers(2));
    let mut seen = Vec::new();
    for threads in [1, 3, 2] {
        let mut c = vec![0.0f32; SIDE * SIDE];
        let buffers = [BufferRef::read(&a), BufferRef::read(&b), BufferRef::write(&mut c)];
        program.run(&mut instance, &ThreadPool::new(threads), buffers).unwrap();
        seen.push((instance.bytes().1, c));
    }
    assert!(
        seen[0].0 < seen[1].0 && seen[1].0 == seen[2].0,
        "scratch for one, for three, and still for three"
    );
    assert!(seen.iter().all(|(_, c)| *c == seen[0].1));
}

/// The memory of an instance is laid out for one program: with another's, kernels would write past it.
#[test]
fn an_instance_of_another_program_is_refused() {
    let mut instance = program().instance(1).unwrap();
    let refused = program().run(&mut instance, &ThreadPool::new(1), []);
    assert_eq!(refused, Err(RunError::Instance));
}
