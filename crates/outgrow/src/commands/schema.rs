//! `outgrow schema`: the manifest's JSON schema, for editors and for people.

use crate::context::{Context, Failure};
use crate::manifest;

/// Prints the schema: indented, or on one line with `--json`.
pub fn run(context: &Context) -> Result<(), Failure> {
    let schema = manifest::json_schema();
    let text = if context.json { schema.to_string() } else { format!("{schema:#}") };
    Ok(context.print(&format!("{text}\n"))?)
}
