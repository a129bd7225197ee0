//! Graph to graph passes: gradient, simplification, fusion.
