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
    pub fn start(maker: &Arc<Maker>) -> Result<Self, Diagnostic> {
        let count = maker.options.threads.max(1);
        let workers = (0..count).map(|number| Worker::start(maker.clone(), number, count));
        Ok(Self { workers: workers.collect::<Result<_, _>>()?, turn: 0, spare_turn: 0 })
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
    fn start(maker: Arc<Maker>, number: usize, count: usize) -> Result<Self, Diagnostic> {
        let (packets_in, packets) = sync_channel(maker.options.read_ahead);
        let (spare, spare_out) = sync_channel(SPARE_BATCHES);
        let run = move || work(&maker, number, count, &packets_in, &spare_out);
        let thread =
            std::thread::Builder::new().name(format!("loader-{number}")).spawn(run).map_err(|e| {
                Diagnostic::new("data.thread", format!("the loader's thread cannot be started: {e}"))
            })?;
        Ok(Self { packets: Some(packets), spare: Some(spare), thread: Some(thread) })
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
