//! `cargo xtask layers`: the edges between our crates are those of docs/layers.txt, no more and no fewer.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, bail, ensure};

use crate::{
    process,
    workspace::{Kind, Workspace},
};

const FILE: &str = "docs/layers.txt";

/// Compares, and names every edge that differs.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = fs::read_to_string(process::root().join(FILE)).with_context(|| format!("reading {FILE}"))?;
    let allowed = parse(&text)?;
    let found = edges(&Workspace::read()?);
    let complaints = compare(&allowed, &found);
    for complaint in &complaints {
        eprintln!("layers: {complaint}");
    }
    ensure!(complaints.is_empty(), "the edges between our crates are not those of {FILE}");
    println!("layers: {} edges, as {FILE} has them", found.len());
    Ok(())
}

/// `from` imports `to`.
type Edge = (Kind, String, String);

fn edges(workspace: &Workspace) -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    for (from, member) in &workspace.members {
        for to in member.dependencies.iter().filter(|d| workspace.members.contains_key(&d.name)) {
            edges.insert((to.kind, from.clone(), to.name.clone()));
        }
    }
    edges
}

fn parse(text: &str) -> anyhow::Result<BTreeSet<Edge>> {
    let mut edges = BTreeSet::new();
    let mut kind = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match (line, kind) {
            ("", _) => {}
            ("[dependencies]", _) => kind = Some(Kind::Normal),
            ("[dev-dependencies]", _) => kind = Some(Kind::Dev),
            (line, Some(kind)) => {
                let (from, to) = line
                    .split_once("->")
                    .with_context(|| format!("{FILE}:{}: not `from -> to`", number + 1))?;
                for to in to.split_whitespace() {
                    edges.insert((kind, from.trim().to_owned(), to.to_owned()));
                }
            }
            _ => bail!("{FILE}:{}: an edge before the first section", number + 1),
        }
    }
    Ok(edges)
}

fn compare(allowed: &BTreeSet<Edge>, found: &BTreeSet<Edge>) -> Vec<String> {
    let new = found
        .difference(allowed)
        .map(|edge| format!("new edge {}: say why in a decision, then list it", shown(edge)));
    let gone = allowed.difference(found).map(|edge| format!("edge {} is listed and not there", shown(edge)));
    new.chain(gone).collect()
}

fn shown((kind, from, to): &Edge) -> String {
    let table = match kind {
        Kind::Normal => "",
        Kind::Dev => " (dev)",
    };
    format!("{from} -> {to}{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# why\n[dependencies]\na -> b c # both\n[dev-dependencies]\na -> d\n";

    #[test]
    fn a_line_may_name_several_crates_and_carry_a_remark() {
        let edges = parse(LIST).unwrap();
        assert_eq!(edges.len(), 3);
        assert!(edges.contains(&(Kind::Dev, "a".into(), "d".into())));
    }

    #[test]
    fn a_new_and_a_missing_edge_are_both_named() {
        let allowed = parse(LIST).unwrap();
        let mut found = allowed.clone();
        found.remove(&(Kind::Normal, "a".into(), "c".into()));
        found.insert((Kind::Normal, "b".into(), "a".into()));
        let complaints = compare(&allowed, &found).join("\n");
        assert!(complaints.contains("new edge b -> a"), "{complaints}");
        assert!(complaints.contains("edge a -> c is listed and not there"), "{complaints}");
    }

    #[test]
    fn a_normal_edge_is_not_covered_by_a_dev_edge() {
        let allowed = parse(LIST).unwrap();
        let found = parse(&LIST.replace("[dev-dependencies]", "")).unwrap();
        assert_eq!(compare(&allowed, &found).len(), 2);
    }
}
