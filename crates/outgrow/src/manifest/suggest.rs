//! The nearest known word to a misspelt one.

use strsim::osa_distance;

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
                if synonym == Some(candidate) { 0 } else { osa_distance(&plain, &normalise(candidate)) };
            // A word of which most letters change is another word.
            (distance <= limit && distance < plain.len().max(1)).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normalise(word: &str) -> String {
    word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
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
}
