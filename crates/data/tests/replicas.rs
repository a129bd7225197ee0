//! Data that is kept in several places: damage and loss of copies, versions, and crashes in the middle of a commit.

// Errors only end a test.
#![allow(clippy::result_large_err)]

mod common;

use common::spec;
use outgrow_data::replicas::{CopyState, Replicas, StorageSpec, check, commit, prepare_replicated, repair};
use outgrow_data::{Dataset, LoaderOptions, PrepareOptions, Split};
use outgrow_env::{FolderPlace, Operation, Place, SimStorage, StorageBackend, StorageError};
use outgrow_ir::Diagnostics;
use outgrow_transform::Batch;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const PLACES: [&str; 3] = ["/disk-a", "/disk-b", "/disk-c"];

/// Three disks, each with faults of its own, and one for the cache.
struct World {
    disks: [Arc<SimStorage>; 3],
    cache: Arc<SimStorage>,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = |i: u64| Arc::new(SimStorage::new(seed * 10 + i));
        Self { disks: [disk(1), disk(2), disk(3)], cache: disk(4) }
    }

    fn replicas(&self, copies: usize) -> Replicas {
        let spec =
            StorageSpec { places: PLACES.map(str::to_owned).to_vec(), copies: Some(copies), name: None };
        let place = |name: &str| {
            let disk = self.disks[PLACES.iter().position(|p| *p == name).unwrap()].clone();
            Ok(Arc::new(FolderPlace::new(disk, Path::new(name))) as Arc<dyn Place>)
        };
        Replicas::new(&spec, "table", &place).unwrap()
    }

    /// What the cache's disk holds of a section.
    fn prepare(&self, section: &Value) -> Dataset {
        let storage: Arc<dyn StorageBackend> = self.cache.clone();
        let prepared = outgrow_data::prepare(&spec(section.clone()), &self.options()).unwrap();
        Dataset::open(storage, &prepared.folder).unwrap()
    }

    fn options(&self) -> PrepareOptions<'static> {
        PrepareOptions {
            storage: self.cache.clone(),
            remote: Arc::new(outgrow_env::NoRemote),
            roots: Vec::new(),
            cache: PathBuf::from("/cache"),
            seed: 1,
            threads: 2,
            progress: &|_| {},
        }
    }

    fn commit(&self, section: &Value, copies: usize) -> Result<u64, Diagnostics> {
        self.commit_data(&self.prepare(section), copies)
    }

    fn commit_data(&self, data: &Dataset, copies: usize) -> Result<u64, Diagnostics> {
        Ok(commit(&self.replicas(copies), data, 1, &|_, _| {})?.version.number)
    }

    /// The shards that a place holds, in a random but fixed order.
    fn shards(&self, place: usize) -> Vec<PathBuf> {
        let folder = Path::new(PLACES[place]).join("table/shards");
        match self.disks[place].list(&folder) {
            Ok(entries) => entries.iter().map(|e| folder.join(&e.name)).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// Enough records for three shards of training data.
fn table(offset: usize) -> Value {
    let rows: Vec<[usize; 2]> = (0..20_000).map(|i| [i + offset, i % 3]).collect();
    json!({
        "source": "rows", "rows": rows, "columns": ["x", "y"], "label": "y", "task": "classify",
        "split": { "validation": 0.0, "test": 0.0 },
    })
}

fn batches(data: &Dataset) -> Vec<Batch> {
    let loader = data.loader(Split::Train, LoaderOptions::evaluation(500)).unwrap_or_else(|d| panic!("{d}"));
    loader.map(|b| b.unwrap_or_else(|d| panic!("{d}"))).collect()
}

fn newest(replicas: &Replicas) -> Dataset {
    let (version, _) = replicas.newest();
    Dataset::open_version(replicas, &version.expect("there is a version")).unwrap()
}

fn flip(disk: &SimStorage, path: &Path) {
    disk.disk().corrupt(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
    });
}

#[test]
fn any_place_may_be_lost_or_damaged() {
    let world = World::new(1);
    let section = table(0);
    let expect = batches(&world.prepare(&section));
    assert_eq!(world.commit(&section, 2).unwrap(), 1);
    let replicas = world.replicas(2);
    let held: usize = (0..3).map(|i| world.shards(i).len()).sum();
    assert_eq!(held, 2 * 3, "two copies of each of three shards");
    assert_eq!(batches(&newest(&replicas)), expect);
    for (place, name) in PLACES.iter().enumerate() {
        let world = World::new(place as u64 + 2);
        world.commit(&section, 2).unwrap();
        let replicas = world.replicas(2);
        // Half of the shards of a place are damaged, the others are gone.
        for (i, shard) in world.shards(place).iter().enumerate() {
            if i % 2 == 0 {
                flip(&world.disks[place], shard)
            } else {
                world.disks[place].remove_file(shard).unwrap()
            }
        }
        let damaged = world.shards(place).len();
        let record = Path::new(name).join("table/versions/00000001.json");
        flip(&world.disks[place], &record);
        for memory in [0, u64::MAX] {
            let (version, faults) = replicas.newest();
            // Home is looked at first, so that a bad record elsewhere is not even seen.
            assert_eq!(faults.len(), usize::from(place == 0), "{faults:?}");
            let data = Dataset::open_version_with(&replicas, &version.unwrap(), memory).unwrap();
            assert_eq!(batches(&data), expect, "place {place} is damaged");
            let faults = data.faults();
            assert!(faults.len() <= damaged && faults.iter().all(|f| f.place == *name), "{faults:?}");
        }
        let (version, _) = replicas.newest();
        let version = version.unwrap();
        let before = check(&replicas, &version, &|_, _| {});
        assert!(!before.is_whole() && before.lost().is_empty());
        assert_eq!(before.records_missing, [*name]);
        let report = repair(&replicas, &version, &|_, _| {}).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert_eq!(report.restored, before.bad() + 1);
        assert!(check(&replicas, &version, &|_, _| {}).is_whole());
        let data = newest(&replicas);
        assert_eq!((batches(&data), data.faults().len()), (expect.clone(), 0));
    }
}

#[test]
fn a_place_that_goes_away_during_a_read_changes_nothing() {
    let world = World::new(7);
    let section = table(0);
    let expect = batches(&world.prepare(&section));
    world.commit(&section, 2).unwrap();
    let replicas = world.replicas(2);
    let (version, _) = replicas.newest();
    let away: [Arc<AtomicBool>; 3] = Default::default();
    let places = replicas.places.iter().zip(&away).map(|(place, away)| {
        Arc::new(Sometimes { place: place.clone(), away: away.clone() }) as Arc<dyn Place>
    });
    let replicas = Replicas { places: places.collect(), ..replicas.clone() };
    let data = Dataset::open_version_with(&replicas, &version.unwrap(), 0).unwrap();
    let options = LoaderOptions { read_ahead: 0, ..LoaderOptions::evaluation(500) };
    let mut loader = data.loader(Split::Train, options).unwrap();
    let mut got = Vec::new();
    // One place after the other goes away, and comes back before the next one does.
    for (i, away) in [3, 11, 29].into_iter().zip(&away) {
        while got.len() < i {
            got.push(loader.next().unwrap().unwrap());
        }
        away.store(true, Ordering::Relaxed);
        for _ in 0..8 {
            got.push(loader.next().unwrap().unwrap());
        }
        away.store(false, Ordering::Relaxed);
    }
    got.extend(loader.map(|b| b.unwrap()));
    assert_eq!(got, expect);
    let faults = data.faults();
    assert!(!faults.is_empty() && faults.iter().all(|f| f.problem.contains("away")), "{faults:?}");
}

/// A place that is there only sometimes.
#[derive(Debug)]
struct Sometimes {
    place: Arc<dyn Place>,
    away: Arc<AtomicBool>,
}

impl Sometimes {
    fn check(&self, key: &str) -> Result<(), StorageError> {
        if !self.away.load(Ordering::Relaxed) {
            return Ok(());
        }
        let error = std::io::Error::other("the place is away");
        Err(StorageError::from_io(Operation::Read, Path::new(key), error))
    }
}

impl Place for Sometimes {
    fn name(&self) -> &str {
        self.place.name()
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        self.check(key)?;
        self.place.read(key)
    }

    fn read_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        self.check(key)?;
        self.place.read_range(key, offset, length)
    }

    fn length(&self, key: &str) -> Result<Option<u64>, StorageError> {
        self.check(key)?;
        self.place.length(key)
    }

    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.check(key)?;
        self.place.write(key, bytes)
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, StorageError> {
        self.check(key)?;
        self.place.create(key, bytes)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        self.check(folder)?;
        self.place.list(folder)
    }
}

