//! The nearest known word to a misspelt one.

/// Words that people bring from other systems, and what they are called here.
const SYNONYMS: &[(&str, &str)] = &[
    ("learning_rate", "lr"),
    ("batch_size", "batch"),
    ("num_epochs", "epochs"),
    ("n_epochs", "epochs"),
    ("max_epochs", "epochs"),
    ("max_steps", "steps"),
    ("optimiser", "optimizer"),
    ("optim", "optimizer"),
    ("scheduler", "schedule"),
    ("lr_scheduler", "schedule"),
    ("criterion", "loss"),
    ("random_seed", "seed"),
    ("random_state", "seed"),
    ("dtype", "precision"),
    ("linear", "dense"),
    ("fc", "dense"),
    ("units", "dense"),
    ("conv2d", "conv"),
    ("filters", "conv"),
    ("kernel_size", "kernel"),
    ("batchnorm", "batch_norm"),
    ("layernorm", "layer_norm"),
    ("maxpool", "max_pool"),
    ("avgpool", "avg_pool"),
    ("gradient_clip", "clip_norm"),
    ("max_grad_norm", "clip_norm"),
    ("grad_accum", "micro_shards"),
    ("gradient_accumulation_steps", "micro_shards"),
    ("n_layer", "layers"),
    ("n_head", "heads"),
    ("n_embd", "width"),
];

/// The known word nearest to `word`, if one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let plain = normalise(word);
    let limit = (plain.len() / 3).clamp(1, 3);
    let snake = word.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == snake).map(|(_, ours)| *ours);
    known
        .into_iter()
        .filter_map(|candidate| {
            let distance =
                if synonym == Some(candidate) { 0 } else { edit_distance(&plain, &normalise(candidate)) };
            // A word of which most letters change is another word.
            (distance <= limit && distance < plain.len().max(1)).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normalise(word: &str) -> Vec<char> {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, above, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let substitution = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substitution.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["epochs", "batch", "lr", "optimizer", "micro_shards", "warmup_steps"];
        for (word, expect) in [
            ("epoch", Some("epochs")),
            ("epcohs", Some("epochs")),
            ("Batch", Some("batch")),
            ("micro-shard", Some("micro_shards")),
            ("optimiser", Some("optimizer")),
            ("learning_rate", Some("lr")),
            ("warmupsteps", Some("warmup_steps")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expect, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, expect) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            let chars = |word: &str| word.chars().collect::<Vec<_>>();
            assert_eq!(edit_distance(&chars(a), &chars(b)), expect, "{a} {b}");
        }
    }
}
