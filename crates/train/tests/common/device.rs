//! A device with memory of its own, as a GPU has it: a thread alone owns the memory, and works through what it is told in
//! order, while those who told it go on. What it computes with is the CPU's kernels.

#![allow(clippy::result_large_err)] // As in the libraries.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::{
    Argument, Backend, Buffer, Compiled, CpuBackend, Instance, MemoryPlan, Products, ThreadPool, Work,
};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Something that the device does when its turn comes.
type Task = Box<dyn FnOnce(&mut Owned) + Send>;

/// What the device's thread owns.
struct Owned {
    cpu: CpuBackend,
    memory: HashMap<u64, Box<dyn Buffer>>,
    instances: HashMap<u64, Box<dyn Instance>>,
}

/// What is told the device, in order.
#[derive(Debug)]
struct Queue {
    tasks: Mutex<Sender<Task>>,
    next: AtomicU64,
}

impl Queue {
    fn tell(&self, task: impl FnOnce(&mut Owned) + Send + 'static) {
        // Whoever tells a device that is gone waits for no answer.
        let _ = self.tasks.lock().unwrap().send(Box::new(task));
    }

    /// Tells, and waits for the answer.
    fn ask<T: Send + 'static>(&self, task: impl FnOnce(&mut Owned) -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        self.tell(move |owned| {
            let _ = sender.send(task(owned));
        });
        receiver.recv().expect("the device works")
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// The device.
#[derive(Debug)]
pub struct Device {
    queue: Arc<Queue>,
    compiler: CpuBackend,
}

#[derive(Debug)]
struct DeviceBuffer {
    queue: Arc<Queue>,
    number: u64,
    bytes: usize,
}

#[derive(Debug)]
struct DeviceInstance {
    queue: Arc<Queue>,
    number: u64,
    failed: Arc<Mutex<Option<Diagnostic>>>,
}

/// An argument as the device knows it.
enum Given {
    Bytes(Vec<u8>),
    Part { number: u64, range: Range<usize>, written: bool },
}

impl Device {
    pub fn new() -> Self {
        let compiler = CpuBackend::new(Arc::new(ThreadPool::new(1)));
        let cpu = compiler.clone();
        let (sender, receiver) = channel::<Task>();
        std::thread::spawn(move || {
            let mut owned = Owned { cpu, memory: HashMap::new(), instances: HashMap::new() };
            receiver.into_iter().for_each(|task| task(&mut owned));
        });
        Self { queue: Arc::new(Queue { tasks: Mutex::new(sender), next: AtomicU64::new(0) }), compiler }
    }

    /// Buffers and instances that are there.
    pub fn in_use(&self) -> (usize, usize) {
        self.queue.ask(|owned| (owned.memory.len(), owned.instances.len()))
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let number = self.number;
        self.queue.tell(move |owned| drop(owned.memory.remove(&number)));
    }
}

impl Drop for DeviceInstance {
    fn drop(&mut self) {
        let number = self.number;
        self.queue.tell(move |owned| drop(owned.instances.remove(&number)));
    }
}

impl Buffer for DeviceBuffer {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn host(&self) -> Option<&[u8]> {
        None
    }
    fn host_mut(&mut self) -> Option<&mut [u8]> {
        None
    }
}

fn known(buffer: &dyn Buffer) -> Result<&DeviceBuffer, Diagnostic> {
    (buffer as &dyn std::any::Any)
        .downcast_ref()
        .ok_or_else(|| Diagnostic::fault("device.buffer", "invariant: a buffer is this device's"))
}

/// The number of a buffer that has these bytes.
fn within(buffer: &dyn Buffer, at: usize, bytes: usize) -> Result<u64, Diagnostic> {
    match at.checked_add(bytes) {
        Some(end) if end <= buffer.bytes() => Ok(known(buffer)?.number),
        _ => Err(Diagnostic::fault("device.range", "invariant: bytes lie in their buffer")),
    }
}

/// The arguments of a run out of the memory that it takes.
fn in_memory<'a>(given: &'a [Given], taken: &'a mut HashMap<u64, Box<dyn Buffer>>) -> Vec<Argument<'a>> {
    let mut shared: HashMap<u64, &'a dyn Buffer> = HashMap::new();
    let mut written: HashMap<u64, &'a mut dyn Buffer> = HashMap::new();
    let is_written =
        |n: &u64| given.iter().any(|g| matches!(g, Given::Part { number, written: true, .. } if number == n));
    for (number, buffer) in taken {
        if is_written(number) {
            written.insert(*number, &mut **buffer);
        } else {
            shared.insert(*number, &**buffer);
        }
    }
    let argument = |given: &'a Given| match given {
        Given::Bytes(bytes) => Argument::Host(bytes),
        Given::Part { number, range, written: false } => Argument::Read(shared[number], range.clone()),
        Given::Part { number, range, .. } => {
            Argument::Write(written.remove(number).expect("what is written is given once"), range.clone())
        }
    };
    given.iter().map(argument).collect()
}