#[test]
fn without_a_good_copy_the_shard_is_named() {
    let world = World::new(1);
    world.commit(&table(0), 2).unwrap();
    let replicas = world.replicas(2);
    let lost = world.shards(0)[0].file_name().unwrap().to_owned();
    for (disk, name) in world.disks.iter().zip(PLACES) {
        let path = Path::new(name).join("table/shards").join(&lost);
        if disk.entry(&path).unwrap().is_some() {
            flip(disk, &path);
        }
    }
    let data = newest(&replicas);
    let error = data.loader(Split::Train, LoaderOptions::evaluation(9)).unwrap_err();
    assert_eq!(error.code, "data.shard.lost");
    assert!(error.problem.contains(lost.to_str().unwrap()), "{error}");
    let (version, _) = replicas.newest();
    let report = repair(&replicas, &version.unwrap(), &|_, _| {}).unwrap();
    assert_eq!((report.lost().len(), report.is_whole()), (1, false));
    assert!(report.lost()[0].copies.iter().any(|c| matches!(c, CopyState::Damaged(_))));
    // The source has it still.
    assert_eq!(world.commit(&table(0), 2).unwrap(), 1, "the data is the same, and so is the version");
}

#[test]
fn a_reader_keeps_its_version() {
    let world = World::new(1);
    let (first, second) = (table(0), table(5));
    world.commit(&first, 2).unwrap();
    let replicas = world.replicas(2);
    let (version, _) = replicas.newest();
    let old = Dataset::open_version_with(&replicas, &version.unwrap(), 0).unwrap();
    let options = LoaderOptions { read_ahead: 0, ..LoaderOptions::evaluation(500) };
    let mut loader = old.loader(Split::Train, options).unwrap();
    let mut got = vec![loader.next().unwrap().unwrap()];
    assert_eq!(world.commit(&second, 2).unwrap(), 2);
    assert_eq!(world.commit(&second, 2).unwrap(), 2, "nothing new");
    got.extend(loader.map(|b| b.unwrap()));
    assert_eq!(got, batches(&world.prepare(&first)));
    assert_eq!(batches(&newest(&replicas)), batches(&world.prepare(&second)));
    let pinned =
        prepare_replicated(&spec(second), &world.options(), &replicas, Some(old.fingerprint())).unwrap();
    assert_eq!((pinned.version.number, batches(&pinned.dataset)), (1, got));
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_version_or_the_new() {
    let cache = World::new(0);
    let [first, second] = [0, 5].map(|offset| cache.prepare(&table(offset)));
    let (old, new) = (batches(&first), batches(&second));
    let count = |disk: usize| {
        let world = World::new(1);
        world.commit_data(&first, 2).unwrap();
        let before = world.disks[disk].disk().operations();
        world.commit_data(&second, 2).unwrap();
        world.disks[disk].disk().operations() - before
    };
    let mut seen = [0, 0];
    for disk in 0..3 {
        for at in 1..=count(disk) {
            let world = World::new(100 + at);
            world.commit_data(&first, 2).unwrap();
            world.disks[disk].disk().crash_at_operation(Some(at));
            let _ = world.commit_data(&second, 2);
            assert!(world.disks[disk].disk().has_crashed(), "disk {disk} at {at}");
            world.disks[disk].disk().restart();
            let replicas = world.replicas(2);
            let data = newest(&replicas);
            let got = batches(&data);
            assert!(got == old || got == new, "crash of disk {disk} at {at}");
            seen[usize::from(got == new)] += 1;
            assert!(
                world.commit_data(&second, 2).is_ok(),
                "crash of disk {disk} at {at}: the next try succeeds"
            );
            assert_eq!(batches(&newest(&replicas)), new);
            let (version, _) = replicas.newest();
            repair(&replicas, &version.unwrap(), &|_, _| {}).unwrap();
        }
    }
    assert!(seen[0] > 3 && seen[1] > 3, "both happen: {seen:?}");
}

#[test]
fn where_the_source_is_gone_the_version_of_the_same_section_serves() {
    let world = World::new(1);
    let csv: String = (0..300).map(|i| format!("{i},{}\n", i % 2)).collect();
    world.cache.create_folder(Path::new("/in")).unwrap();
    world.cache.write(Path::new("/in/t.csv"), csv.as_bytes()).unwrap();
    let section = |validation: f64| {
        spec(
            json!({ "source": "csv", "files": "/in/t.csv", "columns": ["x", "y"], "label": "y", "task": "classify",
            "split": { "validation": validation } }),
        )
    };
    let replicas = world.replicas(3);
    let made = prepare_replicated(&section(0.1), &world.options(), &replicas, None).unwrap();
    assert!(!made.prepared.reused);
    world.cache.remove_file(Path::new("/in/t.csv")).unwrap();
    world.cache.remove_tree(Path::new("/cache")).unwrap();
    let found = prepare_replicated(&section(0.1), &world.options(), &replicas, None).unwrap();
    assert!(found.prepared.reused && found.version.number == 1);
    assert_eq!(batches(&found.dataset), batches(&made.dataset));
    let other = prepare_replicated(&section(0.2), &world.options(), &replicas, None).unwrap_err();
    assert_eq!(other.0[0].code, "data.not-found");
    let seed = PrepareOptions { seed: 2, ..world.options() };
    assert!(prepare_replicated(&section(0.1), &seed, &replicas, None).is_err());
}
