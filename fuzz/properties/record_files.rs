//! Files of records that are read through a storage, NumPy archives and Arrow: what is accepted gives records that fit
//! its columns, and the same ones again.

use outgrow_data::files::Finder;
use outgrow_data::source::{self, Context, Opened, Part};
use outgrow_data::{DataSpec, Files, Names};
use outgrow_env::{SimStorage, StorageBackend};
use outgrow_transform::{ColumnKind, Record, Value};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More records than this are not looked at: a few compressed bytes may stand for very many.
const RECORDS: usize = 1000;

pub fn npz(data: &[u8]) {
    check("npy", "x.npz", data);
}

pub fn arrow(data: &[u8]) {
    check("arrow", "x.arrow", data);
}

fn check(kind: &str, name: &str, data: &[u8]) {
    let storage = SimStorage::new(0);
    let root = PathBuf::from("/data");
    storage.create_folder(&root).expect("a folder can be made");
    storage.write(&root.join(name), data).expect("a file can be written");
    let storage: Arc<dyn StorageBackend> = Arc::new(storage);
    let first = records(kind, name, &root, &storage);
    if let Some(first) = first {
        assert!(
            records(kind, name, &root, &storage).as_ref() == Some(&first),
            "reading again gives the same"
        );
    }
}

fn records(kind: &str, name: &str, root: &Path, storage: &Arc<dyn StorageBackend>) -> Option<Vec<Record>> {
    let roots = [root.to_path_buf()];
    let finder = Finder { storage: storage.clone(), roots: &roots, web: None };
    let files = Some(Files::One(name.into()));
    let label = (kind == "arrow").then(|| Names::One("label".into()));
    let spec = DataSpec { source: kind.into(), files, label, ..DataSpec::default() };
    let source = match source::open(
        &spec,
        &Context { finder, seed: 0, threads: 1, temporary: PathBuf::new(), kinds: Default::default() },
    ) {
        Ok(Opened::Records(source)) => source,
        Ok(_) => unreachable!("it is a source of records"),
        Err(found) => {
            assert!(found.0.iter().all(|d| !d.problem.is_empty()), "a refusal says why");
            return None;
        }
    };
    let mut all = Vec::new();
    for record in source.records(Part::Train).ok()?.take(RECORDS) {
        let Ok(record) = record else { break };
        assert_eq!(record.values.len(), source.columns().0.len());
        for (value, column) in record.values.iter().zip(&source.columns().0) {
            let fits = match value {
                Value::Missing => true,
                Value::Number(n) => !n.is_nan() && column.kind == ColumnKind::Number,
                Value::Text(_) => column.kind == ColumnKind::Text,
                Value::Encoded(_) | Value::Pixels(_) => column.kind == ColumnKind::Image,
                Value::Category(_) => false,
            };
            assert!(fits, "{value:?} in column `{}`", column.name);
        }
        all.push(record);
    }
    Some(all)
}
