//! Reading manifests: what is accepted, and what is said about mistakes, word for word.

use std::path::Path;

use expect_test::{Expect, expect};
use outgrow::manifest::{self, Manifest};
use outgrow_train::spec::Precision;

const DATA: &str = "[data]\nsource = \"synthetic:glyphs\"\n";
const MODEL: &str = "[model]\nlayers = [{ dense = 10, activation = \"softmax\" }]\n";
const TRAIN: &str = "[train]\nepochs = 3\n";

fn good() -> String {
    format!("{DATA}{MODEL}{TRAIN}")
}

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

fn read(text: &str, set: &[&str]) -> Manifest {
    manifest::parse_with(text, Some(Path::new("m.toml")), &flags(set))
        .unwrap_or_else(|found| panic!("{found}"))
}

fn refused(text: &str, set: &[&str], expect: Expect) {
    let found =
        manifest::parse_with(text, Some(Path::new("m.toml")), &flags(set)).expect_err("a mistake is found");
    expect.assert_eq(&format!("{found}\n"));
}

#[test]
fn a_good_manifest_reads_and_so_does_what_it_resolves_to() {
    let first = read(&good(), &["seed=7", "train.optimizer={ name = \"sgd\" }"]);
    assert_eq!((first.name.as_str(), first.seed), ("m", 7));
    let second = read(&first.resolved_toml(None), &[]);
    assert_eq!(first.fingerprint(None), second.fingerprint(None));
    assert_eq!((first.model, first.train), (second.model, second.train));
}