impl Instance for DeviceInstance {
    fn submit(&mut self, arguments: &mut [Argument<'_>]) -> Result<(), Diagnostic> {
        self.tell(arguments, |instance, arguments| instance.run(arguments))
    }

    fn submit_part(&mut self, arguments: &mut [Argument<'_>], steps: Range<usize>) -> Result<(), Diagnostic> {
        self.tell(arguments, move |instance, arguments| {
            instance.submit_part(arguments, steps)?;
            instance.wait()
        })
    }

    fn wait(&mut self) -> Result<(), Diagnostic> {
        self.queue.ask(|_| ());
        self.failed.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

impl DeviceInstance {
    /// Has the device run on these arguments, when it has done all that it was told before.
    fn tell(
        &self,
        arguments: &mut [Argument<'_>],
        run: impl FnOnce(&mut dyn Instance, &mut [Argument<'_>]) -> Result<(), Diagnostic> + Send + 'static,
    ) -> Result<(), Diagnostic> {
        let given = arguments.iter().map(|argument| {
            Ok(match argument {
                Argument::Host(bytes) => Given::Bytes(bytes.to_vec()),
                Argument::Read(buffer, range) => {
                    let number = within(*buffer, range.start, range.len())?;
                    Given::Part { number, range: range.clone(), written: false }
                }
                Argument::Write(buffer, range) => {
                    let number = within(&**buffer, range.start, range.len())?;
                    Given::Part { number, range: range.clone(), written: true }
                }
            })
        });
        let given = given.collect::<Result<Vec<_>, Diagnostic>>()?;
        let (number, failed) = (self.number, self.failed.clone());
        self.queue.tell(move |owned| {
            let mut taken = HashMap::new();
            for part in &given {
                if let Given::Part { number, .. } = part {
                    taken.extend(owned.memory.remove(number).map(|buffer| (*number, buffer)));
                }
            }
            let instance = owned.instances.get_mut(&number).expect("an instance that runs is there");
            let ran = run(&mut **instance, &mut in_memory(&given, &mut taken));
            owned.memory.extend(taken);
            if let Err(problem) = ran {
                failed.lock().unwrap().get_or_insert(problem);
            }
        });
        Ok(())
    }
}

impl Backend for Device {
    fn name(&self) -> &'static str {
        "device"
    }

    fn has_faster(&self, products: Products) -> bool {
        self.compiler.has_faster(products)
    }

    fn plan(&self, work: &Work) -> Result<MemoryPlan, Diagnostics> {
        self.compiler.plan(work)
    }

    fn compile(&self, work: Work) -> Result<Compiled, Diagnostics> {
        self.compiler.compile(work)
    }

    fn instance(&self, compiled: &Compiled) -> Result<Box<dyn Instance>, Diagnostic> {
        let (number, instance) = (self.queue.number(), self.compiler.instance(compiled)?);
        self.queue.tell(move |owned| drop(owned.instances.insert(number, instance)));
        Ok(Box::new(DeviceInstance { queue: self.queue.clone(), number, failed: Arc::default() }))
    }

    fn allocate(&self, bytes: usize) -> Result<Box<dyn Buffer>, Diagnostic> {
        let number = self.queue.number();
        self.queue.ask(move |owned| {
            owned.cpu.allocate(bytes).map(|buffer| drop(owned.memory.insert(number, buffer)))
        })?;
        Ok(Box::new(DeviceBuffer { queue: self.queue.clone(), number, bytes }))
    }

    fn upload(&self, from: &[u8], to: &mut dyn Buffer, at: usize) -> Result<(), Diagnostic> {
        let (number, from) = (within(to, at, from.len())?, from.to_vec());
        self.queue.tell(move |owned| {
            let to = owned.memory.get_mut(&number).expect("memory that is used is there");
            owned.cpu.upload(&from, &mut **to, at).expect("it was checked");
        });
        Ok(())
    }

    fn download(&self, from: &dyn Buffer, at: usize, to: &mut [u8]) -> Result<(), Diagnostic> {
        let (number, bytes) = (within(from, at, to.len())?, to.len());
        let there = self.queue.ask(move |owned| {
            let mut there = vec![0; bytes];
            owned.cpu.download(&*owned.memory[&number], at, &mut there).map(|()| there)
        });
        to.copy_from_slice(&there?);
        Ok(())
    }

    fn copy(&self, from: &dyn Buffer, to: &mut dyn Buffer) -> Result<(), Diagnostic> {
        let (bytes, one, other) = (from.bytes(), known(from)?.number, within(to, 0, from.bytes())?);
        if bytes != to.bytes() {
            return Err(Diagnostic::fault("device.copy", "invariant: a copy is as long"));
        }
        self.queue.tell(move |owned| {
            let from = owned.memory.remove(&one).expect("memory that is used is there");
            if let Some(to) = owned.memory.get_mut(&other) {
                owned.cpu.copy(&*from, &mut **to).expect("it was checked");
            }
            owned.memory.insert(one, from);
        });
        Ok(())
    }
}
