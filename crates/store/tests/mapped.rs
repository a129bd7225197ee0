//! Mapped safetensors files are used without being read whole, and refused when they are damaged. These tests are
//! alone in their process, because one looks at how much memory that has.

use outgrow_env::{LocalStorage, StorageBackend};
use outgrow_ir::{Builder, InputRole, TensorType};
use outgrow_runtime::{CompileOptions, CpuBackend, ThreadPool, compile, run_tensors};
use outgrow_store::safetensors::{parse, read, to_bytes};
use outgrow_tensor::{DType, Tensor};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// Elements of a row of the large table: 1 KiB.
const WIDTH: usize = 256;
/// Rows of the large table: together 2 GiB.
const ROWS: usize = 1 << 21;

/// Bytes of this process that are in memory; nothing where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

/// Writes the large table: zeros, which take no room on most disks, but for some rows that hold their own number.
fn write_table(path: &Path, rows: &[usize]) -> u64 {
    let header = format!(
        r#"{{"table":{{"dtype":"F32","shape":[{ROWS},{WIDTH}],"data_offsets":[0,{}]}}}}"#,
        4 * ROWS * WIDTH
    );
    let header = format!("{header:<0$}", header.len().next_multiple_of(8));
    let start = 8 + header.len() as u64;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for row in rows {
        file.seek(SeekFrom::Start(start + (4 * row * WIDTH) as u64)).unwrap();
        file.write_all(&(*row as f32).to_le_bytes().repeat(WIDTH)).unwrap();
    }
    file.set_len(start + (4 * ROWS * WIDTH) as u64).unwrap();
    start
}

/// Looks up rows of a 2 GiB table in its file: a program runs on the mapped bytes, of which it reads what it needs.
#[test]
fn two_gigabytes_are_used_without_being_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.safetensors");
    let rows = [0, 1, ROWS / 3, ROWS - 1];
    let start = write_table(&path, &rows);
    let before = resident();

    let storage = LocalStorage::new();
    let file = storage.map(&path).unwrap();
    let table = parse(file.clone()).unwrap().tensors.remove("table").unwrap();
    assert_eq!(
        table.as_bytes().as_ptr(),
        file[start as usize..].as_ptr(),
        "the elements lie in the mapped file"
    );
    let mut b = Builder::new("lookup");
    let from = b.input("table", InputRole::Data, TensorType::new(DType::F32, [ROWS, WIDTH]));
    let index = b.input("index", InputRole::Data, TensorType::new(DType::I32, [rows.len()]));
    let found = b.gather(from, index);
    b.output("found", found);
    let backend = CpuBackend::new(Arc::new(ThreadPool::new(1)));
    let program = compile(&backend, &b.finish().unwrap(), 1, &CompileOptions::default()).unwrap();
    let index = Tensor::vector(rows.map(|row| row as i32).to_vec());
    let found = run_tensors(&backend, &program, &[table, index]).unwrap().remove(0);
    let expected = Tensor::from_f64(DType::F32, [rows.len(), WIDTH], |i| rows[i / WIDTH] as f64);
    assert_eq!(found, expected);

    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes more in memory, of a file of {}", file.len());
    }

    // Cut short by its last byte, it is refused by its header alone.
    drop(program);
    drop(file);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(start + (4 * ROWS * WIDTH) as u64 - 1)
        .unwrap();
    let problem = parse(storage.map(&path).unwrap()).unwrap_err();
    assert_eq!(problem.0[0].code, "store.safetensors.bounds");
}

#[test]
fn damaged_mapped_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (storage, path) = (LocalStorage::new(), folder.path().join("w.safetensors"));
    let tensors = BTreeMap::from([
        ("a".to_owned(), Tensor::from_f64(DType::F32, [300, 100], |i| i as f64)),
        ("b".to_owned(), Tensor::from_f64(DType::Bool, [7], |i| i as f64 % 2.0)),
        ("c".to_owned(), Tensor::from_f64(DType::I64, [5], |i| i as f64)),
    ]);
    let valid = to_bytes(&tensors, &BTreeMap::new()).unwrap();
    storage.write(&path, &valid).unwrap();
    let mapped = storage.map(&path).unwrap();
    let found = parse(mapped.clone()).unwrap().tensors;
    assert_eq!((&found, &found), (&tensors, &read(&storage, &path).unwrap().tensors));
    let (file, elements) = (mapped.as_ptr_range(), found["a"].as_bytes().as_ptr_range());
    assert!(file.start < elements.start && elements.end < file.end, "the elements lie in the mapped file");

    let header = 8 + u64::from_le_bytes(valid[..8].try_into().unwrap()) as usize;
    let long = [valid.as_slice(), &[0]].concat();
    let changed = |at: usize, to: u8| {
        let mut bytes = valid.clone();
        bytes[at] = to;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("short", Vec::new()),
        ("short", valid[..7].to_vec()),
        ("header", valid[..8].to_vec()),
        ("header", valid[..header - 1].to_vec()),
        ("bounds", valid[..header].to_vec()),
        ("bounds", valid[..valid.len() / 2].to_vec()),
        ("bounds", valid[..valid.len() - 1].to_vec()),
        ("layout", long),
        ("header", changed(7, 1)),
        ("header", changed(8, b'[')),
    ];
    for (code, bytes) in cases {
        storage.write(&path, &bytes).unwrap();
        let problems = parse(storage.map(&path).unwrap()).expect_err(code);
        assert_eq!(
            problems.0[0].code,
            format!("store.safetensors.{code}"),
            "{} bytes: {problems}",
            bytes.len()
        );
    }
    assert_eq!(found, tensors, "what was mapped before stays");
}
