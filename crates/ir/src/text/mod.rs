//! The text form of graphs: it prints and parses back to the very same graph.

mod lex;
mod parse;
mod print;
