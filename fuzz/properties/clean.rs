//! The cleaning steps of a manifest, filter expressions included: a list that is accepted runs on any records, and
//! does the same once it was stored with a model and read back. The input is the list as JSON.

use outgrow_transform::steps::StepSpec;
use outgrow_transform::{Chain, ChainFit, Column, ColumnKind, Columns, Record, Run, Value};

pub fn check(data: &[u8]) {
    let Ok(specs) = serde_json::from_slice::<Vec<StepSpec>>(data) else { return };
    let column = |(name, kind): (&str, ColumnKind)| Column::new(name, kind);
    let kinds = [("age", ColumnKind::Number), ("job", ColumnKind::Text), ("photo", ColumnKind::Image)];
    let columns = Columns(kinds.into_iter().map(column).collect());
    let fit = match ChainFit::new(&specs, &columns) {
        Ok(fit) => fit,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    // A step may learn nothing that it could use, or meet a value that it cannot work on.
    let Some(chain) = fitted(fit) else { return };
    let stored = serde_json::to_string(&chain).expect("what was fitted can be stored");
    let back: Chain = serde_json::from_str(&stored).unwrap_or_else(|e| panic!("{e}: {stored}"));
    assert_eq!(back, chain);
    let width = chain.columns(&columns).0.len();
    for (i, record) in records().into_iter().enumerate() {
        let (mut one, mut other) = (record.clone(), record);
        let stays = chain.prepare(&mut one, i as u128, &mut Run::default()).ok();
        assert_eq!(back.prepare(&mut other, i as u128, &mut Run::default()).ok(), stays);
        assert!(stays.is_none() || one == other);
        assert!(
            stays != Some(true) || one.values.len() == width,
            "{} values, {width} columns",
            one.values.len()
        );
    }
}

fn fitted(mut fit: ChainFit) -> Option<Chain> {
    while !fit.is_complete() {
        fit.begin_pass().ok()?;
        for (i, record) in records().into_iter().enumerate() {
            fit.see(record, i as u128).ok()?;
        }
        fit.end_pass().ok()?;
    }
    Some(fit.finish())
}

fn records() -> Vec<Record> {
    let ages = [Value::Missing, Value::Number(0.0), Value::Number(31.0), Value::Number(-1.5e300)];
    let jobs = [Value::Missing, Value::Text("clerk".into()), Value::Text("17".into())];
    let values = ages
        .iter()
        .flat_map(|age| jobs.iter().map(move |job| vec![age.clone(), job.clone(), Value::Missing]));
    values.map(|values| Record { values, origin: Default::default() }).collect()
}
