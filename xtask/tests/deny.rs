//! The rules for dependencies find what they are there for.

use serde_json::{Value, json};
use xtask::deny::{Rules, check_packages};

const RULES: &str = r#"
[licenses]
allow = ["MIT", "Apache-2.0 WITH LLVM-exception"]
[bans]
deny = [{ crate = "bad", reason = "use good" }]
[sources]
allow-registry = ["https://registry.example"]
"#;

fn package(name: &str, license: Option<&str>, source: Option<&str>) -> Value {
    json!({ "name": name, "version": "1.0.0", "license": license, "source": source })
}

#[test]
fn every_rule_finds_its_package() {
    let rules: Rules = toml::from_str(RULES).unwrap();
    let good = Some("registry+https://registry.example");
    let packages = [
        package("ours", None, None),
        package("good", Some("MIT"), good),
        package("either", Some("GPL-3.0 OR MIT"), good),
        package("older", Some("GPL-3.0/MIT"), good),
        package("exception", Some("Apache-2.0 WITH LLVM-exception"), good),
        package("plain", Some("Apache-2.0"), good),
        package("both", Some("MIT AND GPL-3.0"), good),
        package("silent", None, good),
        package("odd", Some("as you like"), good),
        package("bad", Some("MIT"), good),
        package("git", Some("MIT"), Some("git+https://registry.example")),
        package("elsewhere", Some("MIT"), Some("registry+https://other.example")),
    ];
    let lock = "[[package]]\nname = \"plain\"\nversion = \"0.9.0\"\n\n[[package]]\nname = \"plain\"\nversion = \"1.0.0\"\n";
    let found = check_packages(&rules, &json!({ "packages": packages }), lock).unwrap();
    let told: Vec<String> = found.iter().map(|v| format!("{}: {}", v.line, v.problem)).collect();
    assert_eq!(
        told,
        [
            "6: `plain` 1.0.0 has the licence `Apache-2.0`",
            "1: `both` 1.0.0 has the licence `MIT AND GPL-3.0`",
            "1: `silent` 1.0.0 names no licence",
            "1: `odd` 1.0.0 has the licence `as you like`, which cannot be read: unknown term",
            "1: `bad` 1.0.0 is banned",
            "1: `git` 1.0.0 comes from git+https://registry.example",
            "1: `elsewhere` 1.0.0 comes from registry+https://other.example",
        ]
    );
}
