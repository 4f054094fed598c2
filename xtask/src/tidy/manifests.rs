//! Rules for the Cargo.toml files: one version of everything, in the root; nothing listed that is not used.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Context;
use toml::Table;

use crate::workspace::{Member, Workspace};

/// One line for each package from outside, why it is here.
const REASONS: &str = "docs/dependencies.md";

/// All complaints about the manifests.
pub(super) fn check(root: &Path, workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let mut used = BTreeSet::new();
    for (name, member) in &workspace.members {
        let manifest = read(&member.dir)?;
        complaints.extend(member_complaints(name, &manifest));
        complaints.extend(unused_dependencies(name, member)?);
        used.extend(tables(&manifest).flat_map(Table::keys).cloned());
    }
    let manifest = read(root)?;
    let listed =
        manifest.get("workspace").and_then(|w| w.get("dependencies")).and_then(toml::Value::as_table);
    let reasons = fs::read_to_string(root.join(REASONS)).with_context(|| format!("reading {REASONS}"))?;
    for name in listed.context("no [workspace.dependencies]")?.keys() {
        if !used.contains(name) {
            complaints
                .push(format!("Cargo.toml: {name} is in [workspace.dependencies] and no package uses it"));
        }
        if !workspace.members.contains_key(name) && !has_reason(&reasons, name) {
            complaints.push(format!("{REASONS}: no line says why {name} is here"));
        }
    }
    Ok(complaints)
}

fn read(dir: &Path) -> anyhow::Result<Table> {
    let path = dir.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.parse().with_context(|| format!("parsing {}", path.display()))
}

fn member_complaints(name: &str, manifest: &Table) -> Vec<String> {
    let mut complaints = Vec::new();
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml::Value::as_bool) != Some(true) {
        complaints.push(format!("{name}: Cargo.toml lacks `lints.workspace = true`"));
    }
    for (dependency, value) in tables(manifest).flatten() {
        if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
            complaints.push(format!("{name}: {dependency} does not say `workspace = true`"));
        }
    }
    complaints
}

/// The dependency tables of a manifest, also those for one target only.
fn tables(manifest: &Table) -> impl Iterator<Item = &Table> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table).into_iter().flat_map(Table::values);
    let places = std::iter::once(manifest).chain(targets.filter_map(toml::Value::as_table));
    places.flat_map(|place| KINDS.into_iter().filter_map(|kind| place.get(kind)?.as_table()))
}

/// Listed for the features that they ask of others, so that the demo and the tests share one build; the manifest says why.
const FOR_FEATURES: [(&str, &str); 2] = [("ota-power-cut", "insta"), ("ota-power-cut", "proptest")];

/// Dependencies whose name stands nowhere in the package's code.
fn unused_dependencies(name: &str, member: &Member) -> anyhow::Result<Vec<String>> {
    let code: Vec<String> = super::rust_files(&member.dir)?.into_iter().map(|source| source.text).collect();
    let meant = |dependency: &str| FOR_FEATURES.contains(&(name, dependency));
    let unused = member
        .dependencies
        .iter()
        .filter(|d| !meant(&d.name) && !code.iter().any(|text| mentions(text, &d.extern_name)));
    Ok(unused.map(|d| format!("{name}: lists {} and does not use it", d.name)).collect())
}

/// Whether the first cell of a table row names the package.
fn has_reason(reasons: &str, name: &str) -> bool {
    let cells = reasons.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split(", ")).any(|named| named.trim() == name)
}

fn mentions(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(part_of_name) && !text[at + word.len()..].starts_with(part_of_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_with_its_own_version_or_lints_is_named() {
        let manifest = "[dependencies]\nserde = \"1\"\nnix.workspace = true\n".parse().unwrap();
        let complaints = member_complaints("x", &manifest).join("\n");
        assert!(complaints.contains("lints.workspace"), "{complaints}");
        assert!(complaints.contains("serde does not say"), "{complaints}");
        assert!(!complaints.contains("nix"), "{complaints}");
    }

    #[test]
    fn a_reason_stands_in_the_row_of_the_package() {
        let rows = "| cms, x509-cert | CMS with der |\n";
        assert!(has_reason(rows, "x509-cert"));
        assert!(!has_reason(rows, "der"));
    }

    #[test]
    fn a_name_counts_as_a_whole_word_only() {
        assert!(mentions("use hex;", "hex"));
        assert!(mentions("hex::encode(x)", "hex"));
        assert!(!mentions("use hexagon; let my_hex = 1;", "hex"));
    }
}
