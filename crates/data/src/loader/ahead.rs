//! Threads that make batches ahead. Batches go over in packets, since waking another thread can cost more than making a
//! small batch; packet `i` is made by thread `i` modulo their number and taken in that order.

use super::maker::Maker;
use outgrow_ir::Diagnostic;
use outgrow_transform::Batch;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Used batches that are kept for their memory, by each thread.
const SPARE_BATCHES: usize = 256;

type Packet = Vec<Result<Batch, Diagnostic>>;

/// The threads, and what comes from them.
#[derive(Debug)]
pub(super) struct Ahead {
    workers: Vec<Worker>,
    /// The thread whose packet comes next.
    turn: usize,
    /// The thread that gets the next used batch.
    spare_turn: usize,
}

#[derive(Debug)]
struct Worker {
    packets: Option<Receiver<Packet>>,
    spare: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts as many threads as were asked for, or as the system allows; nothing when it allows none.
    pub fn start(maker: &Arc<Maker>) -> Option<Self> {
        let wanted = maker.options.threads.max(1);
        let started: Vec<_> = (0..wanted).map_while(|number| Worker::start(maker.clone(), number)).collect();
        // Whose turn a packet is depends on how many threads there are, which is known only now.
        let count = started.len();
        let workers: Vec<Worker> = started
            .into_iter()
            .map(|(worker, begin)| {
                let _ = begin.send(count);
                worker
            })
            .collect();
        (count > 0).then_some(Self { workers, turn: 0, spare_turn: 0 })
    }

    /// The next packet; nothing after the last one, or when a thread came to an end before its time.
    pub fn next(&mut self) -> Option<Packet> {
        let packet = self.workers[self.turn].packets.as_ref()?.recv().ok()?;
        self.turn = (self.turn + 1) % self.workers.len();
        Some(packet)
    }

    pub fn recycle(&mut self, batch: Batch) {
        if let Some(sender) = &self.workers[self.spare_turn].spare {
            match sender.try_send(batch) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.spare_turn = (self.spare_turn + 1) % self.workers.len();
    }
}

impl Worker {
    /// A thread that begins when it is told how many there are; nothing when the system refuses it.
    fn start(maker: Arc<Maker>, number: usize) -> Option<(Self, SyncSender<usize>)> {
        let (packets_in, packets) = sync_channel(maker.options.read_ahead);
        let (spare, spare_out) = sync_channel(SPARE_BATCHES);
        let (begin, count) = sync_channel(1);
        let run = move || {
            if let Ok(count) = count.recv() {
                work(&maker, number, count, &packets_in, &spare_out);
            }
        };
        let thread = std::thread::Builder::new().name(format!("loader-{number}")).spawn(run).ok()?;
        Some((Self { packets: Some(packets), spare: Some(spare), thread: Some(thread) }, begin))
    }
}

/// Makes every packet that is this thread's turn, until there are no more, one fails, or nobody takes them.
fn work(maker: &Maker, number: usize, count: usize, packets: &SyncSender<Packet>, spare: &Receiver<Batch>) {
    let mut at = maker.options.start;
    // Packets grow from one batch on, so that the first batch is there soon.
    let mut size = 1;
    let mut turn = 0;
    while maker.wanted(at) {
        let mine = turn == number;
        let mut packet = Vec::with_capacity(if mine { size } else { 0 });
        for _ in 0..size {
            if !maker.wanted(at) {
                break;
            }
            if mine {
                let batch = maker.make(at, spare.try_recv().ok());
                let failed = batch.is_err();
                packet.push(batch);
                if failed {
                    let _ = packets.send(packet);
                    return;
                }
            }
            at = maker.after(at);
        }
        // The receiver goes away when the loader is dropped, which ends the thread.
        if mine && packets.send(packet).is_err() {
            return;
        }
        turn = (turn + 1) % count;
        if turn == 0 {
            size = (size * 2).min(maker.packet);
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Without its channels a thread ends with the batch it is at.
        for worker in &mut self.workers {
            worker.packets = None;
            worker.spare = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