#[test]
fn unknown_keys_get_the_nearest_known_one() {
    let text =
        format!("sed = 3\n{DATA}{MODEL}inti = \"zeros\"\n[train]\nepoch = 3\nbatch_size = 3\ncolour = 1\n");
    refused(
        &text,
        &[],
        expect![[r#"
            m.toml:1:1: sed: unknown key `sed` [manifest.unknown-key]
              help: did you mean `seed`?
            m.toml:6:1: model.inti: unknown key `inti` [manifest.unknown-key]
              help: did you mean `init`?
            m.toml:8:1: train.epoch: unknown key `epoch` [manifest.unknown-key]
              help: did you mean `epochs`?
            m.toml:9:1: train.batch_size: unknown key `batch_size` [manifest.unknown-key]
              help: did you mean `batch`?
            m.toml:10:1: train.colour: unknown key `colour` [manifest.unknown-key]
              expected: one of the keys epochs, steps, batch, micro_shards, optimizer, lr, weight_decay, param_groups, schedule, warmup_steps, clip_norm, clip_value, loss, label_smoothing, decision_threshold, early_stopping, checkpoint_every_steps, checkpoint_every_seconds, keep_checkpoints, drop_last, shuffle, sampling, class_weights, eval_every_epochs, eval_every_steps, log_every_steps, precision
        "#]],
    );
}

#[test]
fn wrong_values_are_named_with_what_was_expected() {
    let text = format!(
        "{DATA}{MODEL}[train]\nepochs = \"3\"\nbatch = 0\nmicro_shards = 1.0\nlr = -0.5\nloss = \"cross_entropy\"\n\
         optimizer = \"adm\"\nschedule = {{ name = \"cosin\" }}\nshuffle = \"true\"\nclip_norm = [1]\n\
         early_stopping = {{ metric = 3, patience = 5000000000 }}\n"
    );
    refused(
        &text,
        &[],
        expect![[r#"
        m.toml:6:10: train.epochs: `epochs` cannot be "3" [manifest.value]
          expected: an integer of 1 or more
          help: remove the quotes: 3
        m.toml:7:9: train.batch: `batch` cannot be 0 [manifest.value]
          expected: an integer of 1 or more
        m.toml:8:16: train.micro_shards: `micro_shards` cannot be 1.0 [manifest.value]
          expected: an integer of 1 or more
          help: write 1
        m.toml:9:6: train.lr: `lr` cannot be -0.5 [manifest.value]
          expected: a number greater than 0
        m.toml:10:8: train.loss: `loss` cannot be "cross_entropy" [manifest.value]
          expected: one of "auto", "cross-entropy", "logistic", "focal", "mse", "mae", "huber" or a table
          help: did you mean "cross-entropy"?
        m.toml:11:13: train.optimizer: `optimizer` cannot be "adm" [manifest.value]
          expected: one of "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "ftrl", "lamb" or a table
          help: did you mean "adam"?
        m.toml:12:21: train.schedule.name: `name` cannot be "cosin" [manifest.value]
          expected: one of "constant", "step", "cosine", "one-cycle", "coslog", "plateau"
          help: did you mean "cosine"?
        m.toml:13:11: train.shuffle: `shuffle` cannot be "true" [manifest.value]
          expected: true or false
          help: remove the quotes: true
        m.toml:14:13: train.clip_norm: `clip_norm` cannot be an array [manifest.value]
          expected: a number greater than 0
        m.toml:15:29: train.early_stopping.metric: `metric` cannot be 3 [manifest.value]
          expected: one of "loss", "accuracy", "top5", "auc", "f1", "f1_weighted", "precision", "recall", "log_loss", "rmse", "mae", "r2", "perplexity"
        m.toml:15:43: train.early_stopping.patience: `patience` cannot be 5000000000 [manifest.value]
          expected: at most 4294967295
    "#]],
    );
}

#[test]
fn layers_are_told_apart_by_their_keys() {
    let text = format!(
        "{DATA}[model]\nlayers = [\n  {{ dens = 10, activation = \"relu\" }},\n  {{ conv = 3, kernl = 3 }},\n  {{ conv = 3 }},\n  \
         {{ kernel = 3 }},\n  {{ foo = 1 }},\n  {{}},\n  {{ flatten = false }},\n  {{ dropout = 1.0 }},\n  \
         {{ conv = 4, kernel = [3, 3, 3] }},\n  {{ conv = 4, kernel = 3, padding = \"smae\" }},\n  \
         {{ residual = [{{ dense = 1, units = 3 }}] }},\n  \"relu\",\n]\n{TRAIN}"
    );
    refused(
        &text,
        &[],
        expect![[r#"
        m.toml:5:5: model.layers[0].dens: unknown key `dens` [manifest.unknown-key]
          help: did you mean `dense`?
        m.toml:6:15: model.layers[1].kernl: unknown key `kernl` [manifest.unknown-key]
          help: did you mean `kernel`?
        m.toml:7:3: model.layers[2]: `kernel` is missing [manifest.missing-key]
          expected: `kernel`: an integer of 1 or more or an array of 2. Height and width of the window: one number for both, or `[height, width]`.
        m.toml:8:3: model.layers[3]: `conv` is missing [manifest.missing-key]
          expected: `conv`: an integer of 1 or more. The number of output channels.
        m.toml:9:5: model.layers[4]: unknown key `foo` [manifest.unknown-key]
          expected: one of the keys `dense`, `conv`, `max_pool`, `avg_pool`, `global_avg_pool`, `flatten`, `dropout`, `batch_norm`, `layer_norm`, `residual`, `embedding`, `activation`
        m.toml:10:3: model.layers[5]: an empty table says nothing [manifest.unknown-key]
          expected: one of the keys `dense`, `conv`, `max_pool`, `avg_pool`, `global_avg_pool`, `flatten`, `dropout`, `batch_norm`, `layer_norm`, `residual`, `embedding`, `activation`
        m.toml:11:15: model.layers[6].flatten: `flatten` cannot be false [manifest.value]
          expected: true
        m.toml:12:15: model.layers[7].dropout: `dropout` cannot be 1.0 [manifest.value]
          expected: a number from 0 up to, but not including, 1
        m.toml:13:24: model.layers[8].kernel: `kernel` has 3 items [manifest.value]
          expected: an integer of 1 or more or an array of 2
        m.toml:14:37: model.layers[9].padding: `padding` cannot be "smae" [manifest.value]
          expected: one of "same", "valid", an integer of 0 or more or an array of 2
          help: did you mean "same"?
        m.toml:15:30: model.layers[10].residual[0].units: unknown key `units` [manifest.unknown-key]
          expected: one of the keys dense, bias, activation
        m.toml:16:3: model.layers[11]: `layers[11]` cannot be "relu" [manifest.value]
          expected: a table
    "#]],
    );
}

#[test]
fn named_models_are_told_apart_by_name() {
    for (model, expect) in [
        (
            "name = \"resnet19\"",
            expect![[r#"
                m.toml:4:8: model.name: `name` cannot be "resnet19" [manifest.value]
                  expected: one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
                  help: did you mean "resnet18"?
            "#]],
        ),
        (
            "nam = \"mlp\"\nhidden = [3]",
            expect![[r#"
            m.toml:4:1: model.name: unknown key `nam` [manifest.unknown-key]
              help: did you mean `name`?
        "#]],
        ),
        (
            "name = \"mlp\"\nhiden = [3]",
            expect![[r#"
            m.toml:5:1: model.hiden: unknown key `hiden` [manifest.unknown-key]
              help: did you mean `hidden`?
        "#]],
        ),
        (
            "name = \"mlp\"",
            expect![[r#"
            m.toml:3:2: model: `hidden` is missing [manifest.missing-key]
              expected: `hidden`: an array. The widths of the hidden layers; the output layer comes from the data.
        "#]],
        ),
        (
            "hidden = [3]",
            expect![[r#"
                m.toml:3:2: model: `layers` or `name` is missing [manifest.missing-key]
                  expected: `name` is one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
            "#]],
        ),
        (
            "",
            expect![[r#"
                m.toml:3:2: model: `layers` or `name` is missing [manifest.missing-key]
                  expected: `name` is one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
            "#]],
        ),
        (
            "name = \"mlp\"\nhidden = [3]\nlayers = []",
            expect![[r#"
            m.toml:6:1: model.layers: unknown key `layers` [manifest.unknown-key]
              expected: one of the keys weights, head, freeze, init, name, hidden, activation, dropout
        "#]],
        ),
        (
            "layers = []",
            expect![[r#"
            m.toml:4:10: model.layers: `layers` has 0 items [manifest.value]
              expected: an array of 1 or more
        "#]],
        ),
        (
            "layers = 4",
            expect![[r#"
            m.toml:4:10: model.layers: `layers` cannot be 4 [manifest.value]
              expected: an array of 1 or more
              help: put it in brackets: [ ... ]
        "#]],
        ),
        (
            "name = 4",
            expect![[r#"
                m.toml:4:8: model.name: `name` cannot be 4 [manifest.value]
                  expected: one of "linear", "logistic", "mlp", "realmlp", "lenet", "resnet18", "resnet34", "resnet50", "gpt", "wide-deep", "onnx"
            "#]],
        ),
    ] {
        refused(&format!("{DATA}[model]\n{model}\n{TRAIN}"), &[], expect);
    }
}

#[test]
fn sections_that_are_missing_or_not_there_yet() {
    let text = format!("{DATA}{TRAIN}[compress]\nworkers = 4\n[limits]\nmemory = 2\n[serv]\n");
    refused(
        &text,
        &[],
        expect![[r#"
            m.toml:1:1: section `[model]` is missing [manifest.missing-key]
              expected: The model.
            m.toml:5:2: compress: `[compress]` is not available yet [manifest.reserved]
              expected: the sections [data], [model], [train], [limits], [cluster] and [report]
              help: remove the section; it is kept for pruning, quantisation and distillation, which this version cannot do
            m.toml:8:1: limits.memory: unknown key `memory` [manifest.unknown-key]
              expected: one of the keys memory_gib_max
            m.toml:9:2: serv: unknown key `serv` [manifest.unknown-key]
              expected: one of the keys extends, name, seed, data, model, train, limits, cluster, report
        "#]],
    );
    refused(
        "",
        &[],
        expect![[r#"
        m.toml:1:1: section `[data]` is missing [manifest.missing-key]
          expected: Where the data comes from, how it is cleaned and split.
        m.toml:1:1: section `[model]` is missing [manifest.missing-key]
          expected: The model.
        m.toml:1:1: section `[train]` is missing [manifest.missing-key]
          expected: How it is trained.
    "#]],
    );
    refused(
        "data = 3\nmodel = []\ntrain = \"x\"\n",
        &[],
        expect![[r#"
        m.toml:1:8: data: `data` cannot be 3 [manifest.value]
          expected: a table
        m.toml:2:9: model: `model` cannot be an array [manifest.value]
          expected: a table
        m.toml:3:9: train: `train` cannot be "x" [manifest.value]
          expected: a table
    "#]],
    );
}

#[test]
fn contradictions_point_at_their_keys() {
    let text = format!(
        "{DATA}[model]\nname = \"gpt\"\nheads = 3\nwidth = 64\n[train]\nsteps = 5\nepochs = 3\nbatch = 12\nmicro_shards = 8\n"
    );
    refused(
        &text,
        &[],
        expect![[r#"
        m.toml:5:9: model.heads: a width of 64 cannot be shared by 3 heads [manifest.model.heads]
          expected: a number of heads that divides `width`
          help: with this width, 1, 2, 4 or 8 would do
        m.toml:8:9: train.steps: both `epochs` and `steps` are given [manifest.train.both]
          expected: exactly one of them
          help: remove `epochs` or `steps`
        m.toml:11:16: train.micro_shards: a batch of 12 cannot be cut into 8 equal parts [manifest.train.micro-shards]
          expected: a power of two that divides `batch`
          help: with a batch of 12, 1, 2 or 4 would do
    "#]],
    );
}

#[test]
fn mistakes_in_the_syntax_point_at_their_place() {
    refused(
        "[data\nsource = 3\n[model]\nx = \n",
        &[],
        expect![[r#"
        m.toml:1:6: unclosed table, expected `]` [manifest.syntax]
          expected: TOML: `key = value`, `[section]`
        m.toml:4:5: string values must be quoted, expected literal string [manifest.syntax]
          expected: TOML: `key = value`, `[section]`
    "#]],
    );
    refused(
        &good().replace("epochs = 3", "epochs = 3\nepochs = 4\nlr = nan"),
        &[],
        expect![[r#"
        m.toml:7:1: duplicate key [manifest.syntax]
          expected: TOML: `key = value`, `[section]`
        m.toml:8:6: a number that is not finite [manifest.value]
          expected: a string, a finite number, true, false, an array or a table
    "#]],
    );
}

#[test]
fn flags_change_any_key() {
    let manifest = read(
        &good(),
        &[
            "train.epochs=",
            "train.steps=7",
            "model.layers[0].dense=64",
            "train.schedule.name=cosine",
            "name=a b",
            "train.lr=1e-2",
        ],
    );
    let resolved = manifest.resolved(None);
    assert_eq!(resolved["train"]["steps"], 7);
    assert_eq!(resolved["train"]["epochs"], serde_json::Value::Null);
    assert_eq!(resolved["model"]["layers"][0]["dense"], 64);
    assert_eq!((manifest.name.as_str(), manifest.train.lr), ("a b", 0.01));
}

#[test]
fn flags_are_named_in_diagnostics() {
    refused(
        &good(),
        &["train.epochs=abc", "train.batsh=3", "train.steps=4"],
        expect![[r#"
        train.epochs (--set train.epochs=abc): `epochs` cannot be "abc" [manifest.value]
          expected: an integer of 1 or more
        train.batsh (--set train.batsh=3): unknown key `batsh` [manifest.unknown-key]
          help: did you mean `batch`?
    "#]],
    );
    refused(
        &good(),
        &["train.epochs", "a..b=1", "train.epochs.x=1", "model.layers[3].dense=1", "train.lr=[1"],
        expect![[r#"
        --set train.epochs: a `--set` flag has no `=` [manifest.set]
          expected: --set key=value, such as --set train.epochs=1
        --set a..b=1: `a..b` is no path of a key [manifest.set]
          expected: keys with dots between them and indices in brackets, as in model.layers[0].dense
        train.epochs.x (--set train.epochs.x=1): what stands before `x` is no table [manifest.set]
          help: set the whole value instead, as in --set 'train.schedule={ name = "cosine", min_lr = 1e-5 }'
        model.layers[3].dense (--set model.layers[3].dense=1): there is no item 3 in an array of 1 [manifest.set]
          expected: an index below 1
        --set train.lr=[1: unclosed array, expected `]` [manifest.set]
          expected: a TOML value, such as 1, 0.5, true, "text", [1, 2] or { name = "adam" }
          help: put the whole flag in single quotes, so that the shell leaves it alone
    "#]],
    );
    refused(
        &good(),
        &["train.steps=4"],
        expect![[r#"
        train.steps (--set train.steps=4): both `epochs` and `steps` are given [manifest.train.both]
          expected: exactly one of them
          help: remove `epochs` or `steps`
    "#]],
    );
}

#[test]
fn the_fingerprint_counts_what_the_result_depends_on() {
    let base = read(&good(), &[]).fingerprint(None);
    for (flag, same) in [
        ("train.checkpoint_every_steps=5", true),
        ("name=other", true),
        ("train.batch=32", true),
        ("train.batch=64", false),
        ("seed=1", false),
        ("model.init=zeros", false),
    ] {
        assert_eq!(read(&good(), &[flag]).fingerprint(None) == base, same, "{flag}");
    }
}

#[test]
fn nothing_from_outside_panics() {
    let good = good();
    // Every prefix, and every line doubled or left out.
    for end in (0..good.len()).filter(|end| good.is_char_boundary(*end)) {
        let _ = manifest::parse(&good[..end]);
    }
    let lines: Vec<_> = good.lines().collect();
    for i in 0..lines.len() {
        for changed in [[&lines[..i], &lines[i + 1..]].concat(), [&lines[..=i], &lines[i..]].concat()] {
            let _ = manifest::parse(&changed.join("\n"));
        }
    }
    let deep = format!("{DATA}[model]\nlayers = {}{}\n{TRAIN}", "[".repeat(5000), "]".repeat(5000));
    assert!(manifest::parse(&deep).is_err());
    let many: String = (0..200_000).map(|i| format!("key{i} = {i}\n")).collect();
    assert!(manifest::parse(&format!("{DATA}{MODEL}{TRAIN}{many}")).unwrap_err().0.len() < 100);
    let path = format!("{}=1", vec!["a"; 50_000].join("."));
    assert!(manifest::parse_with(&good, None, &[path]).is_err());
    let nested = format!("{}{{ flatten = true }}{}", "{ residual = [".repeat(12), "] }".repeat(12));
    assert!(manifest::parse(&format!("{DATA}[model]\nlayers = [{nested}]\n{TRAIN}")).is_err());
}

#[test]
fn precisions_are_named_and_auto_stands_for_what_was_chosen() {
    refused(
        &format!("{}precision = \"bf16x2\"\n", good()),
        &[],
        expect![[r#"
            m.toml:7:13: train.precision: `precision` cannot be "bf16x2" [manifest.value]
              expected: one of "f32", "bf16x3", "bf16", "auto"
              help: did you mean "bf16x3"?
        "#]],
    );
    let mut asked = read(&good(), &["train.precision=auto"]);
    // It is written with what it asks for, until somebody chooses.
    let open = read(&asked.resolved_toml(None), &[]);
    assert_eq!((open.asked_precision(), open.fingerprint(None)), (Precision::Auto, asked.fingerprint(None)));
    for chosen in [Precision::Bf16x3, Precision::F32] {
        asked.choose_precision(|asked| if asked == Precision::Auto { chosen } else { asked });
        assert_eq!((asked.train.precision, asked.asked_precision()), (chosen, Precision::Auto));
        // Who reads that has the choice, and makes none.
        let mut kept = read(&asked.resolved_toml(None), &[]);
        kept.choose_precision(|asked| if asked == Precision::Auto { Precision::F32 } else { asked });
        assert_eq!((kept.train.precision, kept.asked_precision()), (chosen, chosen));
        assert_eq!(kept.fingerprint(None), asked.fingerprint(None));
        let [open, kept] = [&asked, &kept].map(|one| one.fingerprints(None));
        assert!(
            kept.iter().all(|print| open.contains(print)),
            "a run of either choice is one of this manifest"
        );
        assert_eq!((open.len(), kept.len()), (4, 2));
    }
}
